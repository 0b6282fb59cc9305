"""Below the positions: what is committed of offsets that the live consumer has left behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from lake.errors import CommitConflict
from lake.ledger.core import now
from lake.ledger.entries import Gap, TableState
from lake.ledger.statements import (
    Key,
    add_commit,
    add_ranges,
    change_schema,
    must_be_current,
)
from lake.records import OffsetRange
from lake.storage.schema import Schema


def fill(
    db: sqlite3.Connection,
    state: TableState,
    session: str,
    gaps: Sequence[Gap],
    schema: Schema,
    records: int,
) -> int:
    """Add a commit below the positions; gives its number.

    Args:
        db: Within a transaction.
        state: The table.
        session: The writer's session.
        gaps: The offsets that are committed.
        schema: Of their rows.
        records: What is new besides rows.

    Raises:
        CommitConflict: See `Commits.backfill`.
    """
    key = (state.topic, state.generation)
    must_be_current(db, *key)
    # A rebuild sees what is behind the positions; what changes below them it would lose.
    if db.execute(
        "SELECT 1 FROM generations WHERE topic = ? AND state = 'building'", (state.topic,)
    ).fetchone():
        raise CommitConflict(
            f"Table {state.topic} is being rebuilt.",
            "Run the same command again when that is over.",
        )
    number = add_commit(db, key, session, now(), sum(g.span.rows for g in gaps) + records)
    if schema != state.schema:
        change_schema(db, state, schema)
    for gap in gaps:
        _cut(db, key, gap)
        r = gap.span
        where = (*key, r.topic_id, r.partition)
        _must_not_hold(db, where, r)
        add_ranges(db, key, number, [r])
        _found_again(db, where, r)
    return number


def _must_not_hold(
    db: sqlite3.Connection, where: tuple[str, int, str, int], r: OffsetRange
) -> None:
    """Refuse offsets that the lake has already."""
    # The last one that begins before the end: the others end before it begins.
    if db.execute(
        "SELECT 1 FROM ranges WHERE topic = ? AND generation = ? AND topic_id = ?"
        " AND partition = ? AND last >= ? AND first = (SELECT max(first) FROM ranges"
        "  WHERE topic = ? AND generation = ? AND topic_id = ? AND partition = ?"
        "  AND first <= ?)",
        (*where, r.first, *where, r.last),
    ).fetchone():
        raise CommitConflict(
            f"Table {where[0]}, partition {r.partition}: offsets {r.first} to"
            f" {r.last} are in the lake already."
        )


def _cut(db: sqlite3.Connection, key: Key, gap: Gap) -> None:
    for r in gap.cut:
        found = db.execute(
            "DELETE FROM ranges WHERE topic = ? AND generation = ? AND topic_id = ?"
            " AND partition = ? AND first = ? AND last = ? AND rows = ? RETURNING commit_no",
            (*key, r.topic_id, r.partition, r.first, r.last, r.rows),
        ).fetchone()
        if found is None:
            raise CommitConflict(f"Table {key[0]}: a range has changed in the meantime.")
        kept = [k for k in gap.kept if r.first <= k.first <= r.last]
        add_ranges(db, key, found[0], kept)


def _found_again(
    db: sqlite3.Connection, where: tuple[str, int, str, int], span: OffsetRange
) -> None:
    """What was accepted as lost and is there after all is no loss any more."""
    lost = db.execute(
        "DELETE FROM losses WHERE topic = ? AND generation = ? AND topic_id = ?"
        " AND partition = ? AND first <= ? AND last >= ? RETURNING first, last, accepted_at",
        (*where, span.last, span.first),
    ).fetchall()
    for first, last, moment in lost:
        for left, right in ((first, span.first - 1), (span.last + 1, last)):
            if left <= right:
                db.execute(
                    "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*where, left, right, moment),
                )
