"""What the tables of a source, and the sources of one server, must not have in common."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from lake.config import EMBEDDED, MYSQL_CDC, Config, MysqlConnection
from lake.errors import ConfigError
from producers.base import Problem
from producers.connections import ConnectionUse
from producers.mysql.tables import mysql_tables

SERVER_ID = "database.server.id"
_MOST = 2**32 - 1


def server_id(config: Config, name: str) -> int | str:
    """The id as which a source's connector reads the binlog: its option, or one from its name.

    A server ends the connection of one reader when another one comes with the same id.
    """
    wanted = config.settings.sources[name].options.get(SERVER_ID)
    if wanted is None:
        connector = f"{config.settings.name}-{name}"
        return 10_000 + zlib.crc32(connector.encode()) % 1_000_000_000
    try:
        return int(str(wanted))
    except ValueError:
        return str(wanted)


def server_id_problems(config: Config, name: str) -> Iterator[Problem]:
    """A server id that is none, or that an earlier source has on the same server."""
    at, mine = ("options", SERVER_ID), server_id(config, name)
    if not isinstance(mine, int) or not 1 <= mine <= _MOST:
        yield Problem(at, f"expected a whole number from 1 to {_MOST}")
        return
    for other in config.settings.sources:
        if other == name:
            return
        if (
            config.settings.sources[other].type == MYSQL_CDC
            and _address(config, other) == _address(config, name)
            and server_id(config, other) == mine
        ):
            what = (
                f"source {other} reads the same server as {mine}, and MySQL ends the connection of"
                " one when the other connects: give them different ids, or leave the option out"
            )
            yield Problem(at, what)


def table_problems(config: Config, name: str) -> Iterator[Problem]:
    """A table of MySQL that stands in a source twice."""
    connection = _connection(config, name)
    database = connection.database if isinstance(connection, MysqlConnection) else ""
    seen: dict[tuple[str, str], str] = {}
    for table in mysql_tables(config.settings.sources[name], database).values():
        first = seen.setdefault((table.database, table.table), table.name)
        if first != table.name:
            what = (
                f"it is {table.table} of MySQL, which {first} is already: leave one of them out,"
                " or name the other table with `table` or `database`"
            )
            yield Problem(("tables", table.name), what)


def _connection(config: Config, name: str) -> object:
    """The connection of a source; None where the embedded server is meant."""
    entry = config.settings.sources[name].connection
    use = ConnectionUse(("sources", name, "connection"), entry, MysqlConnection, "mysql")
    return use.validated(config)


def _address(config: Config, name: str) -> tuple[str, int]:
    try:
        found = _connection(config, name)
    except ConfigError:  # said where its own source is validated
        return name, -1
    if isinstance(found, MysqlConnection):
        return found.host.lower(), found.port
    return EMBEDDED, 0
