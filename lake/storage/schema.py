"""Columns with explicit types: from Debezium's schema changes, from declarations, or inferred.

Types are DuckDB's names (`DECIMAL(12,2)`, `UBIGINT`, `TIMESTAMP WITH TIME ZONE`); files carry them
as Arrow types. A schema only grows: a column that has gone stays, as NULLs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lake.errors import ConfigError
from lake.records import Kind

TIMESTAMPTZ = "TIMESTAMP WITH TIME ZONE"
JSON_TEXT = "JSON"  # kept as text; never parsed on the way in
HIVE_COLUMNS = frozenset({"year", "month", "day"})

SYSTEM_COLUMNS: tuple[tuple[str, str], ...] = (
    ("_op", "VARCHAR"),
    ("_source_ts", TIMESTAMPTZ),
    ("_kafka_ts", TIMESTAMPTZ),
    ("_topic", "VARCHAR"),
    ("_partition", "INTEGER"),
    ("_offset", "BIGINT"),
    ("_topic_epoch", "INTEGER"),
)
BINLOG_COLUMNS: tuple[tuple[str, str], ...] = (
    ("_binlog_file", "VARCHAR"),
    ("_binlog_pos", "BIGINT"),
    ("_binlog_row", "INTEGER"),
)
PROVENANCE_TYPES: Mapping[str, str] = {
    "file": "VARCHAR",
    "file_sha256": "VARCHAR",
    "file_row": "BIGINT",
    "file_rows": "BIGINT",
    "url": "VARCHAR",
    "status": "INTEGER",
    "fetched_at": TIMESTAMPTZ,
}
_ALIASES = {"TIMESTAMPTZ": TIMESTAMPTZ, "TEXT": "VARCHAR", "INT": "INTEGER"}
_DECLARABLE = re.compile(
    r"VARCHAR|JSON|BOOLEAN|U?(TINYINT|SMALLINT|INTEGER|BIGINT)|DOUBLE|DATE|TIME|TIMESTAMP"
    r"|TIMESTAMP WITH TIME ZONE|BLOB|DECIMAL\(\d{1,2},\s?\d{1,2}\)"
)
_DECIMAL = re.compile(r"DECIMAL\((?P<p>\d+),\s?(?P<s>\d+)\)")
_INTEGERS = {
    "TINYINT": ("TINYINT", "UTINYINT"),
    "SMALLINT": ("SMALLINT", "USMALLINT"),
    "MEDIUMINT": ("INTEGER", "UINTEGER"),
    "INT": ("INTEGER", "UINTEGER"),
    "INTEGER": ("INTEGER", "UINTEGER"),
    "BIGINT": ("BIGINT", "UBIGINT"),
}


def row_columns(kind: Kind) -> tuple[tuple[str, str], ...]:
    """(name, type) of the columns that every row of this kind of table has."""
    return SYSTEM_COLUMNS + BINLOG_COLUMNS if kind == "cdc" else SYSTEM_COLUMNS


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a raw table.

    Attributes:
        name: As in the raw table.
        type: DuckDB's name of the type.
        field: The key in the record's JSON; differs from `name` only where that had to be renamed.
        provenance: Whether it comes from the provenance header and not from the value.
    """

    name: str
    type: str
    field: str
    provenance: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """The source columns of one raw table, in order; system columns are not among them."""

    columns: tuple[Column, ...] = ()

    def fields(self, provenance: bool = False) -> frozenset[str]:
        """The JSON keys that have a column."""
        return frozenset(c.field for c in self.columns if c.provenance is provenance)

    def merged(self, new: Iterable[Column]) -> Schema:
        """This schema with new columns appended, and known ones given the new type.

        A type changes only where the newer one is the source's own word for the column.
        """
        merged = {(c.field, c.provenance): c for c in self.columns}
        for column in new:
            merged[(column.field, column.provenance)] = column
        return Schema(tuple(merged.values()))

    def with_missing(self, other: Schema) -> Schema:
        """This schema, and behind it the columns that only the other one has."""
        known = {(c.field, c.provenance) for c in self.columns}
        return Schema(
            self.columns + tuple(c for c in other.columns if (c.field, c.provenance) not in known)
        )

    def united(self, other: Schema) -> Schema:
        """The columns of both; one that has two types holds both, as text."""
        theirs = {(c.field, c.provenance): c for c in other.columns}
        mine = (
            (
                c
                if theirs.get((c.field, c.provenance), c).type == c.type
                else Column(c.name, "VARCHAR", c.field, c.provenance)
            )
            for c in self.columns
        )
        return Schema(tuple(mine)).with_missing(other)

    def relation(self, kind: Kind) -> tuple[tuple[str, str], ...]:
        """(name, stored type) of all columns of the raw table, the lake's own included."""
        own = tuple((c.name, storage_type(c.type)) for c in self.columns)
        return own + row_columns(kind)

    def dump(self) -> str:
        """As JSON, for the ledger."""
        return json.dumps([[c.name, c.type, c.field, c.provenance] for c in self.columns])

    @classmethod
    def load(cls, text: str) -> Schema:
        """From the ledger's JSON."""
        return cls(tuple(Column(*entry) for entry in json.loads(text)))


def source_column(field: str, type_: str) -> Column:
    """A column from a record's value; year, month and day get an underscore behind.

    Readers of hive paths would overwrite them, and a leading underscore is the lake's own.
    """
    name = f"{field}_" if field.lower() in HIVE_COLUMNS else field
    if name.startswith("_"):
        name = f"field{name}"
    return Column(name, type_, field)


def provenance_column(field: str) -> Column:
    """A column `_{field}` from the provenance header."""
    return Column(f"_{field}", PROVENANCE_TYPES.get(field, "VARCHAR"), field, provenance=True)


