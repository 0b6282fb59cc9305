"""Views that stand on a column: put away while its type changes, and made again as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql

from batcher.postgres.failures import quoted_name
from lake.errors import BatchError

_FOUND = """
WITH RECURSIVE standing (oid, depth) AS (
    SELECT r.ev_class, 1 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = %(table)s AND d.refobjsubid = ANY(%(columns)s) AND r.ev_class <> d.refobjid
    UNION ALL
    SELECT r.ev_class, s.depth + 1 FROM standing s
    JOIN pg_depend d ON d.refobjid = s.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    WHERE r.ev_class <> s.oid
)
SELECT c.oid, n.nspname, c.relname, c.relkind = 'm', c.relispopulated, pg_get_viewdef(c.oid),
       pg_get_userbyid(c.relowner), coalesce(c.reloptions, '{}'),
       EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid UNION ALL
               SELECT FROM pg_rewrite WHERE ev_class = c.oid AND rulename <> '_RETURN' UNION ALL
               SELECT FROM pg_attrdef WHERE adrelid = c.oid)
FROM (SELECT oid, max(depth) AS depth FROM standing GROUP BY oid) f
JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY f.depth, n.nspname, c.relname
"""
_GRANTS = """
SELECT g.grantee, coalesce(pg_get_userbyid(nullif(g.grantee, 0)), ''), g.privilege_type,
       g.is_grantable, g.attname
FROM (
    SELECT (aclexplode(relacl)).*, NULL AS attname FROM pg_class WHERE oid = %(oid)s
    UNION ALL
    SELECT (aclexplode(attacl)).*, attname FROM pg_attribute WHERE attrelid = %(oid)s
) g
"""
_COMMENTS = """
SELECT a.attname, d.description FROM pg_description d
LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE d.objoid = %s AND d.classoid = 'pg_class'::regclass
"""
_INDEXES = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s"


@dataclass(frozen=True, slots=True)
class View:
    """A view as it was.

    Attributes:
        name: `schema.name` as an identifier.
        shown: The same for errors.
        is_materialized: Whether it holds rows of its own.
        statements: What makes it again, in order.
    """

    name: sql.Composable
    shown: str
    is_materialized: bool
    statements: tuple[sql.Composable, ...]

    @property
    def kind(self) -> sql.SQL:
        """The word of SQL."""
        return sql.SQL("MATERIALIZED VIEW" if self.is_materialized else "VIEW")


@contextmanager
def views_aside(cursor: Any, table: int, columns: Sequence[int]) -> Iterator[None]:
    """Drop the views that depend on some columns, and make them again with owners and grants.

    Args:
        cursor: Of the transaction in which the columns change.
        table: The oid of the table.
        columns: Numbers of the columns.

    Raises:
        BatchError: A view cannot be dropped, or does not fit the new columns.
    """
    cursor.execute(_FOUND, {"table": table, "columns": list(columns)})
    views = [_saved(cursor, *row) for row in cursor.fetchall()]
    for view in reversed(views):
        statement = sql.SQL("DROP {} {}").format(view.kind, view.name)
        _run(cursor, view, [statement], "cannot be dropped for the change of a column")
    yield
    for view in views:
        _run(cursor, view, view.statements, "does not fit a column that has a new type")


def _run(cursor: Any, view: View, statements: Sequence[sql.Composable], what: str) -> None:
    try:
        for statement in statements:
            cursor.execute(statement)
    except psycopg2.OperationalError:
        raise
    except psycopg2.Error as error:
        raise BatchError(
            f"PostgreSQL: the view {view.shown} {what}: {error.diag.message_primary}.",
            f"Drop it (`DROP {view.kind.string} {view.shown} CASCADE`); the next cycle exports the"
            " table, and the view can be made again.",
        ) from None


def _saved(
    cursor: Any, oid: int, schema: str, name: str, *about: Any
) -> View:  # the columns of _FOUND
    is_materialized, is_populated, definition, owner, options, has_more = about
    identifier = sql.Identifier(schema, name)
    shown = f"{quoted_name(schema)}.{quoted_name(name)}"
    kind = sql.SQL("MATERIALIZED VIEW" if is_materialized else "VIEW")
    if has_more:
        raise BatchError(
            f"PostgreSQL: the view {shown} has triggers, rules or defaults and depends on a column"
            " that gets a new type.",
            f"Drop it (`DROP VIEW {shown} CASCADE`); the next cycle exports the table, and"
            " the view can be made again.",
        )
    settings = sql.SQL(f" WITH ({', '.join(options)})") if options else sql.SQL("")
    body = definition.rstrip().rstrip(";")
    without = "" if is_populated or not is_materialized else " WITH NO DATA"
    statements: list[sql.Composable] = [
        sql.SQL("CREATE {} {}{} AS {}").format(kind, identifier, settings, sql.SQL(body + without)),
        sql.SQL("ALTER {} {} OWNER TO {}").format(kind, identifier, sql.Identifier(owner)),
    ]
    cursor.execute(_INDEXES, (oid,))
    statements += [sql.SQL(index) for (index,) in cursor.fetchall()]
    statements += _grants(cursor, oid, identifier, owner)
    cursor.execute(_COMMENTS, (oid,))
    for column, text in cursor.fetchall():
        if column is None:
            place = sql.SQL("{} {}").format(kind, identifier)
        else:
            place = sql.SQL("COLUMN {}.{}").format(identifier, sql.Identifier(column))
        statements.append(sql.SQL("COMMENT ON {} IS {}").format(place, sql.Literal(text)))
    return View(identifier, shown, is_materialized, tuple(statements))


def _grants(
    cursor: Any, oid: int, identifier: sql.Identifier, owner: str
) -> Iterator[sql.Composable]:
    cursor.execute(_GRANTS, {"oid": oid})
    for grantee, role, privilege, is_grantable, column in cursor.fetchall():
        if role == owner:
            continue  # has them anyway
        yield sql.SQL("GRANT {}{} ON {} TO {}{}").format(
            sql.SQL(privilege),
            sql.SQL(" ({})").format(sql.Identifier(column)) if column else sql.SQL(""),
            identifier,
            sql.Identifier(role) if grantee else sql.SQL("PUBLIC"),
            sql.SQL(" WITH GRANT OPTION" if is_grantable else ""),
        )
