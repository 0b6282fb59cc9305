"""Commits: what makes rows exist. Each is one transaction on condition of what it started from.

That condition fences a zombie. Everybody downstream asks what is new by commit number, never by a
maximum of offsets or times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from lake.errors import CommitConflict, TableHeld
from lake.failpoints import failpoint
from lake.ledger.backfilling import fill
from lake.ledger.core import LedgerCore, newest_number, now
from lake.ledger.entries import Gap, TableState
from lake.ledger.generations import HOLD_SECONDS
from lake.ledger.payloads import Payloads
from lake.ledger.statements import (
    Key,
    add_commit,
    add_dead_letters,
    add_file,
    change_schema,
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
    """Commits rows: at the positions, or below them.

    Args:
        core: The connection.
        payloads: Where the bytes of dead letters go.
    """

    def __init__(self, core: LedgerCore, payloads: Payloads) -> None:
        super().__init__(core)
        self._payloads = payloads

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
        moment, key = now(), (state.topic, state.generation)
        records = sum(r.rows for r in ranges) + len(dead_letters)
        self._payloads.add(state.topic_id, dead_letters)
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
            self._add_hot(db, key, file, number)
            add_dead_letters(db, key, state.topic_id, number, dead_letters)
            failpoint("commit.in_ledger")
        return number

    def _add_hot(
        self, db: sqlite3.Connection, key: Key, file: WrittenFile | None, number: int
    ) -> None:
        if file is not None:
            add_file(db, key, "hot", self._core.paths.relative(file.path), file, (number,), now())

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
        self._payloads.add(state.topic_id, dead_letters)
        with self._core.write() as db:
            number = fill(db, state, session, gaps, schema, len(dead_letters))
            key = (state.topic, state.generation)
            self._add_hot(db, key, file, number)
            add_dead_letters(db, key, state.topic_id, number, dead_letters)
            failpoint("replay.in_fill")
        return number

    def redrive(
        self,
        state: TableState,
        session: str,
        gaps: Sequence[Gap],
        file: WrittenFile,
        schema: Schema,
        offsets: Sequence[int],
    ) -> int:
        """Commit rows of records that were dead letters until now, at their own offsets.

        Args:
            state: The table.
            session: The writer's session.
            gaps: The ranges that hold the rows, of one partition of one topic id.
            file: The rows.
            schema: The schema with which the file was written.
            offsets: Of the rows.

        Returns:
            The commit's number.

        Raises:
            CommitConflict: One of them is no dead letter any more, the generation moved on, or the
                table is being rebuilt.
        """
        with self._core.write() as db:
            number = fill(db, state, session, gaps, schema, 0)
            self._add_hot(db, (state.topic, state.generation), file, number)
            place = (state.topic, state.generation, gaps[0].span.topic_id, gaps[0].span.partition)
            gone = db.executemany(
                "DELETE FROM dead_letters WHERE topic = ? AND generation = ? AND topic_id = ?"
                " AND partition = ? AND offset = ? AND state = 'dead'",
                [(*place, offset) for offset in offsets],
            ).rowcount
            if gone != len(offsets):
                raise CommitConflict(
                    f"Dead letters of {state.topic} have changed in the meantime.",
                    "Run the same command again.",
                )
            failpoint("redrive.in_ledger")
        return number
