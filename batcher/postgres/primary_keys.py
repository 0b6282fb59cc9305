"""A table's primary key, from `meta.primary_key` of its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errorcodes, sql

from batcher.postgres.database import PostgresDatabase, identifier, shut
from batcher.postgres.failures import quoted_name, shown, split
from lake.errors import BatchError
from lake.identifiers import fitting

LARGE_BYTES = 32 << 20
"""From this size on an index is built without a lock: it would shut readers out meanwhile."""
_UNIQUE = """
SELECT i.indexrelid::regclass::text, con.contype = 'p', con.conname,
       array_agg(a.attname::text ORDER BY k.place)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u')
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE n.nspname = %s AND c.relname = %s AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, con.contype, con.conname
"""
_NOT_A_KEY = frozenset({errorcodes.UNIQUE_VIOLATION, errorcodes.NOT_NULL_VIOLATION})
_NULLABLE = """
SELECT attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND attname = ANY(%s) AND NOT attnotnull
"""
_SIZE = (
    "SELECT pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = %s"
)


@dataclass(frozen=True, slots=True)
class KeyConstraint:
    """A unique constraint or index of a table.

    Attributes:
        name: Of the constraint; None where it is an index alone.
        is_primary: Whether it is the primary key.
        columns: Its columns.
    """

    name: str | None
    is_primary: bool
    columns: frozenset[str]


def key_constraints(cursor: Any, relation: str) -> list[KeyConstraint]:
    """What makes keys of a table unique at any moment."""
    cursor.execute(_UNIQUE, split(relation))
    return [
        KeyConstraint(name, bool(is_primary), frozenset(columns))
        for _, is_primary, name, columns in cursor.fetchall()
    ]


def has_key(cursor: Any, relation: str, key: Sequence[str]) -> bool:
    """Whether PostgreSQL keeps these columns unique."""
    return any(found.columns == set(key) for found in key_constraints(cursor, relation))


@contextmanager
def rows_have_key(relation: str, key: Sequence[str]) -> Iterator[None]:
    """Name the error of rows that stand twice, or have no key.

    Raises:
        BatchError: They do.
    """
    try:
        yield
    except psycopg2.Error as error:
        if error.pgcode not in _NOT_A_KEY or not key:
            raise
        columns = ", ".join(map(quoted_name, key))
        missing = " OR ".join(f"{quoted_name(column)} IS NULL" for column in key)
        raise BatchError(
            f"PostgreSQL: {shown(relation)}: its rows are not unique by its primary key"
            f" ({columns}), or lack it.",
            "Correct the model, or its `meta: {primary_key: …}`; in data/lake.duckdb this shows the"
            f" rows: SELECT {columns}, count(*) FROM {shown(relation)} GROUP BY ALL"
            f" HAVING count(*) > 1 OR {missing}",
        ) from None


def add_primary_key(cursor: Any, table: sql.Composable, key: Sequence[str]) -> None:
    """Give a table its key that nobody else sees yet."""
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, columns))


def ensure_key(
    database: PostgresDatabase, relation: str, key: Sequence[str], ours: Sequence[str]
) -> None:
    """Give a table that is there its primary key; one that others made stays beside it.

    Args:
        database: The database.
        relation: The table.
        key: The columns, as PostgreSQL has them.
        ours: The key that an earlier export made: it goes where it is another one now.

    Raises:
        BatchError: The rows that are there have no such key.
        ServiceUnreachable: Another session locks the table.
    """
    with database.transaction(relation) as cursor:
        found = key_constraints(cursor, relation)
        if any(constraint.columns == set(key) for constraint in found):
            return
        primary = next((c for c in found if c.is_primary), None)
        if primary is not None and primary.columns == set(ours):
            shut(cursor, relation)
            _drop(cursor, relation, str(primary.name))
            primary = None
        cursor.execute(_SIZE, split(relation))
        row = cursor.fetchone()
        if row is None:
            return
        if row[0] < LARGE_BYTES:
            shut(cursor, relation)
            with rows_have_key(relation, key):
                cursor.execute(_addition(relation, key, is_primary=primary is None))
            return
    _add_to_large(database, relation, key, is_primary=primary is None)


def _drop(cursor: Any, relation: str, constraint: str) -> None:
    statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
    cursor.execute(statement.format(identifier(relation), sql.Identifier(constraint)))


def _addition(relation: str, key: Sequence[str], is_primary: bool) -> sql.Composable:
    kind = sql.SQL("PRIMARY KEY" if is_primary else "UNIQUE")
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    return sql.SQL("ALTER TABLE {} ADD {} ({})").format(identifier(relation), kind, columns)


def _add_to_large(
    database: PostgresDatabase, relation: str, key: Sequence[str], is_primary: bool
) -> None:
    """The same in steps, none of which shuts readers out for longer than a moment."""
    schema, name = split(relation)
    index = fitting(f"{name}_ducklake_key")
    place = sql.Identifier(schema, index)
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    with database.outside_transactions(relation) as cursor, rows_have_key(relation, key):
        # One that a killed export left is not valid.
        cursor.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(place))
        statement = sql.SQL("CREATE UNIQUE INDEX CONCURRENTLY {} ON {} ({})")
        try:
            cursor.execute(statement.format(sql.Identifier(index), identifier(relation), columns))
        except psycopg2.Error:
            cursor.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(place))
            raise
    if not is_primary:
        return
    _refuse_null(database, relation, key)
    with database.transaction(relation) as cursor:
        shut(cursor, relation)
        statement = sql.SQL("ALTER TABLE {} ADD PRIMARY KEY USING INDEX {}")
        cursor.execute(statement.format(identifier(relation), sql.Identifier(index)))


def _refuse_null(database: PostgresDatabase, relation: str, key: Sequence[str]) -> None:
    """Make columns NOT NULL; the rows are read while readers go on."""
    table = identifier(relation)
    with database.transaction(relation) as cursor:
        cursor.execute(_NULLABLE, (*split(relation), list(key)))
        nullable = [name for (name,) in cursor.fetchall()]
    for column in nullable:
        named = sql.Identifier(column)
        check = sql.Identifier(fitting(f"{column}_ducklake_not_null"))
        with database.transaction(relation) as cursor:
            shut(cursor, relation)
            cursor.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(table, check)
            )
            statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID")
            cursor.execute(statement.format(table, check, named))
        with database.transaction(relation) as cursor:
            cursor.execute(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, check))
        with database.transaction(relation) as cursor:
            shut(cursor, relation)
            cursor.execute(sql.SQL("ALTER TABLE {} ALTER {} SET NOT NULL").format(table, named))
            cursor.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, check))
