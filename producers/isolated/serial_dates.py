"""Dates of spreadsheets: a number of days, which a format shows as a date."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from producers.isolated.output import NoValue, duration, plain

_DAY = 86_400_000
"""Milliseconds; no spreadsheet shows less."""
_LAST = 2_958_466
"""The day after 9999-12-31 in the calendar that begins with 1900."""
_LEAP_DAY = 60
"""1900-02-29: a day of spreadsheets alone, after which their count agrees with the calendar."""


def moment(serial: float, since_1904: bool) -> str:
    """What a cell that is shown as a date says: a day, a time of day, or both.

    Args:
        serial: Days, with their fraction.
        since_1904: Whether day 0 is 1904-01-01; else day 1 is 1900-01-01.

    Raises:
        NoValue: No calendar has it.
    """
    if not -1 < serial < _LAST:
        raise NoValue(f"is shown as a date, and {serial!r} is none")
    days, millis = divmod(round(serial * _DAY), _DAY)
    if days < 0 or days >= _LAST - since_1904 * 1462:
        raise NoValue(f"is shown as a date, and {serial!r} is none")
    of_day = (datetime.min + timedelta(milliseconds=millis)).time()
    if days == 0:
        return of_day.isoformat()
    if since_1904:
        return _joined(date(1904, 1, 1) + timedelta(days), of_day)
    if days == _LEAP_DAY:
        return "1900-02-29" if not millis else f"1900-02-29T{of_day.isoformat()}"
    return _joined(date(1899, 12, 31 if days < _LEAP_DAY else 30) + timedelta(days), of_day)


def elapsed(serial: float) -> str:
    """What a cell that is shown as a duration says: `30:00:00`.

    Raises:
        NoValue: It is longer than anything.
    """
    try:
        return duration(timedelta(milliseconds=round(serial * _DAY)))
    except (OverflowError, ValueError):
        raise NoValue(f"is shown as a duration, and {serial!r} is none") from None


def _joined(day: date, of_day: time) -> str:
    return str(plain(datetime.combine(day, of_day)))
