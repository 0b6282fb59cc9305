"""Workbooks as .xlsx: openpyxl knows the package and its styles; cells are taken from the XML.

openpyxl's own sheets tell neither a formula without a value from an empty text, nor a date that no
calendar has from an error; they drop cells that are out of order, and alter texts with `_x000D_`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from openpyxl.reader.excel import ExcelReader
from openpyxl.styles.numbers import BUILTIN_FORMATS, BUILTIN_FORMATS_MAX_SIZE
from openpyxl.utils import datetime as dates
from openpyxl.utils.cell import coordinate_to_tuple, get_column_letter
from openpyxl.xml.constants import SHARED_STRINGS, SHEET_MAIN_NS
from openpyxl.xml.functions import iterparse

from producers.isolated.number_formats import shown_as
from producers.isolated.output import UNCALCULATED, Found, NoValue, Refused, chosen, plain
from producers.isolated.serial_dates import elapsed, moment

MOST_COLUMNS = 16_384
_DATES: Any = dates
_NS = f"{{{SHEET_MAIN_NS}}}"
_ROW, _CELL, _VALUE, _FORMULA, _INLINE, _TEXT, _RUN, _STRING = (
    _NS + tag for tag in ("row", "c", "v", "f", "is", "t", "r", "si")
)
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_CALCULATES_ON_LOAD = re.compile(
    rb"<(?:\w+:)?calcPr\b[^>]*\bfullCalcOnLoad\s*=\s*[\"'](?:1|true)[\"']"
)


def rows(stream: BinaryIO, wanted: str | int) -> Found:
    """The rows of one sheet.

    Raises:
        Refused: It has no such sheet, or is damaged.
    """
    try:
        book = _Book(stream)
        name = chosen([name for name, _ in book.sheets], wanted, book.charts)
        yield from _Cells(book).rows(dict(book.sheets)[name])
    except (Refused, MemoryError, GeneratorExit):
        raise
    except Exception as error:
        # openpyxl names no errors of its own: whatever is wrong inside comes as any of a dozen.
        raise Refused(f"it is not an XLSX workbook ({type(error).__name__})", "") from None


class _Book(ExcelReader):
    """What cells need of a workbook; whatever else is wrong with it costs nothing."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(stream, read_only=True)
        self.sheets: list[tuple[str, str]] = []
        self.charts: list[str] = []
        self.read()
        part = next(n for n in self.valid_files if n.lower() == "xl/workbook.xml")
        self.is_uncalculated = bool(_CALCULATES_ON_LOAD.search(self.archive.read(part)))

    def read_properties(self) -> None:
        pass

    read_custom = read_theme = read_properties

    def read_strings(self) -> None:
        manifest: Any = self.package
        part = manifest.find(SHARED_STRINGS)
        if part is None:
            return
        with self.archive.open(part.PartName[1:]) as source:
            for _, node in iterparse(source):
                if node.tag == _STRING:
                    self.shared_strings.append(_text(node))
                    node.clear()

    def read_worksheets(self) -> None:
        for sheet, relation in self.parser.find_sheets():
            if "chartsheet" in relation.Type:
                self.charts.append(sheet.name)
            elif relation.target in self.valid_files:
                self.sheets.append((sheet.name, relation.target))
        parser: Any = self.parser
        parser.assign_names = lambda: None  # nobody asks for them, and odd ones raise


class _Cells:
    """The cells of a workbook's sheets as values."""

    def __init__(self, book: _Book) -> None:
        styles: Any = book.wb
        self._book = book
        self._shown = [shown_as(_format_of(styles, style)) for style in styles._cell_styles]
        self._since_1904 = styles.epoch == _DATES.CALENDAR_MAC_1904

    def rows(self, part: str) -> Found:
        number = 0
        with self._book.archive.open(part) as source:
            for _, element in iterparse(source):
                if element.tag != _ROW:
                    continue
                place = int(float(element.get("r", number + 1)))
                if place <= number:
                    raise Refused(f"its row {place} stands below its row {number}", "")
                number = place
                yield number, *self._row(number, element)
                element.clear()

    def _row(self, number: int, element: Any) -> tuple[list[Any], str]:
        found: dict[int, Any] = {}
        column, wrong = 0, ""
        for cell in element.iter(_CELL):
            at = cell.get("r")
            column = coordinate_to_tuple(at)[1] if at else column + 1
            if column > MOST_COLUMNS:
                raise Refused(f"it has more than {MOST_COLUMNS:,} columns", "")
            try:
                if column in found:
                    raise NoValue("stands there twice")
                found[column] = self._value(cell)
            except NoValue as error:
                found.setdefault(column, None)
                wrong = wrong or f"{get_column_letter(column)}{number} {error}"
        width = max(found, default=0)
        return [found.get(column) for column in range(1, width + 1)], wrong

    def _value(self, cell: Any) -> Any:
        kind, value = cell.get("t", "n"), cell.find(_VALUE)
        if kind == "inlineStr":
            inline = cell.find(_INLINE)
            return None if inline is None else _text(inline)
        text = None if value is None else value.text or ""
        if cell.find(_FORMULA) is not None:
            if text is None or (not text and kind != "str"):
                raise NoValue(UNCALCULATED)
            if text == "0" and kind == "n" and self._book.is_uncalculated:
                raise NoValue(UNCALCULATED)
        if not text:
            return None
        if kind == "n":
            return self._number(cell, text)
        return self._other(kind, text)

    def _number(self, cell: Any, text: str) -> Any:
        try:
            number = float(text) if re.search("[.eE]", text) else int(text)
            style = int(cell.get("s") or 0)
        except ValueError:
            raise NoValue("is a number, and holds none") from None
        if isinstance(number, float) and not math.isfinite(number):
            raise NoValue("is a number that is too large for a spreadsheet")
        shown = self._shown[style] if style < len(self._shown) else "number"
        if shown == "number":
            return plain(number)
        return elapsed(number) if shown == "duration" else moment(number, self._since_1904)

    def _other(self, kind: str, text: str) -> Any:
        try:
            if kind == "s":
                return self._book.shared_strings[int(text)]
            if kind == "b":
                return {"0": False, "1": True, "false": False, "true": True}[text.strip()]
            if kind == "d":
                said = plain(_DATES.from_ISO8601(text))
                return text if text.endswith("Z") else said
        except (ValueError, LookupError, OverflowError):
            raise NoValue(f"is of the type {kind!r}, and holds no such value") from None
        return _unescaped(text)  # a formula's text, or an error such as #N/A


def _format_of(book: Any, style: Any) -> str | None:
    """The number format of a style, as a text."""
    number = style.numFmtId
    own = book._number_formats
    at = number - BUILTIN_FORMATS_MAX_SIZE
    return own[at] if 0 <= at < len(own) else BUILTIN_FORMATS.get(number)


def _text(node: Any) -> str:
    """A text of one piece, or of several with their own styles; no hints how it is pronounced."""
    pieces: Iterator[Any] = (
        piece.find(_TEXT) if piece.tag == _RUN else piece
        for piece in node
        if piece.tag in (_TEXT, _RUN)
    )
    return _unescaped("".join(piece.text or "" for piece in pieces if piece is not None))


def _unescaped(text: str) -> str:
    """What stands for a character that XML cannot have."""
    if "_x" not in text:
        return text
    made = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return made.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
