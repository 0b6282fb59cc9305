"""One question to the shop's MySQL, and a name for every way in which it is not answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.constants import ER
from pymysql.cursors import Cursor

from lake.config import MysqlConnection
from lake.errors import DuckLakeError, ServiceUnreachable, SourceError
from producers.mysql.encryption import connected, refused

GTIDS_ON = (
    "Set enforce_gtid_consistency=ON, and gtid_mode=ON: while the server runs, step by step"
    " (OFF_PERMISSIVE, ON_PERMISSIVE, ON)."
)
"""How a server comes to number its transactions."""
CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
_REFUSED = {
    ER.ACCESS_DENIED_ERROR,
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
    ER.BAD_DB_ERROR,
    ER.NO_SUCH_TABLE,
    ER.BAD_FIELD_ERROR,
    ER.PARSE_ERROR,
}


# Nothing is wrong with the question: the server is busy, or stops.
_PASSING = {
    ER.CON_COUNT_ERROR,
    ER.LOCK_WAIT_TIMEOUT,
    ER.LOCK_DEADLOCK,
    ER.QUERY_INTERRUPTED,
    ER.SERVER_SHUTDOWN,
    3024,  # max_execution_time has passed
    4031,  # the session was idle for too long
}


def ask(at: MysqlConnection, sql: str, *args: str) -> tuple[Any, ...]:
    """The first row of the answer; empty where there is none.

    Raises:
        SourceError: The server refuses the user, or does not know what is asked for.
        ServiceUnreachable: It does not answer.
    """
    return next(iter(ask_all(at, sql, *args)), ())


def ask_all(at: MysqlConnection, sql: str, *args: str) -> list[tuple[Any, ...]]:
    """All rows of the answer.

    Raises:
        SourceError: The server refuses the user, or does not know what is asked for.
        ServiceUnreachable: It does not answer.
    """
    with asking(at, at.database) as cursor:
        cursor.execute(sql, args or None)
        return list(cursor.fetchall())


@contextmanager
def asking(at: MysqlConnection, database: str | None = None) -> Iterator[Cursor]:
    """A cursor for several questions over one connection.

    Args:
        at: The server.
        database: The default database; None: there need not be one.

    Raises:
        SourceError: The server refuses the user, or does not know what is asked for.
        ServiceUnreachable: It does not answer.
    """
    try:
        with (
            connected(
                at,
                database=database,
                connect_timeout=CONNECT_SECONDS,
                read_timeout=ANSWER_SECONDS,
            ) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor
    except pymysql.MySQLError as error:
        raise named_error(error, at) from None


def check_condition(at: MysqlConnection, table: str, where: str) -> None:
    """See that a condition that somebody wrote is one, and one term.

    Args:
        at: The server.
        table: The table, as SQL.
        where: The condition, in MySQL's SQL.

    Raises:
        SourceError: MySQL refuses it.
        ServiceUnreachable: MySQL does not answer.
    """
    # Without brackets of ours, one that closes more than it opens does not pass.
    ask_where(at, f"SELECT CASE WHEN {where}\nTHEN 1 END FROM {table} LIMIT 1")
    ask_where(at, f"SELECT 1 FROM {table} WHERE {one_term(where)} LIMIT 1")


def ask_where(at: MysqlConnection, sql: str) -> tuple[Any, ...]:
    """The first row of the answer to a question with a condition that somebody wrote.

    Raises:
        SourceError: MySQL refuses the condition.
        ServiceUnreachable: MySQL does not answer.
    """
    with asking(at, at.database) as cursor:
        try:
            cursor.execute(sql)
            return next(iter(cursor.fetchall()), ())
        except pymysql.MySQLError as error:
            raise refused_condition(error) or error from None


def one_term(where: str) -> str:
    """A condition that somebody wrote, as a part of a larger one; its comment ends with it."""
    return f"(\n{where}\n)"


def refused_condition(error: pymysql.MySQLError) -> SourceError | None:
    """What an answer to a question with a condition says of it; None if it says nothing."""
    code = error.args[0] if error.args else 0
    if not isinstance(code, int) or code < 1000 or 2000 <= code < 3000 or code in _PASSING:
        return None
    return SourceError(
        f"MySQL refuses the condition: {error.args[-1]} ({code}).",
        "Ask again with a condition that holds for every row, as it would stand after WHERE.",
    )


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a server's version, such as (8, 0, 15)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def binlog_status(version: str) -> str:
    """The statement that asks where a server's binlog ends; it has two names.

    Args:
        version: The server's version.
    """
    is_renamed = version_numbers(version) >= (8, 2)
    return "SHOW BINARY LOG STATUS" if is_renamed else "SHOW MASTER STATUS"


def binlog_end(at: MysqlConnection) -> tuple[str, int]:
    """The binlog's file that is written now, and the place at which it ends.

    Raises:
        SourceError: The server writes no binlog, or the user may not see it.
        ServiceUnreachable: It does not answer.
    """
    [version] = ask(at, "SELECT VERSION()")
    found = ask(at, binlog_status(str(version)))
    if not found:
        raise no_binlog(at)
    return str(found[0]), int(found[1])


def no_binlog(at: MysqlConnection) -> SourceError:
    """The server was told to write no binlog, or has ceased to write one after an error."""
    return SourceError(
        f"MySQL {at.host}:{at.port} writes no binlog.",
        "Set log_bin and binlog_format=ROW, and restart the server.",
    )


def named_error(error: pymysql.MySQLError, at: MysqlConnection) -> DuckLakeError:
    """What a failure of the server is called here: without the password, and with its remedy."""
    if (refusal := refused(error, at)) is not None:
        return refusal
    code = error.args[0] if error.args else 0
    said = str(error.args[-1]) if error.args else type(error).__name__
    if at.plain_password:
        said = said.replace(at.plain_password, "***")
    what = f"MySQL {at.host}:{at.port}: {said} ({code})."
    if code in _REFUSED:
        return SourceError(
            what, f"Check user, password and database of {at.place}, and the user's grants."
        )
    return ServiceUnreachable(what, "Is it up?")
