"""The MySQL sources of a configuration: their servers, and their tables as these call them."""

from __future__ import annotations

from lake.config import Config, MysqlConnection
from producers.mysql.tables import MysqlTable, mysql_tables
from producers.registry import source_connection


def mysql_source(config: Config, name: str) -> tuple[MysqlConnection, dict[str, MysqlTable]]:
    """The server of a MySQL source, and its tables by their names in the lake.

    Raises:
        ConfigError: Its connection is wrong; names the line.
        StackNotRunning: It is `embedded` and the stack is not up.
    """
    at = source_connection(config, name)
    assert isinstance(at, MysqlConnection), f"{name} is no MySQL source"
    return at, mysql_tables(config.settings.sources[name], at.database)
