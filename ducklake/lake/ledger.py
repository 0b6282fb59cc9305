"""The ledger: which files exist, which offsets they hold, and where each partition stands.

SQLite in WAL mode with full sync. A commit is one transaction on condition that the position of
every partition is still the one from which the writer started: that fences a zombie. Everybody
downstream asks the ledger what is new by commit number, never by a maximum of offsets or times.
"""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ducklake.errors import (
    CommitConflict,
    DiskFull,
    LedgerError,
    PartitionsChanged,
    ServiceUnreachable,
    TopicRecreated,
)
from ducklake.failpoints import failpoint
from ducklake.lake.files import Session, WrittenFile, make_folder
from ducklake.lake.paths import LakePaths
from ducklake.lake.schema import Schema
from ducklake.records import DeadLetter, OffsetRange

VERSION = 3
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
    topic TEXT NOT NULL, topic_id TEXT NOT NULL, partition INTEGER NOT NULL,
    offset INTEGER NOT NULL, commit_no INTEGER NOT NULL, kafka_ts REAL NOT NULL,
    source_table TEXT NOT NULL, reason TEXT NOT NULL, key BLOB, value BLOB, headers TEXT NOT NULL,
    PRIMARY KEY (topic, topic_id, partition, offset)
) STRICT;
CREATE TABLE IF NOT EXISTS pins (
    session TEXT PRIMARY KEY, pinned_at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS cycles (
    cycle INTEGER PRIMARY KEY AUTOINCREMENT, started_at REAL NOT NULL, seconds REAL NOT NULL,
    first_commit INTEGER NOT NULL, last_commit INTEGER NOT NULL, summary TEXT NOT NULL
) STRICT;
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


class Ledger:
    """One process's connection to the ledger."""

    def __init__(self, paths: LakePaths) -> None:
        self.paths = paths
        make_folder(paths.root)
        self._db = sqlite3.connect(
            paths.ledger, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        _switch_to_wal(self._db)
        self._db.execute("PRAGMA synchronous = FULL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version < VERSION:
            self._db.executescript(
                f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version = {VERSION};COMMIT;"
            )
        elif version > VERSION:
            raise LedgerError(
                f"{paths.ledger} has version {version}, this program writes {VERSION}.",
                "Use the release that wrote it.",
            )

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def __enter__(self) -> Ledger:
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
    def _moment(db: sqlite3.Connection) -> float:
        """Now, and later than every pin and replacement before: the clock may jump back."""
        latest = db.execute(
            "SELECT max((SELECT coalesce(max(pinned_at), 0) FROM pins), (SELECT"
            " coalesce(max(obsolete_at), 0) FROM files WHERE obsolete_at IS NOT NULL))"
        ).fetchone()[0]
        return max(time.time(), math.nextafter(latest, math.inf))

    def identity(self) -> str:
        """A name that this ledger keeps for life and no other has."""
        return str(self._db.execute("SELECT identity FROM lake").fetchone()[0])

    # Tables and positions ------------------------------------------------------------------

    def open_table(self, topic: str, topic_id: str, partitions: int) -> TableState:
        """The state of a table, registered at first sight.

        Raises:
            TopicRecreated: The topic's id is another one than the ledger's.
            PartitionsChanged: The topic has another number of partitions.
        """
        state = self.table(topic)
        if state is None:
            with self._write() as db:
                db.execute(
                    "INSERT OR IGNORE INTO lake_tables (topic, topic_id, partitions, schema)"
                    " VALUES (?, ?, ?, '[]')",
                    (topic, topic_id, partitions),
                )
                db.execute("INSERT OR IGNORE INTO epochs VALUES (?, 0, ?)", (topic, topic_id))
            state = self.table(topic)
        if state is None:
            raise LedgerError(f"Table {topic} vanished from the ledger.", "Run it again.")
        if state.topic_id != topic_id:
            raise TopicRecreated(
                f"Topic {topic} was deleted and made again since the lake last read it.",
                f"Its old rows are safe. `ducklake accept {topic}` goes on with the new topic.",
            )
        if state.partitions != partitions:
            raise PartitionsChanged(
                f"Topic {topic} had {state.partitions} partitions and now has {partitions}:"
                " the order of each key is no longer certain.",
                f"`ducklake accept {topic}` goes on all the same; better recreate the topic.",
            )
        return state

    def table(self, topic: str) -> TableState | None:
        """The state of a table, or None where it was never seen."""
        row = self._db.execute(
            "SELECT generation, topic_id, partitions, schema, schema_version, epoch"
            " FROM lake_tables WHERE topic = ?",
            (topic,),
        ).fetchone()
        if row is None:
            return None
        positions = self._db.execute(
            "SELECT partition, next_offset FROM positions"
            " WHERE topic = ? AND generation = ? AND topic_id = ?",
            (topic, row[0], row[1]),
        )
        return TableState(
            topic, row[0], row[1], row[2], Schema.load(row[3]), row[4], dict(positions), row[5]
        )

    def accept(self, topic: str, topic_id: str, lows: Mapping[int, int]) -> list[OffsetRange]:
        """Go on after a loss: take the topic as it is now, and remember what is missing.

        Args:
            topic: The table.
            topic_id: The topic's present id.
            lows: The oldest offset that each partition still has.

        Returns:
            What is lost for good, one range a partition; `rows` is not known and 0.

        Raises:
            LedgerError: The ledger does not know the table.
        """
        state = self.table(topic)
        if state is None:
            raise LedgerError(f"The lake has no table {topic}.", "`ducklake report` lists them.")
        renewed = state.topic_id != topic_id
        positions = {} if renewed else state.positions
        lost = [
            OffsetRange(topic_id, partition, positions[partition], low - 1, 0)
            for partition, low in lows.items()
            if positions.get(partition, low) < low
        ]
        key = (topic, state.generation, topic_id)
        with self._write() as db:
            db.execute(
                "UPDATE lake_tables SET topic_id = ?, partitions = ?, epoch = epoch + ?"
                " WHERE topic = ?",
                (topic_id, len(lows), int(renewed), topic),
            )
            if renewed:
                db.execute(
                    "INSERT INTO epochs VALUES (?, ?, ?)", (topic, state.epoch + 1, topic_id)
                )
            db.executemany(
                "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*key, r.partition, r.first, r.last, time.time()) for r in lost],
            )
            db.executemany(
                "UPDATE positions SET next_offset = ? WHERE topic = ? AND generation = ?"
                " AND topic_id = ? AND partition = ?",
                [(r.next_offset, *key, r.partition) for r in lost],
            )
        return lost

    def epochs(self, topic: str) -> dict[str, int]:
        """The epoch of each id that a table's topic has had."""
        return dict(
            self._db.execute("SELECT topic_id, epoch FROM epochs WHERE topic = ?", (topic,))
        )

    def history(self, topic: str) -> list[OffsetRange]:
        """Every range committed to a table, in the order of topic id, partition and offset."""
        return self._spans("ranges", "rows", topic)

    def losses(self, topic: str) -> list[OffsetRange]:
        """Every range that was lost, and accepted as lost."""
        return self._spans("losses", "0", topic)

    def _spans(self, relation: str, rows: str, topic: str) -> list[OffsetRange]:
        found = self._db.execute(
            f"SELECT r.topic_id, partition, first, last, {rows} FROM {relation} r"
            " JOIN lake_tables t USING (topic, generation) WHERE r.topic = ?"
            " ORDER BY r.topic_id, partition, first",
            (topic,),
        )
        return [OffsetRange(*span) for span in found]

    def topics(self) -> tuple[str, ...]:
        """All tables that the ledger knows."""
        return tuple(t for (t,) in self._db.execute("SELECT topic FROM lake_tables ORDER BY topic"))

    # Commit --------------------------------------------------------------------------------

    def commit(
        self,
        state: TableState,
        session: str,
        ranges: Sequence[OffsetRange],
        starts: Mapping[int, int | None],
        file: WrittenFile | None,
        schema: Schema,
        dead_letters: Sequence[DeadLetter] = (),
    ) -> int:
        """Make a flush exist: file, ranges, dead letters and next positions, or nothing of it.

        Args:
            state: The table as the writer opened it.
            session: The writer's session.
            ranges: What was read, one range a partition.
            starts: The position of each partition from which the writer started; None: none yet.
            file: The hot file; None where the ranges hold no row.
            schema: The schema with which the file was written.
            dead_letters: Records of these ranges that could not be decoded.

        Returns:
            The commit's number.

        Raises:
            CommitConflict: Somebody else committed these offsets, changed the schema that this
                flush changes too, or the generation moved on.
            DiskFull: Nothing was committed.
        """
        now = time.time()
        records = sum(r.rows for r in ranges) + len(dead_letters)
        key = (state.topic, state.generation)
        with self._write() as db:
            self._fence(db, state, starts)
            if schema != state.schema:
                self._change_schema(db, state, schema)
            number = db.execute(
                "INSERT INTO commits (topic, generation, session, committed_at, records)"
                " VALUES (?, ?, ?, ?, ?)",
                (*key, session, now, records),
            ).lastrowid
            assert number is not None
            db.executemany(
                "INSERT INTO ranges VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(*key, r.topic_id, r.partition, r.first, r.last, r.rows, number) for r in ranges],
            )
            db.executemany(
                "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET next_offset = excluded.next_offset",
                [(*key, r.topic_id, r.partition, r.next_offset) for r in ranges],
            )
            if file is not None:
                self._add_file(db, key, "hot", self.paths.relative(file.path), file, (number,), now)
            db.executemany(
                "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (d.topic, state.topic_id, d.partition, d.offset, number, d.kafka_ts.timestamp(),
                     d.source_table, d.reason, d.key, d.value, d.headers)
                    for d in dead_letters
                ],
            )  # fmt: skip
            failpoint("commit.in_ledger")
        return number

    @staticmethod
    def _change_schema(db: sqlite3.Connection, state: TableState, schema: Schema) -> None:
        changed = db.execute(
            "UPDATE lake_tables SET schema = ?, schema_version = schema_version + 1"
            " WHERE topic = ? AND schema_version = ?",
            (schema.dump(), state.topic, state.schema_version),
        ).rowcount
        if not changed:
            # Written over, the columns that the other one found would be lost to every reader.
            raise CommitConflict(
                f"Table {state.topic}: another worker changed its schema first.",
                "The records are read again with that schema.",
            )

    @staticmethod
    def _fence(db: sqlite3.Connection, state: TableState, starts: Mapping[int, int | None]) -> None:
        known = db.execute(
            "SELECT generation, topic_id FROM lake_tables WHERE topic = ?", (state.topic,)
        ).fetchone()
        if known != (state.generation, state.topic_id):
            raise CommitConflict(f"Table {state.topic} has moved to another generation.")
        positions = dict(
            db.execute(
                "SELECT partition, next_offset FROM positions"
                " WHERE topic = ? AND generation = ? AND topic_id = ?",
                (state.topic, state.generation, state.topic_id),
            ).fetchall()
        )
        for partition, start in starts.items():
            if positions.get(partition) != start:
                raise CommitConflict(
                    f"Table {state.topic}, partition {partition}: this writer started at"
                    f" {start}, the ledger stands at {positions.get(partition)}.",
                    "It goes on from the ledger's position.",
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
        db.executemany("INSERT INTO file_commits VALUES (?, ?)", [(file_id, c) for c in commits])

    # Compaction ----------------------------------------------------------------------------

    def hot_files(self, topic: str) -> tuple[LakeFile, ...]:
        """A table's live hot files, oldest first."""
        return self._files(topic, "AND tier = 'hot'")

    def live_files(self, topic: str) -> tuple[LakeFile, ...]:
        """All files that hold a table's rows now."""
        return self._files(topic, "")

    def _files(self, topic: str, condition: str) -> tuple[LakeFile, ...]:
        found = self._db.execute(
            "SELECT file_id, path, tier, f.rows, bytes, created_at FROM files f"
            " JOIN lake_tables t USING (topic, generation)"
            f" WHERE topic = ? AND obsolete_at IS NULL {condition} ORDER BY file_id",
            (topic,),
        )
        return tuple(LakeFile(i, self.paths.root / p, *rest) for i, p, *rest in found)

    def ranges_of(self, files: Iterable[int]) -> list[tuple[int, OffsetRange]]:
        """(commit number, range) of all commits whose rows these files hold."""
        ids = json.dumps(list(files))
        found = self._db.execute(
            "SELECT DISTINCT r.commit_no, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM file_commits c JOIN ranges r USING (commit_no)"
            " WHERE c.file_id IN (SELECT value FROM json_each(?)) ORDER BY r.partition, r.first",
            (ids,),
        )
        return [(number, OffsetRange(*rest)) for number, *rest in found]

    def topic_ids(self, files: Iterable[int]) -> dict[int, str]:
        """The id of the topic from which the rows of each file came, by the file's id."""
        found = self._db.execute(
            "SELECT DISTINCT c.file_id, r.topic_id FROM file_commits c JOIN ranges r"
            " USING (commit_no) WHERE c.file_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(files)),),
        )
        return dict(found.fetchall())

    def begin_seal(self, topic: str, intent: SealIntent) -> int:
        """Record what a compaction is about to rename; from here on it is rolled forward."""
        text = json.dumps([intent.inputs, intent.moves, intent.commits])
        with self._write() as db:
            seal = db.execute(
                "INSERT INTO seals (topic, intent) VALUES (?, ?)", (topic, text)
            ).lastrowid
        assert seal is not None
        return seal

    def open_seals(self) -> list[tuple[int, str, SealIntent]]:
        """Compactions that were announced and have not flipped yet: (id, topic, intent)."""
        seals = []
        for seal, topic, text in self._db.execute("SELECT seal_id, topic, intent FROM seals"):
            inputs, moves, commits = json.loads(text)
            seals.append(
                (seal, topic, SealIntent(
                    tuple(inputs), tuple(tuple(m) for m in moves), tuple(tuple(c) for c in commits)
                ))
            )  # fmt: skip
        return seals

    def flip_seal(self, seal: int, topic: str, intent: SealIntent) -> None:
        """Hot becomes sealed, in one transaction; what has flipped already stays as it is."""
        with self._write() as db:
            if not db.execute("DELETE FROM seals WHERE seal_id = ?", (seal,)).rowcount:
                return
            now = self._moment(db)
            row = db.execute("SELECT generation FROM lake_tables WHERE topic = ?", (topic,))
            key = (topic, row.fetchone()[0])
            # A merged file is as old as its oldest part: its rows wait no longer to be sealed.
            oldest = db.execute(
                "SELECT min(created_at) FROM files"
                " WHERE file_id IN (SELECT value FROM json_each(?))",
                (json.dumps(intent.inputs),),
            ).fetchone()[0]
            for (_, final, rows, size, sha256), commits in zip(
                intent.moves, intent.commits, strict=True
            ):
                file = WrittenFile(self.paths.root / final, size, sha256, rows)
                tier = "hot" if final.startswith("hot/") else "sealed"
                born = oldest if tier == "hot" else now
                self._add_file(db, key, tier, final, file, commits, born)
            replaced = db.executemany(
                "UPDATE files SET obsolete_at = ? WHERE file_id = ? AND obsolete_at IS NULL",
                [(now, file_id) for file_id in intent.inputs],
            ).rowcount
            if replaced != len(intent.inputs):
                raise LedgerError(
                    f"Table {topic}: {len(intent.inputs) - replaced} of the files that a compaction"
                    " replaces were replaced before.",
                    "Nothing was changed. `ducklake verify` shows what the lake holds.",
                )
            db.executemany(
                "DELETE FROM file_commits WHERE file_id = ?", [(i,) for i in intent.inputs]
            )
            failpoint("seal.in_flip")

    def begin_day(self, topic: str, intent: str) -> None:
        """Record which folder is about to change places with which."""
        with self._write() as db:
            db.execute("INSERT INTO days (topic, intent) VALUES (?, ?)", (topic, intent))

    def open_days(self) -> list[tuple[int, str, str]]:
        """Announced swaps of day folders: (id, topic, intent as JSON)."""
        return self._db.execute("SELECT day_id, topic, intent FROM days").fetchall()

    def flip_day(
        self,
        day: int,
        topic: str,
        inputs: Sequence[int],
        moves: Sequence[Move],
        commits: Sequence[Sequence[int]],
        is_alive: Callable[[str], bool],
        swap: Callable[[], None],
    ) -> bool:
        """Swap a day's folder and say so, while nobody can pin.

        Args:
            day: The announcement's id.
            topic: The table.
            inputs: Ids of the files that are gone after the swap.
            moves: The files that are there instead.
            commits: The commits whose rows each of them holds.
            is_alive: Whether a session that has pinned files still runs.
            swap: Swaps the folders, unless that was done already.

        Returns:
            False where somebody has pinned files: nothing was done.
        """
        with self._write() as db:
            if any(is_alive(session) for session, _ in self.pins()):
                return False
            swap()
            generation = db.execute(
                "SELECT generation FROM lake_tables WHERE topic = ?", (topic,)
            ).fetchone()[0]
            now = self._moment(db)
            for (_, final, rows, size, sha256), numbers in zip(moves, commits, strict=True):
                file = WrittenFile(self.paths.root / final, size, sha256, rows)
                self._add_file(db, (topic, generation), "sealed", final, file, numbers, now)
            for relation in ("file_commits", "files"):
                db.executemany(f"DELETE FROM {relation} WHERE file_id = ?", [(i,) for i in inputs])
            db.execute("DELETE FROM days WHERE day_id = ?", (day,))
        return True

    def obsolete_files(self, before: float) -> tuple[LakeFile, ...]:
        """Files that were replaced before a pin's moment."""
        found = self._db.execute(
            "SELECT file_id, path, tier, rows, bytes, created_at FROM files"
            " WHERE obsolete_at < ?",
            (before,),
        )
        return tuple(LakeFile(i, self.paths.root / p, *rest) for i, p, *rest in found)

    def forget_file(self, file_id: int) -> None:
        """Drop the row of a replaced file, after the file itself."""
        with self._write() as db:
            db.execute(
                "DELETE FROM files WHERE file_id = ? AND obsolete_at IS NOT NULL", (file_id,)
            )

    def knows(self, path: Path) -> bool:
        """Whether a file is one of the lake's."""
        relative = self.paths.relative(path)
        found = self._db.execute("SELECT 1 FROM files WHERE path = ?", (relative,))
        return found.fetchone() is not None

    def known_paths(self, tier: str) -> frozenset[str]:
        """Relative paths of all files of a tier, replaced ones included."""
        found = self._db.execute("SELECT path FROM files WHERE tier = ?", (tier,))
        return frozenset(path for (path,) in found)

    # Reading -------------------------------------------------------------------------------

    def last_commit(self) -> int:
        """The newest commit that brought something; 0 where there is none."""
        row = self._db.execute(
            "SELECT commit_no FROM commits WHERE records > 0 ORDER BY commit_no DESC LIMIT 1"
        ).fetchone()
        return int(row[0]) if row else 0

    def new_rows(self, topic: str, after: int, up_to: int) -> tuple[NewRows, ...]:
        """Where the rows committed after one commit, up to and including another, are now."""
        found = self._db.execute(
            "SELECT f.file_id, f.path, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM commits k JOIN lake_tables t USING (topic, generation)"
            " JOIN file_commits c USING (commit_no) JOIN files f USING (file_id)"
            " JOIN ranges r USING (commit_no)"
            " WHERE k.topic = ? AND k.commit_no > ? AND k.commit_no <= ?"
            " AND f.obsolete_at IS NULL ORDER BY f.file_id, r.partition, r.first",
            (topic, after, up_to),
        )
        by_file: dict[tuple[int, str], list[OffsetRange]] = {}
        for file_id, path, *span in found:
            by_file.setdefault((file_id, path), []).append(OffsetRange(*span))
        return tuple(
            NewRows(self.paths.root / path, _joined(ranges))
            for (_, path), ranges in by_file.items()
        )

    def row_count(self, topic: str, up_to: int | None = None) -> int:
        """Rows committed to a table, by the ledger's own books."""
        count: int = self._db.execute(
            "SELECT coalesce(sum(r.rows), 0) FROM ranges r"
            " JOIN lake_tables t USING (topic, generation)"
            " WHERE r.topic = ? AND commit_no <= ?",
            (topic, up_to if up_to is not None else 1 << 62),
        ).fetchone()[0]
        return count

    def dead_letters(self, up_to: int) -> list[tuple[object, ...]]:
        """Dead letters committed up to a commit: the columns of raw.dead_letters."""
        return self._db.execute(
            "SELECT topic, partition, offset, kafka_ts, source_table, reason, key, value, headers"
            " FROM dead_letters WHERE commit_no <= ? ORDER BY commit_no, partition, offset",
            (up_to,),
        ).fetchall()

    def dead_letter_offsets(self, topic: str, span: OffsetRange) -> list[int]:
        """Offsets within a range whose records are dead letters."""
        found = self._db.execute(
            "SELECT offset FROM dead_letters WHERE topic = ? AND topic_id = ? AND partition = ?"
            " AND offset BETWEEN ? AND ? ORDER BY offset",
            (topic, span.topic_id, span.partition, span.first, span.last),
        )
        return [offset for (offset,) in found]

    def hashes(self, topic: str) -> dict[int, str]:
        """SHA-256 of each live file of a table, by the file's id."""
        found = self._db.execute(
            "SELECT file_id, sha256 FROM files WHERE topic = ? AND obsolete_at IS NULL", (topic,)
        )
        return dict(found.fetchall())

    def newest_commit_time(self, topic: str) -> float | None:
        """When the newest rows of a table were committed, in seconds since the epoch."""
        moment: float | None = self._db.execute(
            "SELECT max(committed_at) FROM commits WHERE topic = ? AND records > 0",
            (topic,),
        ).fetchone()[0]
        return moment

    # Readers that need files to stay, and the batch's diary -----------------------------------

    def pin(self, session: str) -> int:
        """Keep every file that is live now until `unpin`; returns the newest commit's number."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO pins VALUES (?, ?)", (session, self._moment(db)))
            return self.last_commit()

    def unpin(self, session: str) -> None:
        """Let go of the files that `pin` kept."""
        with self._write() as db:
            db.execute("DELETE FROM pins WHERE session = ?", (session,))

    def pins(self) -> list[tuple[str, float]]:
        """(session, moment) of every pin."""
        return self._db.execute("SELECT session, pinned_at FROM pins").fetchall()

    def record_cycle(
        self, started_at: float, seconds: float, first: int, last: int, summary: str
    ) -> int:
        """Write one line of the batch's diary."""
        with self._write() as db:
            cycle = db.execute(
                "INSERT INTO cycles (started_at, seconds, first_commit, last_commit, summary)"
                " VALUES (?, ?, ?, ?, ?)",
                (started_at, seconds, first, last, summary),
            ).lastrowid
        assert cycle is not None
        return cycle

    def last_cycle(self) -> tuple[int, float, float, int, str] | None:
        """(cycle, started at, seconds, last commit, summary as JSON) of the newest cycle."""
        row: tuple[int, float, float, int, str] | None = self._db.execute(
            "SELECT cycle, started_at, seconds, last_commit, summary FROM cycles"
            " ORDER BY cycle DESC LIMIT 1"
        ).fetchone()
        return row


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


@contextmanager
def pinned(ledger: Ledger, session: Session) -> Iterator[int]:
    """Keep every file that is live now, for the time of the block; gives the newest commit."""
    try:
        yield ledger.pin(session.id)
    finally:
        ledger.unpin(session.id)


def _joined(ranges: Sequence[OffsetRange]) -> tuple[OffsetRange, ...]:
    """Neighbouring ranges of a partition as one."""
    joined: list[OffsetRange] = []
    for span in ranges:
        last = joined[-1] if joined else None
        if last and last.partition == span.partition and last.next_offset == span.first:
            joined[-1] = OffsetRange(
                last.topic_id, last.partition, last.first, span.last, last.rows + span.rows
            )
        else:
            joined.append(span)
    return tuple(joined)
