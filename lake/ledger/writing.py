"""The ledger: which files exist, which offsets they hold, and where each partition stands.

SQLite in WAL mode with full sync. A commit is one transaction on condition that the position of
every partition is still the one from which the writer started: that fences a zombie. Everybody
downstream asks the ledger what is new by commit number, never by a maximum of offsets or times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from lake.errors import (
    CommitConflict,
    LedgerError,
    PartitionsChanged,
    TableHeld,
    TopicRecreated,
)
from lake.failpoints import failpoint
from lake.ledger.compaction import CompactionLedger
from lake.ledger.database import LedgerDb, TableState, now
from lake.ledger.generations import HOLD_SECONDS, GenerationLedger
from lake.ledger.restoring import RestoringLedger
from lake.records import DeadLetter, OffsetRange
from lake.storage.files import WrittenFile
from lake.storage.schema import Schema


class Ledger(CompactionLedger, GenerationLedger, RestoringLedger):
    """One process's connection to the ledger."""

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
                db.execute(
                    "INSERT OR IGNORE INTO generations VALUES (?, 0, 'current', '', ?, 0, '[]', 0)",
                    (topic, now()),
                )
            state = self.table(topic)
        if state is None:
            raise LedgerError(f"Table {topic} vanished from the ledger.", "Run it again.")
        if state.topic_id != topic_id:
            raise TopicRecreated(
                f"Topic {topic} was deleted and made again since the lake last read it.",
                f"Its old rows are safe. `ducklake accept-loss {topic}` goes on with the new one.",
            )
        if state.partitions != partitions:
            raise PartitionsChanged(
                f"Topic {topic} had {state.partitions} partitions and now has {partitions}:"
                " the order of each key is no longer certain.",
                f"`ducklake accept-loss {topic}` goes on all the same; better recreate the topic.",
            )
        return state

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
        moved = [
            OffsetRange(topic_id, partition, positions[partition], low - 1, 0)
            for partition, low in lows.items()
            if positions.get(partition, low) < low
        ]
        lost = [*self._unknown_below(topic, topic_id, {} if renewed else lows), *moved]
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
                [(*key, r.partition, r.first, r.last, now()) for r in lost],
            )
            db.executemany(
                "UPDATE positions SET next_offset = ? WHERE topic = ? AND generation = ?"
                " AND topic_id = ? AND partition = ?",
                [(r.next_offset, *key, r.partition) for r in moved],
            )
        return lost

    def _unknown_below(
        self, topic: str, topic_id: str, lows: Mapping[int, int]
    ) -> list[OffsetRange]:
        """Gaps that no file fills and Kafka cannot fill: a ledger made anew has forgotten why."""
        return [
            OffsetRange(topic_id, gap.partition, gap.before, gap.first - 1, 0)
            for gap in self.breaks(topic)
            if gap.topic_id == topic_id and gap.before < gap.first <= lows.get(gap.partition, 0)
        ]

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
            TableHeld: A rebuild is about to switch; try the same again in a moment.
            DiskFull: Nothing was committed.
        """
        moment = now()
        records = sum(r.rows for r in ranges) + len(dead_letters)
        key = (state.topic, state.generation)
        with self._write() as db:
            self._fence(db, state, starts)
            if schema != state.schema:
                self._change_schema(db, state, schema)
            number = self._add_commit(db, key, session, moment, records, ranges)
            db.executemany(
                "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET next_offset = excluded.next_offset",
                [(*key, r.topic_id, r.partition, r.next_offset) for r in ranges],
            )
            if file is not None:
                self._add_file(
                    db, key, "hot", self.paths.relative(file.path), file, (number,), moment
                )
            self._add_dead_letters(db, key, state.topic_id, number, dead_letters)
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
        positions = LedgerDb._positions(db, state.topic, state.generation, state.topic_id)
        for partition, start in starts.items():
            if positions.get(partition) != start:
                raise CommitConflict(
                    f"Table {state.topic}, partition {partition}: this writer started at"
                    f" {start}, the ledger stands at {positions.get(partition)}.",
                    "It goes on from the ledger's position.",
                )
