"""Columns that a table has and its rows have no longer: kept for users' views, and empty."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import structlog
from psycopg2 import sql

from batcher.postgres.columns import KnownTable, WantedColumn
from batcher.postgres.database import identifier, shut
from batcher.postgres.exports import Exports, Made
from batcher.postgres.failures import quoted_name, shown

log = structlog.get_logger()


def left_columns(
    table: KnownTable | None, made: Iterable[str], wanted: Sequence[WantedColumn]
) -> tuple[str, ...]:
    """The columns of a table that its rows have no longer.

    Args:
        table: The table; None: it has just been made.
        made: The columns that exports have given it: any other one is a user's.
        wanted: The columns of its rows.
    """
    if table is None:
        return ()
    targets = {column.target for column in wanted}
    return tuple(name for name in made if name in table.columns and name not in targets)


def allow_null(cursor: Any, relation: str, columns: Collection[str]) -> None:
    """Let columns be NULL, for new rows have no value there: readers are shut out for a moment."""
    if not columns:
        return
    shut(cursor, relation)
    parts = [
        sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name))
        for name in sorted(columns)
    ]
    statement = sql.SQL("ALTER TABLE {} {}")
    cursor.execute(statement.format(identifier(relation), sql.SQL(", ").join(parts)))


def empty(cursor: Any, relation: str, columns: Sequence[str]) -> int:
    """Set columns to NULL, for nobody writes their values any more; gives how many rows had one."""
    if not columns:
        return 0
    names = [sql.Identifier(name) for name in columns]
    statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(
        identifier(relation),
        sql.SQL(", ").join(sql.SQL("{} = NULL").format(name) for name in names),
        sql.SQL(" OR ").join(sql.SQL("{} IS NOT NULL").format(name) for name in names),
    )
    cursor.execute(statement)
    return int(cursor.rowcount)


def removal(relation: str, column: str) -> str:
    """The statement that drops a column; it fails while a view stands on it."""
    return f"ALTER TABLE {shown(relation)} DROP COLUMN {quoted_name(column)}"


def made_by_now(
    cursor: Any,
    exports: Exports,
    relation: str,
    table: KnownTable | None,
    wanted: Sequence[WantedColumn],
    key: tuple[str, ...] = (),
) -> Made:
    """What a table has got from exports by now; columns that its rows have lost are emptied, once.

    Args:
        cursor: Of the transaction that has written the rows.
        exports: What was recorded before.
        relation: The table.
        table: As it was; None: it has just been made.
        wanted: The columns of its rows.
        key: Its key.
    """
    before = exports.made(cursor, relation)
    left = left_columns(table, before.columns, wanted)
    fresh = [name for name in left if name not in before.left]
    empty(cursor, relation, fresh)
    for column in fresh:
        log.warning(
            "column_left",
            message="PostgreSQL keeps a column that the rows have no longer; it is empty.",
            relation=relation,
            column=column,
            remedy=f"Drop it once no view needs it: `{removal(relation, column)}`.",
        )
    columns = (*(column.target for column in wanted), *left)
    return Made(key, columns, left, before.is_key_unnamed and before.key == key)
