"""Reads a polled table in chunks, in the order of its watermark and key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pymysql
from pymysql.constants import ER

from lake.config import MysqlConnection
from lake.errors import SourceError, TransientError
from lake.records import kept_json
from lake.storage.canonical import Form, SourceColumn
from producers.mysql.canonical_sql import Row, behind, place, place_literal, quoted
from producers.mysql.polling.definition import Definition, defined
from producers.mysql.polling.values import record_value, selected
from producers.mysql.query import one_term, refused_condition
from producers.mysql.table_reader import TableReader
from producers.mysql.tables import MysqlTable

CHUNK_ROWS = 5_000
CHUNK_BYTES = 8 * 1024 * 1024
_COLUMNS = (
    "SELECT column_name, column_type, is_nullable, character_set_name, numeric_precision,"
    " numeric_scale, extra, column_default FROM information_schema.columns WHERE"
    " table_schema = %s AND table_name = %s ORDER BY ordinal_position"
)
# The primary key first, then unique indexes, by name, as Debezium chooses the key.
_INDEXES = (
    "SELECT s.index_name, s.non_unique, s.column_name FROM information_schema.statistics s"
    " WHERE s.table_schema = %s AND s.table_name = %s"
    " ORDER BY s.index_name <> 'PRIMARY', s.index_name, s.seq_in_index"
)
# The later of UTC and the server's own zone: nobody knows in which one a DATETIME was written.
_CLOCK = (
    "SELECT UTC_TIMESTAMP(6), GREATEST(UTC_TIMESTAMP(6),"
    " IFNULL(CONVERT_TZ(UTC_TIMESTAMP(6), '+00:00', @@GLOBAL.time_zone), UTC_TIMESTAMP(6))),"
    " CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
)
_CHANGED = {ER.TABLE_DEF_CHANGED, ER.BAD_FIELD_ERROR}


class DefinitionChanged(TransientError):
    """A table was altered between the look at its definition and that at its rows."""


@dataclass(frozen=True, slots=True)
class PolledRow:
    """A row.

    Attributes:
        place: The columns of the order, as `canonical_sql.behind` takes them.
        value: Column to value, as in a record.
    """

    place: Row
    value: dict[str, Any]

    def encoded(self) -> bytes:
        """The value as JSON."""
        return kept_json(self.value)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one consistent snapshot.

    Attributes:
        rows: In their order.
        is_last: Whether there was nothing behind them.
        utc: The server's clock, as MySQL writes a moment.
        latest: The later of UTC and the server's zone.
        moment: The server's clock, in milliseconds of the epoch.
    """

    rows: Sequence[PolledRow]
    is_last: bool
    utc: str
    latest: str
    moment: int


