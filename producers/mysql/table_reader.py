"""Reads a MySQL table for a comparison: checksums of its rows, and the values of some of them.

In chunks by key, each a consistent snapshot of its own that ends at once: nothing is locked, and no
transaction stays open for long. Values come in the canonical form of `lake/storage/canonical.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import pymysql
from pymysql.cursors import SSCursor

from lake.config import MysqlConnection
from lake.errors import SourceError
from lake.storage.canonical import SourceColumn, SourceTable
from producers.mysql.canonical_sql import (
    Cell,
    Row,
    behind,
    canonical,
    checksum,
    condition,
    place,
    quoted,
)
from producers.mysql.encryption import connected
from producers.mysql.query import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    binlog_status,
    named_error,
    no_binlog,
)
from producers.mysql.tables import MysqlTable

CHUNK_ROWS = 10_000
LOOKUP_ROWS = 200
_COLUMNS = (
    "SELECT column_name, column_type, is_nullable, character_set_name, numeric_precision,"
    " numeric_scale FROM information_schema.columns WHERE table_schema = %s AND table_name = %s"
    " ORDER BY ordinal_position"
)
# The primary key first, then unique indexes all of whose columns are NOT NULL, by name.
_KEYS = (
    "SELECT s.index_name, s.column_name FROM information_schema.statistics s"
    " WHERE s.table_schema = %s AND s.table_name = %s AND s.non_unique = 0"
    " ORDER BY s.index_name <> 'PRIMARY', s.index_name, s.seq_in_index"
)
_SESSION = (
    "SET SESSION time_zone = '+00:00', sql_mode = '', net_write_timeout = 600,"
    " transaction_isolation = 'REPEATABLE-READ'"
)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a server's binlog; nowhere for a source that does not read one.

    Attributes:
        gtids: The transactions executed; empty where the server numbers none.
    """

    file: str
    position: int
    gtids: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.position}" if self.file else ""


