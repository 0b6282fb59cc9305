"""The history of a MySQL table's definition, and what each change did to its columns in raw.

It is read from the topic of schema changes, which is kept for ever: a restart loses nothing of it,
and neither does a lost ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from consumers.ingest.announcements import ColumnChange, changes
from consumers.ingest.schema_history import TableVersion
from lake.storage.schema import Column, Schema


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """A definition that a table had from a position of the binlog on.

    Attributes:
        number: Counted from 1.
        position: `file:position` of the binlog.
        since: In seconds of the epoch.
        statement: The statement that made it, as MySQL wrote it into the binlog.
        columns: How it differs from the version before, with the types that values have in raw.
        raw: What it did to the columns in raw; empty where they stayed as they were.
    """

    number: int
    position: str
    since: float
    statement: str
    columns: tuple[ColumnChange, ...]
    raw: tuple[ColumnChange, ...]

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def schema_versions(history: Iterable[TableVersion]) -> Iterator[SchemaVersion]:
    """The versions of a table, oldest first."""
    schema, before = Schema(), dict[str, str]()
    for number, version in enumerate(history, 1):
        announced = schema.announced(version.columns)
        after = {column.field: column.type for column in version.columns}
        yield SchemaVersion(
            number,
            f"{version.start.file}:{version.start.position}",
            version.since / 1000,
            version.statement,
            tuple(changes(before, after)),
            tuple(changes(_types(schema.columns), _types(announced.columns))),
        )
        schema, before = announced, after


def _types(columns: Iterable[Column]) -> dict[str, str]:
    return {column.name: column.type for column in columns}
