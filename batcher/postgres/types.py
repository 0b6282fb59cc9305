"""Which PostgreSQL type holds the values of a DuckDB type, and which type those of another."""

from __future__ import annotations

import re

_TYPES = {
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "UTINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "UBIGINT": "numeric(20)",
    "HUGEINT": "numeric(39)",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
    "BLOB": "bytea",
    "UUID": "uuid",
}
_SPELLED = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
}
_NUMERIC = re.compile(r"numeric\((\d+)(?:,\s*(\d+))?\)")
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_SAME_TEXT = frozenset({"smallint", "integer", "bigint", "boolean", "date", "uuid"})
"""Types that PostgreSQL and DuckDB print alike."""


def postgres_type(duckdb_type: str) -> str:
    """The PostgreSQL type that holds every value of a DuckDB type."""
    if duckdb_type.startswith("DECIMAL"):
        return duckdb_type.replace("DECIMAL", "numeric")
    if duckdb_type.endswith("]") or duckdb_type.startswith(("STRUCT", "MAP")):
        return "jsonb"
    return _TYPES.get(duckdb_type, "text")


def is_same_type(known: str, wanted: str) -> bool:
    """Whether a column has the wanted type already.

    Args:
        known: As PostgreSQL's catalog spells it.
        wanted: As `postgres_type` spells it.
    """
    return _plain(known) == _plain(wanted)


def holds(column: str, values: str) -> bool:
    """Whether a column takes all values of another type, and prints them as DuckDB does.

    Args:
        column: A type, as PostgreSQL's catalog or `postgres_type` spells it.
        values: Another.
    """
    column, values = _plain(column), _plain(values)
    if column == values:
        return True
    if column == "text":
        is_text = values.startswith("character")
        return is_text or values in _SAME_TEXT or _NUMERIC.fullmatch(values) is not None
    of_column, of_values = _digits(column), _digits(values)
    if of_column is not None and of_values is not None:
        return of_column[0] >= of_values[0] and of_column[1] >= of_values[1]
    return (column, values) in {
        ("timestamp", "date"),
        ("double precision", "real"),
        ("double precision", "integer"),
        ("double precision", "smallint"),
    }


def _digits(type_: str) -> tuple[int, int] | None:
    """Digits before and behind the point that a type holds; None where it is no exact number."""
    if type_ in _DIGITS:
        return _DIGITS[type_], 0
    numeric = _NUMERIC.fullmatch(type_)
    if numeric is None:
        return None
    scale = int(numeric[2] or 0)
    return int(numeric[1]) - scale, scale


def _plain(type_: str) -> str:
    """A type in one spelling."""
    spelled = _SPELLED.get(type_, type_)
    numeric = _NUMERIC.fullmatch(spelled)
    return f"numeric({numeric[1]},{numeric[2] or 0})" if numeric else spelled
