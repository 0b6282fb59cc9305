"""Where the table begins in a delimited text, and whether its first line has the names."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from producers.formats import UnreadableFile
from producers.formats.columns import column_names

_DATA = re.compile(
    r"\s*([-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?|nan|NaN|NA|-?inf|\d[\d/:. -]*\d)\s*"
)
"""Numbers, dates and times."""
_YEAR = re.compile(r"\s*(19|20)\d\d\s*")
_MOST_HEADER_ROWS = 4
_SEARCHED = 50
"""Rows among which the header is looked for."""


def is_data(cell: str) -> bool:
    """Whether a cell is a number, a date or a time, and so no name."""
    return bool(_DATA.fullmatch(cell))


def layout(text: str, delimiter: str, quote: str, escape: str | None) -> dict[str, Any]:
    """Options that say where the rows of a text are; empty where the first line is a header.

    Args:
        text: The beginning of the file.
        delimiter: One character; several are not looked at.
        quote: May be empty.
        escape: None for none.
    """
    if len(delimiter) != 1:
        return {}
    rows = _rows(text, delimiter, quote, escape)
    if len(rows) < 2:
        return {}
    if _lacks_the_first_name([cells for _, cells in rows]):
        return {"names": _names(["row", *rows[0][1]]), "skip_top": 1}
    width = len(rows[0][1])
    blank = not rows[0][1][-1].strip()
    if blank or any(_trimmed(cells, width) != width for _, cells in rows):
        width = _usual_width([cells for _, cells in rows])
    found: dict[str, Any] = {}
    place = next((n for n, (_, cells) in enumerate(rows[:_SEARCHED]) if _begins(cells, width)), 0)
    place = _first_of_groups([cells for _, cells in rows], place, width)
    before, header = rows[place]
    below = [cells for _, cells in rows[place + 1 :]]
    body = [cells for cells in below if any(map(str.strip, cells))]
    if before:
        found["skip_top"] = before
    if len(body) < len(below):
        found["blank_rows"] = "skip"
    if _is_a_row(header, body):
        found["names"] = [f"column_{n}" for n in range(1, len(header) + 1)]
    elif more := _more_of_header(header, body):
        found["header_rows"] = 1 + more
        body = body[more:]
    if any(_trimmed(cells, width) != width for cells in body):
        found["ragged"] = "keep"
    return found


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends, as a reader and an editor count them.

    `splitlines` also ends one at a form feed and at U+2028, which may stand in a cell.
    """
    return list(io.StringIO(text, newline=""))


def csv_reader(text: str, delimiter: str, quote: str, escape: str | None) -> Any:
    """A `csv.reader` of a text in a dialect; an empty `quote`: no cell is in quotes."""
    quoting: dict[str, Any] = {"quotechar": quote} if quote else {}
    return csv.reader(
        lines_of(text),
        delimiter=delimiter,
        escapechar=escape,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        **quoting,
    )


def _rows(text: str, delimiter: str, quote: str, escape: str | None) -> list[tuple[int, list[str]]]:
    """Rows with the number of lines before each; empty ones left out."""
    reader = csv_reader(text, delimiter, quote, escape)
    rows, before = [], 0
    try:
        for cells in reader:
            if cells:
                rows.append((before, cells))
            before = reader.line_num
    except csv.Error:
        pass
    return rows


def _usual_width(rows: Sequence[Sequence[str]]) -> int:
    """How many fields most rows have; of the wider ones, where two are as frequent."""
    counts = Counter(len(cells) for cells in rows if any(cell.strip() for cell in cells))
    return max(counts, key=lambda width: (counts[width], width), default=1)


def _begins(cells: Sequence[str], width: int) -> bool:
    """Whether a row may be the header: as wide as the others, and mostly filled."""
    filled = sum(bool(cell.strip()) for cell in cells)
    names = sum(1 for _ in takewhile(str.strip, cells))
    is_filled = 2 * filled > width or (2 * filled == width > 3 and names == filled)
    return _trimmed(cells, width) == width and is_filled


def _first_of_groups(rows: Sequence[Sequence[str]], place: int, width: int) -> int:
    """The first row of a header whose last one is at a place: what is above it names groups."""
    found = place
    while found and not rows[found][0].strip() and not any(map(_DATA.fullmatch, rows[found - 1])):
        above = rows[found - 1]
        if _trimmed(above, width) != width or sum(map(bool, map(str.strip, above))) < 2:
            return place
        found -= 1
    return found if rows[found][0].strip() else place


def _more_of_header(header: Sequence[str], body: Sequence[Sequence[str]]) -> int:
    """How many rows below a header belong to it: they name what stands in the gaps of it."""
    above, count = header, 0
    while count < min(_MOST_HEADER_ROWS, len(body)) - 1:
        row, below = body[count], body[count + 1 : count + 4]
        if row[0].strip() or any(map(_DATA.fullmatch, row)) or not any(map(str.strip, row)):
            break
        places = [n for n, cell in enumerate(row) if cell.strip()]
        if not (_names_gaps(above, places) or _names_numbers(places, below, len(header))):
            break
        above = row
        count += 1
    return count


def _names_gaps(above: Sequence[str], places: Sequence[int]) -> bool:
    """Whether texts stand where the row above has none, or at the first column of a group of it."""
    gaps = {n for n in range(1, len(above)) if not above[n].strip()}
    return bool(gaps.intersection(places)) and all(n in gaps or n + 1 in gaps for n in places)


def _names_numbers(places: Sequence[int], below: Sequence[Sequence[str]], width: int) -> bool:
    """Whether few texts stand above numbers alone."""
    return (
        len(below) > 1
        and 2 * len(places) < width
        and all(
            n < len(cells) and bool(_DATA.fullmatch(cells[n])) for cells in below for n in places
        )
    )


def _trimmed(cells: Sequence[str], width: int) -> int:
    """The number of fields; one that is blank and too many is none."""
    return width if len(cells) == width + 1 and not cells[-1].strip() else len(cells)


def _lacks_the_first_name(rows: Sequence[Sequence[str]]) -> bool:
    """Whether it is as R writes it: rows begin with a name, and the header with the next column."""
    header, *body = rows
    has_data = [any(map(_DATA.fullmatch, cells)) for cells in body]
    if not has_data[0] and any(has_data):
        return False  # the header is the second line
    return len(header) > 1 and all(
        len(cells) == len(header) + 1 and cells[0].strip() and cells[-1].strip() for cells in body
    )


def _is_a_row(header: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether a first row is no header: it has data where all others have it, and no years."""
    data = [bool(_DATA.fullmatch(cell)) for cell in header]
    if all(_YEAR.fullmatch(cell) for cell, is_data in zip(header, data, strict=True) if is_data):
        return False
    if all(data):
        return True
    same = [cells for cells in body if len(cells) == len(header)]
    if len(same) < 3 or sum(data) < 2 or sum(data) * 3 < len(header):
        return False
    return all(
        not cell.strip() or _DATA.fullmatch(cell)
        for cells in same
        for cell, is_data in zip(cells, data, strict=True)
        if is_data
    )


def _names(header: Sequence[str]) -> list[str]:
    try:
        return column_names(header, "rename")
    except UnreadableFile:
        return [f"column_{n}" for n in range(1, len(header) + 1)]