class PollReader(TableReader):
    """A connection to the server of polled tables.

    Args:
        at: The server.
    """

    def __init__(self, at: MysqlConnection) -> None:
        super().__init__(at)
        # Else these statistics are a day old; MySQL 5.7 and MariaDB know no such setting.
        with suppress(pymysql.MySQLError):
            self._ask("SET SESSION information_schema_stats_expiry = 0")

    def definition(self, names: MysqlTable) -> Definition:
        """What the server says of a table now.

        Raises:
            SourceError: There is no such table, or the user may not see it.
        """
        with self._named():
            described = self._ask(_COLUMNS, names.database, names.table)
            indexes = self._ask(_INDEXES, names.database, names.table)
        if not described:
            raise SourceError(
                f"MySQL has no table {names.sql} that this user sees.",
                "Create it, grant SELECT on it, or correct its name in ducklake.yml.",
            )
        return defined(names, described, indexes)

    def clock(self) -> float:
        """The server's clock, in seconds of the epoch."""
        with self._named():
            [(moment,)] = self._ask("SELECT UNIX_TIMESTAMP(NOW(3))")
        return float(moment or 0)

    def average_bytes(self, names: MysqlTable) -> int:
        """About how long a row is, as the server knows without looking."""
        return int(self._statistic(names, "avg_row_length") or 0)

    def next_number(self, names: MysqlTable) -> int | None:
        """The next value of the table's auto-increment column; None where it has none."""
        found = self._statistic(names, "auto_increment")
        return None if found is None else int(found)

    def has_null(self, definition: Definition, column: SourceColumn) -> bool:
        """Whether a column of a row is NULL."""
        sql = f"SELECT 1 FROM {definition.table.sql} WHERE {quoted(column.name)} IS NULL LIMIT 1"
        return bool(self._snapshot(sql))

    def chunk(
        self,
        definition: Definition,
        order: Sequence[SourceColumn],
        after: Row | None,
        rows: int,
        where: str = "",
        until: Row | None = None,
    ) -> Chunk:
        """The next rows behind a place.

        Args:
            definition: As it was read just now.
            order: The columns by which the rows are ordered; together they are unique.
            after: A place; None for the beginning.
            rows: How many, at most.
            where: A condition in MySQL's SQL; empty for all rows.
            until: The place of the last row; None for the end.

        Raises:
            DefinitionChanged: The table was altered since; its definition is to be read again.
            SourceError: The server refuses to answer.
            ServiceUnreachable: It does not answer.
        """
        columns = definition.table.columns
        selection = ", ".join([*(selected(c) for c in columns), *(place(c) for c in order)])
        tests = [one_term(where)] if where else []
        tests += _between(order, after, until)
        condition = f" WHERE {' AND '.join(tests)}" if tests else ""
        by = ", ".join(quoted(c.name) for c in order)
        sql = (
            f"SELECT {selection} FROM {definition.table.sql}{condition} ORDER BY {by}"
            f" LIMIT {rows}"
        )
        (utc, latest, moment), found = self._in_snapshot(sql, definition, bool(where))
        values = [(c.name, record_value(c)) for c in columns]
        width = len(columns)
        polled = [
            PolledRow(
                tuple(_text(cell) for cell in row[width:]),
                {
                    name: None if cell is None else value(cell)
                    for (name, value), cell in zip(values, row, strict=False)
                },
            )
            for row in found
        ]
        return Chunk(polled, len(polled) < rows, str(utc), str(latest), int(moment))

    def _in_snapshot(
        self, sql: str, definition: Definition, has_condition: bool
    ) -> tuple[tuple[Any, ...], Sequence[tuple[Any, ...]]]:
        """The server's clock and the answer to a query, both at one moment."""
        with self._named(), self._db.cursor() as cursor:
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            try:
                cursor.execute(_CLOCK)
                [clock] = cursor.fetchall()
                cursor.execute(sql)
                return clock, cursor.fetchall()
            except pymysql.MySQLError as error:
                if error.args and error.args[0] in _CHANGED and not has_condition:
                    raise DefinitionChanged(
                        f"{definition.table.sql} was altered while it was read.",
                        "It is read again.",
                    ) from None
                refused = refused_condition(error) if has_condition else None
                raise refused or error from None
            finally:
                with suppress(pymysql.MySQLError):
                    cursor.execute("COMMIT")

    def _statistic(self, names: MysqlTable, column: str) -> str | None:
        with self._named():
            found = self._ask(
                f"SELECT {column} FROM information_schema.tables WHERE table_schema = %s"
                " AND table_name = %s",
                names.database,
                names.table,
            )
        return found[0][0] if found else None


def _between(order: Sequence[SourceColumn], after: Row | None, until: Row | None) -> Iterator[str]:
    """SQL: whether a row has a place, and where that is."""
    yield from (f"{quoted(c.name)} IS NOT NULL" for c in order if c.nullable)
    if after is not None:
        yield _behind(order, after)
    if until is not None:
        yield _not_behind(order, until)


def _behind(order: Sequence[SourceColumn], after: Row) -> str:
    """`behind`, with what the index of the first column needs to begin at its place."""
    first = f"{quoted(order[0].name)} >= {place_literal(order[0], after[0])}"
    return f"{first} AND ({behind(order, after)})"


def _not_behind(order: Sequence[SourceColumn], until: Row) -> str:
    first = f"{quoted(order[0].name)} <= {place_literal(order[0], until[0])}"
    return f"{first} AND NOT ({behind(order, until)})"


def _text(cell: Any) -> str | None:
    return cell.hex().upper() if isinstance(cell, bytes | bytearray) else cell


def is_temporal(column: SourceColumn) -> bool:
    """Whether a watermark is a moment, which the server's clock can tell from one to come."""
    return column.form is Form.DATE
