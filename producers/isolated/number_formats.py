"""What the number format of a cell shows a number as: a number, a date or time, or a duration."""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

Shown = Literal["number", "date", "duration"]

_NO_SIGN = re.compile(r'"[^"]*"?|[\\_*].?', re.DOTALL)
"""Texts, and characters that are shown, left out, or repeated, and so mean nothing else."""
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
_BRACKETED = re.compile(r"\[[^\]]*\]")
_FRACTION = re.compile(r"s{1,2}[.,]0+", re.IGNORECASE)
_OF_DATES = re.compile("[dmhys]", re.IGNORECASE)
_OF_NUMBERS = re.compile("[0#?]")


@cache
def shown_as(number_format: str | None) -> Shown:
    """What a format of a spreadsheet shows; of its sections, the first one decides."""
    section = _NO_SIGN.sub("", number_format or "").split(";")[0]
    if _ELAPSED.search(section):
        return "duration"
    section = _FRACTION.sub("s", _BRACKETED.sub("", section))
    if _OF_NUMBERS.search(section) or not _OF_DATES.search(section):
        return "number"
    return "date"
