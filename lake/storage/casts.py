"""Casts of texts: exact, or not at all."""

from __future__ import annotations

import re
from enum import Enum

from lake.storage.mysql_types import TIMESTAMPTZ, ZERO_DATE, bytes_cast, is_zero_date
from lake.storage.schema import Column, Schema, storage_type

_DECIMAL = re.compile(r"DECIMAL\((?P<p>\d+),\s?(?P<s>\d+)\)")


class Spelling(Enum):
    """Which texts a column takes for a value of its type; by who says that it has this type."""

    ANNOUNCED = "announced"
    """The source says so, and writes its values in a form of its own."""
    DECLARED = "declared"
    """Somebody says so: every usual spelling of a value, as long as nothing of it gets lost."""
    INFERRED = "inferred"
    """Nobody says so: only a text that the value is printed as, so that nothing else is altered."""


def cast_expression(text: str, type_: str, spelling: Spelling = Spelling.ANNOUNCED) -> str:
    """SQL that turns a JSON scalar's text into a type, or NULL where it does not fit.

    Args:
        text: An SQL expression of type VARCHAR.
        type_: The wanted type.
        spelling: Which texts fit.
    """
    return checked_cast(plain_cast(text, type_), text, type_, spelling)


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


def checked_cast(cast: str, text: str, type_: str, spelling: Spelling = Spelling.ANNOUNCED) -> str:
    """SQL that lets a cast value through only where nothing was rounded or cut off; else NULL.

    What prints as the text that came is the same. Few texts are written in another way (1.5 for a
    DECIMAL(12,2)): only these are looked at closely.

    Args:
        cast: The value, from `plain_cast`.
        text: The text it was cast from.
        type_: Its type.
        spelling: Which texts fit.
    """
    if storage_type(type_) == "VARCHAR" or type_ == ZERO_DATE:
        return cast
    exact: list[str] | None
    if spelling is Spelling.INFERRED:
        exact = _printed_otherwise(cast, text, type_)
    else:
        exact = _exact_numbers(cast, text, type_)
        if spelling is Spelling.DECLARED:
            exact = _exact_texts(cast, text, type_, exact)
        if exact is None:
            return cast
    # One WHEN after the other: in an OR, DuckDB would try the slow test first now and then.
    tests = " ".join(f"WHEN {test} THEN {cast}" for test in (f"{cast}::VARCHAR = {text}", *exact))
    return f"CASE {tests} END"


def _printed_otherwise(cast: str, text: str, type_: str) -> list[str]:
    """Tests of texts that an inferred type takes although its value is printed in another way."""
    if type_ != "DOUBLE":
        return []
    # A whole number beside others with a fraction, as JSON writes it, if a DOUBLE holds it.
    whole = f"regexp_full_match({text}, '0|-?[1-9][0-9]*')"
    return [
        f"{cast}::VARCHAR = concat({text}, '.0')",
        f"{whole} AND {_digits(text)} = {_digits(f'{cast}::VARCHAR')}",
    ]


def _exact_numbers(cast: str, text: str, type_: str) -> list[str] | None:
    """Tests of numbers that were not rounded; None where DuckDB rounds none of this type."""
    if type_.lstrip("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT"):
        # DuckDB would round 2.5 to an integer.
        return [f"{text} SIMILAR TO '[+-]?[0-9]+'"]
    decimal = _DECIMAL.fullmatch(type_)
    if decimal is None:
        return None
    # DuckDB would round 0.005 to two places: only zeros may stand behind as many as it has.
    scale = int(decimal["s"])
    exponent = f"(contains({text}, 'e') OR contains({text}, 'E'))"
    fraction = f"strlen(rtrim({text}, '0')) - strpos({text}, '.')"
    # The few with an exponent: a wider type and a DOUBLE must hold the same, and what is no
    # zero must not have become one. (TRY_CAST of the cast too: out of 459e8 DuckDB makes a
    # DECIMAL(10,0) of eleven digits.)
    wide = f"DECIMAL(38,{38 - int(decimal['p']) + scale})"
    return [
        f"NOT {exponent} AND (NOT contains({text}, '.') OR {fraction} <= {scale})",
        f"{exponent} AND TRY_CAST({cast} AS {wide}) = TRY_CAST({text} AS {wide})"
        f" AND {cast}::DOUBLE = TRY_CAST({text} AS DOUBLE)"
        f" AND ({cast} <> 0 OR {text} SIMILAR TO '[-+]?[0.]+[eE].*')",
    ]


_NUMBER = r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*"
_DAY = r"\s*[0-9]{4,6}[-/][0-9]{1,2}[-/][0-9]{1,2}"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6}0*)?)?"
_UTC = r"( ?(Z|[-+]00(:?00)?))?\s*"
_SHAPES = {
    "DATE": rf"{_DAY}([T ]00:00(:00(\.0+)?)?)?{_UTC}",
    "TIME": rf"\s*{_CLOCK}{_UTC}",
    "TIMESTAMP": rf"{_DAY}([T ]{_CLOCK})?{_UTC}",
    TIMESTAMPTZ: rf"{_DAY}([T ]{_CLOCK}.*)?\s*",
}
"""What a declared type takes of a moment: no part of it is cut off, nor an offset from UTC."""


def _exact_texts(cast: str, text: str, type_: str, numbers: list[str] | None) -> list[str] | None:
    """Tests of texts of which a declared type keeps everything; None where it always does."""
    if type_ in _SHAPES:
        exact = f"regexp_full_match({text}, '{_SHAPES[type_]}')"
        if type_ == TIMESTAMPTZ:  # the zone may follow: a digit before it was not cut off
            exact += f" AND NOT regexp_matches({text}, '\\.[0-9]{{6}}0*[1-9]')"
        return [exact]
    if type_ == "DOUBLE":
        return _exact_doubles(cast, text)
    if type_ == "BLOB":
        return [f"starts_with({text}, 'X''')", f"to_base64({cast}) = {text}"]
    if type_.startswith("DECIMAL"):
        # DuckDB reads 1_000 as a thousand.
        return [f"NOT contains({text}, '_') AND {test}" for test in numbers or ()]
    return numbers


def _exact_doubles(cast: str, text: str) -> list[str]:
    """Tests of numbers that a DOUBLE tells from all others of as many digits (17 at most)."""
    came, held = _digits(text), _digits(f"{cast}::VARCHAR")
    shown = _digits(f"printf(concat('%.', strlen({came}), 'g'), {cast})")
    number = f"isfinite({cast}) AND regexp_full_match({text}, '{_NUMBER}')"
    return [
        f"{number} AND {came} = {held}",
        f"{number} AND strlen({came}) BETWEEN 1 AND 17 AND {came} = {shown}",
    ]


def _digits(number: str) -> str:
    """SQL of a number's digits, without the zeros at both ends."""
    mantissa = f"regexp_replace({number}, '[eE].*', '')"
    return f"trim(regexp_replace({mantissa}, '[^0-9]', '', 'g'), '0')"


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
