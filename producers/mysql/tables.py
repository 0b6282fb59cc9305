"""The tables of a source as MySQL calls them, and how Debezium's settings name them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from lake.config import MysqlConnection, Source
from lake.openlineage.datasets import Dataset, mysql_table

_WORD = re.compile(r"[A-Za-z0-9_]")
TABLES = "table.include.list"
TOPICS = "ducklake.topics"
"""The setting of connect/converter's naming of topics."""


@dataclass(frozen=True, slots=True)
class MysqlTable:
    """A table by its three names.

    Attributes:
        name: In the lake: the key under `tables` in `ducklake.yml`.
        database: Its database in MySQL.
        table: Its name in MySQL.
    """

    name: str
    database: str
    table: str

    @property
    def sql(self) -> str:
        """The table as an identifier of MySQL's SQL."""
        return f"{quoted(self.database)}.{quoted(self.table)}"

    def dataset(self, at: MysqlConnection) -> Dataset:
        """The table as OpenLineage names it."""
        return mysql_table(at.host, at.port, self.database, self.table)

    @property
    def identifier(self) -> str:
        """The table as Debezium parses one: quoted where a part is more than a word."""
        return f"{_part(self.database)}.{_part(self.table)}"

    @property
    def pattern(self) -> str:
        """A regular expression that matches this table alone, as Debezium writes its name."""
        return literal(f"{self.database}.{self.table}")


def mysql_tables(source: Source, database: str) -> dict[str, MysqlTable]:
    """The tables of a source, by their names in the lake.

    Args:
        source: Its section.
        database: The one of its connection, for tables that name none.
    """
    return {
        name: MysqlTable(name, spec.database or database, spec.table or name)
        for name, spec in source.tables.items()
    }


def table_settings(tables: Iterable[MysqlTable]) -> dict[str, str]:
    """What the template gets for a connector of these tables: `database`, `tables`, `topics`."""
    chosen = list(tables)
    return {
        "database": ",".join(dict.fromkeys(literal(t.database) for t in chosen)),
        "tables": ",".join(t.pattern for t in chosen),
        "topics": ",".join(f"{_word(t.database)}.{_word(t.table)}:{t.name}" for t in chosen),
    }


def captured(settings: Mapping[str, str]) -> set[tuple[str, str]]:
    """(database, table) of each table that a connector of these settings follows."""
    if TOPICS in settings:
        names = (entry.partition(":")[0] for entry in settings[TOPICS].split(",") if entry)
    else:  # a connector of an earlier release: `database.table`, the database as a pattern
        listed = settings.get(TABLES, "").split(",")
        names = (re.sub(r"\\(.)", r"\1", entry) for entry in listed if entry)
    pairs = (name.rpartition(".") for name in names)
    return {(unquote(database), unquote(table)) for database, _, table in pairs}


def literal(name: str) -> str:
    """A name as a regular expression that matches it alone, case included.

    Debezium's lists hold patterns between commas, trimmed, that ignore case. In Java, a character
    can be written by its hexadecimal number, so that none of a name has a meaning there.
    """
    text = "".join(c if _WORD.match(c) else f"\\x{{{ord(c):x}}}" for c in name)
    return f"(?-i:{text})"


def quoted(name: str) -> str:
    """A name as an identifier of MySQL's SQL."""
    return "`" + name.replace("`", "``") + "`"


def _part(name: str) -> str:
    return name if re.fullmatch(r"\w+", name) else quoted(name)


def _word(name: str) -> str:
    """A name in the setting of topics: percent-encoded, so that no comma, colon or dot is left."""
    return quote(name, safe="").replace(".", "%2E")
