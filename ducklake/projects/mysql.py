"""What a MySQL server holds: databases, tables, keys, sizes, and whether it can be followed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

from pydantic import SecretStr

from ducklake.projects.found import (
    FoundSource,
    FoundTable,
    password_variable,
    server_address,
)
from ducklake.projects.names import Reference, free_name
from lake.config import DEAD_LETTERS, MYSQL_CDC, MysqlConnection, Source, Table
from lake.config.suggestions import sentence
from lake.config.table_names import lake_name
from lake.errors import ConfigError, ServiceUnreachable, SourceError
from producers.mysql.query import asking
from producers.mysql.server_checks import NOTE, STOPS, server_problems
from producers.mysql.server_state import server_state
from producers.mysql.tables import MysqlTable

NAME = "mysql"
OPTION = "--mysql"
_TELLING = ("json", "enum", "set", "bit", "geometry", "point", "linestring", "polygon", "time")
_TABLES = (
    "SELECT table_schema, table_name, table_rows, data_length + index_length, table_collation"
    " FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema NOT IN"
    " ('information_schema', 'mysql', 'performance_schema', 'sys')"
    " ORDER BY table_schema, table_name"
)
_COLUMNS = (
    "SELECT table_name, column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = %s"
    " ORDER BY table_name, ordinal_position"
)
_KEYS = (
    "SELECT table_name, column_name FROM information_schema.statistics WHERE table_schema = %s"
    " AND index_name = 'PRIMARY' ORDER BY table_name, seq_in_index"
)
Ask = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Row:
    """A table as the server lists it."""

    database: str
    table: str
    rows: int
    bytes: int
    collation: str


def mysql_source(url: str, ask_password: Ask, wanted: Sequence[str] = ()) -> FoundSource:
    """Look at a server.

    Args:
        url: `mysql://user@host:3306/database`; without a database, all that the user sees.
        ask_password: Asks somebody for the password that a variable holds; empty: nobody is there.
        wanted: Patterns of the tables that will be taken; only these are checked. All by default.

    Raises:
        ConfigError: It is no such address.
        SourceError: The server refuses the user, or cannot be followed; with each remedy.
        ServiceUnreachable: It does not answer.
    """
    at, database = _address(url)
    connection = f"{lake_name(database)}_db" if database else "mysql_db"
    variable = password_variable(connection)
    password = at.plain_password or os.environ.get(variable) or ask_password(variable)
    at = at.model_copy(update={"password": SecretStr(password)}).placed(connection, OPTION)
    try:
        tables = server_tables(at, database, {DEAD_LETTERS})
        check_server(at, [t for t in tables if is_wanted(t, wanted)])
    except ServiceUnreachable as error:
        remedy = f"Check host and port of {OPTION}, and that the server listens there."
        raise ServiceUnreachable(error.what, remedy) from None
    home = database or _most_tables(tables)
    return FoundSource(
        name=NAME,
        type=MYSQL_CDC,
        connection=connection,
        server={
            "host": at.host,
            **({"port": at.port} if at.port != 3306 else {}),
            "user": at.user,
            "password": Reference("${" + variable + "}"),
            "database": home,
        },
        tables=[without_home(table, home) for table in tables],
        variables={variable: f"The password of {at.user} on MySQL {at.host}:{at.port}."},
    )


def is_wanted(table: FoundTable, patterns: Sequence[str]) -> bool:
    """Whether a table is one of those that somebody names; all are where nobody names any."""
    names = (table.name, table.origin, table.origin.partition(".")[2] or table.origin)
    return not patterns or any(fnmatchcase(name, p) for name in names for p in patterns)


def _address(url: str) -> tuple[MysqlConnection, str]:
    form = "mysql://USER@HOST:3306/DATABASE (the password can come from the environment)"
    parts = server_address(url, "mysql")
    if parts is None:
        raise ConfigError(f"{OPTION} is not the address of a MySQL server.", f"Write {form}.")
    database = unquote(parts.path.strip("/"))
    at = MysqlConnection(
        host=parts.hostname or "",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=SecretStr(unquote(parts.password or "")),
        database=database or "information_schema",
    )
    return at, database


def server_tables(at: MysqlConnection, database: str, taken: set[str]) -> list[FoundTable]:
    """The tables that a user sees; each names its database.

    Args:
        at: The server.
        database: The only one that is looked at; empty: all but the server's own.
        taken: Names in the lake that others have; those of the tables are added.

    Raises:
        SourceError: The server refuses the user, or shows no table.
        ServiceUnreachable: It does not answer.
    """
    with asking(at) as cursor:
        cursor.execute(_TABLES)
        rows = [
            _Row(str(s), str(t), int(n or 0), int(b or 0), str(c or ""))
            for s, t, n, b, c in cursor.fetchall()
            if not database or s == database
        ]
        columns: dict[tuple[str, str], list[tuple[str, str]]] = {}
        keys: dict[tuple[str, str], list[str]] = {}
        for schema in dict.fromkeys(row.database for row in rows):
            cursor.execute(_COLUMNS, (schema,))
            for table, name, kind in cursor.fetchall():
                columns.setdefault((schema, table), []).append((str(name), str(kind).lower()))
            cursor.execute(_KEYS, (schema,))
            for table, name in cursor.fetchall():
                keys.setdefault((schema, table), []).append(str(name))
    if not rows:
        where = f"database {database!r}" if database else "server"
        raise SourceError(
            f"MySQL {at.host}:{at.port}: {at.user!r} sees no table in the {where}.",
            "Correct the database's name, or run"
            f" `GRANT SELECT ON `{database or '…'}`.* TO '{at.user}'@'%'`.",
        )
    found = []
    for row in rows:
        place = (row.database, row.table)
        table = _table(row, columns.get(place, []), keys.get(place, []), taken)
        taken.add(table.name)
        found.append(table)
    return found


def _table(
    row: _Row, columns: Iterable[tuple[str, str]], key: Sequence[str], taken: set[str]
) -> FoundTable:
    known = list(columns)
    name = free_name(row.table, taken, row.database)
    entry: dict[str, Any] = {"database": row.database}
    if name != row.table:
        entry["table"] = row.table
    if key:
        entry["key"] = list(key)
    telling = sorted({kind for _, kind in known if kind.removesuffix("2") in _TELLING})
    notes = [", ".join(telling)] if telling else []
    charset = row.collation.partition("_")[0]
    if charset and charset != "utf8mb4":
        notes.append(charset)
    if not key:
        notes.append("no primary key: no model of current rows")
    return FoundTable(
        name=name,
        origin=f"{row.database}.{row.table}",
        entry=entry,
        fields=tuple(column for column, _ in known),
        key=tuple(key),
        size=f"~{row.rows:,} rows, {row.bytes / 1e6:,.1f} MB",
        notes=tuple(notes),
    )


def _most_tables(tables: Sequence[FoundTable]) -> str:
    owners = [str(table.entry["database"]) for table in tables]
    return max(dict.fromkeys(owners), key=owners.count)


def without_home(table: FoundTable, home: str) -> FoundTable:
    """The same table; one of the connection's database names none."""
    entry: Mapping[str, Any] = {
        key: value for key, value in table.entry.items() if key != "database" or value != home
    }
    return replace(table, entry=entry)


def check_server(at: MysqlConnection, tables: Sequence[FoundTable]) -> None:
    """Refuse a server that cannot be followed.

    Raises:
        SourceError: It cannot; with all that is in the way, and the remedy of each.
    """
    names = {
        table.name: MysqlTable(
            table.name, str(table.entry["database"]), str(table.entry.get("table", table.name))
        )
        for table in tables
    }
    specs = {table.name: Table(key=list(table.key)) for table in tables}
    source = Source(type=MYSQL_CDC, tables=specs)
    found = server_problems(server_state(at, names.values()), source, names, "")
    wrong = [problem for problem in found if problem.level != NOTE]
    fatal = [problem for problem in wrong if problem.level == STOPS]
    if fatal:
        said = " ".join(
            f"{sentence(problem.what[:1].upper() + problem.what[1:])} {problem.remedy}"
            for problem in wrong
        )
        raise SourceError(f"MySQL {at.host}:{at.port} cannot be followed.", said)
