"""XLSX: the first sheet, typed cells; openpyxl refuses entity bombs through defusedxml."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Annotated, Any, BinaryIO

import openpyxl
import orjson
from pydantic import Field

from lake.config import Section
from producers.formats.row import BadRow, Row, UnreadableFile

MAX_UNPACKED = 512 * 1024 * 1024


class XlsxOptions(Section):
    """Where a workbook's rows begin.

    Attributes:
        header_row: The 1-based row that holds the column names.
    """

    header_row: Annotated[int, Field(ge=1)] = 1


def read(stream: BinaryIO, options: XlsxOptions) -> Iterator[Row | BadRow]:
    """Read the rows below the header; empty rows are skipped.

    Raises:
        UnreadableFile: It is no workbook, or has no header at that row.
    """
    try:
        yield from _rows(stream, options.header_row)
    except UnreadableFile:
        raise
    except Exception as error:
        # openpyxl names no errors of its own: whatever is wrong inside comes as any of a dozen.
        raise UnreadableFile(f"it is not an XLSX workbook ({type(error).__name__})") from None


def _rows(stream: BinaryIO, first: int) -> Iterator[Row | BadRow]:
    with zipfile.ZipFile(stream) as package:
        if sum(part.file_size for part in package.infolist()) > MAX_UNPACKED:
            raise UnreadableFile(f"it unpacks to more than {MAX_UNPACKED >> 20} MB")
    stream.seek(0)
    book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
    try:
        sheet = book.worksheets[0]
        # Some programs write a wrong size into the file, and rows would be cut to it.
        sheet.reset_dimensions()
        rows = sheet.iter_rows(min_row=first, values_only=True)
        header = ["" if cell is None else str(cell).strip() for cell in next(rows, ())]
        names = [name for name in header if name]
        if not names or len(set(names)) < len(names):
            raise UnreadableFile(f"its header (row {first}) is empty or names a column twice")
        number = 0
        for cells in rows:
            if all(cell is None for cell in cells):
                continue
            number += 1
            yield _row(number, header, [_plain(cell) for cell in cells])
    finally:
        book.close()


def _row(number: int, header: list[str], cells: list[Any]) -> Row | BadRow:
    """A row; a cell that has no column name belongs nowhere, and is not dropped."""
    values: dict[str, Any] = dict.fromkeys(name for name in header if name)
    for position, cell in enumerate(cells):
        name = header[position] if position < len(header) else ""
        if name:
            values[name] = cell
        elif cell is not None:
            payload = orjson.dumps(cells, default=str)
            return BadRow(number, payload, f"its cell {position + 1} has no column name")
    return Row(number, values)


def _plain(cell: Any) -> Any:
    """A cell as JSON knows it; a date without a time stays a date."""
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    return cell
