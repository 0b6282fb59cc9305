"""Comments on tables and columns: dbt's descriptions, and what a renamed one is in the lake.

A comment that somebody else has written is theirs: it is neither replaced nor removed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg2 import sql

from batcher.description import ModelDescription
from batcher.postgres.columns import WantedColumn
from batcher.postgres.database import identifier
from batcher.postgres.failures import split

TABLE = ""
"""The key of the table's own comment among those of its columns."""
_FOUND = """
SELECT coalesce(a.attname, ''), d.description
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE n.nspname = %s AND c.relname = %s
"""


def wanted_comments(
    relation: str, columns: Sequence[WantedColumn], description: ModelDescription
) -> dict[str, str]:
    """What a table and its columns are to say, by the column's name in PostgreSQL."""
    _, name = split(relation)
    wanted = {TABLE: _comment(relation.partition(".")[2], name, description.text)}
    for column in columns:
        text = description.columns.get(column.name, "")
        wanted[column.target] = _comment(column.name, column.target, text)
    return {place: text for place, text in wanted.items() if text}


def _comment(in_lake: str, in_postgres: str, text: str) -> str:
    """A description, and the name in the lake where PostgreSQL does not take it."""
    if in_lake == in_postgres:
        return text
    named = f"{in_lake} in the lake"
    return f"{named}: {text}" if text else named


def write_comments(
    cursor: Any, relation: str, wanted: Mapping[str, str], ours: Mapping[str, str]
) -> dict[str, str]:
    """Bring the comments of a table up to date; readers go on.

    Args:
        cursor: Of the transaction.
        relation: The table.
        wanted: What it is to say.
        ours: What an earlier export has written.

    Returns:
        What is ours now.
    """
    cursor.execute(_FOUND, split(relation))
    found = dict(cursor.fetchall())
    kept = {}
    for place in sorted(wanted.keys() | ours.keys()):
        said, text = found.get(place), wanted.get(place)
        if said is not None and said not in (ours.get(place), text):
            continue
        if said != text:
            _write(cursor, relation, place, text)
        if text is not None:
            kept[place] = text
    return kept


def _write(cursor: Any, relation: str, place: str, text: str | None) -> None:
    table = identifier(relation)
    if place == TABLE:
        target = sql.SQL("TABLE {}").format(table)
    else:
        target = sql.SQL("COLUMN {}.{}").format(table, sql.Identifier(place))
    value = sql.NULL if text is None else sql.Literal(text.replace("\x00", ""))
    cursor.execute(sql.SQL("COMMENT ON {} IS {}").format(target, value))
