"""Whether a server, its user and its tables are what a source needs: decided on values alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lake.config import Source
from producers.mysql.column_lists import unknown_columns
from producers.mysql.query import GTIDS_ON
from producers.mysql.server_state import ALL, ServerState, TableState, everything_in, grant
from producers.mysql.tables import MysqlTable

LOCKING = "snapshot.locking.mode"
_RDS = "/rdsdbbin"
STOPS, WRONG, NOTE = "stops", "wrong", "note"
"""Levels: the source or table is not read; it is read, and something is to be corrected; a note."""


@dataclass(frozen=True, slots=True)
class ServerProblem:
    """Something that is not as a source needs it.

    Attributes:
        at: The keys below the source that lead to it; empty for the server itself.
        what: What is wrong.
        remedy: What the reader should do about it.
        table: The table that it concerns; empty where it is the whole source.
        level: What follows from it.
        for_snapshot: Whether it matters only while tables are read, not while changes are.
        code: Of `ducklake doctor`.
    """

    at: tuple[str, ...]
    what: str
    remedy: str
    table: str = ""
    level: str = STOPS
    for_snapshot: bool = False
    code: str = "DL-412"


def server_problems(
    state: ServerState, source: Source, tables: Mapping[str, MysqlTable], server_id: int | str
) -> Iterator[ServerProblem]:
    """All that is wrong, the server first.

    Args:
        state: What the server says.
        source: The source's section.
        tables: Its tables by their names in the lake.
        server_id: The id as which its connector reads the binlog.
    """
    yield from _binlog(state)
    yield from _server_id(state, server_id)
    yield from _missing_grants(state, source, tables.values())
    yield from _column_lists(state, source, tables.values())
    for table in tables.values():
        yield from _table(state, source, table)


# The server -------------------------------------------------------------------------------------


def _binlog(state: ServerState) -> Iterator[ServerProblem]:
    found = state.variables
    if found.get("log_bin", "ON") == "OFF":
        what = "the server has log_bin=OFF, so that there are no changes to follow"
        remedy = "Start it with `--log-bin` (log_bin in my.cnf)."
        yield ServerProblem((), what, remedy, code="DL-409")
    elif not state.writes_binlog:
        what = "the server has ceased to write its binlog, as after an error while it has"
        what += " binlog_error_action=IGNORE_ERROR: changes are made that nobody can follow"
        remedy = "Remove the cause, which its error log names, and restart it. What has changed"
        remedy += " meanwhile, `ducklake verify --against-source --repair` finds and mends."
        yield ServerProblem((), what, remedy, code="DL-409")
    wanted = {
        "binlog_format": ("ROW", "statements instead of rows", "DL-403"),
        "binlog_row_image": ("FULL", "rows that lack columns", "DL-404"),
        "binlog_row_value_options": ("", "parts of JSON values", "DL-405"),
    }
    for name, (value, why, code) in wanted.items():
        if found.get(name, value).upper() != value:
            yield ServerProblem(
                (),
                f"the server has {name}={found[name]}, so that its binlog holds {why}",
                f"Run `SET PERSIST {name} = '{value}'`, and connect anew whatever writes: sessions"
                " keep the value with which they began.",
                code=code,
            )
    if found.get("gtid_mode", "ON") != "ON":
        yield ServerProblem(
            (),
            f"the server has gtid_mode={found['gtid_mode']}, and without GTIDs Debezium's connector"
            " does not start: nothing tells which changes a table that is read again has seen",
            GTIDS_ON,
            code="DL-406",
        )


def _server_id(state: ServerState, mine: int | str) -> Iterator[ServerProblem]:
    taken = {int(state.variables.get("server_id") or 0): "the server itself"}
    taken |= dict.fromkeys(state.replica_ids, "one of its replicas")
    if isinstance(mine, int) and mine in taken:
        at = ("options", "database.server.id")
        what = f"{taken[mine]} has the id {mine}, and MySQL ends the connection of one of the two"
        remedy = "Set another one, or leave the option out."
        yield ServerProblem(at, what, remedy, code="DL-410")


def _missing_grants(
    state: ServerState, source: Source, tables: Iterable[MysqlTable]
) -> Iterator[ServerProblem]:
    rights = state.rights
    has_all = ALL in rights
    missing = []
    locks = str(source.options.get(LOCKING, "minimal")) != "none"
    if locks and not has_all and not rights & {"RELOAD", "FLUSH_TABLES"}:
        missing.append("RELOAD")
    if not has_all and "SHOW DATABASES" not in rights:
        missing.append("SHOW DATABASES")
    if not state.sees_replicas:
        missing.append("REPLICATION SLAVE")
    if not state.sees_position:
        missing.append("REPLICATION CLIENT")
    for right in missing:
        yield replace(
            _ungranted(state, right, "*.*"),
            level=WRONG if right == "SHOW DATABASES" else STOPS,
            for_snapshot=right == "RELOAD",
        )
    if locks and not has_all and state.variables.get("basedir", "").startswith(_RDS):
        # Amazon refuses the global lock, and Debezium locks each table instead.
        for database in dict.fromkeys(table.database for table in tables):
            local = state.local_rights.get(database, frozenset())
            if not (rights | local) & {"LOCK TABLES", ALL}:
                needed = _ungranted(state, "LOCK TABLES", everything_in(database))
                yield replace(needed, for_snapshot=True)


def _ungranted(state: ServerState, right: str, where: str, table: str = "") -> ServerProblem:
    statement = grant(right, where, state.account)
    return ServerProblem(
        ("tables", table) if table else (),
        f"{state.account} lacks the privilege {right} on {where}",
        f"Run `{statement}`.",
        table,
        code="DL-407",
    )


# The tables -------------------------------------------------------------------------------------


def table_access_problems(
    state: ServerState, tables: Iterable[MysqlTable]
) -> Iterator[ServerProblem]:
    """Tables that are not there, or that the user may not read.

    Args:
        state: What the server says.
        tables: The tables of a source.
    """
    for table in tables:
        problem = _access_problem(state, table)
        if problem is not None:
            yield problem


def _access_problem(state: ServerState, table: MysqlTable) -> ServerProblem | None:
    found = state.tables.get((table.database, table.table))
    sees_all = bool(state.rights & {"SHOW DATABASES", ALL})
    if found is None or (sees_all and table.database not in state.databases):
        return _missing_table(state, table)
    if found.is_readable:
        return None
    needed = _ungranted(state, "SELECT", table.sql, table.name)
    if found.kind:
        return needed
    # without any right on it, nobody is told whether it is there
    return replace(needed, what=f"{needed.what}, if there is such a table")


def _table(state: ServerState, source: Source, table: MysqlTable) -> Iterator[ServerProblem]:
    at = ("tables", table.name)
    problem = _access_problem(state, table)
    if problem is not None:
        yield problem
        return
    found = state.tables[table.database, table.table]
    if found.kind != "BASE TABLE":
        yield ServerProblem(
            at,
            f"{table.sql} is a {found.kind.lower()}, and the binlog has no rows of one",
            "Name the tables it reads instead, and build the view in dbt.",
            table.name,
        )
        return
    spec = source.tables[table.name]
    yield from _unknown_columns(table, found, (*at, "key"), spec.key)
    for column in spec.columns:
        yield from _unknown_columns(table, found, (*at, "columns", column), [column])
    yield from _keys(table, found, spec.key)


def _missing_table(state: ServerState, table: MysqlTable) -> ServerProblem:
    at = ("tables", table.name)
    if table.database not in state.databases:
        near = _near(table.database, state.databases)
        what = f"the server has no database {table.database!r} that this user sees{near}"
        remedy = "Correct `database`, or create it and grant SELECT on it."
    else:
        near = _near(table.table, state.names.get(table.database, ()))
        what = f"the database {table.database} has no table {table.table!r}{near}"
        remedy = (
            "Correct the name (`table` has the one in MySQL, `database` its database), or create"
            " the table: its rows are read from then on."
        )
    return ServerProblem(at, what, remedy, table.name, code="DL-408")


def _unknown_columns(
    table: MysqlTable, found: TableState, at: tuple[str, ...], names: Iterable[str]
) -> Iterator[ServerProblem]:
    for name in names:
        if name not in found.columns:
            what = f"{table.sql} has no column {name!r}{_near(name, found.columns)}"
            remedy = "Correct the name, case included."
            yield ServerProblem(at, what, remedy, table.name, WRONG)


def _keys(table: MysqlTable, found: TableState, key: list[str]) -> Iterator[ServerProblem]:
    if not found.key:
        yield ServerProblem(
            ("tables", table.name),
            f"{table.sql} has no primary key: every change arrives once, but rows that are equal"
            " cannot be told apart, and changes of one row are in order only within a partition",
            "Add a primary key if rows of it are updated or deleted.",
            table.name,
            NOTE,
            code="DL-411",
        )
    elif key and set(key) <= set(found.columns) and set(key) != set(found.key):
        listed = ", ".join(found.key)
        yield ServerProblem(
            ("tables", table.name, "key"),
            f"the primary key of {table.sql} is ({listed}), which is what Debezium takes",
            f"Write `key: [{listed}]`.",
            table.name,
            NOTE,
        )


def _column_lists(
    state: ServerState, source: Source, tables: Iterable[MysqlTable]
) -> Iterator[ServerProblem]:
    """Columns in Debezium's settings that no table has: a mask that masks nothing."""
    known = [
        f"{table.database}.{table.table}.{column}"
        for table in tables
        if (found := state.tables.get((table.database, table.table)))
        for column in found.columns
    ]
    for key, pattern in unknown_columns(source.options, known):
        what = f"no column of this source's tables is {pattern!r}"
        remedy = "Write database.table.column; it is a regular expression."
        yield ServerProblem(("options", key), what, remedy, level=WRONG)


def _near(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where something is near, case apart."""
    names = sorted(known)
    by_case = next((other for other in names if other.lower() == name.lower()), None)
    close = [by_case] if by_case else difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
