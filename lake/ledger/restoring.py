"""Writing a ledger from nothing: what the files of a lake say, as its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lake.failpoints import failpoint
from lake.ledger.database import now
from lake.ledger.reading import ReadingLedger
from lake.records import OffsetRange
from lake.storage.files import WrittenFile
from lake.storage.schema import Schema


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """A file, and the ranges of which it holds rows."""

    generation: int
    tier: str
    file: WrittenFile
    ranges: tuple[OffsetRange, ...]


@dataclass(frozen=True, slots=True)
class KnownTable:
    """A table as its files describe it.

    Attributes:
        generation: The current one.
        topic_id: Of the topic that was read last.
        epochs: The epoch of each topic id.
        files: Of all generations.
        ranges: Of each generation; each becomes a commit of its own.
    """

    topic: str
    generation: int
    topic_id: str
    partitions: int
    schema: Schema
    epochs: Mapping[str, int]
    files: tuple[RestoredFile, ...]
    ranges: Mapping[int, tuple[OffsetRange, ...]]


class RestoringLedger(ReadingLedger):
    """Fills an empty ledger."""

    def restore(self, tables: Sequence[KnownTable], newest: int) -> None:
        """Write all tables; the ledger is whole in its one file afterwards.

        Args:
            tables: What the files say.
            newest: The highest commit number that a file knows of: new ones come after it.
        """
        moment = now()
        with self._write() as db:
            for table in tables:
                db.execute(
                    "INSERT INTO lake_tables (topic, generation, topic_id, partitions, schema,"
                    " epoch) VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        table.topic,
                        table.generation,
                        table.topic_id,
                        table.partitions,
                        table.schema.dump(),
                        table.epochs[table.topic_id],
                    ),
                )
                db.executemany(
                    "INSERT INTO epochs VALUES (?, ?, ?)",
                    [(table.topic, epoch, topic_id) for topic_id, epoch in table.epochs.items()],
                )
                for generation in sorted(table.ranges):
                    self._restore_generation(table, generation, moment)
            db.execute(
                "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'commits'", (newest + 1,)
            )
            failpoint("restore.in_ledger")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _restore_generation(self, table: KnownTable, generation: int, moment: float) -> None:
        db, key = self._db, (table.topic, generation)
        numbers: dict[OffsetRange, int] = {}
        for span in table.ranges[generation]:
            numbers[span] = self._add_commit(db, key, "restored", moment, span.rows, [span])
            db.execute(
                "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET next_offset = max(next_offset, excluded.next_offset)",
                (*key, span.topic_id, span.partition, span.next_offset),
            )
        for file in table.files:
            if file.generation == generation:
                path = self.paths.relative(file.file.path)
                commits = [numbers[span] for span in file.ranges]
                self._add_file(db, key, file.tier, path, file.file, commits, moment)
        first = min(numbers.values(), default=0)
        state = "current" if generation == table.generation else "old"
        db.execute(
            "INSERT INTO generations VALUES (?, ?, ?, 'restored', ?, ?, ?, 0)",
            (*key, state, moment, first if generation else 0, table.schema.dump()),
        )
