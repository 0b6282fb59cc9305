"""One connection to PostgreSQL: transactions, savepoints and locks, and no raw error of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errorcodes, sql

from batcher.postgres.failures import named, split, unreachable
from lake.config import PostgresEndpoint
from lake.errors import DuckLakeError, ServiceUnreachable

CONNECT_SECONDS = 10
WRITE_LOCK_MILLISECONDS = 2_000
"""How long a lock is waited for that shuts out no reader."""
SHUT_LOCK_MILLISECONDS = 50
"""The same for one that does: whoever reads meanwhile waits behind the request."""
SHUT_LOCK_ATTEMPTS = 40
SHUT_LOCK_PAUSE_SECONDS = 0.1
_OPTIONS = (
    "-c timezone=UTC -c datestyle=ISO -c synchronous_commit=on -c statement_timeout=0"
    " -c idle_in_transaction_session_timeout=0 -c client_min_messages=warning"
)
_HELD = "Let it end; the next cycle retries."


def identifier(relation: str) -> sql.Identifier:
    """A `schema.name` of the lake as an SQL identifier."""
    return sql.Identifier(*split(relation))


class PostgresDatabase:
    """An open connection.

    Args:
        connection: Of psycopg2.
        endpoint: Where it leads.
    """

    def __init__(self, connection: Any, endpoint: PostgresEndpoint) -> None:
        self._connection = connection
        self._endpoint = endpoint

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, and every other relation would fail as well."""
        return bool(self._connection.closed)

    @contextmanager
    def transaction(self, relation: str) -> Iterator[Any]:
        """A transaction that concerns a relation; gives its cursor.

        Raises:
            ServiceUnreachable: The database does not answer, or another session locks the relation.
            BatchError: The database refused a statement.
        """
        try:
            with self._connection, self._connection.cursor() as cursor:
                _limit_waiting(cursor, WRITE_LOCK_MILLISECONDS)
                yield cursor
        except psycopg2.Error as error:
            raise self._named(relation, error) from None

    @contextmanager
    def savepoint(self, cursor: Any, relation: str) -> Iterator[None]:
        """A part of a transaction that can fail alone: nothing of it remains then.

        What it deferred is checked at its end, where only it can fail.

        Raises:
            ServiceUnreachable: As above.
            BatchError: As above.
        """
        cursor.execute("SAVEPOINT relation")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        try:
            yield
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("RELEASE SAVEPOINT relation")
        except psycopg2.Error as error:
            failure = self._named(relation, error)
            self._undo(cursor)
            raise failure from None
        except Exception:
            self._undo(cursor)
            raise

    def _undo(self, cursor: Any) -> None:
        if not self.is_lost:
            cursor.execute("ROLLBACK TO SAVEPOINT relation")
            cursor.execute("RELEASE SAVEPOINT relation")
            _limit_waiting(cursor, WRITE_LOCK_MILLISECONDS)

    @contextmanager
    def outside_transactions(self, relation: str) -> Iterator[Any]:
        """Statements that PostgreSQL takes outside a transaction only; gives a cursor.

        Raises:
            ServiceUnreachable: As above.
            BatchError: As above.
        """
        self._connection.autocommit = True
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, false)", ("60s",))
                yield cursor
        except psycopg2.Error as error:
            raise self._named(relation, error) from None
        finally:
            if not self.is_lost:
                self._connection.autocommit = False

    def _named(self, relation: str, error: psycopg2.Error) -> DuckLakeError:
        if self.is_lost:
            return unreachable(self._endpoint, error)
        return named(self._endpoint, relation, error)


def _limit_waiting(cursor: Any, milliseconds: int) -> None:
    cursor.execute("SET LOCAL lock_timeout = %s", (milliseconds,))


def claim(cursor: Any, what: str) -> None:
    """Be the only export that writes this, until the transaction ends.

    What PostgreSQL then says of it is what the last export left, however that ended.

    Raises:
        ServiceUnreachable: Another one does.
    """
    cursor.execute("SAVEPOINT claim")
    try:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 15))", (what,))
    except psycopg2.Error as error:
        if error.pgcode != errorcodes.LOCK_NOT_AVAILABLE:
            raise
        raise ServiceUnreachable(f"PostgreSQL: another export writes {what}.", _HELD) from None
    cursor.execute("RELEASE SAVEPOINT claim")


def lock_for_writing(cursor: Any, relation: str) -> None:
    """Wait a little for whoever locks a table; readers go on."""
    cursor.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(identifier(relation)))


def shut(cursor: Any, relation: str) -> None:
    """Lock a table against everybody, for a change of its definition.

    A request that waits makes all who come later wait as well: each attempt is short, and between
    two of them readers go on.
    """
    statement = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(identifier(relation))
    for attempt in range(1, SHUT_LOCK_ATTEMPTS + 1):
        cursor.execute("SAVEPOINT shut")
        _limit_waiting(cursor, SHUT_LOCK_MILLISECONDS)
        try:
            cursor.execute(statement)
        except psycopg2.Error as error:
            if error.pgcode != errorcodes.LOCK_NOT_AVAILABLE or attempt == SHUT_LOCK_ATTEMPTS:
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT shut")
            time.sleep(SHUT_LOCK_PAUSE_SECONDS)
            continue
        _limit_waiting(cursor, WRITE_LOCK_MILLISECONDS)
        cursor.execute("RELEASE SAVEPOINT shut")
        return


@contextmanager
def connected(endpoint: PostgresEndpoint) -> Iterator[PostgresDatabase]:
    """A connection that is closed at the end.

    Raises:
        ServiceUnreachable: The database does not answer.
    """
    try:
        connection = psycopg2.connect(
            **endpoint.login(),
            connect_timeout=CONNECT_SECONDS,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            options=_OPTIONS,
            application_name="ducklake",
        )
    except psycopg2.OperationalError as error:
        raise unreachable(endpoint, error) from None
    try:
        yield PostgresDatabase(connection, endpoint)
    finally:
        connection.close()
