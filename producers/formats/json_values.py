"""JSON values as they stand in the file: no number is rounded, and no key is dropped.

A number that no 64-bit integer and no double holds exactly stays the text that stands in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from producers.formats.row import BadRow, Row


class DuplicateKey(ValueError):
    """An object has a key twice: which of the values is meant, nobody knows."""


def exact_integer(text: str) -> int | str:
    """A whole number, or its text where 64 bits do not hold it."""
    if len(text) > 20:
        return text
    number = int(text)
    return number if -(2**63) <= number < 2**63 else text


def exact_number(text: str) -> float | str:
    """A number with a fraction or an exponent, or its text where a double is not the same."""
    number = float(text)
    if math.isinf(number):
        return text
    digits = len(text)
    if digits <= 16 and "e" not in text and "E" not in text:
        return number  # at most 15 digits: every double tells them apart
    try:
        return number if Decimal(repr(number)) == Decimal(text) else text
    except InvalidOperation:  # its exponent has more digits than Decimal takes
        return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise DuplicateKey("an object has a key twice")
    return made


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=exact_integer,
    parse_float=exact_number,
    parse_constant=_no_constant,
)


def row_of(number: int, value: Any, text: str, line: int = 0) -> Row | BadRow:
    """A value as a row, or why it is none.

    Args:
        number: Its number in the file.
        value: The value.
        text: The same as it stands in the file.
        line: On which it begins.
    """
    if not isinstance(value, Mapping):
        return bad_row(number, text, "it is not a JSON object", line)
    if "\0" in "".join(value):
        return bad_row(number, text, "a key of it has a NUL character", line)
    if not text.isascii() or "\\u" in text:
        try:
            orjson.dumps(value)
        except (TypeError, ValueError):
            what = "it has bytes that are not UTF-8, or half a character"
            return bad_row(number, text, what, line)
    return Row(number, value, line)


def bad_row(number: int, text: str, reason: str, line: int = 0) -> BadRow:
    """A row that is none, with its bytes."""
    return BadRow(number, text.encode("utf-8", "surrogateescape"), reason, line)


def parsed(number: int, text: str, line: int = 0) -> Row | BadRow:
    """One object of its own, such as a line of NDJSON."""
    try:
        value, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        return bad_row(number, text, reason_of(error), line)
    if text[end:].strip():
        return bad_row(number, text, "something follows its value", line)
    return row_of(number, value, text, line)


def reason_of(error: Exception) -> str:
    """Why a text is no JSON value, without a word of it."""
    match error:
        case DuplicateKey():
            return str(error)
        case json.JSONDecodeError():
            return f"it is not JSON: {error.msg}"
        case RecursionError():
            return "it is nested too deeply"
        case _:
            return "it is not JSON"
