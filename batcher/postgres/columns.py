"""The columns of a table in PostgreSQL, and how they become those of a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from psycopg2 import sql

from batcher.postgres.database import claim, identifier, shut
from batcher.postgres.failures import split
from batcher.postgres.types import holds, is_same_type, postgres_type
from batcher.postgres.views import views_aside
from lake.identifiers import postgres_columns

log = structlog.get_logger()
_TABLE = (
    "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = %s"
)
_COLUMNS = (
    "SELECT attname, format_type(atttypid, atttypmod), attnum, attnotnull FROM pg_attribute"
    " WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
)


@dataclass(frozen=True, slots=True)
class WantedColumn:
    """A column of a query, and what it is in PostgreSQL.

    Attributes:
        name: In the lake.
        duckdb_type: In the lake.
        target: Its name in PostgreSQL.
    """

    name: str
    duckdb_type: str
    target: str

    @property
    def type(self) -> str:
        """Its type in PostgreSQL."""
        return postgres_type(self.duckdb_type)

    @property
    def definition(self) -> sql.Composable:
        """Name and type, as SQL defines a column."""
        return sql.SQL("{} {}").format(sql.Identifier(self.target), sql.SQL(self.type))


@dataclass(frozen=True, slots=True)
class KnownTable:
    """A table as it is in PostgreSQL.

    Attributes:
        oid: Its number.
        columns: (type, number) of each column by name.
        not_null: Those that refuse NULL.
    """

    oid: int
    columns: Mapping[str, tuple[str, int]]
    not_null: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ColumnChanges:
    """What has to change in a table.

    Attributes:
        added: Columns that it lacks.
        widened: Columns whose values are kept under the new type.
        replaced: Columns whose new type does not hold their values: all rows are written anew.
    """

    added: tuple[WantedColumn, ...] = ()
    widened: tuple[WantedColumn, ...] = ()
    replaced: tuple[WantedColumn, ...] = ()

    @property
    def rewrites(self) -> bool:
        """Whether rows that are there lack something that only writing them anew gives.

        A column that is added and has another name here may have been there under a name that
        PostgreSQL had cut.
        """
        return bool(self.replaced) or any(c.target != c.name for c in self.added)


def wanted_columns(described: Sequence[tuple[Any, ...]]) -> tuple[WantedColumn, ...]:
    """The columns of a query, from DuckDB's DESCRIBE."""
    names = postgres_columns(str(column[0]) for column in described)
    return tuple(WantedColumn(str(c[0]), str(c[1]), names[str(c[0])]) for c in described)


def known_table(cursor: Any, relation: str) -> KnownTable | None:
    """A table's columns; None where there is no such relation."""
    cursor.execute(_TABLE, split(relation))
    row = cursor.fetchone()
    if row is None:
        return None
    cursor.execute(_COLUMNS, row)
    found = cursor.fetchall()
    columns = {name: (type_, number) for name, type_, number, _ in found}
    return KnownTable(row[0], columns, frozenset(name for name, *_, strict in found if strict))


def column_changes(
    known: KnownTable, wanted: Sequence[WantedColumn], appends: bool
) -> ColumnChanges:
    """What has to change so that a table takes a query's rows.

    Args:
        known: The table.
        wanted: The query's columns.
        appends: Whether its rows go behind others: a wider type that is there is kept then.
    """
    added: list[WantedColumn] = []
    widened: list[WantedColumn] = []
    replaced: list[WantedColumn] = []
    for column in wanted:
        if column.target not in known.columns:
            added.append(column)
            continue
        type_, _ = known.columns[column.target]
        if is_same_type(type_, column.type) or (appends and holds(type_, column.type)):
            continue
        (widened if holds(column.type, type_) else replaced).append(column)
    return ColumnChanges(tuple(added), tuple(widened), tuple(replaced))


def create_schema(cursor: Any, relation: str) -> None:
    """Create the schema of a relation where it is missing; another export may do it as well."""
    schema, _ = split(relation)
    # IF NOT EXISTS asks for the right to create one all the same.
    cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    if cursor.fetchone() is None:
        claim(cursor, "ducklake.schemas")
        cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))


def create_table(cursor: Any, relation: str, wanted: Sequence[WantedColumn]) -> None:
    """Create a table."""
    listed = sql.SQL(", ").join(column.definition for column in wanted)
    cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(identifier(relation), listed))
    for column in wanted:
        announce(relation, column)


def add_columns(cursor: Any, relation: str, added: Sequence[WantedColumn]) -> None:
    """Add columns that a table lacks: readers are shut out for a moment."""
    if added:
        shut(cursor, relation)
    for column in added:
        statement = sql.SQL("ALTER TABLE {} ADD COLUMN {}")
        cursor.execute(statement.format(identifier(relation), column.definition))
        announce(relation, column)


def retype(
    cursor: Any, relation: str, known: KnownTable, columns: Sequence[WantedColumn], keeps: bool
) -> None:
    """Give columns other types; views that stand on them are made again.

    Args:
        cursor: Of the transaction.
        relation: The table.
        known: The table as it was.
        columns: The columns, with their new types.
        keeps: Whether their values are kept; else the caller has deleted all rows.

    Raises:
        BatchError: A view does not fit.
    """
    if not columns:
        return
    shut(cursor, relation)
    value = sql.SQL("{}::{}") if keeps else sql.SQL("NULL::{1}")
    parts = []
    for column in columns:
        name, type_ = sql.Identifier(column.target), sql.SQL(column.type)
        using = value.format(name, type_)
        parts.append(sql.SQL("ALTER COLUMN {} TYPE {} USING {}").format(name, type_, using))
    numbers = [known.columns[column.target][1] for column in columns]
    with views_aside(cursor, known.oid, numbers):
        changes = sql.SQL(", ").join(parts)
        cursor.execute(sql.SQL("ALTER TABLE {} {}").format(identifier(relation), changes))


def announce(relation: str, column: WantedColumn) -> None:
    """Log that a column has another name in PostgreSQL; its comment says so as well."""
    if column.target != column.name:
        log.info(
            "column_renamed",
            message="PostgreSQL does not take the column's name.",
            relation=relation,
            column=column.name,
            name=column.target,
        )
