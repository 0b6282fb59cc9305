"""Rows of a DuckDB query into a table of PostgreSQL: COPY through a pipe, both sides at once."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import duckdb
from psycopg2 import sql

from batcher.postgres.columns import WantedColumn, wanted_columns
from batcher.postgres.model_rows import RowChanges
from lake.storage.sql import literal, quoted

_KEPT = ("ducklake_upserted", "ducklake_deleted")
_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 18
_CSV = "FORMAT csv, HEADER false, NULLSTR '\\N', QUOTE '\"', ESCAPE '\"', USE_TMP_FILE false"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows come from.

    Attributes:
        database: A DuckDB connection, in UTC, in which queries run; of one thread.
    """

    database: duckdb.DuckDBPyConnection

    def columns(self, query: str) -> tuple[WantedColumn, ...]:
        """The columns of a query, as PostgreSQL is to have them."""
        return wanted_columns(self.database.execute(f"DESCRIBE {query}").fetchall())

    @contextmanager
    def kept(self, changes: RowChanges) -> Iterator[tuple[str, str]]:
        """Changes, looked for once: queries of new rows and of keys that are gone; empty: none."""
        new = self._keep("ducklake_upserted", changes.upserted)
        key = self.database.execute(f"SELECT * FROM ({changes.deleted}) LIMIT 0").description
        using = ", ".join(quoted(name) for name, *_ in key or ())
        absent = f"ANTI JOIN ducklake_upserted USING ({using})"
        gone = self._keep(
            "ducklake_deleted", f"SELECT DISTINCT * FROM ({changes.deleted}) {absent}"
        )
        try:
            yield "FROM ducklake_upserted" if new else "", "FROM ducklake_deleted" if gone else ""
        finally:
            for name in _KEPT:
                self.database.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def _keep(self, name: str, query: str) -> int:
        """The number of a query's rows, which are kept in a temporary table."""
        found = self.database.execute(
            f"CREATE OR REPLACE TEMPORARY TABLE {name} AS {query}"
        ).fetchone()
        return int(found[0]) if found else 0

    def copy_into(
        self, cursor: Any, table: sql.Composable, query: str, columns: Sequence[WantedColumn]
    ) -> int:
        """Stream a query's rows into a table, whose row count is returned.

        Args:
            cursor: Of the transaction.
            table: The table, as SQL names it.
            query: The rows.
            columns: The query's columns.

        Raises:
            duckdb.Error: The query failed.
            psycopg2.Error: The table does not take the rows.
        """
        targets = sql.SQL(", ").join(sql.Identifier(column.target) for column in columns)
        command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL '\\N')").format(table, targets)
        pipe = _Pipe(self.database, _as_text(query, columns))
        try:
            with os.fdopen(pipe.reading, "rb", buffering=0) as rows:
                cursor.copy_expert(command, rows, size=_READ_BYTES)
        except BaseException:
            pipe.finish()  # it fails as well, for nobody reads any more
            raise
        failure = pipe.finish()
        if failure is not None:
            raise failure  # PostgreSQL has seen an early end, and thinks that it was all
        return int(cursor.rowcount)


class _Pipe:
    """A thread in which DuckDB writes CSV, and the other end of the pipe."""

    def __init__(self, database: duckdb.DuckDBPyConnection, query: str) -> None:
        self.reading, self._writing = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # beyond what this user may have: the pipe stays small
                fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._database = database
        self._query = f"COPY ({query}) TO {literal(f'/dev/fd/{self._writing}')} ({_CSV})"
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="export rows", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        try:
            self._database.execute(self._query)
        except Exception as error:  # raised in the thread that reads
            self._failure = error
        finally:
            os.close(self._writing)

    def finish(self) -> Exception | None:
        """Wait for the end of the query, once nobody reads; gives what went wrong."""
        self._thread.join()
        return self._failure


def _as_text(query: str, columns: Sequence[WantedColumn]) -> str:
    """The query, with values as PostgreSQL reads them."""
    texts = []
    for wanted in columns:
        column = quoted(wanted.name)
        if wanted.type == "jsonb":
            column = f"to_json({column})::VARCHAR AS {column}"
        elif wanted.duckdb_type == "BLOB":
            column = f"('\\x' || lower(hex({column}))) AS {column}"
        elif wanted.duckdb_type == "VARCHAR":
            # PostgreSQL's text holds every character but NUL.
            column = (
                f"CASE WHEN contains({column}, chr(0)) THEN replace({column}, chr(0), '')"
                f" ELSE {column} END AS {column}"
            )
        elif wanted.duckdb_type == "TIMESTAMP WITH TIME ZONE":
            # In UTC on both sides; printing the zone costs more than all else.
            column = (
                f"CASE WHEN isfinite({column}) THEN make_timestamp(epoch_us({column}))"
                f" ELSE {column}::TIMESTAMP END AS {column}"
            )
        texts.append(column)
    return f"SELECT {', '.join(texts)} FROM ({query})"
