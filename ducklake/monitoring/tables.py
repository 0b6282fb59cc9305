"""What a table is made of: columns, files, partitions, commits, and what changed its definition."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from consumers.ingest.announcements import SchemaChange
from consumers.ingest.schema_changes import SchemaChanges
from consumers.maintenance.schema_versions import SchemaVersion, schema_versions
from ducklake.monitoring.observation import Observation
from ducklake.mysql_sources import mysql_source
from ducklake.reconciliation.comparison import tables_of_mysql
from lake.config import Config, TableRef
from lake.ledger import NOW, LedgerReader
from lake.ledger.activity import RecentCommit
from lake.storage.paths import LakePaths

COMMITS = 20
"""Newest commits that are shown."""


@dataclass(frozen=True, slots=True)
class TableStorage:
    """What a table takes.

    Attributes:
        table: Its topic.
        relation: Its name in the schema raw.
        rows: Committed, hot and sealed.
        hot_files: Small files, not public yet.
        hot_bytes: Their size.
        sealed_files: Public files.
        sealed_bytes: Their size.
    """

    table: str
    relation: str
    rows: int = 0
    hot_files: int = 0
    hot_bytes: int = 0
    sealed_files: int = 0
    sealed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ColumnView:
    """A column of a table in raw."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A date partition.

    Attributes:
        day: `YYYY-MM-DD`.
        files: Public files of the day.
        rows: In them.
        bytes: Their size.
    """

    day: str
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TableDetail:
    """A table, from near.

    Attributes:
        storage: What it takes.
        generation: How often it was rebuilt.
        schema_version: How often its columns in raw changed.
        columns: Of the relation in raw, the lake's own (`_op`, `_offset`, …) included.
        partitions: By day, newest first.
        commits: The newest ones, newest first.
        change: The newest change of its definition in its source.
        read_by: The models that read it.
    """

    storage: TableStorage
    generation: int
    schema_version: int
    columns: tuple[ColumnView, ...]
    partitions: tuple[PartitionView, ...]
    commits: tuple[RecentCommit, ...]
    change: SchemaChange | None
    read_by: tuple[str, ...]


def table_storage(config: Config, ledger: LedgerReader) -> tuple[TableStorage, ...]:
    """What each configured table takes."""
    found = {(stored.topic, stored.tier): stored for stored in ledger.activity.storage()}
    listed = []
    for ref, _ in config.tables():
        hot, sealed = found.get((ref.topic, "hot")), found.get((ref.topic, "sealed"))
        listed.append(
            TableStorage(
                ref.topic,
                config.relation(ref),
                sum(stored.rows for stored in (hot, sealed) if stored),
                hot.files if hot else 0,
                hot.bytes if hot else 0,
                sealed.files if sealed else 0,
                sealed.bytes if sealed else 0,
            )
        )
    return tuple(listed)


def table_detail(
    config: Config, ledger: LedgerReader, seen: Observation, topic: str
) -> TableDetail | None:
    """One table from near; None where the configuration has no such table."""
    ref = next((ref for ref, _ in config.tables() if ref.topic == topic), None)
    if ref is None:
        return None
    state = ledger.tables.get(topic)
    relation = f"raw.{config.relation(ref)}"
    schema = ledger.tables.schema_at(topic, NOW)
    changes = {change.table: change for change in seen.condition.schema_changes}
    return TableDetail(
        next(one for one in table_storage(config, ledger) if one.table == topic),
        state.generation if state else 0,
        state.schema_version if state else 0,
        tuple(ColumnView(*c) for c in schema.relation(config.kind(ref))) if schema else (),
        tuple(_partitions(ledger, topic)) if state else (),
        tuple(ledger.activity.commits(topic, COMMITS)),
        changes.get(topic),
        tuple(model.model for model in seen.models if relation in model.reads),
    )


def _partitions(ledger: LedgerReader, topic: str) -> Iterable[PartitionView]:
    days: dict[str, list[int]] = {}
    for file in ledger.files.live(topic):
        if file.tier == "sealed":
            counts = days.setdefault(LakePaths.day_of(file.path).isoformat(), [0, 0, 0])
            for at, value in enumerate((1, file.rows, file.bytes)):
                counts[at] += value
    return (PartitionView(day, *days[day]) for day in sorted(days, reverse=True))


def schema_timeline(config: Config, ref: TableRef) -> tuple[SchemaVersion, ...]:
    """The definitions that a table of MySQL had, oldest first; nothing for other tables.

    Raises:
        ServiceUnreachable: Kafka does not answer.
    """
    if not tables_of_mysql(config, [ref]):
        return ()
    named = mysql_source(config, ref.source)[1][ref.table]
    with closing(SchemaChanges(config.endpoints(), ref.source)) as changes:
        return tuple(schema_versions(changes.history(named.database, named.table)))
