"""The switch from one generation of a table to another: what must hold, and what changes hands."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from lake.errors import CommitConflict, LedgerError
from lake.ledger.entries import TableState
from lake.ledger.statements import Key, positions_of
from lake.storage.schema import Schema


def take_over(
    db: sqlite3.Connection, state: TableState, generation: int, number: int, schema: Schema
) -> None:
    """Give the new generation the old one's place, positions and losses."""
    for table, columns in (
        ("positions", "topic_id, partition, next_offset"),
        ("losses", "topic_id, partition, first, last, accepted_at"),
    ):
        db.execute(
            f"INSERT INTO {table} SELECT topic, ?, {columns} FROM {table}"
            " WHERE topic = ? AND generation = ?",
            (generation, state.topic, state.generation),
        )
    # What was dropped or redriven is decoded to a dead letter again, and stays what it was; so does
    # what was kept, if by now the table only counts them.
    db.execute(
        "UPDATE dead_letters SET state = was.state FROM dead_letters was"
        " WHERE dead_letters.topic = :topic AND dead_letters.generation = :new"
        " AND was.topic = :topic AND was.generation = :old"
        " AND was.topic_id = dead_letters.topic_id AND was.partition = dead_letters.partition"
        " AND was.offset = dead_letters.offset AND was.state <> dead_letters.state",
        {"topic": state.topic, "new": generation, "old": state.generation},
    )
    db.execute(
        "UPDATE generations SET state = 'old', schema = ? WHERE topic = ?" " AND state = 'current'",
        (state.schema.dump(), state.topic),
    )
    db.execute(
        "UPDATE generations SET state = 'current', since_commit = ?, schema = ?"
        " WHERE topic = ? AND generation = ?",
        (number, schema.dump(), state.topic, generation),
    )
    db.execute(
        "UPDATE lake_tables SET generation = ?, schema = ?,"
        " schema_version = schema_version + 1 WHERE topic = ?",
        (generation, schema.dump(), state.topic),
    )


def rows_of(db: sqlite3.Connection, key: Key) -> int:
    """The rows of a generation."""
    which = "SELECT rows FROM row_counts WHERE topic = ? AND generation = ?"
    row = db.execute(which, key).fetchone()
    return 0 if row is None else int(row[0])


def must_stand_at(db: sqlite3.Connection, state: TableState) -> None:
    """Refuse where the table is not as it was when the new generation was built.

    Raises:
        CommitConflict: It has moved on.
    """
    known = db.execute(
        "SELECT generation, topic_id, schema_version FROM lake_tables WHERE topic = ?",
        (state.topic,),
    ).fetchone()
    positions = positions_of(db, state.topic, state.generation, state.topic_id)
    wanted = (state.generation, state.topic_id, state.schema_version)
    if known != wanted or positions != state.positions:
        raise CommitConflict(f"Table {state.topic} has moved on.")


def must_reach(db: sqlite3.Connection, key: Key, state: TableState) -> None:
    """Refuse a generation that does not come as far as the old one.

    Raises:
        LedgerError: It does not.
    """
    ends = dict(
        db.execute(
            "SELECT partition, max(last) + 1 FROM ranges"
            " WHERE topic = ? AND generation = ? AND topic_id = ? GROUP BY partition",
            (*key, state.topic_id),
        ).fetchall()
    )
    lost: Mapping[int, int] = dict(
        db.execute(
            "SELECT partition, max(last) + 1 FROM losses"
            " WHERE topic = ? AND generation = ? AND topic_id = ? GROUP BY partition",
            (state.topic, state.generation, state.topic_id),
        ).fetchall()
    )
    for partition, position in state.positions.items():
        if max(ends.get(partition, -1), lost.get(partition, -1)) != position:
            raise LedgerError(
                f"Generation {key[1]} of {key[0]}, partition {partition}, ends at"
                f" {ends.get(partition)}; the table is at {position}.",
                "Nothing was changed. Start the rebuild again.",
            )
