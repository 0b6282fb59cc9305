"""Writing a ledger from nothing: what the files of a lake say, as its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lake.failpoints import failpoint
from lake.ledger.core import LedgerCore, now
from lake.ledger.statements import add_commit, add_file
from lake.records import OffsetRange
from lake.storage.parquet_files import WrittenFile
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


def restore(core: LedgerCore, tables: Sequence[KnownTable], newest: int) -> None:
    """Fill an empty ledger; it is whole in its one file afterwards.

    Args:
        core: The ledger.
        tables: What the files say.
        newest: The highest commit number that a file knows of: new ones come after it.
    """
    moment = now()
    with core.write() as db:
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
                _restore_generation(core, table, generation, moment)
        db.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'commits'", (newest + 1,)
        )
        failpoint("restore.in_ledger")
    core.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _restore_generation(
    core: LedgerCore, table: KnownTable, generation: int, moment: float
) -> None:
    db, key = core.db, (table.topic, generation)
    numbers: dict[OffsetRange, int] = {}
    for span in table.ranges[generation]:
        numbers[span] = add_commit(db, key, "restored", moment, span.rows, [span])
        db.execute(
            "INSERT INTO positions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET next_offset = max(next_offset, excluded.next_offset)",
            (*key, span.topic_id, span.partition, span.next_offset),
        )
    for file in table.files:
        if file.generation == generation:
            path = core.paths.relative(file.file.path)
            commits = [numbers[span] for span in file.ranges]
            add_file(db, key, file.tier, path, file.file, commits, moment)
    first = min(numbers.values(), default=0)
    state = "current" if generation == table.generation else "old"
    db.execute(
        "INSERT INTO generations VALUES (?, ?, ?, 'restored', ?, ?, ?, 0)",
        (*key, state, moment, first if generation else 0, table.schema.dump()),
    )
