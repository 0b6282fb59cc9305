"""To PostgreSQL: schemas raw, staging and consume, each relation replaced in one transaction.

Readers see the old rows or the new ones, never a half-filled or a locked table; tables stay the
same objects, so views and grants on them survive. Raw is appended by commit number.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
from psycopg2 import errorcodes, sql

from batcher.catalog import DEAD_LETTERS, dead_letter_table, opened, raw_columns
from batcher.publish import Snapshot
from lake.config import Config, PostgresEndpoint
from lake.errors import BatchError, ServiceUnreachable
from lake.ledger import Ledger
from lake.storage.sql import literal, quoted, rows_query

CONNECT_SECONDS = 10
LOCK_MILLISECONDS = 10_000
_STATE = """
CREATE SCHEMA IF NOT EXISTS ducklake;
CREATE TABLE IF NOT EXISTS ducklake.exports (
    relation text PRIMARY KEY, lake text NOT NULL, state text NOT NULL, rows bigint NOT NULL,
    exported_at timestamptz NOT NULL DEFAULT now()
)
"""
_TYPES = {
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "UTINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "UBIGINT": "numeric(20)",
    "HUGEINT": "numeric(39)",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
    "BLOB": "bytea",
    "UUID": "uuid",
}


def postgres_type(duckdb_type: str) -> str:
    """The PostgreSQL type that holds every value of a DuckDB type."""
    if duckdb_type.startswith("DECIMAL"):
        return duckdb_type.replace("DECIMAL", "numeric")
    if duckdb_type.endswith("]") or duckdb_type.startswith(("STRUCT", "MAP")):
        return "jsonb"
    return _TYPES.get(duckdb_type, "text")


class PostgresExport:
    """Exports one lake to one database.

    Args:
        config: The configuration.
        endpoint: The database.
        ledger: The lake's ledger.
    """

    def __init__(self, config: Config, endpoint: PostgresEndpoint, ledger: Ledger) -> None:
        self._config = config
        self._endpoint = endpoint
        self._ledger = ledger
        # Rows in PostgreSQL belong to one lake: after a reset they are exported anew.
        self._lake = f"{config.settings.name}:{ledger.identity()}"

    def export(self, snapshots: Mapping[str, Snapshot], commit: int) -> int:
        """Bring PostgreSQL to the state of a cycle.

        Args:
            snapshots: The published models.
            commit: The ledger's commit, pinned, up to which raw is exported.

        Returns:
            The number of relations that were written.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: A table there cannot take the new columns.
        """
        written = 0
        with self._connected() as database, opened(Path(":memory:")) as source:
            states = self._states(database)
            for ref, _ in self._config.tables():
                written += self._raw(database, source, states, ref.table, ref.topic, commit)
            written += self._dead_letters(database, source, states, commit)
            for snapshot in snapshots.values():
                if states.get(snapshot.relation) != snapshot.digest:
                    query = f"SELECT * FROM read_parquet({literal(str(snapshot.path))})"
                    self._write(database, source, snapshot.relation, query, snapshot.digest)
                    written += 1
        return written

    def counts(self) -> dict[str, int]:
        """Ask PostgreSQL for the rows of every exported relation."""
        counts = {}
        with self._connected() as database, database.cursor() as cursor:
            for relation in self._states(database):
                cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(_name(relation)))
                row = cursor.fetchone()
                counts[relation] = int(row[0]) if row else 0
        return counts

    # Relations -----------------------------------------------------------------------------

    def _raw(
        self,
        database: Any,
        source: duckdb.DuckDBPyConnection,
        states: Mapping[str, str],
        table: str,
        topic: str,
        commit: int,
    ) -> int:
        relation = f"raw.{table}"
        ref = next(ref for ref, _ in self._config.tables() if ref.topic == topic)
        columns = raw_columns(self._config, self._ledger, ref, commit)
        exported = int(states[relation]) if relation in states else None
        generation = self._ledger.generation(topic, commit)
        if exported is not None and self._ledger.generation(topic, exported) != generation:
            exported = None  # rebuilt since then: all of it is new
        new = self._ledger.new_rows(topic, exported or 0, commit)
        if exported is not None and not new:
            return 0
        parts = [rows_query(columns, [rows.path], rows.ranges) for rows in new]
        query = " UNION ALL BY NAME ".join(parts) or rows_query(columns, [])
        self._write(database, source, relation, query, str(commit), replace=exported is None)
        return 1

    def _dead_letters(
        self,
        database: Any,
        source: duckdb.DuckDBPyConnection,
        states: Mapping[str, str],
        commit: int,
    ) -> int:
        rejected = dead_letter_table(self._ledger, commit)
        about = rejected.drop_columns(["key", "value", "headers"])
        state = hashlib.sha256(repr(about.to_pylist()).encode()).hexdigest()
        if states.get("raw.dead_letters") == state:
            return 0
        source.register("dead_letters", rejected)
        names = ", ".join(DEAD_LETTERS.names)
        self._write(
            database, source, "raw.dead_letters", f"SELECT {names} FROM dead_letters", state
        )
        return 1

    def _write(
        self,
        database: Any,
        source: duckdb.DuckDBPyConnection,
        relation: str,
        query: str,
        state: str,
        replace: bool = True,
    ) -> None:
        """Put a query's rows into a table, instead of what it holds or behind it."""
        columns = self._shaped(database, source, relation, query)
        with self._transaction(database, relation) as cursor:
            if replace:
                cursor.execute(sql.SQL("DELETE FROM {}").format(_name(relation)))
            rows = self._copy(cursor, source, relation, query, columns)
            self._remember(cursor, relation, state, rows, added=not replace)

    def _shaped(
        self, database: Any, source: duckdb.DuckDBPyConnection, relation: str, query: str
    ) -> list[tuple[str, str]]:
        """Give the table its columns, in a transaction of its own: its lock shuts out readers."""
        with self._transaction(database, relation) as cursor:
            return self._shape(cursor, source, relation, query)

    def _shape(
        self, cursor: Any, source: duckdb.DuckDBPyConnection, relation: str, query: str
    ) -> list[tuple[str, str]]:
        """Create the table, or add the columns that it lacks; returns (name, DuckDB type)."""
        columns = [(str(c[0]), str(c[1])) for c in source.execute(f"DESCRIBE {query}").fetchall()]
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
                sql.SQL("CREATE TABLE {} ({})").format(_name(relation), sql.SQL(", ").join(wanted))
            )
            return columns
        for (column, type_), definition in zip(columns, wanted, strict=True):
            if column not in known:
                cursor.execute(
                    sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(_name(relation), definition)
                )
            elif not _same_type(known[column], postgres_type(type_)):
                self._retype(cursor, relation, column, postgres_type(type_))
        return columns

    def _retype(self, cursor: Any, relation: str, column: str, type_: str) -> None:
        cursor.execute("SAVEPOINT retype")
        statement = sql.SQL("ALTER TABLE {t} ALTER COLUMN {c} TYPE {k} USING {c}::{k}")
        try:
            cursor.execute(
                statement.format(t=_name(relation), c=sql.Identifier(column), k=sql.SQL(type_))
            )
        except psycopg2.Error as error:
            cursor.execute("ROLLBACK TO SAVEPOINT retype")
            raise BatchError(
                f"PostgreSQL: {relation}.{column} cannot become {type_}:"
                f" {error.diag.message_primary}.",
                "Drop what depends on that column, or the table; the next cycle makes it anew.",
            ) from None

    def _copy(
        self,
        cursor: Any,
        source: duckdb.DuckDBPyConnection,
        relation: str,
        query: str,
        columns: Sequence[tuple[str, str]],
    ) -> int:
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
        handle, name = tempfile.mkstemp(suffix=".csv", dir=self._ledger.paths.root / "work")
        os.close(handle)
        try:
            source.execute(
                f"COPY (SELECT {', '.join(texts)} FROM ({query})) TO {literal(name)}"
                " (FORMAT csv, HEADER false, NULLSTR '\\N', QUOTE '\"', ESCAPE '\"')"
            )
            targets = sql.SQL(", ").join(sql.Identifier(column) for column, _ in columns)
            command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, NULL '\\N')").format(
                _name(relation), targets
            )
            with Path(name).open("rb") as rows:
                cursor.copy_expert(command, rows)
            return int(cursor.rowcount)
        finally:
            Path(name).unlink()

    # The database --------------------------------------------------------------------------

    def _states(self, database: Any) -> dict[str, str]:
        with database, database.cursor() as cursor:
            cursor.execute("SELECT to_regclass('ducklake.exports')")
            if cursor.fetchone()[0] is None:
                cursor.execute(_STATE)
            cursor.execute(
                "SELECT relation, state FROM ducklake.exports WHERE lake = %s ORDER BY relation",
                (self._lake,),
            )
            return dict(cursor.fetchall())

    def _remember(self, cursor: Any, relation: str, state: str, rows: int, added: bool) -> None:
        total = "exports.rows + excluded.rows" if added else "excluded.rows"
        cursor.execute(
            "INSERT INTO ducklake.exports (relation, lake, state, rows) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (relation) DO UPDATE SET lake = excluded.lake, state = excluded.state,"
            f" rows = {total}, exported_at = now()",
            (relation, self._lake, state, rows),
        )

    @contextmanager
    def _transaction(self, database: Any, relation: str) -> Iterator[Any]:
        try:
            with database, database.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = %s", (LOCK_MILLISECONDS,))
                yield cursor
        except psycopg2.OperationalError as error:
            if error.pgcode == errorcodes.LOCK_NOT_AVAILABLE:
                raise ServiceUnreachable(
                    f"PostgreSQL: {relation} is locked by another session.",
                    "Its last state stays; the next cycle tries again.",
                ) from None
            raise self._unreachable(error) from None
        except psycopg2.Error as error:
            raise BatchError(
                f"PostgreSQL: {relation}: {error.diag.message_primary or type(error).__name__}.",
                "Mend or drop that table; the next cycle exports it anew.",
            ) from None

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        at = self._endpoint
        try:
            database = psycopg2.connect(
                host=at.host,
                port=at.port,
                user=at.user,
                password=at.password,
                dbname=at.database,
                connect_timeout=CONNECT_SECONDS,
                options="-c timezone=UTC -c synchronous_commit=on",
                application_name="ducklake",
            )
        except psycopg2.OperationalError as error:
            raise self._unreachable(error) from None
        try:
            yield database
        finally:
            database.close()

    def _unreachable(self, error: psycopg2.Error) -> ServiceUnreachable:
        at = self._endpoint
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        return ServiceUnreachable(
            f"PostgreSQL at {at.host}:{at.port}, database {at.database}: {reason[0]}.",
            "Is it up, and may this user log in?",
        )


def _name(relation: str) -> sql.Identifier:
    schema, _, name = relation.partition(".")
    return sql.Identifier(schema, name)


def _same_type(known: str, wanted: str) -> bool:
    spelled = {
        "timestamp without time zone": "timestamp",
        "timestamp with time zone": "timestamptz",
        "time without time zone": "time",
    }
    bare = spelled.get(known, known).replace(" ", "").replace("numeric(20,0)", "numeric(20)")
    return bare.replace("numeric(39,0)", "numeric(39)") == wanted.replace(" ", "")
