"""A polled table's definition: read with its rows, and announced like one of Debezium's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lake.storage.canonical import SourceColumn, SourceTable
from producers.mysql.tables import MysqlTable

_WATERMARKS = {"date", "datetime", "timestamp"}
_NUMBERS = {"tinyint", "smallint", "mediumint", "int", "bigint"}
Answered = Sequence[str | None]


@dataclass(frozen=True, slots=True)
class Definition:
    """What a server says of a table.

    Attributes:
        names: The table's names.
        table: Its columns and its key.
        described: Of each column: name, type, nullable, character set, digits, scale, extra, and
            default.
        first_of_index: The columns with which an index begins.
    """

    names: MysqlTable
    table: SourceTable
    described: tuple[tuple[str | None, ...], ...]
    first_of_index: frozenset[str]

    @property
    def digest(self) -> str:
        """Equal for definitions whose rows are the same."""
        plain = [row[:6] for row in self.described] + [[c.name for c in self.table.key]]
        return hashlib.sha256(orjson.dumps([*plain, self.names.sql])).hexdigest()[:16]

    def column(self, name: str) -> SourceColumn | None:
        """A column by its name."""
        return next((c for c in self.table.columns if c.name == name), None)

    def is_watermark(self, column: SourceColumn) -> bool:
        """Whether a column's type can say which rows are new."""
        return column.data_type in _WATERMARKS | _NUMBERS

    def only_adds(self, watermark: str) -> bool:
        """Whether the watermark is the key itself: a row that is there is never read again."""
        return [c.name for c in self.table.key] == [watermark]

    def counts(self, watermark: str) -> bool:
        """Whether the watermark is the key, and counted by the server."""
        extras = {row[0]: (row[6] or "").lower() for row in self.described}
        return self.only_adds(watermark) and "auto_increment" in extras.get(watermark, "")

    def filled(self, known: Sequence[str]) -> bool:
        """Whether MySQL gave rows that were there a value in a column that is not known."""
        return any(
            row[0] not in known
            and (row[2] != "YES" or row[7] is not None or "GENERATED" in (row[6] or "").upper())
            for row in self.described
        )

    def schema_change(self, source: Mapping[str, Any], moment: int) -> dict[str, Any]:
        """The record for the topic of schema changes.

        Args:
            source: The record's source block.
            moment: In milliseconds of the epoch.
        """
        identifier = ".".join(
            '"' + name.replace('"', '""') + '"' for name in (self.names.database, self.names.table)
        )
        columns = [_column(place, *row) for place, row in enumerate(self.described, 1)]
        table = {"primaryKeyColumnNames": [c.name for c in self.table.key], "columns": columns}
        return {
            "source": dict(source),
            "ts_ms": moment,
            "databaseName": self.names.database,
            "ddl": "",
            "tableChanges": [{"type": "CREATE", "id": identifier, "table": table}],
        }


def defined(
    names: MysqlTable, described: Sequence[Answered], indexes: Iterable[Answered]
) -> Definition:
    """A definition out of the server's answers.

    Args:
        names: The table's names.
        described: Of each column what `Definition.described` says.
        indexes: Index, whether it is not unique, and column, of each column of each index.
    """
    columns = {
        str(name): SourceColumn.described(
            str(name), type_ or "", nullable == "YES", charset, (_int(digits), _int(scale))
        )
        for name, type_, nullable, charset, digits, scale, *_ in described
    }
    unique: dict[str, list[SourceColumn | None]] = {}
    first: dict[str, str] = {}
    for index, repeated, name in indexes:
        first.setdefault(str(index), str(name))
        if str(repeated) == "0":
            unique.setdefault(str(index), []).append(columns.get(str(name)))
    keys = (
        tuple(c for c in index if c is not None)
        for index in unique.values()
        if all(c is not None and not c.nullable for c in index)
    )
    table = SourceTable(names.sql, tuple(columns.values()), next(keys, ()))
    return Definition(
        names, table, tuple(tuple(row) for row in described), frozenset(first.values())
    )


def _column(
    place: int,
    name: str | None,
    type_: str | None,
    nullable: str | None,
    charset: str | None,
    digits: str | None,
    scale: str | None,
    extra: str | None,
    _default: str | None,
) -> dict[str, Any]:
    return {
        "name": name,
        "typeName": (type_ or "").upper(),
        "typeExpression": (type_ or "").upper(),
        "charsetName": charset,
        "length": _int(digits),
        "scale": _int(scale),
        "position": place,
        "optional": nullable == "YES",
        "autoIncremented": "auto_increment" in (extra or "").lower(),
        "generated": "generated" in (extra or "").lower(),
    }


def _int(value: str | None) -> int | None:
    return None if value is None else int(value)
