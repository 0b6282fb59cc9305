"""Which type holds the values of another, and which one holds the values of two.

Numbers widen to numbers, a DATE to a TIMESTAMP, and any two other types to text. Bytes are the
exception: no type holds bytes and something else, so that they need a column of their own.
"""

from __future__ import annotations

import re

_DECIMAL = re.compile(r"DECIMAL\((\d+),\s?(\d+)\)")
_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
_TEXT = ("VARCHAR", "JSON")
_DECIMAL_DIGITS = 38


def holds(column: str, values: str) -> bool:
    """Whether a column of one type takes all values of another, unchanged.

    Args:
        column: The column's type, by DuckDB's name.
        values: The type of the values.
    """
    return column == values or widened(column, values) == column


def widened(one: str, other: str) -> str | None:
    """The smallest type that holds the values of two; None where one is bytes.

    Args:
        one: A type, by DuckDB's name.
        other: Another.
    """
    if one == other:
        return one
    if "BLOB" in (one, other):
        return None
    numbers = _digits(one), _digits(other)
    if numbers[0] is not None and numbers[1] is not None:
        return _wider_number(one, other)
    if {one, other} == {"DATE", "TIMESTAMP"}:
        return "TIMESTAMP"
    return "VARCHAR"


def _digits(type_: str) -> tuple[int, int] | None:
    """Digits before and behind the point that a type holds; None where it is no exact number."""
    decimal = _DECIMAL.fullmatch(type_)
    if decimal:
        return int(decimal[1]) - int(decimal[2]), int(decimal[2])
    bits = _BITS.get(type_.removeprefix("U"))
    if bits is None:
        return None
    largest = 2**bits - 1 if type_.startswith("U") else 2 ** (bits - 1)
    return len(str(largest)), 0


def _wider_number(one: str, other: str) -> str:
    integers = _wider_integer(one, other)
    if integers is not None:
        return integers
    (before, behind), (more_before, more_behind) = _digits(one) or (0, 0), _digits(other) or (0, 0)
    scale = max(behind, more_behind)
    precision = max(before, more_before) + scale
    return f"DECIMAL({precision},{scale})" if precision <= _DECIMAL_DIGITS else "VARCHAR"


def _wider_integer(one: str, other: str) -> str | None:
    """The integer type that holds two; None where one of them is a DECIMAL, or none does."""
    bits = [_BITS.get(t.removeprefix("U")) for t in (one, other)]
    if bits[0] is None or bits[1] is None:
        return None
    unsigned = [t.startswith("U") for t in (one, other)]
    if unsigned[0] == unsigned[1]:
        return max(one, other, key=lambda t: _BITS[t.removeprefix("U")])
    # A signed type holds an unsigned one of fewer bits.
    needed = max(b * 2 if u else b for b, u in zip((bits[0], bits[1]), unsigned, strict=True))
    return next((name for name, size in _BITS.items() if size == needed), None)