class TableReader:
    """A connection to the server of a source.

    Args:
        at: The server.
    """

    def __init__(self, at: MysqlConnection) -> None:
        self._at = at
        with self._named():
            self._db = connected(
                at,
                database=at.database,
                charset="utf8mb4",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=ANSWER_SECONDS * 10,
                conv={},  # every value as the text that the server sends
                autocommit=True,
            )
            self._ask(_SESSION)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What there is -------------------------------------------------------------------------

    def position(self) -> Position:
        """Where the binlog ends now.

        Raises:
            SourceError: The server writes no binlog, or the user may not see it.
        """
        with self._named():
            [(version,)] = self._ask("SELECT VERSION()")
            found = self._ask(binlog_status(version or ""))
            [(gtids,)] = self._ask("SELECT @@GLOBAL.gtid_executed")
        if not found:
            raise no_binlog(self._at)
        return Position(found[0][0] or "", int(found[0][1] or 0), (gtids or "").replace("\n", ""))

    def table(self, named: MysqlTable) -> SourceTable:
        """What the server says of a table.

        Raises:
            SourceError: There is no such table.
        """
        with self._named():
            described = self._ask(_COLUMNS, named.database, named.table)
            listed = self._ask(_KEYS, named.database, named.table)
        columns = {
            str(field): SourceColumn.described(
                str(field), _text(type_), nullable == "YES", charset, (_int(digits), _int(scale))
            )
            for field, type_, nullable, charset, digits, scale in described
        }
        if not columns:
            raise SourceError(
                f"MySQL has no table {named.database}.{named.table}.",
                "Take it out of ducklake.yml, or create it again.",
            )
        indexes: dict[str, list[SourceColumn | None]] = {}
        for index, field in listed:
            indexes.setdefault(str(index), []).append(columns.get(str(field)))
        keys = (
            tuple(c for c in index if c is not None)
            for index in indexes.values()
            if all(c is not None and not c.nullable for c in index)
        )
        return SourceTable(named.sql, tuple(columns.values()), next(keys, ()))

    def estimate(self, named: MysqlTable) -> int:
        """About how many rows a table has, as the server knows without counting."""
        with self._named():
            found = self._ask(
                "SELECT table_rows FROM information_schema.tables WHERE table_schema = %s"
                " AND table_name = %s",
                named.database,
                named.table,
            )
        return int(found[0][0] or 0) if found else 0

    # Checksums -----------------------------------------------------------------------------

    def checksums(self, table: SourceTable, chunk_rows: int = CHUNK_ROWS) -> Iterator[list[Row]]:
        """The key and the checksum of each row, chunk by chunk.

        Args:
            table: A table with a key.
            chunk_rows: Rows of one snapshot.

        Raises:
            SourceError: The server refuses to answer.
            ServiceUnreachable: It stopped answering.
        """
        keys = [canonical(c) for c in table.key]
        places = [place(c) for c in table.key]
        selected = ", ".join([*keys, checksum(table), *places])
        order = ", ".join(quoted(c.name) for c in table.key)
        after: Row | None = None
        while True:
            where = f" WHERE {behind(table.key, after)}" if after else ""
            chunk = self._snapshot(
                f"SELECT {selected} FROM {table.sql}{where} ORDER BY {order}" f" LIMIT {chunk_rows}"
            )
            if chunk:
                yield [row[: len(keys) + 1] for row in chunk]
            if len(chunk) < chunk_rows:
                return
            last = chunk[-1][len(keys) + 1 :]
            if last == after:
                raise RuntimeError("the rows behind a key are not told from those before")
            after = last

    def all_rows(self, table: SourceTable, chunk_rows: int = CHUNK_ROWS) -> Iterator[list[Row]]:
        """All rows in canonical form, of a table without a key.

        Nothing says where a chunk would begin: it is one snapshot, streamed.
        """
        selected = ", ".join(canonical(c) for c in table.compared)
        with self._named(), self._db.cursor(SSCursor) as cursor:
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            cursor.execute(f"SELECT {selected} FROM {table.sql}")
            while chunk := cursor.fetchmany(chunk_rows):
                yield [tuple(map(_cell, row)) for row in chunk]
            cursor.execute("COMMIT")

    def rows(self, table: SourceTable, keys: Sequence[Row]) -> dict[Row, Row]:
        """The rows that have some keys, in canonical form, by key.

        Args:
            table: The table.
            keys: Canonical forms of the columns of its key.
        """
        found: dict[Row, Row] = {}
        selected = ", ".join(canonical(c) for c in (*table.key, *table.compared))
        for first in range(0, len(keys), LOOKUP_ROWS):
            where = condition(table.key, keys[first : first + LOOKUP_ROWS])
            sql = f"SELECT {selected} FROM {table.sql} WHERE {where}"
            for row in self._snapshot(sql):
                found[row[: len(table.key)]] = row[len(table.key) :]
        return found

    # Asking --------------------------------------------------------------------------------

    def _snapshot(self, sql: str) -> list[Row]:
        with self._named(), self._db.cursor() as cursor:
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            try:
                cursor.execute(sql)
                rows = cursor.fetchall()
            finally:
                cursor.execute("COMMIT")
        return [tuple(map(_cell, row)) for row in rows]

    def _ask(self, sql: str, *args: str) -> list[Row]:
        with self._db.cursor() as cursor:
            cursor.execute(sql, args or None)
            return [tuple(map(_cell, row)) for row in cursor.fetchall()]

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except pymysql.MySQLError as error:
            raise named_error(error, self._at) from None


def _cell(value: Any) -> Cell:
    """Bytes as hexadecimal digits; everything else is text already."""
    return value.hex().upper() if isinstance(value, bytes | bytearray) else value


def _text(value: Cell) -> str:
    return value or ""


def _int(value: Cell) -> int | None:
    return None if value is None else int(value)
