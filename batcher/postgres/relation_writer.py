"""Rows of a DuckDB query into a table of PostgreSQL, whose columns follow those of the query."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
from psycopg2 import sql

from batcher.postgres.database import PostgresDatabase, identifier
from batcher.postgres.types import is_same_type, postgres_type
from lake.errors import BatchError
from lake.storage.operations import remove_file
from lake.storage.sql import literal, quoted

Columns = Sequence[tuple[str, str]]
"""(name, DuckDB type) of each."""


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be written into one relation.

    Attributes:
        relation: `schema.name`.
        query: DuckDB's, of the rows.
        state: What the relation shows afterwards; compared with it, a later cycle knows whether
            there is anything to do.
        appends: Whether the rows go behind those that are there, not in their place.
    """

    relation: str
    query: str
    state: str
    appends: bool = False


class RelationWriter:
    """Writes relations of one database.

    Args:
        database: The database.
        source: A DuckDB connection, in which the queries run.
        folder: For the temporary files between the two.
    """

    def __init__(
        self, database: PostgresDatabase, source: duckdb.DuckDBPyConnection, folder: Path
    ) -> None:
        self._database = database
        self._source = source
        self._folder = folder

    def write(self, export: Export) -> None:
        """Put a query's rows into a table.

        Raises:
            ServiceUnreachable: The database does not answer, or another session locks the table.
            BatchError: The table cannot take the new columns.
        """
        relation = export.relation
        # A transaction of its own: the lock of a new column shuts out readers.
        with self._database.transaction(relation) as cursor:
            columns = self._shape(cursor, relation, export.query)
        with self._database.transaction(relation) as cursor:
            if not export.appends:
                cursor.execute(sql.SQL("DELETE FROM {}").format(identifier(relation)))
            rows = self._copy(cursor, relation, export.query, columns)
            self._database.record(cursor, relation, export.state, rows, export.appends)

    def _shape(self, cursor: Any, relation: str, query: str) -> Columns:
        """Create the table, or add the columns that it lacks; gives the query's columns."""
        described = self._source.execute(f"DESCRIBE {query}").fetchall()
        columns = [(str(column[0]), str(column[1])) for column in described]
        schema, _, name = relation.partition(".")
        cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        cursor.execute(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a"
            " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
            (schema, name),
        )
        known = dict(cursor.fetchall())
        wanted = [
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(postgres_type(type_)))
            for column, type_ in columns
        ]
        if not known:
            cursor.execute(
                sql.SQL("CREATE TABLE {} ({})").format(
                    identifier(relation), sql.SQL(", ").join(wanted)
                )
            )
            return columns
        for (column, type_), definition in zip(columns, wanted, strict=True):
            if column not in known:
                cursor.execute(
                    sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(identifier(relation), definition)
                )
            elif not is_same_type(known[column], postgres_type(type_)):
                self._retype(cursor, relation, column, postgres_type(type_))
        return columns

    def _retype(self, cursor: Any, relation: str, column: str, type_: str) -> None:
        cursor.execute("SAVEPOINT retype")
        statement = sql.SQL("ALTER TABLE {t} ALTER COLUMN {c} TYPE {k} USING {c}::{k}")
        try:
            cursor.execute(
                statement.format(t=identifier(relation), c=sql.Identifier(column), k=sql.SQL(type_))
            )
        except psycopg2.Error as error:
            cursor.execute("ROLLBACK TO SAVEPOINT retype")
            raise BatchError(
                f"PostgreSQL: {relation}.{column} cannot become {type_}:"
                f" {error.diag.message_primary}.",
                "Drop what depends on that column, or the table; the next cycle recreates it.",
            ) from None

    def _copy(self, cursor: Any, relation: str, query: str, columns: Columns) -> int:
        """Stream a query's rows into a table through a temporary CSV file."""
        texts = []
        for name, type_ in columns:
            column = quoted(name)
            if postgres_type(type_) == "jsonb":
                column = f"to_json({column})::VARCHAR AS {column}"
            elif type_ == "BLOB":
                column = f"('\\x' || lower(hex({column}))) AS {column}"
            elif type_ == "VARCHAR":
                # PostgreSQL's text holds every character but NUL.
                column = f"replace({column}, chr(0), '') AS {column}"
            texts.append(column)
        handle, name = tempfile.mkstemp(suffix=".csv", dir=self._folder)
        os.close(handle)
        try:
            self._source.execute(
                f"COPY (SELECT {', '.join(texts)} FROM ({query})) TO {literal(name)}"
                " (FORMAT csv, HEADER false, NULLSTR '\\N', QUOTE '\"', ESCAPE '\"')"
            )
            targets = sql.SQL(", ").join(sql.Identifier(column) for column, _ in columns)
            command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL '\\N')").format(
                identifier(relation), targets
            )
            with Path(name).open("rb") as rows:
                cursor.copy_expert(command, rows)
            return int(cursor.rowcount)
        finally:
            remove_file(Path(name))
