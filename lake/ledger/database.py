"""The ledger's database: its tables, one connection to it, and what its rows are called."""

from __future__ import annotations

import math
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lake.errors import CommitConflict, DiskFull, LedgerError, ServiceUnreachable
from lake.failpoints import failpoint
from lake.ledger.replacing import locked_for_use
from lake.records import DeadLetter, OffsetRange
from lake.storage.files import WrittenFile
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema

VERSION = 4
BUSY_SECONDS = 30.0
FULL_BYTES = 1 << 20
_TABLES = """
CREATE TABLE IF NOT EXISTS lake (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT) STRICT;
INSERT OR IGNORE INTO lake VALUES (1, lower(hex(randomblob(8))));
CREATE TABLE IF NOT EXISTS lake_tables (
    topic TEXT PRIMARY KEY, generation INTEGER NOT NULL DEFAULT 0, topic_id TEXT NOT NULL,
    partitions INTEGER NOT NULL, schema TEXT NOT NULL, schema_version INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS epochs (
    topic TEXT NOT NULL, epoch INTEGER NOT NULL, topic_id TEXT NOT NULL,
    PRIMARY KEY (topic, epoch)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO epochs SELECT topic, epoch, topic_id FROM lake_tables;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, generation, topic_id, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commits (
    commit_no INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, generation INTEGER NOT NULL,
    session TEXT NOT NULL, committed_at REAL NOT NULL, records INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS commits_of_topic ON commits (topic, generation, commit_no);
CREATE TABLE IF NOT EXISTS ranges (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    rows INTEGER NOT NULL, commit_no INTEGER NOT NULL,
    PRIMARY KEY (topic, generation, topic_id, partition, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ranges_of_commit ON ranges (commit_no);
CREATE TABLE IF NOT EXISTS losses (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    accepted_at REAL NOT NULL, PRIMARY KEY (topic, generation, topic_id, partition, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    file_id INTEGER PRIMARY KEY, topic TEXT NOT NULL, generation INTEGER NOT NULL,
    tier TEXT NOT NULL CHECK (tier IN ('hot', 'sealed')), path TEXT NOT NULL UNIQUE,
    rows INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    created_at REAL NOT NULL, obsolete_at REAL
) STRICT;
CREATE INDEX IF NOT EXISTS live_files ON files (topic, generation, tier) WHERE obsolete_at IS NULL;
CREATE INDEX IF NOT EXISTS obsolete_files ON files (obsolete_at) WHERE obsolete_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS file_commits (
    file_id INTEGER NOT NULL, commit_no INTEGER NOT NULL, PRIMARY KEY (commit_no, file_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS commits_of_file ON file_commits (file_id, commit_no);
CREATE TABLE IF NOT EXISTS seals (
    seal_id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, intent TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS days (
    day_id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, intent TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS dead_letters (
    topic TEXT NOT NULL, generation INTEGER NOT NULL, topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL, offset INTEGER NOT NULL, commit_no INTEGER NOT NULL,
    kafka_ts REAL NOT NULL, source_table TEXT NOT NULL, reason TEXT NOT NULL, key BLOB,
    value BLOB, headers TEXT NOT NULL,
    PRIMARY KEY (topic, generation, topic_id, partition, offset)
) STRICT;
CREATE TABLE IF NOT EXISTS generations (
    topic TEXT NOT NULL, generation INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('building', 'current', 'old')), session TEXT NOT NULL,
    made_at REAL NOT NULL, since_commit INTEGER NOT NULL, schema TEXT NOT NULL,
    held_until REAL NOT NULL DEFAULT 0, PRIMARY KEY (topic, generation)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO generations SELECT topic, generation, 'current', '', 0, 0, schema, 0
    FROM lake_tables;
CREATE TABLE IF NOT EXISTS pins (
    session TEXT PRIMARY KEY, pinned_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cycles (
    cycle INTEGER PRIMARY KEY AUTOINCREMENT, started_at REAL NOT NULL, seconds REAL NOT NULL,
    first_commit INTEGER NOT NULL, last_commit INTEGER NOT NULL, summary TEXT NOT NULL
) STRICT;
"""


_MOVE_LETTERS = "ALTER TABLE dead_letters RENAME TO dead_letters_3;"
_COPY_LETTERS = """
INSERT INTO dead_letters SELECT topic, 0, topic_id, partition, offset, commit_no, kafka_ts,
    source_table, reason, key, value, headers FROM dead_letters_3;
DROP TABLE dead_letters_3;
"""


