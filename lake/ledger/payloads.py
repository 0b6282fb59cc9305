"""The bytes of dead letters: a database beside the ledger, so that garbage does not make it large.

The ledger says which records are dead letters and why; here are key, value and provenance of each,
by its coordinates. They are durable before the ledger names them: what a killed process leaves
here without its commit is written again, and the same, when its records are read again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lake.errors import UnsupportedFormatVersion
from lake.ledger.sqlite import connected, failures_have_names, transaction
from lake.records import DeadLetter
from lake.storage.paths import LakePaths

VERSION = 1
MAX_VALUE_BYTES = 1 << 20
"""What is kept of a value or a key; Kafka has the rest until retention removes it."""

_TABLES = """
CREATE TABLE payloads (
    topic_id TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL, key BLOB,
    value BLOB, headers TEXT NOT NULL, PRIMARY KEY (topic_id, partition, offset)
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Payload:
    """What is kept of a dead letter's record; None: the record has none.

    Attributes:
        key: Its key.
        value: Its value, cut to `MAX_VALUE_BYTES`.
        headers: Its provenance header; `{}` where there is none.
    """

    key: bytes | None
    value: bytes | None
    headers: str


class PayloadReader:
    """Answers what is kept of dead letters.

    Args:
        paths: The lake.
    """

    def __init__(self, paths: LakePaths) -> None:
        self._file = paths.dead_letters
        self._db: sqlite3.Connection | None = None

    def get(
        self, topic_id: str, partition: int, offset: int, most: int = MAX_VALUE_BYTES
    ) -> Payload | None:
        """The record of one dead letter; None: its bytes are lost, or were removed.

        Args:
            topic_id: Of its topic.
            partition: Its partition.
            offset: Its offset.
            most: Bytes of key and value that are wanted.
        """
        db = self._opened()
        if db is None:
            return None
        row = db.execute(
            "SELECT substr(key, 1, :most), substr(value, 1, :most), headers FROM payloads"
            " WHERE topic_id = :id AND partition = :partition AND offset = :offset",
            {"most": most, "id": topic_id, "partition": partition, "offset": offset},
        ).fetchone()
        return None if row is None else Payload(*row)

    def copy_to(self, path: Path) -> bool:
        """Write all of it, as of one moment, to a new file; False: there is nothing yet."""
        db = self._opened()
        if db is None:
            return False
        with closing(sqlite3.connect(path)) as target:
            db.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
        return True

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _opened(self) -> sqlite3.Connection | None:
        if self._db is None and self._file.exists():
            self._db = _connected(self._file)
        return self._db


class Payloads(PayloadReader):
    """Keeps them, and removes those that nobody will ask for again."""

    def add(self, topic_id: str, dead_letters: Iterable[DeadLetter]) -> None:
        """Keep the records of dead letters, durably; call it before the ledger names them.

        Raises:
            DiskFull: None of them was kept.
        """
        letters = list(dead_letters)
        kept = [d for d in letters if d.state == "dead"]
        self.put([(topic_id, d.partition, d.offset, d.key, d.value, d.headers) for d in kept])
        # Of what is only counted, its provenance; what is kept of it since before stays.
        others = [d for d in letters if d.state != "dead"]
        self._put(
            "INSERT OR IGNORE",
            [(topic_id, d.partition, d.offset, None, None, d.headers) for d in others],
        )

    def put(self, rows: Sequence[tuple[str, int, int, bytes | None, bytes | None, str]]) -> None:
        """The same, of (topic id, partition, offset, key, value, headers)."""
        self._put("INSERT OR REPLACE", rows)

    def _put(
        self,
        how: str,
        rows: Sequence[tuple[str, int, int, bytes | None, bytes | None, str]],
    ) -> None:
        if not rows:
            return
        with failures_have_names(self._file):
            db = self._db = self._db or _connected(self._file)
            with transaction(db):
                db.executemany(
                    f"{how} INTO payloads VALUES (?, ?, ?, ?, ?, ?)",
                    [(*at, _cut(key), _cut(value), about) for *at, key, value, about in rows],
                )

    def clear(self, places: Sequence[tuple[str, int, int]]) -> None:
        """Remove key and value of records, and give their room back to the disk.

        Their provenance stays: a file of which they are rows has that many rows.

        Args:
            places: (topic id, partition, offset) of each.
        """
        db = self._opened()
        if db is None or not places:
            return
        with failures_have_names(self._file):
            with transaction(db):
                db.executemany(
                    "UPDATE payloads SET key = NULL, value = NULL"
                    " WHERE topic_id = ? AND partition = ? AND offset = ?",
                    places,
                )
            db.execute("PRAGMA incremental_vacuum").fetchall()


def _cut(value: bytes | None) -> bytes | None:
    return None if value is None else value[:MAX_VALUE_BYTES]


def _connected(file: Path) -> sqlite3.Connection:
    db = connected(file, made_with="PRAGMA auto_vacuum = INCREMENTAL")
    try:
        if _version(db, file) == 0:
            with transaction(db):
                if _version(db, file) == 0:  # or another process was faster
                    db.execute(_TABLES)
                    db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection, file: Path) -> int:
    [(version,)] = db.execute("PRAGMA user_version")
    if version > VERSION:
        raise UnsupportedFormatVersion(
            f"{file} has version {version}, this release writes {VERSION}.",
            "Use the release that wrote it, or a newer one. Nothing was changed.",
        )
    return int(version)
