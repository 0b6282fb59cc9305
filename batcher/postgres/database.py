"""One connection to PostgreSQL, and the table there that remembers what has been exported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errorcodes, sql

from lake.config import PostgresEndpoint
from lake.errors import BatchError, ServiceUnreachable

CONNECT_SECONDS = 10
LOCK_MILLISECONDS = 10_000
_EXPORTS = """
CREATE SCHEMA IF NOT EXISTS ducklake;
CREATE TABLE IF NOT EXISTS ducklake.exports (
    relation text PRIMARY KEY, lake text NOT NULL, state text NOT NULL, rows bigint NOT NULL,
    exported_at timestamptz NOT NULL DEFAULT now()
)
"""


def identifier(relation: str) -> sql.Identifier:
    """A `schema.name` as an SQL identifier."""
    schema, _, name = relation.partition(".")
    return sql.Identifier(schema, name)


class PostgresDatabase:
    """An open connection, in which relations of one lake are written.

    Args:
        connection: Of psycopg2.
        endpoint: Where it leads.
        lake: The lake whose rows are exported: rows of another one do not count.
    """

    def __init__(self, connection: Any, endpoint: PostgresEndpoint, lake: str) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._lake = lake

    @contextmanager
    def transaction(self, relation: str) -> Iterator[Any]:
        """A transaction that writes one relation; gives its cursor.

        Raises:
            ServiceUnreachable: The database does not answer, or another session locks the relation.
            BatchError: The database refused a statement.
        """
        try:
            with self._connection, self._connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = %s", (LOCK_MILLISECONDS,))
                yield cursor
        except psycopg2.OperationalError as error:
            if error.pgcode == errorcodes.LOCK_NOT_AVAILABLE:
                raise ServiceUnreachable(
                    f"PostgreSQL: {relation} is locked by another session.",
                    "Its last state is kept; the next cycle retries.",
                ) from None
            raise _unreachable(self._endpoint, error) from None
        except psycopg2.Error as error:
            raise BatchError(
                f"PostgreSQL: {relation}: {error.diag.message_primary or type(error).__name__}.",
                "Correct or drop that table; the next cycle exports it again.",
            ) from None

    def exported(self) -> dict[str, str]:
        """The state of each relation of this lake that has been exported."""
        with self._connection, self._connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('ducklake.exports')")
            if cursor.fetchone()[0] is None:
                cursor.execute(_EXPORTS)
            cursor.execute(
                "SELECT relation, state FROM ducklake.exports WHERE lake = %s ORDER BY relation",
                (self._lake,),
            )
            return dict(cursor.fetchall())

    def record(self, cursor: Any, relation: str, state: str, rows: int, appended: bool) -> None:
        """Record an export, in the transaction that wrote the rows.

        Args:
            cursor: Of that transaction.
            relation: What was written.
            state: What it shows now.
            rows: How many were written.
            appended: Whether they stand behind those of the export before.
        """
        total = "exports.rows + excluded.rows" if appended else "excluded.rows"
        cursor.execute(
            "INSERT INTO ducklake.exports (relation, lake, state, rows) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (relation) DO UPDATE SET lake = excluded.lake, state = excluded.state,"
            f" rows = {total}, exported_at = now()",
            (relation, self._lake, state, rows),
        )

    def count(self, relation: str) -> int:
        """The rows of a relation."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(identifier(relation)))
            row = cursor.fetchone()
            return int(row[0]) if row else 0


@contextmanager
def connected(endpoint: PostgresEndpoint, lake: str) -> Iterator[PostgresDatabase]:
    """A connection that is closed at the end.

    Args:
        endpoint: The database.
        lake: The lake whose rows are exported.

    Raises:
        ServiceUnreachable: The database does not answer.
    """
    try:
        connection = psycopg2.connect(
            host=endpoint.host,
            port=endpoint.port,
            user=endpoint.user,
            password=endpoint.password,
            dbname=endpoint.database,
            connect_timeout=CONNECT_SECONDS,
            options="-c timezone=UTC -c synchronous_commit=on",
            application_name="ducklake",
        )
    except psycopg2.OperationalError as error:
        raise _unreachable(endpoint, error) from None
    try:
        yield PostgresDatabase(connection, endpoint, lake)
    finally:
        connection.close()


def _unreachable(at: PostgresEndpoint, error: psycopg2.Error) -> ServiceUnreachable:
    reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return ServiceUnreachable(
        f"PostgreSQL at {at.host}:{at.port}, database {at.database}: {reason[0]}.",
        "Is it up, and may this user log in?",
    )
