"""Commits: what makes rows exist. Each is one transaction on condition of what it started from.

That condition fences a zombie. Everybody downstream asks what is new by commit number, never by a
maximum of offsets or times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from lake.errors import CommitConflict, TableHeld
from lake.failpoints import failpoint
from lake.ledger.core import LedgerCore, newest_number, now
from lake.ledger.entries import Gap, TableState
from lake.ledger.generations import HOLD_SECONDS
from lake.ledger.statements import (
    Key,
    add_commit,
    add_dead_letters,
    add_file,
    add_ranges,
    change_schema,
    must_be_current,
    positions_of,
)
from lake.records import DeadLetter, OffsetRange
from lake.storage.parquet_files import WrittenFile
from lake.storage.schema import Schema


class CommitReader:
    """Answers how far commits have come."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def newest_number(self) -> int:
        """The highest commit number ever given, those of empty commits included."""
        return newest_number(self._core.db)

    def last(self) -> int:
        """The newest commit that brought something; 0 where there is none."""
        row = self._core.db.execute(
            "SELECT commit_no FROM commits WHERE records > 0 ORDER BY commit_no DESC LIMIT 1"
        ).fetchone()
        return int(row[0]) if row else 0

    def newest_time(self, topic: str) -> float | None:
        """When the newest rows of a table were committed, in seconds since the epoch."""
        row = self._core.db.execute(
            "SELECT committed_at FROM commits JOIN lake_tables USING (topic, generation)"
            " WHERE topic = ? AND records > 0 ORDER BY commit_no DESC LIMIT 1",
            (topic,),
        ).fetchone()
        return None if row is None else float(row[0])


class Commits(CommitReader):
    """Commits rows: at the positions, or below them."""

    def add(
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
            TableHeld: A rebuild is about to switch; try the same again in a moment.
            DiskFull: Nothing was committed.
        """
        moment = now()
        records = sum(r.rows for r in ranges) + len(dead_letters)
        key = (state.topic, state.generation)
        with self._core.write() as db:
            self._fence(db, state, starts)
            if schema != state.schema:
                change_schema(db, state, schema)
            number = add_commit(db, key, session, moment, records, ranges)
            db.executemany(
                "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET next_offset = excluded.next_offset",
                [(*key, r.topic_id, r.partition, r.next_offset) for r in ranges],
            )
            if file is not None:
                add_file(
                    db, key, "hot", self._core.paths.relative(file.path), file, (number,), moment
                )
            add_dead_letters(db, key, state.topic_id, number, dead_letters)
            failpoint("commit.in_ledger")
        return number

    @staticmethod
    def _fence(db: sqlite3.Connection, state: TableState, starts: Mapping[int, int | None]) -> None:
        known = db.execute(
            "SELECT generation, topic_id FROM lake_tables WHERE topic = ?", (state.topic,)
        ).fetchone()
        if known != (state.generation, state.topic_id):
            raise CommitConflict(f"Table {state.topic} has moved to another generation.")
        held = db.execute(
            "SELECT held_until FROM generations WHERE topic = ? AND state = 'building'",
            (state.topic,),
        ).fetchone()
        if held is not None and now() < held[0] < now() + HOLD_SECONDS:
            raise TableHeld(f"Table {state.topic} is about to switch to another generation.")
        positions = positions_of(db, state.topic, state.generation, state.topic_id)
        for partition, start in starts.items():
            if positions.get(partition) != start:
                raise CommitConflict(
                    f"Table {state.topic}, partition {partition}: this writer started at"
                    f" {start}, the ledger is at {positions.get(partition)}.",
                    "It continues from the ledger's position.",
                )

    def backfill(
        self,
        state: TableState,
        session: str,
        gaps: Sequence[Gap],
        file: WrittenFile | None,
        schema: Schema,
        dead_letters: Sequence[DeadLetter] = (),
    ) -> int:
        """Commit rows below the positions: what was missing is new from now on.

        Returns:
            The commit's number.

        Raises:
            CommitConflict: Somebody else filled these offsets, the generation moved on, or the
                table is being rebuilt.
        """
        moment = now()
        key = (state.topic, state.generation)
        records = sum(h.span.rows for h in gaps) + len(dead_letters)
        with self._core.write() as db:
            must_be_current(db, *key)
            # A rebuild sees what is behind the positions; what changes below them it would lose.
            if db.execute(
                "SELECT 1 FROM generations WHERE topic = ? AND state = 'building'", (state.topic,)
            ).fetchone():
                raise CommitConflict(
                    f"Table {state.topic} is being rebuilt.",
                    "Start the replay again when that is over.",
                )
            number = add_commit(db, key, session, moment, records)
            if schema != state.schema:
                change_schema(db, state, schema)
            for gap in gaps:
                self._cut(db, key, gap)
                r = gap.span
                where = (*key, r.topic_id, r.partition)
                self._must_not_hold(db, where, r)
                add_ranges(db, key, number, [r])
                self._found_again(db, where, r)
            if file is not None:
                path = self._core.paths.relative(file.path)
                add_file(db, key, "hot", path, file, (number,), moment)
            add_dead_letters(db, key, state.topic_id, number, dead_letters)
            failpoint("replay.in_fill")
        return number

    @staticmethod
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

    @staticmethod
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

    @staticmethod
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
