"""A table's primary key, from `meta.primary_key` of its model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errorcodes, sql

from batcher.postgres.database import PostgresDatabase, identifier, shut
from batcher.postgres.exports import Made
from batcher.postgres.failures import quoted_name, shown, split
from lake.errors import BatchError
from lake.identifiers import fitting

LARGE_BYTES = 32 << 20
"""From this size on an index is built without a lock: it would shut readers out meanwhile."""
_UNIQUE = """
SELECT x.relname, con.contype = 'p', con.conname,
       array_agg(a.attname::text ORDER BY k.place)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid
JOIN pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u')
CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE n.nspname = %s AND c.relname = %s AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND k.place <= i.indnkeyatts
GROUP BY x.relname, con.contype, con.conname
"""
_NOT_A_KEY = frozenset(
    {errorcodes.UNIQUE_VIOLATION, errorcodes.NOT_NULL_VIOLATION, errorcodes.CHECK_VIOLATION}
)
_NULLABLE = """
SELECT attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND attname = ANY(%s) AND NOT attnotnull
"""
_CHECKS = """
SELECT con.conname, a.attname FROM pg_constraint con JOIN pg_class c ON c.oid = con.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND con.conkey = ARRAY[a.attnum]
WHERE n.nspname = %s AND c.relname = %s AND con.contype = 'c'
"""
_SIZE = (
    "SELECT pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = %s AND c.relname = %s"
)


@dataclass(frozen=True, slots=True)
class KeyConstraint:
    """A unique constraint or index of a table.

    Attributes:
        name: Of its index, and of the constraint.
        is_constraint: Whether it is more than an index.
        is_primary: Whether it is the primary key.
        columns: Its columns.
    """

    name: str
    is_constraint: bool
    is_primary: bool
    columns: frozenset[str]


def key_constraints(cursor: Any, relation: str) -> list[KeyConstraint]:
    """What makes keys of a table unique at any moment."""
    cursor.execute(_UNIQUE, split(relation))
    return [
        KeyConstraint(index, constraint is not None, bool(is_primary), frozenset(columns))
        for index, is_primary, constraint, columns in cursor.fetchall()
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


def key_name(relation: str) -> str:
    """The name of the key that an export gives a table: so it is told from those of users."""
    return fitting(f"{split(relation)[1]}_ducklake_key")


def add_key(cursor: Any, relation: str, key: Sequence[str], is_primary: bool = True) -> None:
    """Give a table its key; while that is built, readers are shut out."""
    statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} ({})")
    kind = sql.SQL("PRIMARY KEY" if is_primary else "UNIQUE")
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    name = sql.Identifier(key_name(relation))
    cursor.execute(statement.format(identifier(relation), name, kind, columns))


def retire_key(cursor: Any, relation: str, key: Sequence[str], made: Made) -> frozenset[str]:
    """Drop the key that an earlier export gave a table, where it is another one now, or none.

    Args:
        cursor: Of a transaction.
        relation: The table.
        key: The columns of its key now.
        made: What exports have given it.

    Returns:
        The columns that refuse NULL for the sake of a primary key that stays.
    """
    for name in _checks_of_others(cursor, relation, key):
        shut(cursor, relation)
        statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
        cursor.execute(statement.format(identifier(relation), sql.Identifier(name)))
    for constraint in key_constraints(cursor, relation):
        if constraint.columns != set(key) and _is_ours(relation, constraint, made):
            shut(cursor, relation)
            _drop(cursor, relation, constraint)
        elif constraint.is_primary:
            return constraint.columns
    return frozenset()


def _check_name(column: str) -> str:
    return fitting(f"{column}_ducklake_not_null")


def _checks_of_others(cursor: Any, relation: str, key: Sequence[str]) -> list[str]:
    """Checks for a key that was never finished, on columns that are none of its now."""
    cursor.execute(_CHECKS, split(relation))
    return [
        check
        for check, column in cursor.fetchall()
        if column not in key and check == _check_name(column)
    ]


def _is_ours(relation: str, constraint: KeyConstraint, made: Made) -> bool:
    if constraint.name == key_name(relation):
        return True
    return constraint.is_primary and made.is_key_unnamed and constraint.columns == set(made.key)


def ensure_key(database: PostgresDatabase, relation: str, key: Sequence[str]) -> None:
    """Give a table that is there its primary key; one that others made stays beside it.

    Args:
        database: The database.
        relation: The table.
        key: The columns, as PostgreSQL has them.

    Raises:
        BatchError: The rows that are there have no such key.
        ServiceUnreachable: Another session locks the table.
    """
    with database.transaction(relation) as cursor:
        found = key_constraints(cursor, relation)
        is_primary = not any(constraint.is_primary for constraint in found)
        there = [constraint for constraint in found if constraint.columns == set(key)]
        # An index alone was built for rows that had no value, or whoever built it was killed.
        is_begun = is_primary and [key_name(relation)] == [c.name for c in there]
        if there and not is_begun:
            return
        cursor.execute(_SIZE, split(relation))
        row = cursor.fetchone()
        if row is None:
            return
        if row[0] < LARGE_BYTES and not is_begun:
            shut(cursor, relation)
            with rows_have_key(relation, key):
                add_key(cursor, relation, key, is_primary)
            return
    if not is_begun:
        _index_large(database, relation, key)
    if is_primary:
        _make_primary(database, relation, key)


def _drop(cursor: Any, relation: str, constraint: KeyConstraint) -> None:
    name = sql.Identifier(constraint.name)
    if constraint.is_constraint:
        statement = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}")
        cursor.execute(statement.format(identifier(relation), name))
    else:
        schema, _ = split(relation)
        cursor.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(schema, constraint.name)))


def _index_large(database: PostgresDatabase, relation: str, key: Sequence[str]) -> None:
    """The same in steps, none of which shuts readers out for longer than a moment."""
    schema, _ = split(relation)
    index = key_name(relation)
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


def _make_primary(database: PostgresDatabase, relation: str, key: Sequence[str]) -> None:
    """Make an index the primary key.

    Raises:
        BatchError: A row has no value in a column of the key.
    """
    index = key_name(relation)
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
        check = sql.Identifier(_check_name(column))
        with database.transaction(relation) as cursor:
            shut(cursor, relation)
            cursor.execute(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(table, check)
            )
            statement = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID")
            cursor.execute(statement.format(table, check, named))
        with database.transaction(relation) as cursor, rows_have_key(relation, key):
            cursor.execute(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, check))
        with database.transaction(relation) as cursor:
            shut(cursor, relation)
            cursor.execute(sql.SQL("ALTER TABLE {} ALTER {} SET NOT NULL").format(table, named))
            cursor.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, check))
