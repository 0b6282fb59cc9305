"""Rows that lie in a temporary table first, and what they change in the table by its key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from batcher.postgres.columns import WantedColumn
from batcher.postgres.copying import Source
from batcher.postgres.database import identifier
from batcher.postgres.primary_keys import rows_have_key

STAGED, GONE = sql.Identifier("pg_temp", "ducklake_rows"), sql.Identifier(
    "pg_temp", "ducklake_gone"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a merge did to a table.

    Attributes:
        added: Rows of new keys.
        changed: Rows that had other values.
        removed: Rows whose key is gone.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0

    @property
    def rows(self) -> int:
        """By how many rows the table has grown."""
        return self.added - self.removed

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.added + other.added, self.changed + other.changed, self.removed + other.removed
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def stage(
    cursor: Any,
    source: Source,
    relation: str,
    query: str,
    key: Sequence[str],
    into: sql.Identifier = STAGED,
) -> int:
    """Copy a query's rows into a temporary table, which ends with the transaction.

    Args:
        cursor: Of the transaction.
        source: Where the query runs.
        relation: The table that they are meant for.
        query: The rows.
        key: The columns, as PostgreSQL has them, by which they have to be unique; none: they need
            not be.
        into: The temporary table.

    Returns:
        How many rows.

    Raises:
        BatchError: They are not unique by the key.
    """
    columns = source.columns(query)
    listed = sql.SQL(", ").join(column.definition for column in columns)
    cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(into))
    name = sql.Identifier(into.strings[-1])
    cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(name, listed))
    rows = source.copy_into(cursor, into, query, columns)
    if key:
        with rows_have_key(relation, key):
            listed = sql.SQL(", ").join(map(sql.Identifier, key))
            cursor.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(into, listed))
    cursor.execute(
        sql.SQL("ANALYZE {}").format(into)
    )  # nothing else tells the planner their number
    return rows


def remove_gone(cursor: Any, relation: str, key: Sequence[str]) -> int:
    """Delete the rows whose keys lie in the temporary table of keys."""
    return _deleted(cursor, relation, sql.SQL("EXISTS"), GONE, key)


def remove_others(cursor: Any, relation: str, key: Sequence[str]) -> int:
    """Delete the rows whose keys are not among the staged rows."""
    return _deleted(cursor, relation, sql.SQL("NOT EXISTS"), STAGED, key)


def _deleted(
    cursor: Any, relation: str, word: sql.SQL, table: sql.Identifier, key: Sequence[str]
) -> int:
    statement = sql.SQL("DELETE FROM {} t WHERE {} (SELECT FROM {} s WHERE {})")
    cursor.execute(statement.format(identifier(relation), word, table, _equal(key)))
    return int(cursor.rowcount)


def upsert(
    cursor: Any, relation: str, columns: Sequence[WantedColumn], key: Sequence[str]
) -> tuple[int, int]:
    """Put the staged rows into the table; a row that is the same already is not written.

    Returns:
        How many were added, and how many changed.
    """
    names = [column.target for column in columns]
    values = [name for name in names if name not in key]
    statement = sql.SQL(
        "WITH written AS (INSERT INTO {} AS t ({}) SELECT {} FROM {} ON CONFLICT ({}) DO {}"
        " RETURNING t.xmax = 0 AS is_new)"
        " SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM written"
    )
    update = sql.SQL("UPDATE SET {} WHERE ({}) IS DISTINCT FROM ({})").format(
        sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in values
        ),
        _listed(values, "t"),
        _listed(values, "excluded"),
    )
    cursor.execute(
        statement.format(
            identifier(relation),
            _listed(names),
            _listed(names),
            STAGED,
            _listed(key),
            update if values else sql.SQL("NOTHING"),
        )
    )
    added, changed = cursor.fetchone()
    return int(added), int(changed)


def insert_staged(cursor: Any, relation: str, columns: Sequence[WantedColumn]) -> int:
    """Put all staged rows into the table, which has none; gives how many."""
    names = _listed([column.target for column in columns])
    statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}")
    cursor.execute(statement.format(identifier(relation), names, names, STAGED))
    return int(cursor.rowcount)


def _listed(names: Sequence[str], of: str = "") -> sql.Composable:
    if of:
        return sql.SQL(", ").join(sql.Identifier(of, name) for name in names)
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _equal(key: Sequence[str]) -> sql.Composable:
    return sql.SQL(" AND ").join(sql.SQL("t.{0} = s.{0}").format(sql.Identifier(k)) for k in key)
