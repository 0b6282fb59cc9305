"""The SELECTs of Debezium's first snapshot where its own would not bring every value as it is.

An incremental snapshot has no setting for its SELECT: connect/converter's ExactDriver writes it.

- Of a FLOAT, MySQL prints six digits; as a DOUBLE it is exact, and the converter cuts it back.
- JDBC reads a DATETIME with a calendar that has no 5 to 14 October 1582; such a one comes as text
  that is marked, which the converter takes as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from lake.config import MysqlConnection
from lake.errors import SourceError
from producers.mysql.query import ask
from producers.mysql.tables import MysqlTable, quoted

SETTING = "snapshot.select.statement.overrides"
_COLUMNS = (
    "SELECT JSON_ARRAYAGG(JSON_ARRAY(c.table_name, c.ordinal_position, c.column_name, c.data_type))"
    " FROM information_schema.columns c WHERE c.table_schema = %s"
)


def snapshot_settings(at: MysqlConnection, tables: Iterable[MysqlTable]) -> dict[str, str]:
    """Settings of the connector, with a SELECT for each table that needs one.

    Args:
        at: The server.
        tables: Of any of its databases.

    Raises:
        SourceError: The server refuses to answer, or a name cannot stand in Debezium's setting.
        ServiceUnreachable: It does not answer.
    """
    columns: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    wanted = sorted(tables, key=lambda table: (table.database, table.table))
    for database in dict.fromkeys(table.database for table in wanted):
        [found] = ask(at, _COLUMNS, database)
        for table, place, name, type_ in json.loads(found or "[]"):
            columns.setdefault((database, table), []).append((place, name, type_.lower()))
    selects = {}
    for chosen in wanted:
        of_table = sorted(columns.get((chosen.database, chosen.table), []))
        named = [(name, type_) for _, name, type_ in of_table]
        if any(type_ in ("float", "datetime") for _, type_ in named):
            if "," in chosen.identifier:
                raise SourceError(
                    f"{chosen.identifier}: Debezium takes no comma in the name of a table with"
                    " FLOAT or DATETIME columns.",
                    "Rename the table in MySQL, or leave it out.",
                )
            selects[chosen.identifier] = _select(chosen, named)
    if not selects:
        return {}
    settings = {f"{SETTING}.{table}": select for table, select in selects.items()}
    return {SETTING: ",".join(selects), **settings}


def _select(table: MysqlTable, columns: list[tuple[str, str]]) -> str:
    # by name, since * would leave out columns that are invisible
    listed = ", ".join(_expression(quoted(name), type_) for name, type_ in columns)
    return f"SELECT {listed} FROM {table.sql}"


def _expression(name: str, type_: str) -> str:
    if type_ == "float":
        return f"{name} + 0e0 AS {name}"
    if type_ == "datetime":
        gap = f"{name} >= '1582-10-05' AND {name} < '1582-10-15'"
        return f"IF({gap}, CONCAT('=', {name}), {name}) AS {name}"
    return name
