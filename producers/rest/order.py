"""By what the values of a cursor are compared, and what lies so far before one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any

from lake.errors import SourceError

Order = tuple[int, Any, str]
KINDS = {0: "numbers", 1: "dates", 2: "texts"}
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_BEYOND_MICROS = re.compile(r"\.\d{6}(\d+)")
_DIGITS = 400
"""Of a number, before or behind its point: a double has no more."""
_EXACT = Context(prec=2 * _DIGITS)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def order_of(value: Any) -> Order | None:
    """By what values of a cursor are compared: numbers, times, or texts; None for what is none."""
    if value is None or isinstance(value, bool | dict | list) or value == "":
        return None
    text = str(value)
    if not isinstance(value, str) or _NUMBER.fullmatch(text):
        return _number(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 2, text, ""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    beyond = _BEYOND_MICROS.search(text)
    return 1, moment, beyond[1].rstrip("0") if beyond else ""


def _number(text: str) -> Order | None:
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits, or NaN
        return None
    return (0, number, "") if number.is_finite() and abs(number.adjusted()) < _DIGITS else None


def before(value: Any, lag: int | str) -> Any:
    """What lies so far before a value, written as the value is.

    Args:
        value: A number, a date or a time.
        lag: A whole number for numbers; a duration such as `30m` for dates and times.

    Raises:
        SourceError: The two do not go together.
    """
    order = order_of(value)
    if order is None:
        return value
    kind, place, _ = order
    if kind == 0 and isinstance(lag, int):
        found = _EXACT.subtract(place, Decimal(lag))
        return str(found) if isinstance(value, str) else int(found) if found % 1 == 0 else found
    if kind == 1 and isinstance(lag, str):
        return _earlier(str(value), timedelta(seconds=int(lag[:-1]) * _UNITS[lag[-1]]))
    raise SourceError(
        f"`incremental.lag` is {lag!r}, and the cursor's values are {KINDS[kind]}.",
        "Give a whole number for numbers, and a duration such as 30m or 2d for dates.",
    )


def later(value: Any, other: Any) -> Any:
    """The greater of two values; the first where the other is none, or of another kind."""
    order, than = order_of(value), order_of(other)
    if order is None or than is None or order[0] != than[0]:
        return value
    return other if than > order else value


def _earlier(text: str, lag: timedelta) -> str:
    """A date or time, in the same form; a date by whole days, rounded to the earlier one."""
    try:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            moment = datetime.fromisoformat(text) - lag
        else:
            return (day - timedelta(days=-(-lag // timedelta(days=1)))).isoformat()
    except OverflowError:
        return text  # before the year 1 there is nothing
    digits = len(text.partition(".")[2].rstrip("Z").partition("+")[0].partition("-")[0])
    timespec = "seconds" if not digits else "milliseconds" if digits == 3 else "microseconds"
    made = moment.isoformat(text[10] if len(text) > 10 else "T", timespec)
    return made.removesuffix("+00:00") + "Z" if text.endswith("Z") else made
