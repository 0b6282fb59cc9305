"""How many rows tables of MySQL have, by the server's estimate: counting would read them all."""

from __future__ import annotations

from collections.abc import Mapping

from lake.config import MysqlConnection
from producers.mysql.query import ask_all
from producers.mysql.tables import MysqlTable


def estimated_rows(at: MysqlConnection, tables: Mapping[str, MysqlTable]) -> dict[str, int]:
    """Table, by its name in the lake, to its rows.

    Raises:
        ServiceUnreachable: MySQL does not answer.
    """
    found = {
        (str(database), str(table)): int(rows or 0)
        for database, table, rows in ask_all(
            at, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES"
        )
    }
    return {name: found.get((table.database, table.table), 0) for name, table in tables.items()}
