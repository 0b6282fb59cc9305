"""Workbooks as .xls: xlrd hands out numbers as they are stored, with their formats."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

import xlrd
from openpyxl.utils.cell import get_column_letter

from producers.isolated.number_formats import shown_as
from producers.isolated.output import UNCALCULATED, Found, NoValue, Refused, chosen, plain
from producers.isolated.serial_dates import elapsed, moment

_SUMMARY = "SummaryInformation".encode("utf-16-le")
"""What every spreadsheet program writes, and no library that cannot calculate."""


def rows(stream: BinaryIO, wanted: str | int) -> Found:
    """The rows of one sheet.

    Raises:
        Refused: It has no such sheet, is protected, or damaged.
    """
    content = stream.read()
    try:
        book = xlrd.open_workbook(
            file_contents=content,
            logfile=io.StringIO(),
            formatting_info=True,
            on_demand=True,
            ragged_rows=True,
        )
        cells = _Cells(book, _SUMMARY in content)
        del content
        sheet = book.sheet_by_name(chosen(book.sheet_names(), wanted))
        for y in range(sheet.nrows):
            yield y + 1, *cells.row(y, sheet.row(y))
    except (Refused, MemoryError, GeneratorExit):
        raise
    except Exception as error:
        if "encrypted" in str(error):
            raise Refused("it is protected by a password", "Ask for it without one.") from None
        raise Refused(f"it is damaged, or not a workbook ({type(error).__name__})", "") from None


class _Cells:
    """The cells of a workbook as values."""

    def __init__(self, book: Any, is_calculated: bool) -> None:
        self._book = book
        self._is_calculated = is_calculated

    def row(self, y: int, cells: list[Any]) -> tuple[list[Any], str]:
        values, wrong = [], ""
        for x, cell in enumerate(cells):
            try:
                values.append(self._value(cell))
            except NoValue as error:
                values.append(None)
                wrong = wrong or f"{get_column_letter(x + 1)}{y + 1} {error}"
        return values, wrong

    def _value(self, cell: Any) -> Any:
        match cell.ctype:
            case xlrd.XL_CELL_TEXT:
                if not cell.value and not self._is_calculated:
                    raise NoValue(UNCALCULATED)  # only formulas have an empty text
                return cell.value or None
            case xlrd.XL_CELL_NUMBER | xlrd.XL_CELL_DATE:
                style = self._book.xf_list[cell.xf_index]
                shown = shown_as(self._book.format_map[style.format_key].format_str)
                if shown == "number":
                    return plain(cell.value)
                if shown == "duration":
                    return elapsed(cell.value)
                return moment(cell.value, self._book.datemode == 1)
            case xlrd.XL_CELL_BOOLEAN:
                return bool(cell.value)
            case xlrd.XL_CELL_ERROR:
                return xlrd.error_text_from_code.get(cell.value, "#ERROR!")
        return None
