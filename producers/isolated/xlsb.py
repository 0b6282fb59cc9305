"""Workbooks as .xlsb: python-calamine reads them, but for what it cannot tell.

It has neither error cells nor the numbers of dates, so these are taken from the records
themselves ([MS-XLSB] 2.2.1: a number, a size, and as many bytes).
"""

from __future__ import annotations

import posixpath
import re
import struct
import zipfile
from collections.abc import Iterator
from datetime import date, time
from itertools import chain, repeat
from typing import Any, BinaryIO

import python_calamine
from openpyxl.utils.cell import get_column_letter

from producers.isolated.output import Found, NoValue, Refused, chosen, plain
from producers.isolated.serial_dates import moment

MOST_COLUMNS = 16_384
_ROW, _RK, _ERROR, _REAL, _FORMULA_NUMBER, _FORMULA_ERROR = 0, 2, 3, 5, 9, 11
_PROPERTIES, _SHEET = 153, 156
_ERRORS = {
    0x00: "#NULL!",
    0x07: "#DIV/0!",
    0x0F: "#VALUE!",
    0x17: "#REF!",
    0x1D: "#NAME?",
    0x24: "#NUM!",
    0x2A: "#N/A",
    0x2B: "#GETTING_DATA",
}
_RELATION = re.compile(rb"<(?:\w+:)?Relationship\b[^>]*>")


def rows(stream: BinaryIO, wanted: str | int) -> Found:
    """The rows of one sheet.

    Raises:
        Refused: It has no such sheet, is protected, or damaged.
    """
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(stream)
        kinds = {sheet.name: sheet.typ for sheet in book.sheets_metadata}
        charts = [n for n, k in kinds.items() if k == python_calamine.SheetTypeEnum.ChartSheet]
        name = chosen([n for n in book.sheet_names if n not in charts], wanted, charts)
        sheet = book.get_sheet_by_name(name)
        if sheet.total_width > MOST_COLUMNS:
            raise Refused(f"it has {sheet.total_width:,} columns", "")
        stream.seek(0)
        with zipfile.ZipFile(stream) as package:
            odd, since_1904 = _odd_cells(package, name)
        before = [""] * (sheet.start[1] if sheet.start else 0)  # which iter_rows leaves out
        nothing: list[Any] = []
        after = repeat(nothing, max(odd, default=-1) + 1 - sheet.total_height)
        # A sheet may have one cell in its last row and column, and a million rows before it.
        told = (
            before + each if any(c != "" for c in each) else nothing for each in sheet.iter_rows()
        )
        for y, cells in enumerate(chain(told, after)):
            yield y + 1, *_row(y, cells, odd.get(y, {}), since_1904)
    except (Refused, MemoryError, GeneratorExit):
        raise
    except python_calamine.PasswordError:
        raise Refused("it is protected by a password", "Ask for it without one.") from None
    except BaseException as error:  # a panic in Rust is no Exception
        raise Refused(f"it is damaged, or not a workbook ({type(error).__name__})", "") from None


def _row(
    y: int, cells: list[Any], odd: dict[int, str | float], since_1904: bool
) -> tuple[list[Any], str]:
    values: list[Any] = []
    wrong = ""
    width = max(len(cells), max((x + 1 for x, n in odd.items() if isinstance(n, str)), default=0))
    for x, cell in enumerate(chain(cells, repeat("", width - len(cells)))):
        found = odd.get(x)
        try:
            if isinstance(found, str):
                values.append(found)
            elif found is not None and isinstance(cell, date | time):
                values.append(moment(found, since_1904))
            else:
                values.append(None if cell == "" else plain(cell))
        except NoValue as error:
            values.append(None)
            wrong = wrong or f"{get_column_letter(x + 1)}{y + 1} {error}"
    return values, wrong


def _odd_cells(
    package: zipfile.ZipFile, name: str
) -> tuple[dict[int, dict[int, str | float]], bool]:
    """Texts of error cells, and numbers that are no usual date, by row and column from 0.

    And whether days are counted from 1904 on.
    """
    since_1904, relation = False, ""
    with package.open("xl/workbook.bin") as part:
        for number, data in _records(part):
            if number == _PROPERTIES:
                since_1904 = bool(data[0] & 1)
            elif number == _SHEET:
                identity, at = _wide(data, 8)
                relation = identity if _wide(data, at)[0] == name else relation
    found: dict[int, dict[int, str | float]] = {}
    with package.open(_target(package, relation)) as part:
        y = 0
        for number, data in _records(part):
            if number == _ROW:
                (y,) = struct.unpack_from("<I", data)
            elif number in (_ERROR, _FORMULA_ERROR):
                (x,) = struct.unpack_from("<I", data)
                found.setdefault(y, {})[x] = _ERRORS.get(data[8], "#ERROR!")
            elif number in (_RK, _REAL, _FORMULA_NUMBER):
                value = _rk(data) if number == _RK else struct.unpack_from("<d", data, 8)[0]
                if value < 0 or 60 <= value < 61:
                    found.setdefault(y, {})[struct.unpack_from("<I", data)[0]] = value
    return found, since_1904


def _target(package: zipfile.ZipFile, identity: str) -> str:
    for entry in _RELATION.findall(package.read("xl/_rels/workbook.bin.rels")):
        if re.search(rb"\bId=[\"']" + re.escape(identity.encode()) + rb"[\"']", entry):
            target = re.search(rb"\bTarget=[\"']([^\"']*)", entry)
            if target is not None:
                return posixpath.normpath(posixpath.join("/xl", target[1].decode()))[1:]
    raise Refused("it is damaged: its sheet is not there", "")


def _records(part: Any) -> Iterator[tuple[int, bytes]]:
    while head := part.read(1):
        number = head[0]
        if number & 128:
            number = number & 127 | (part.read(1)[0] & 127) << 7
        size = 0
        for shift in (0, 7, 14, 21):
            more = part.read(1)[0]
            size |= (more & 127) << shift
            if not more & 128:
                break
        yield number, part.read(size)


def _wide(data: bytes, at: int) -> tuple[str, int]:
    """A text with its length before it, and where it ends."""
    (length,) = struct.unpack_from("<I", data, at)
    end = at + 4 + 2 * length
    return data[at + 4 : end].decode("utf-16-le"), end


def _rk(data: bytes) -> float:
    """A number of 30 bits: whole, or the upper half of a double; perhaps in hundredths."""
    (packed,) = struct.unpack_from("<i", data, 8)
    value: float = (
        packed >> 2
        if packed & 2
        else struct.unpack("<d", struct.pack("<q", (packed & ~3) << 32))[0]
    )
    return value / 100 if packed & 1 else value
