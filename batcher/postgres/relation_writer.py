"""Rows of a DuckDB query into a table of PostgreSQL, whose columns follow those of the query."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from psycopg2 import sql

from batcher.postgres.columns import (
    WantedColumn,
    add_columns,
    column_changes,
    create_table,
    known_table,
    retype,
    wanted_columns,
)
from batcher.postgres.database import PostgresDatabase, identifier
from lake.storage.operations import remove_file
from lake.storage.sql import literal, quoted


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be written into one relation.

    Attributes:
        relation: `schema.name`.
        whole: Gives DuckDB's query of all its rows; its cost follows the history.
        state: What the relation shows afterwards; compared with it, a later cycle knows whether
            there is anything to do.
        new: DuckDB's query of the rows that are to go behind those that are there; None: all rows
            go in their place.
    """

    relation: str
    whole: Callable[[], str]
    state: str
    new: str | None = None


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
            BatchError: The database refuses the table's new columns or rows.
        """
        relation = export.relation
        # A transaction of its own: the lock of a new column shuts out readers.
        with self._database.transaction(relation) as cursor:
            appends = self._shape(cursor, export)
        query = export.new if appends and export.new is not None else export.whole()
        with self._database.transaction(relation) as cursor:
            columns = self._described(query)
            if not appends:
                cursor.execute(sql.SQL("DELETE FROM {}").format(identifier(relation)))
                known = known_table(cursor, relation)
                if known is not None:
                    changes = column_changes(known, columns, appends=False)
                    add_columns(cursor, relation, changes.added)
                    # Here the lock shuts out readers until the rows are there.
                    retyped = changes.widened + changes.replaced
                    retype(cursor, relation, known, retyped, keeps=False)
            rows = self._copy(cursor, relation, query, columns)
            self._database.record(cursor, relation, export.state, rows, appends)

    def _shape(self, cursor: Any, export: Export) -> bool:
        """Create the table, or change what can be changed with its rows in it.

        Returns:
            Whether the new rows go behind those that are there.
        """
        relation, appends = export.relation, export.new is not None
        columns = self._described(export.new or export.whole())
        known = known_table(cursor, relation)
        if known is None:
            create_table(cursor, relation, self._described(export.whole()))
            return False
        changes = column_changes(known, columns, appends)
        add_columns(cursor, relation, changes.added)
        if appends and changes.rewrites:
            return False  # the rows in them are replaced, and with them their types
        retype(cursor, relation, known, changes.widened, keeps=True)
        return appends

    def _described(self, query: str) -> tuple[WantedColumn, ...]:
        return wanted_columns(self._source.execute(f"DESCRIBE {query}").fetchall())

    def _copy(self, cursor: Any, relation: str, query: str, columns: Sequence[WantedColumn]) -> int:
        """Stream a query's rows into a table through a temporary CSV file."""
        texts = []
        for wanted in columns:
            column = quoted(wanted.name)
            if wanted.type == "jsonb":
                column = f"to_json({column})::VARCHAR AS {column}"
            elif wanted.duckdb_type == "BLOB":
                column = f"('\\x' || lower(hex({column}))) AS {column}"
            elif wanted.duckdb_type == "VARCHAR":
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
            targets = sql.SQL(", ").join(sql.Identifier(column.target) for column in columns)
            command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL '\\N')").format(
                identifier(relation), targets
            )
            with Path(name).open("rb") as rows:
                cursor.copy_expert(command, rows)
            return int(cursor.rowcount)
        finally:
            remove_file(Path(name))
