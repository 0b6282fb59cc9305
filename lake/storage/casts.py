"""Casts of texts: exact, or not at all."""

from __future__ import annotations

import re

from lake.storage.mysql_types import ZERO_DATE, bytes_cast, is_zero_date
from lake.storage.schema import Column, Schema, storage_type

_DECIMAL = re.compile(r"DECIMAL\((?P<p>\d+),\s?(?P<s>\d+)\)")


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
    if type_ == "TIMESTAMP":
        # A column that was a DATE before has dates in its older records.
        day = "strlen('2024-02-03Z')"
        return f"TRY_CAST(if(strlen({text}) = {day}, rtrim({text}, 'Z'), {text}) AS TIMESTAMP)"
    if type_ == "BLOB":
        return bytes_cast(text)
    if type_ == ZERO_DATE:
        return f"CASE WHEN {is_zero_date(text)} THEN true END"
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


def misfit(schema: Schema, column: Column, text: str, cast: str) -> str | None:
    """SQL: whether a value does not fit its column; None if every text does.

    Args:
        schema: The table's.
        column: One of its columns.
        text: SQL of the value as text.
        cast: SQL of what `cast_expression` makes of it.
    """
    if storage_type(column.type) == "VARCHAR" or column.type == ZERO_DATE:
        return None
    told = f" AND NOT {is_zero_date(text)}" if schema.tells_zero_dates(column) else ""
    return f"({text} IS NOT NULL AND {cast} IS NULL{told})"
