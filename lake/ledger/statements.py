"""What several parts of the ledger do within a transaction: check, and add rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from lake.errors import CommitConflict
from lake.ledger.entries import TableState
from lake.records import DeadLetter, OffsetRange
from lake.storage.parquet_files import WrittenFile
from lake.storage.schema import Schema

Key = tuple[str, int]
"""Topic and generation."""


def must_be_current(db: sqlite3.Connection, topic: str, generation: int) -> None:
    """Refuse what belongs to another generation than the current one.

    Raises:
        CommitConflict: The table was rebuilt meanwhile.
    """
    found = db.execute("SELECT generation FROM lake_tables WHERE topic = ?", (topic,))
    if found.fetchone() != (generation,):
        raise CommitConflict(f"Table {topic} has moved to another generation.")


def positions_of(
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


def change_schema(db: sqlite3.Connection, state: TableState, schema: Schema) -> None:
    """Give a table a new schema.

    Raises:
        CommitConflict: Somebody else gave it another one meanwhile.
    """
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


def add_commit(
    db: sqlite3.Connection,
    key: Key,
    session: str,
    moment: float,
    records: int,
    ranges: Iterable[OffsetRange] = (),
) -> int:
    """Add a commit with its ranges; gives its number."""
    number = db.execute(
        "INSERT INTO commits (topic, generation, session, committed_at, records)"
        " VALUES (?, ?, ?, ?, ?)",
        (*key, session, moment, records),
    ).lastrowid
    assert number is not None
    add_ranges(db, key, number, ranges)
    return number


def add_ranges(
    db: sqlite3.Connection, key: Key, commit: int, ranges: Iterable[OffsetRange]
) -> None:
    """Add ranges of a commit."""
    db.executemany(
        "INSERT INTO ranges VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(*key, r.topic_id, r.partition, r.first, r.last, r.rows, commit) for r in ranges],
    )


def add_dead_letters(
    db: sqlite3.Connection,
    key: Key,
    topic_id: str,
    commit: int,
    dead_letters: Iterable[DeadLetter],
) -> None:
    """Add dead letters of a commit."""
    db.executemany(
        "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                len(d.value or b""),
                d.state,
            )
            for d in dead_letters
        ],
    )


def copy_dead_letters(
    db: sqlite3.Connection,
    key: Key,
    generation: int,
    number: int,
    ranges: Sequence[OffsetRange],
) -> None:
    """Take the dead letters of ranges over from another generation, into a commit."""
    topic, new = key
    db.executemany(
        "INSERT INTO dead_letters SELECT topic, ?, topic_id, partition, offset, ?, kafka_ts,"
        " source_table, reason, value_bytes, state FROM dead_letters WHERE topic = ?"
        " AND generation = ? AND topic_id = ? AND partition = ? AND offset BETWEEN ? AND ?",
        [
            (new, number, topic, generation, r.topic_id, r.partition, r.first, r.last)
            for r in ranges
        ],
    )


def add_file(
    db: sqlite3.Connection,
    key: Key,
    tier: str,
    path: str,
    file: WrittenFile,
    commits: Iterable[int],
    moment: float,
) -> None:
    """Add a live file, with the commits whose rows it holds."""
    file_id = db.execute(
        "INSERT INTO files (topic, generation, tier, path, rows, bytes, sha256, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*key, tier, path, file.rows, file.size, file.sha256, moment),
    ).lastrowid
    # A commit may have several ranges of a partition, where gaps were filled between them.
    numbers = [(file_id, number) for number in dict.fromkeys(commits)]
    db.executemany("INSERT INTO file_commits VALUES (?, ?)", numbers)


def pins_of(db: sqlite3.Connection) -> list[tuple[str, float]]:
    """(session, moment) of every pin."""
    return db.execute("SELECT session, pinned_at FROM pins").fetchall()
