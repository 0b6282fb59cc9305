"""Workbooks as .ods, row by row: python-calamine cuts durations, errors and line breaks there."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, BinaryIO

from lxml import etree
from openpyxl.utils.cell import get_column_letter

from producers.isolated.output import (
    UNCALCULATED,
    Found,
    NoValue,
    Refused,
    chosen,
    duration,
    plain,
)

MOST_COLUMNS = 16_384
MAX_REPEATED = 1024 * 1024 * 1024
"""Bytes that rows may grow to which the file holds once, and says how often."""
_ODF = "urn:oasis:names:tc:opendocument:xmlns:"
_OFFICE, _TABLE, _TEXT = (f"{{{_ODF}{name}:1.0}}" for name in ("office", "table", "text"))
_CALC = "{urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0}"
_CELLS = (_TABLE + "table-cell", _TABLE + "covered-table-cell")
_SILENT = (_OFFICE + "annotation", _TEXT + "note", _TEXT + "ruby-text", _OFFICE + "annotation-end")
_DURATION = re.compile(
    r"(-)?P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:[.,](\d{1,9})\d*)?S)?)?"
)
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)(?:[.,](\d{1,9})\d*)?)?")


def rows(stream: BinaryIO, wanted: str | int) -> Found:
    """The rows of one sheet.

    Raises:
        Refused: It has no such sheet, is protected, or damaged.
    """
    try:
        with zipfile.ZipFile(stream) as package:
            if b"encryption-data" in package.read("META-INF/manifest.xml"):
                raise Refused("it is protected by a password", "Ask for it without one.")
            with package.open("content.xml") as part:
                names = [name for name, _ in _tables(part, rows_of=None)]
            name = chosen(names, wanted)
            with package.open("content.xml") as part:
                yield from _numbered(row for _, row in _tables(part, rows_of=names.index(name)))
    except (Refused, MemoryError, GeneratorExit):
        raise
    except etree.XMLSyntaxError as error:
        if getattr(error, "code", 0) == etree.ErrorTypes.ERR_NO_MEMORY:
            raise MemoryError from None
        raise Refused("it is damaged: what it contains is no XML", "") from None
    except Exception as error:
        raise Refused(f"it is damaged, or not a workbook ({type(error).__name__})", "") from None


def _tables(part: Any, rows_of: int | None) -> Iterator[tuple[str, Any]]:
    """The names of all tables, or the rows of one."""
    place = -1
    found = etree.iterparse(
        part,
        events=("start", "end"),
        tag=(_TABLE + "table", _TABLE + "table-row"),
        resolve_entities=False,
        no_network=True,
        huge_tree=True,
    )
    for event, element in found:
        if any(above.tag in _CELLS for above in element.iterancestors(*_CELLS)):
            continue  # a table within a cell
        if event == "start":
            if element.tag.endswith("}table"):
                place += 1
                if element.getroottree().docinfo.internalDTD is not None:
                    raise Refused("it has a document type, which no workbook needs", "")
                if rows_of is None:
                    yield element.get(_TABLE + "name", ""), None
            continue
        if element.tag.endswith("}table"):
            if place == rows_of:
                return
        elif place == rows_of:
            yield "", element
        _forget(element)


def _forget(element: Any) -> None:
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]


def _numbered(elements: Iterator[Any]) -> Found:
    number, repeated = 0, 0
    for element in elements:
        times = int(element.get(_TABLE + "number-rows-repeated", 1))
        cells, wrong = _row(element, number + 1)
        if not cells and not wrong:
            number += times
            continue
        if times > 1:
            repeated += len(json.dumps(cells)) * times
            if repeated > MAX_REPEATED:
                raise Refused(f"it repeats rows to more than {MAX_REPEATED >> 20} MB", "")
        for _ in repeat(None, times):
            number += 1
            yield number, cells, wrong


def _row(element: Any, number: int) -> tuple[list[Any], str]:
    cells: list[Any] = []
    empty, wrong = 0, ""
    for cell in element.iterchildren(*_CELLS):
        times = int(cell.get(_TABLE + "number-columns-repeated", 1))
        value = None
        try:
            value = _value(cell)
        except NoValue as error:
            wrong = wrong or f"{get_column_letter(len(cells) + empty + 1)}{number} {error}"
        if value is None:
            empty += times
            continue
        if len(cells) + empty + times > MOST_COLUMNS:
            raise Refused(f"it has more than {MOST_COLUMNS:,} columns", "")
        cells += [None] * empty + [value] * times
        empty = 0
    return cells, wrong


def _value(cell: Any) -> Any:
    kind = cell.get(_OFFICE + "value-type")
    is_formula = cell.get(_TABLE + "formula") is not None
    if cell.get(_CALC + "value-type") == "error":
        return _shown(cell) or "#ERROR!"
    if kind in (None, "void"):
        text = _shown(cell)
        if is_formula and text is None:
            raise NoValue(UNCALCULATED)
        return text
    if kind == "string":
        said = cell.get(_OFFICE + "string-value")
        return (said or None) if said is not None else _shown(cell)
    name = {"boolean": "boolean-value", "date": "date-value", "time": "time-value"}.get(kind)
    said = cell.get(_OFFICE + (name or "value"))
    if said is None:
        raise NoValue(UNCALCULATED if is_formula else f"is of the type {kind!r}, and has no value")
    match kind:
        case "boolean":
            if said not in ("true", "false"):
                raise NoValue("is of the type 'boolean', and holds no such value")
            return said == "true"
        case "date":
            return _date(said)
        case "time":
            return _time(said)
    try:
        return plain(int(said) if re.fullmatch(r"-?\d+", said) else float(said))
    except ValueError:
        raise NoValue("is a number, and holds none") from None


def _date(said: str) -> str:
    """A day, with its time unless that is midnight; what is no such date stays a text."""
    found = _DATE.fullmatch(said)
    if found is None:
        return said
    day, of_day, fraction = found.groups()
    nanos, carry = _nanos(fraction)
    try:
        moment = datetime.fromisoformat(f"{day}T{of_day or '00:00:00'}")
        moment += timedelta(seconds=carry, microseconds=0 if nanos % 1000 else nanos // 1000)
    except (ValueError, OverflowError):
        return said
    return f"{moment.isoformat()}.{nanos:09}" if nanos % 1000 else str(plain(moment))


def _time(said: str) -> str:
    """A duration, or a time of day, in hours: `30:00:00`."""
    found = _DURATION.fullmatch(said)
    if found is None or said.endswith(("P", "T")):
        return said
    sign, days, hours, minutes, seconds, fraction = found.groups()
    nanos, carry = _nanos(fraction)
    try:
        length = timedelta(int(days or 0), hours=int(hours or 0), minutes=int(minutes or 0))
        length += timedelta(seconds=int(seconds or 0) + carry)
    except OverflowError:
        return said
    return duration(-length, -nanos) if sign else duration(length, nanos)


def _nanos(fraction: str | None) -> tuple[int, int]:
    """Part of a second, and what it carries: a double may miss a millisecond by less than 1 µs."""
    nanos = int((fraction or "0").ljust(9, "0"))
    millis = round(nanos, -6)
    if nanos % 1000 and abs(nanos - millis) < 1000:
        nanos = millis
    return nanos % 1_000_000_000, nanos // 1_000_000_000


def _shown(cell: Any) -> str | None:
    """Its paragraphs; None where there is none, or nothing in them."""
    return "\n".join(map(_spoken, cell.iterchildren(_TEXT + "p", _TEXT + "h"))) or None


def _spoken(element: Any) -> str:
    text = element.text or ""
    for child in element:
        if child.tag == _TEXT + "s":
            text += " " * min(int(child.get(_TEXT + "c", 1)), 1 << 20)
        elif child.tag == _TEXT + "tab":
            text += "\t"
        elif child.tag == _TEXT + "line-break":
            text += "\n"
        elif isinstance(child.tag, str) and child.tag not in _SILENT:
            text += _spoken(child)
        text += child.tail or ""
    return text
