"""Numbers in JSON that no double holds: DuckDB's JSON would round them before anybody sees them.

They become JSON strings with the digits that came, so that a DECIMAL column gets them whole. This
project's producers write none; other programs that write a topic may.
"""

from __future__ import annotations

import math
import re

import pyarrow as pa
import pyarrow.compute as pc

_SUSPECT = (
    r"[:\[,]\s*-?(?:[0-9]{1,3}\.[0-9]{13}|[0-9]{4,7}\.[0-9]{9}|[0-9]{8,11}\.[0-9]{5}"
    r"|[0-9]{12,}\.[0-9]|[0-9.]+[eE])"
)
"""Finds each number with a fraction and 16 digits or more, or an exponent; and a few others."""
_STRING_OR_NUMBER = re.compile(
    r'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?', re.DOTALL
)


def with_exact_numbers(batch: pa.Table) -> pa.Table:
    """The values (`v`) of a batch, with each number that a double would round as a string.

    Args:
        batch: Records; those with a header of provenance (`h`) are this project's own.
    """
    foreign = pc.is_null(batch.column("h"))
    if not pc.any(foreign).as_py():
        return batch
    values = batch.column("v")
    suspect = pc.and_(foreign, pc.fill_null(pc.match_substring_regex(values, _SUSPECT), False))
    if not pc.any(suspect).as_py():
        return batch
    exact = [exact_text(value) for value in values.filter(suspect).to_pylist()]
    values = pc.replace_with_mask(
        values.combine_chunks(), suspect.combine_chunks(), pa.array(exact, pa.large_string())
    )
    return batch.set_column(batch.schema.get_field_index("v"), "v", values)


def exact_text(value: str) -> str:
    """A JSON text, with each number that a double would round as a string."""
    return _STRING_OR_NUMBER.sub(_exact, value)


def _exact(found: re.Match[str]) -> str:
    token = found[0]
    if token[0] == '"' or token.lstrip("-").isdigit():
        return token  # DuckDB keeps all digits of an integer
    number = float(token)
    if math.isfinite(number) and _digits(repr(number)) == _digits(token):
        return token
    return f'"{token}"'


def _digits(number: str) -> str:
    """The digits of a number, without the zeros at both ends."""
    mantissa = re.split("[eE]", number)[0]
    return mantissa.lstrip("-").replace(".", "").strip("0")
