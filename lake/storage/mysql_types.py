"""MySQL's types in raw tables: from the names that Debezium gives them to types of columns.

Two are not types of DuckDB: they say how the text in a record is read, and `STORED` has the type
that a file gets. docs/TYPES.md is the table for readers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TIMESTAMPTZ = "TIMESTAMP WITH TIME ZONE"
JSON_TEXT = "JSON"  # kept as text; never parsed on the way in
ZERO_DATE = "MYSQL ZERO DATE"
"""Of a column that says where the column of dates of the same field is NULL for a date of zeros."""
STORED: Mapping[str, str] = {JSON_TEXT: "VARCHAR", ZERO_DATE: "BOOLEAN"}
DATE_TYPES = frozenset({"DATE", "TIMESTAMP", TIMESTAMPTZ})

_INTEGERS = {
    "TINYINT": ("TINYINT", "UTINYINT"),
    "INT1": ("TINYINT", "UTINYINT"),
    "SMALLINT": ("SMALLINT", "USMALLINT"),
    "INT2": ("SMALLINT", "USMALLINT"),
    "MEDIUMINT": ("INTEGER", "UINTEGER"),
    "MIDDLEINT": ("INTEGER", "UINTEGER"),
    "INT3": ("INTEGER", "UINTEGER"),
    "INT": ("INTEGER", "UINTEGER"),
    "INTEGER": ("INTEGER", "UINTEGER"),
    "INT4": ("INTEGER", "UINTEGER"),
    "BIGINT": ("BIGINT", "UBIGINT"),
    "INT8": ("BIGINT", "UBIGINT"),
    "SERIAL": ("UBIGINT", "UBIGINT"),
}
_DECIMALS = frozenset({"DECIMAL", "NUMERIC", "DEC", "FIXED"})
_OTHERS: Mapping[str, str] = {
    **dict.fromkeys(("FLOAT", "FLOAT4", "FLOAT8", "DOUBLE", "REAL"), "DOUBLE"),
    **dict.fromkeys(("BOOL", "BOOLEAN"), "TINYINT"),
    **dict.fromkeys(("BINARY", "VARBINARY"), "BLOB"),
    **dict.fromkeys(("TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"), "BLOB"),
    "DATE": "DATE",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP": TIMESTAMPTZ,
    "TIME": "VARCHAR",  # goes beyond a day and below zero
    "YEAR": "INTEGER",
    "JSON": JSON_TEXT,
}
_TEXTS = frozenset(
    {"CHAR", "CHARACTER", "VARCHAR", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT", "LONG"}
)


def mysql_type(column: Mapping[str, Any]) -> str:
    """The exact type of a MySQL column, from Debezium's schema-change record.

    A table that was there before has the names of SHOW CREATE TABLE, one that was made later those
    of its statement: synonyms, and what MySQL makes of them, are looked up here.

    Args:
        column: One entry of `tableChanges[].table.columns`.
    """
    base, *modifiers = re.sub(r"\(.*?\)", " ", str(column["typeName"])).upper().split() or [""]
    length, scale = column.get("length"), column.get("scale")
    if base in _INTEGERS:
        # ZEROFILL makes a number unsigned
        return _INTEGERS[base]["UNSIGNED" in modifiers or "ZEROFILL" in modifiers]
    if base in _DECIMALS:
        precision = 10 if length is None else int(length)
        # DuckDB's decimals end at 38 digits; MySQL's go to 65 and stay exact as text.
        return f"DECIMAL({precision},{int(scale or 0)})" if precision <= 38 else "VARCHAR"
    if base == "BIT":
        return "BOOLEAN" if length in (None, 1) else "BLOB"
    if base in _TEXTS:
        is_binary = str(column.get("charsetName") or "").lower() == "binary"
        return "BLOB" if is_binary or {"BYTE", "VARBINARY"} & set(modifiers) else "VARCHAR"
    # ENUM, SET and NCHAR; spatial types and VECTOR, as the text of Debezium's JSON
    return _OTHERS.get(base, "VARCHAR")


def bytes_cast(text: str) -> str:
    """SQL that reads bytes: in base64, or as MySQL writes them, as hexadecimal digits (`X'0102'`).

    Args:
        text: An SQL expression of type VARCHAR.
    """
    digits = f"TRY(unhex(({text})[3:-2]))"
    return f"CASE WHEN starts_with({text}, 'X''') THEN {digits} ELSE TRY(from_base64({text})) END"


def is_zero_date(text: str) -> str:
    """SQL: whether a text stands for a date of MySQL whose year, month or day is 0."""
    return f"starts_with({text}, '0000-00-00')"
