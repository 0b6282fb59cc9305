"""What the process hands out: cells as JSON knows them."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


class Refused(Exception):
    """The file cannot be read; why, and what to do."""


Found = Iterator[tuple[int, list[Any], str]]
"""Of a sheet: the row's number, its cells, and what is wrong with one of them, or nothing."""


class NoValue(Exception):
    """A cell has no value that could be handed out; why, as "its cell B2 …" goes on."""


UNCALCULATED = (
    "is a formula without a stored value: open the workbook in a spreadsheet program and save it"
)


def plain(cell: Any) -> Any:
    """A cell as JSON knows it: a date without a time stays a date, a duration counts its hours."""
    if cell is None or isinstance(cell, bool | str):
        return cell
    if isinstance(cell, int):
        return cell if -(2**63) <= cell < 2**63 else str(cell)
    if isinstance(cell, float):
        if not math.isfinite(cell):
            return str(cell)
        return int(cell) if cell.is_integer() and abs(cell) < 2**53 else cell
    if isinstance(cell, datetime):
        midnight = cell.time() == time() and cell.tzinfo is None
        return cell.date().isoformat() if midnight else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return duration(cell)
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    if isinstance(cell, Decimal):
        return str(cell)
    return str(cell)


def chosen(names: Sequence[str], wanted: str | int, charts: Sequence[str] = ()) -> str:
    """The name of a sheet that is chosen by its name, or by its number from 1.

    Args:
        names: Those of the sheets that have cells; only they count.
        wanted: The name or the number.
        charts: Those that are a chart and nothing else.

    Raises:
        Refused: There is none.
    """
    if isinstance(wanted, str) and wanted in names:
        return wanted
    if isinstance(wanted, int) and 1 <= wanted <= len(names):
        return names[wanted - 1]
    listed = ", ".join(repr(name) for name in names[:20])
    if wanted in charts:
        raise Refused(f"its sheet {wanted!r} is a chart, and has no cells", f"Others: {listed}.")
    raise Refused(f"it has no sheet {wanted!r}", f"Its sheets: {listed}.")


def duration(length: timedelta, nanos: int = 0) -> str:
    """Hours, minutes and seconds, as many hours as there are: `30:00:00`.

    Args:
        length: The duration, rounded down to microseconds.
        nanos: What is missing of it.
    """
    nanos += length // timedelta(microseconds=1) * 1000
    sign, nanos = ("-" if nanos < 0 else ""), abs(nanos)
    seconds, nanos = divmod(nanos, 1_000_000_000)
    text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if not nanos:
        return text
    return f"{text}.{nanos:09}" if nanos % 1000 else f"{text}.{nanos // 1000:06}"


def emit(*parts: Any) -> None:
    """Hand something out."""
    sys.stdout.write(json.dumps(parts) + "\n")