@dataclass(frozen=True, slots=True)
class TableState:
    """A raw table as the ledger knows it.

    Attributes:
        generation: Which rebuild of the table is current.
        topic_id: Kafka's id of the topic, 32 hex digits.
        positions: Partition to the next offset to read.
        epoch: How often the topic was made anew and that was accepted: offsets began again.
    """

    topic: str
    generation: int
    topic_id: str
    partitions: int
    schema: Schema
    schema_version: int
    positions: Mapping[int, int]
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A file that exists: its row in the ledger, and the path made absolute."""

    file_id: int
    path: Path
    tier: str
    rows: int
    bytes: int
    created_at: float
    sha256: str


@dataclass(frozen=True, slots=True)
class NewRows:
    """Where rows committed after N up to M are now: a file, and the offsets to take from it.

    `ranges` is empty where the whole file is meant.
    """

    path: Path
    ranges: tuple[OffsetRange, ...]


Move = tuple[str, str, int, int, str]
"""Path in staging, final path (both relative to the lake), rows, bytes, SHA-256."""


@dataclass(frozen=True, slots=True)
class SealIntent:
    """What a compaction is about to do; recovery redoes it from here.

    Attributes:
        inputs: Ids of the hot files that it replaces.
        moves: The files that it has written and will rename.
        commits: Commit numbers whose rows each output file holds, in the order of `moves`.
    """

    inputs: tuple[int, ...]
    moves: tuple[Move, ...]
    commits: tuple[tuple[int, ...], ...]


def now() -> float:
    """Seconds since the epoch, by the machine's clock."""
    return time.time()


