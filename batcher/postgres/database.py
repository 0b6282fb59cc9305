"""One connection to PostgreSQL, and the table there that remembers what has been exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errorcodes, sql

from lake.config import PostgresEndpoint
from lake.errors import BatchError, DuckLakeError, ServiceUnreachable
from lake.identifiers import fitting

CONNECT_SECONDS = 10
LOCK_MILLISECONDS = 10_000
_EXPORTS = """
CREATE SCHEMA IF NOT EXISTS ducklake;
CREATE TABLE IF NOT EXISTS ducklake.exports (
    relation text PRIMARY KEY, lake text NOT NULL, state text NOT NULL, rows bigint NOT NULL,
    exported_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE ducklake.exports ADD COLUMN IF NOT EXISTS storage text
"""
_HAS_EXPORTS = (
    "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'ducklake'"
    " AND table_name = 'exports' AND column_name = 'storage'"
)
_STORAGES = (
    "SELECT n.nspname, c.relname, c.oid || '/' || coalesce(pg_relation_filenode(c.oid), 0)"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY(%s)"
)
_VALUES = "22"
"""The class of errors whose messages quote a value."""
_DEPENDENT = frozenset({errorcodes.FEATURE_NOT_SUPPORTED, errorcodes.DEPENDENT_OBJECTS_STILL_EXIST})
_NO_RIGHT = frozenset({errorcodes.INSUFFICIENT_PRIVILEGE})


def split(relation: str) -> tuple[str, str]:
    """Schema and name in PostgreSQL of a `schema.name` of the lake."""
    schema, _, name = relation.partition(".")
    return schema, fitting(name)


def identifier(relation: str) -> sql.Identifier:
    """A `schema.name` of the lake as an SQL identifier."""
    return sql.Identifier(*split(relation))


@dataclass(frozen=True, slots=True)
class Exported:
    """What a relation holds.

    Attributes:
        state: What it shows, as the export that wrote it said.
        rows: How many rows it had then.
    """

    state: str
    rows: int


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

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone, and every other relation would fail as well."""
        return bool(self._connection.closed)

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
        except psycopg2.Error as error:
            raise self._named(relation, error) from None

    def exported(self) -> dict[str, Exported]:
        """What each relation of this lake holds that has been exported and is still there.

        One that was dropped, or emptied, by somebody else is not among them: it is exported whole.

        Raises:
            BatchError: The database refuses this user.
        """
        with self.transaction("ducklake.exports") as cursor:
            cursor.execute(_HAS_EXPORTS)
            if not cursor.fetchone()[0]:
                cursor.execute(_EXPORTS)
            cursor.execute(
                "SELECT relation, state, rows, storage FROM ducklake.exports WHERE lake = %s"
                " ORDER BY relation",
                (self._lake,),
            )
            known = cursor.fetchall()
            storages = _storages(cursor, (relation for relation, *_ in known))
            found = {}
            for relation, state, rows, storage in known:
                now = storages.get(relation)
                if now is None:
                    continue
                if now != storage:
                    # Emptied, made anew, or only rewritten, as by VACUUM FULL.
                    if _count(cursor, relation) != rows:
                        continue
                    cursor.execute(
                        "UPDATE ducklake.exports SET storage = %s WHERE relation = %s",
                        (now, relation),
                    )
                found[relation] = Exported(state, rows)
            return found

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
            "INSERT INTO ducklake.exports (relation, lake, state, rows, storage)"
            " VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (relation) DO UPDATE SET lake = excluded.lake, state = excluded.state,"
            f" rows = {total}, storage = excluded.storage, exported_at = now()",
            (relation, self._lake, state, rows, _storages(cursor, [relation]).get(relation)),
        )

    def counts(self) -> dict[str, int]:
        """The rows of every exported relation that is there."""
        found = self.exported()
        with self.transaction("ducklake.exports") as cursor:
            return {relation: _count(cursor, relation) for relation in found}

    def _named(self, relation: str, error: psycopg2.Error) -> DuckLakeError:
        shown, user = ".".join(split(relation)), self._endpoint.user
        if error.pgcode == errorcodes.LOCK_NOT_AVAILABLE:
            return ServiceUnreachable(
                f"PostgreSQL: {shown} is locked by another session.",
                "Its last state is kept; the next cycle retries.",
            )
        if error.pgcode is None or self.is_lost:
            return _unreachable(self._endpoint, error)
        reason = error.diag.message_primary or type(error).__name__
        if error.pgcode.startswith(_VALUES):
            reason = errorcodes.lookup(error.pgcode).lower().replace("_", " ")
        if error.pgcode in _DEPENDENT and error.diag.message_detail:
            reason += f" ({error.diag.message_detail.strip()})"
        what = f"PostgreSQL: {shown}: {reason}."
        if error.pgcode in _NO_RIGHT and "database" in reason:
            grant = f"GRANT CREATE ON DATABASE {self._endpoint.database} TO {user}"
            return BatchError(what, f"Run `{grant}`; the next cycle retries.")
        if error.pgcode in _NO_RIGHT and "schema" in reason:
            schema = shown.partition(".")[0]
            grant = f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}"
            return BatchError(what, f"Run `{grant}`; the next cycle retries.")
        if error.pgcode in _NO_RIGHT:
            owner = f"ALTER TABLE {shown} OWNER TO {user}"
            return BatchError(what, f"Run `{owner}`; the next cycle retries.")
        return BatchError(
            what,
            f"Remove what stands in the way, or the table (`DROP TABLE {shown} CASCADE` also drops"
            " its views); the next cycle exports it again, whole.",
        )


def _storages(cursor: Any, relations: Iterable[str]) -> Mapping[str, str]:
    """Which file in PostgreSQL holds each relation that is there; a new one after a TRUNCATE."""
    places = {split(relation): relation for relation in relations}
    cursor.execute(_STORAGES, (sorted({schema for schema, _ in places}),))
    return {
        places[schema, name]: storage
        for schema, name, storage in cursor.fetchall()
        if (schema, name) in places
    }


def _count(cursor: Any, relation: str) -> int:
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
