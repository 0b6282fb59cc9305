"""The SELECTs of Debezium's snapshot where its own would not bring every value as it is.

- Of a FLOAT, MySQL prints six digits; as a DOUBLE it is exact, and the converter cuts it back.
- JDBC reads a DATETIME with a calendar that has no 5 to 14 October 1582; such a one comes as text
  that is marked, which the converter takes as it is.
"""

from __future__ import annotations

import json

from lake.config import MysqlConnection
from producers.mysql.query import ask

SETTING = "snapshot.select.statement.overrides"
_COLUMNS = (
    "SELECT JSON_ARRAYAGG(JSON_ARRAY(c.table_name, c.ordinal_position, c.column_name, c.data_type))"
    " FROM information_schema.columns c WHERE c.table_schema = %s"
)


def snapshot_settings(at: MysqlConnection, tables: list[str]) -> dict[str, str]:
    """Settings of the connector, with a SELECT for each table that needs one.

    Args:
        at: The server and its database.
        tables: Names without the database.

    Raises:
        SourceError: The server refuses to answer.
        ServiceUnreachable: It does not answer.
    """
    [found] = ask(at, _COLUMNS, at.database)
    columns: dict[str, list[tuple[int, str, str]]] = {}
    for table, place, name, type_ in json.loads(found or "[]"):
        columns.setdefault(table, []).append((place, name, type_.lower()))
    selects = {}
    for table in sorted(tables):
        of_table = [(name, type_) for _, name, type_ in sorted(columns.get(table, []))]
        if any(type_ in ("float", "datetime") for _, type_ in of_table):
            selects[f"{at.database}.{table}"] = _select(at.database, table, of_table)
    if not selects:
        return {}
    settings = {f"{SETTING}.{table}": select for table, select in selects.items()}
    return {SETTING: ",".join(selects), **settings}


def _select(database: str, table: str, columns: list[tuple[str, str]]) -> str:
    # by name, since * would leave out columns that are invisible
    listed = ", ".join(_expression(_quoted(name), type_) for name, type_ in columns)
    return f"SELECT {listed} FROM {_quoted(database)}.{_quoted(table)}"


def _expression(name: str, type_: str) -> str:
    if type_ == "float":
        return f"{name} + 0e0 AS {name}"
    if type_ == "datetime":
        gap = f"{name} >= '1582-10-05' AND {name} < '1582-10-15'"
        return f"IF({gap}, CONCAT('=', {name}), {name}) AS {name}"
    return name


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
