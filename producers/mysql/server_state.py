"""What a MySQL server says of itself, of a source's tables, and of its user: asked, not judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pymysql
from pymysql.constants import ER

from lake.config import MysqlConnection
from producers.mysql.query import asking, binlog_status, version_numbers
from producers.mysql.tables import MysqlTable, quoted

VARIABLES = (
    "version",
    "basedir",
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_value_options",
    "gtid_mode",
    "server_id",
)
_DENIED = {
    ER.ACCESS_DENIED_ERROR,
    ER.DBACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
}
_GLOBAL_GRANT = re.compile(r"GRANT (?P<rights>.+?) ON \*\.\* TO ", re.IGNORECASE)
_LOCAL_GRANT = re.compile(r"GRANT (?P<rights>.+?) ON `(?P<database>(?:[^`]|``)+)`\.\* TO ")
ALL = "ALL PRIVILEGES"


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as the server has it.

    Attributes:
        kind: `BASE TABLE`, `VIEW` or `SYSTEM VIEW`; empty where the user does not see it.
        columns: Names, in order.
        key: Columns of the primary key, in order.
        is_readable: Whether the user may read it.
    """

    kind: str
    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    is_readable: bool = True


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the checks need of a server.

    Attributes:
        variables: Global variables by name.
        account: The user as the server knows it: `'ducklake'@'%'`.
        rights: Privileges on all databases.
        local_rights: Privileges on one database, by its name, or a pattern of LIKE.
        sees_position: Whether the user may ask for the position in the binlog.
        writes_binlog: Whether it does, as far as the user may see that.
        sees_replicas: Whether the user may read the binlog as a replica does.
        replica_ids: Server ids of the replicas that are connected.
        databases: The databases that the user sees.
        names: The names of the tables of each database, whatever their kind.
        tables: The source's tables by (database, table), as far as the server has them.
    """

    variables: Mapping[str, str]
    account: str
    rights: frozenset[str]
    local_rights: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sees_position: bool = True
    writes_binlog: bool = True
    sees_replicas: bool = True
    replica_ids: frozenset[int] = frozenset()
    databases: frozenset[str] = frozenset()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tables: Mapping[tuple[str, str], TableState] = field(default_factory=dict)


def server_state(at: MysqlConnection, tables: Iterable[MysqlTable]) -> ServerState:
    """Ask a server.

    Args:
        at: The server.
        tables: The source's tables.

    Raises:
        SourceError: The server refuses the user.
        ServiceUnreachable: It does not answer.
    """
    chosen = list(tables)
    # no database: that it is missing is to be found, not to be met
    with asking(at) as cursor:
        session = _Session(cursor)
        variables = session.variables()
        version = variables.get("version", "")
        new = version_numbers(version) >= (8, 0, 22)
        position = session.allowed(binlog_status(version))
        replicas = session.allowed("SHOW REPLICAS" if new else "SHOW SLAVE HOSTS")
        rights, local_rights = session.rights()
        databases = frozenset(row[0] for row in session.ask("SHOW DATABASES"))
        names = {
            database: session.names(database)
            for database in dict.fromkeys(table.database for table in chosen)
        }
        return ServerState(
            variables=variables,
            account=session.account(),
            rights=rights,
            local_rights=local_rights,
            sees_position=position is not None,
            writes_binlog=position is None or bool(position),
            sees_replicas=replicas is not None,
            replica_ids=frozenset(int(row[0]) for row in replicas or ()),
            databases=databases,
            names=names,
            tables=dict(session.tables(chosen)),
        )


class _Session:
    """Questions over one connection."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def ask(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        self._cursor.execute(statement, values or None)
        return list(self._cursor.fetchall())

    def allowed(self, statement: str) -> list[tuple[Any, ...]] | None:
        """The answer; None where the user lacks a privilege for the question."""
        try:
            return self.ask(statement)
        except pymysql.MySQLError as error:
            if error.args and error.args[0] in _DENIED:
                return None
            raise

    def variables(self) -> dict[str, str]:
        wanted = ", ".join(f"'{name}'" for name in VARIABLES)
        found = self.ask(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})")
        return {str(name).lower(): str(value) for name, value in found}

    def account(self) -> str:
        [(text,)] = self.ask("SELECT CURRENT_USER()")
        user, _, host = str(text).rpartition("@")
        return f"'{user}'@'{host}'"

    def rights(self) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
        """Privileges of the user and of the roles that are active."""
        [(roles,)] = self.ask("SELECT CURRENT_ROLE()")
        using = f" USING {roles}" if roles and roles != "NONE" else ""
        everywhere: set[str] = set()
        local: dict[str, frozenset[str]] = {}
        for (grant,) in self.ask(f"SHOW GRANTS FOR CURRENT_USER(){using}"):
            if found := _GLOBAL_GRANT.match(grant):
                everywhere |= _listed(found["rights"])
            elif found := _LOCAL_GRANT.match(grant):
                database = found["database"].replace("``", "`")
                local[database] = local.get(database, frozenset()) | _listed(found["rights"])
        return frozenset(everywhere), local

    def names(self, database: str) -> tuple[str, ...]:
        found = self.ask(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", database
        )
        return tuple(str(row[0]) for row in found)

    def tables(self, chosen: Iterable[MysqlTable]) -> Iterator[tuple[tuple[str, str], TableState]]:
        for table in chosen:
            place = (table.database, table.table)
            kinds = self.ask(
                "SELECT table_type FROM information_schema.tables WHERE table_schema = %s"
                " AND table_name = %s",
                *place,
            )
            is_readable = self._may_read(table)
            if kinds or not is_readable:
                kind = str(kinds[0][0]) if kinds else ""
                yield place, TableState(kind, self._columns(place), self._key(place), is_readable)

    def _may_read(self, table: MysqlTable) -> bool:
        try:
            return self.allowed(f"SELECT * FROM {table.sql} LIMIT 0") is not None
        except pymysql.MySQLError:
            return True  # it is not there, or a view of something that is not

    def _columns(self, place: tuple[str, str]) -> tuple[str, ...]:
        found = self.ask(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s"
            " AND table_name = %s ORDER BY ordinal_position",
            *place,
        )
        return tuple(str(row[0]) for row in found)

    def _key(self, place: tuple[str, str]) -> tuple[str, ...]:
        found = self.ask(
            "SELECT column_name FROM information_schema.statistics WHERE table_schema = %s"
            " AND table_name = %s AND index_name = 'PRIMARY' ORDER BY seq_in_index",
            *place,
        )
        return tuple(str(row[0]) for row in found)


def _listed(rights: str) -> frozenset[str]:
    return frozenset(right.strip().upper() for right in rights.split(","))


def grant(rights: str, table: str, account: str) -> str:
    """The statement that gives a user privileges.

    Args:
        rights: Privileges, separated by commas.
        table: On what: `*.*`, or quoted names.
        account: The user, as the server knows it.
    """
    return f"GRANT {rights} ON {table} TO {account}"


def everything_in(database: str) -> str:
    """All tables of a database, as a grant names them."""
    return f"{quoted(database)}.*"
