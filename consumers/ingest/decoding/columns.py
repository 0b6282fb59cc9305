"""What is known of a table's columns apart from its records: declared ones, and announced ones.

Every column that a schema gains while records are decoded is added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from consumers.ingest.schema_history import TableHistory, TableVersion
from lake.config import Table, TableRef
from lake.storage.casts import Spelling
from lake.storage.declared_types import declared_type
from lake.storage.schema import Column, Schema, provenance_column, source_column


class Changes(Protocol):
    """Where a source announces new columns and their exact types."""

    def history(self, database: str, table: str) -> TableHistory: ...  # noqa: D102


class KnownColumns:
    """The columns of one table that its configuration or its source names.

    Args:
        ref: The table.
        table: Its configuration: declared types.
        changes: The source's own schema changes; None where it does not announce any.

    Raises:
        ConfigError: A declared type is none.
    """

    def __init__(self, ref: TableRef, table: Table, changes: Changes | None) -> None:
        self._table = table.table or ref.table  # as its source calls it
        self._declared = tuple(
            source_column(name, declared_type(ref.table, name, type_))
            for name, type_ in table.columns.items()
        )
        self._declared_fields = frozenset(column.field for column in self._declared)
        self._changes = changes
        self._complete: tuple[Schema, int, TableVersion | None] = Schema(), 0, None

    @property
    def are_announced(self) -> bool:
        """Whether the source says by itself when a column is new."""
        return self._changes is not None

    def spelling(self, column: Column) -> Spelling:
        """Which texts a column takes, where the source announces no types."""
        if column.provenance:
            return Spelling.ANNOUNCED  # this project's own producers write them
        is_declared = column.field in self._declared_fields
        return Spelling.DECLARED if is_declared else Spelling.INFERRED

    def history(self, database: str) -> TableHistory:
        """What the source has announced until now; empty where it does not announce anything.

        Args:
            database: Where the table is in the source.

        Raises:
            ServiceUnreachable: It cannot be asked.
        """
        return (
            TableHistory()
            if self._changes is None
            else self._changes.history(database, self._table)
        )

    def complete(self, schema: Schema, history: TableHistory) -> Schema:
        """A schema with a column for all that is known apart from the records.

        What the source has announced comes in the order of the announcements, whenever they were:
        whoever reads them gets the same columns.
        """
        if not schema.columns:
            schema = schema.merged(self._declared)
        if (schema, history.count, history.newest) == self._complete:
            return schema  # as for nearly every batch
        if self._changes is None:
            # Declared otherwise since the first record: what the new type holds fits from now on.
            schema = schema.redeclared(self._declared)
        for version in history:
            schema = schema.announced(version.columns)
        self._complete = schema, history.count, history.newest
        return schema

    def found(
        self, schema: Schema, fields: Mapping[str, str], provenance: Iterable[str] = ()
    ) -> Schema:
        """A schema with columns for keys that were found in records.

        Args:
            schema: The schema so far.
            fields: Key of the row's JSON object to its type.
            provenance: Keys of the provenance header.
        """
        new = [source_column(key, type_) for key, type_ in fields.items()]
        new += map(provenance_column, provenance)
        return schema.merged(new) if new else schema

    def widened(self, schema: Schema, columns: Iterable[Column]) -> Schema:
        """A schema in which columns are text whose type was only inferred and does not fit.

        A type that was declared stays, and one that the source announced: `announced` has its
        newest word already.
        """
        if self._changes is not None:
            return schema
        inferred = {c for c in columns if self.spelling(c) is Spelling.INFERRED}
        return schema.merged(Column(c.name, "VARCHAR", c.field) for c in inferred)