class LedgerDb:
    """One process's connection to the ledger.

    Args:
        paths: The lake.
        file: The database, where it is not (yet) the lake's own.

    Raises:
        LedgerError: There are files, and no ledger; or a newer release wrote it.
        ServiceUnreachable: It is being replaced now.
    """

    def __init__(self, paths: LakePaths, file: Path | None = None) -> None:
        self.paths = paths
        with ExitStack() as opening:
            if file is None:
                opening.enter_context(locked_for_use(paths))
            self._open(opening, file)
            self._opened = opening.pop_all()

    def _open(self, opening: ExitStack, file: Path | None) -> None:
        paths = self.paths
        if file is None and not paths.ledger.exists() and paths.holds_files():
            raise LedgerError(
                f"{paths.ledger} is missing, and the lake holds files.",
                "`ducklake restore` brings back a backup of it, `ducklake ledger rebuild` makes it"
                " anew from the files.",
            )
        self._db = sqlite3.connect(
            file or paths.ledger,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        opening.callback(self._db.close)
        _switch_to_wal(self._db)
        self._db.execute("PRAGMA synchronous = FULL")
        if self._version() < VERSION:
            self._make_tables()
        elif self._version() > VERSION:
            raise LedgerError(
                f"{paths.ledger} has version {self._version()}, this program writes {VERSION}.",
                "Use the release that wrote it.",
            )

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _make_tables(self) -> None:
        """Make the tables, or those that an older release did not have."""
        self._db.execute("BEGIN IMMEDIATE")
        older = self._version()
        if older < VERSION:  # or another process was faster
            # Dead letters had no generation before the fourth version.
            script = f"{_MOVE_LETTERS}{_TABLES}{_COPY_LETTERS}" if 0 < older < 4 else _TABLES
            for statement in f"{script}PRAGMA user_version = {VERSION}".split(";"):
                self._db.execute(statement)
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with _failures_have_names(self.paths):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                failpoint("ledger.before_commit")
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite has rolled some failures back by itself, a full disk among them.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        failpoint("ledger.after_commit")

    @staticmethod
    def _must_be_current(db: sqlite3.Connection, topic: str, generation: int) -> None:
        found = db.execute("SELECT generation FROM lake_tables WHERE topic = ?", (topic,))
        if found.fetchone() != (generation,):
            raise CommitConflict(f"Table {topic} has moved to another generation.")

    @staticmethod
    def _moment(db: sqlite3.Connection) -> float:
        """Now, and later than every pin and replacement before: the clock may jump back."""
        latest = db.execute(
            "SELECT max((SELECT coalesce(max(pinned_at), 0) FROM pins), (SELECT"
            " coalesce(max(obsolete_at), 0) FROM files WHERE obsolete_at IS NOT NULL))"
        ).fetchone()[0]
        return max(now(), math.nextafter(latest, math.inf))

    def copy_to(self, path: Path) -> int:
        """Write the whole ledger, as of one moment, to a new file; others go on meanwhile.

        Returns:
            The highest commit number in it.
        """
        with closing(sqlite3.connect(path)) as target:
            self._db.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
            return _newest_number(target)

    def newest_number(self) -> int:
        """The highest commit number ever given, those of empty commits included."""
        return _newest_number(self._db)

    def identity(self) -> str:
        """A name that this ledger keeps for life and no other has."""
        return str(self._db.execute("SELECT identity FROM lake").fetchone()[0])

    @staticmethod
    def _change_schema(db: sqlite3.Connection, state: TableState, schema: Schema) -> None:
        changed = db.execute(
            "UPDATE lake_tables SET schema = ?, schema_version = schema_version + 1"
            " WHERE topic = ? AND schema_version = ?",
            (schema.dump(), state.topic, state.schema_version),
        ).rowcount
        known = db.execute("SELECT schema FROM lake_tables WHERE topic = ?", (state.topic,))
        # Two that meet a new table at once find the same columns: both are right.
        if not changed and known.fetchone() != (schema.dump(),):
            # Written over, the columns that the other one found would be lost to every reader.
            raise CommitConflict(
                f"Table {state.topic}: another worker changed its schema first.",
                "The records are read again with that schema.",
            )

    @staticmethod
    def _positions(
        db: sqlite3.Connection, topic: str, generation: int, topic_id: str
    ) -> dict[int, int]:
        """The next offset of each partition."""
        return dict(
            db.execute(
                "SELECT partition, next_offset FROM positions"
                " WHERE topic = ? AND generation = ? AND topic_id = ?",
                (topic, generation, topic_id),
            ).fetchall()
        )

    @staticmethod
    def _add_commit(
        db: sqlite3.Connection,
        key: tuple[str, int],
        session: str,
        moment: float,
        records: int,
        ranges: Iterable[OffsetRange] = (),
    ) -> int:
        """A commit with its ranges; gives its number."""
        number = db.execute(
            "INSERT INTO commits (topic, generation, session, committed_at, records)"
            " VALUES (?, ?, ?, ?, ?)",
            (*key, session, moment, records),
        ).lastrowid
        assert number is not None
        LedgerDb._add_ranges(db, key, number, ranges)
        return number

    @staticmethod
    def _add_ranges(
        db: sqlite3.Connection, key: tuple[str, int], commit: int, ranges: Iterable[OffsetRange]
    ) -> None:
        db.executemany(
            "INSERT INTO ranges VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(*key, r.topic_id, r.partition, r.first, r.last, r.rows, commit) for r in ranges],
        )

    @staticmethod
    def _add_dead_letters(
        db: sqlite3.Connection,
        key: tuple[str, int],
        topic_id: str,
        commit: int,
        dead_letters: Iterable[DeadLetter],
    ) -> None:
        db.executemany(
            "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *key,
                    topic_id,
                    d.partition,
                    d.offset,
                    commit,
                    d.kafka_ts.timestamp(),
                    d.source_table,
                    d.reason,
                    d.key,
                    d.value,
                    d.headers,
                )
                for d in dead_letters
            ],
        )

    @staticmethod
    def _add_file(
        db: sqlite3.Connection,
        key: tuple[str, int],
        tier: str,
        path: str,
        file: WrittenFile,
        commits: Iterable[int],
        now: float,
    ) -> None:
        file_id = db.execute(
            "INSERT INTO files (topic, generation, tier, path, rows, bytes, sha256, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, tier, path, file.rows, file.size, file.sha256, now),
        ).lastrowid
        # A commit may have several ranges of a partition, where gaps were filled between them.
        numbers = [(file_id, number) for number in dict.fromkeys(commits)]
        db.executemany("INSERT INTO file_commits VALUES (?, ?)", numbers)


@contextmanager
def _failures_have_names(paths: LakePaths) -> Iterator[None]:
    """Turn what SQLite says of a full disk or a long lock into errors that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        name = error.sqlite_errorname
        if name == "SQLITE_FULL" or (
            name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN"))
            and shutil.disk_usage(paths.root).free < FULL_BYTES
        ):
            raise DiskFull(
                f"No room left on the disk of {paths.ledger}.",
                "Free some; writing goes on by itself.",
            ) from error
        if name.startswith("SQLITE_BUSY"):
            raise ServiceUnreachable(
                f"{paths.ledger} was locked by another process for {BUSY_SECONDS:.0f} s.",
                "A stopped process may hold it: `ducklake status` lists them.",
            ) from error
        raise LedgerError(f"{paths.ledger}: {error} ({name}).", "See the disk's health.") from error


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait by itself where another process is at it as well."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _newest_number(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'commits'").fetchone()
    return int(row[0]) if row else 0