def declared_type(table: str, column: str, type_: str) -> str:
    """A type as declared in `ducklake.yml`, in DuckDB's spelling.

    Raises:
        ConfigError: It is not a type that raw tables can have.
    """
    spelled = _ALIASES.get(type_.upper(), type_.upper())
    if not _DECLARABLE.fullmatch(spelled):
        raise ConfigError(
            f"Table {table}, column {column}: {type_!r} is not a type.",
            "Use VARCHAR, JSON, BOOLEAN, INTEGER, BIGINT, DECIMAL(p,s), DOUBLE, DATE, TIMESTAMP or"
            " TIMESTAMPTZ.",
        )
    return spelled


def mysql_type(column: Mapping[str, Any]) -> str:
    """The exact type of a MySQL column, from Debezium's schema-change record.

    Args:
        column: One entry of `tableChanges[].table.columns`.
    """
    words = str(column["typeName"]).upper().split()
    base, unsigned = words[0], "UNSIGNED" in words
    length, scale = column.get("length"), column.get("scale")
    if base in _INTEGERS:
        return _INTEGERS[base][unsigned]
    if base in ("DECIMAL", "NUMERIC", "DEC", "FIXED"):
        precision = 10 if length is None else int(length)
        # DuckDB's decimals end at 38 digits; MySQL's go to 65 and stay exact as text.
        return f"DECIMAL({precision},{int(scale or 0)})" if precision <= 38 else "VARCHAR"
    if base in ("FLOAT", "DOUBLE", "REAL"):
        return "DOUBLE"
    if base == "DATETIME":
        return "TIMESTAMP"
    if base == "TIMESTAMP":
        return TIMESTAMPTZ
    if base == "DATE":
        return "DATE"
    if base == "YEAR":
        return "INTEGER"
    if base == "JSON":
        return JSON_TEXT
    if base in ("BINARY", "VARBINARY", "BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"):
        return "BLOB"
    if base == "BIT":
        return "BOOLEAN" if length in (None, 1) else "BLOB"
    # CHAR, VARCHAR, TEXT, ENUM, SET; TIME too: MySQL's goes beyond a day and below zero.
    return "VARCHAR"


def storage_type(type_: str) -> str:
    """The type in files and views: JSON is kept as the text that came."""
    return "VARCHAR" if type_ == JSON_TEXT else type_


def cast_expression(text: str, type_: str) -> str:
    """SQL that turns a JSON scalar's text into a type, or NULL where it does not fit.

    Args:
        text: An SQL expression of type VARCHAR.
        type_: The wanted type.
    """
    return checked_cast(plain_cast(text, type_), text, type_)


def plain_cast(text: str, type_: str) -> str:
    """SQL that turns a text into a type as DuckDB does, which rounds; NULL where it cannot."""
    if storage_type(type_) == "VARCHAR":
        return text
    if type_ == "DATE":
        # Debezium's ISO strings end in Z, which DuckDB takes for a DATETIME but not for a DATE.
        return f"TRY_CAST(rtrim({text}, 'Z') AS DATE)"
    if type_ == "BLOB":
        return f"TRY(from_base64({text}))"
    return f"TRY_CAST({text} AS {type_})"


def checked_cast(cast: str, text: str, type_: str) -> str:
    """SQL that lets a cast value through only where nothing was rounded; else NULL.

    What prints as the text that came was not rounded. Few texts of a number are written in another
    way (1.5 for a DECIMAL(12,2)): only these are looked at closely.

    Args:
        cast: The value, from `plain_cast`.
        text: The text it was cast from.
        type_: Its type.
    """
    decimal = _DECIMAL.fullmatch(type_)
    if type_.lstrip("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"):
        # DuckDB would round 2.5 to an integer.
        exact = [f"{text} SIMILAR TO '[+-]?[0-9]+'"]
    elif decimal:
        # DuckDB would round 0.005 to two places: only zeros may stand behind as many as it has.
        scale = int(decimal["s"])
        exponent = f"(contains({text}, 'e') OR contains({text}, 'E'))"
        fraction = f"strlen(rtrim({text}, '0')) - strpos({text}, '.')"
        # The few with an exponent: a wider type and a DOUBLE must hold the same, and what is no
        # zero must not have become one. (TRY_CAST of the cast too: out of 459e8 DuckDB makes a
        # DECIMAL(10,0) of eleven digits.)
        wide = f"DECIMAL(38,{38 - int(decimal['p']) + scale})"
        exact = [
            f"NOT {exponent} AND (NOT contains({text}, '.') OR {fraction} <= {scale})",
            f"{exponent} AND TRY_CAST({cast} AS {wide}) = TRY_CAST({text} AS {wide})"
            f" AND {cast}::DOUBLE = TRY_CAST({text} AS DOUBLE)"
            f" AND ({cast} <> 0 OR {text} SIMILAR TO '[-+]?[0.]+[eE].*')",
        ]
    else:
        return cast
    # One WHEN after the other: in an OR, DuckDB would try the slow test first now and then.
    tests = " ".join(f"WHEN {test} THEN {cast}" for test in (f"{cast}::VARCHAR = {text}", *exact))
    return f"CASE {tests} END"


def inferred_type(json_type: str) -> str:
    """The type of a column that nobody declared, from the JSON type of its first values."""
    return {
        "BOOLEAN": "BOOLEAN",
        "BIGINT": "BIGINT",
        "UBIGINT": "BIGINT",
        "DOUBLE": "DOUBLE",
        "OBJECT": JSON_TEXT,
        "ARRAY": JSON_TEXT,
    }.get(json_type, "VARCHAR")
