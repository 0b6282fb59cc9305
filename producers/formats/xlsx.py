"""XLSX: the first sheet, typed cells; openpyxl refuses entity bombs through defusedxml."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, BinaryIO

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from producers.formats.row import BadRow, Options, Row, UnreadableFile


def read(stream: BinaryIO, options: Options) -> Iterator[Row | BadRow]:
    """Read the rows below the header; empty rows are skipped.

    Options:
        header_row: The 1-based row that holds the column names; 1 by default.

    Raises:
        UnreadableFile: It is no workbook, or has no header at that row.
    """
    try:
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError):
        raise UnreadableFile("it is not an XLSX workbook") from None
    try:
        rows = book.worksheets[0].iter_rows(
            min_row=int(options.get("header_row", 1)), values_only=True
        )
        header = ["" if cell is None else str(cell).strip() for cell in next(rows, ())]
        names = [name for name in header if name]
        if not names or len(set(names)) < len(names):
            raise UnreadableFile("its header row is empty or names a column twice")
        number = 0
        for cells in rows:
            if all(cell is None for cell in cells):
                continue
            number += 1
            values = {n: _plain(c) for n, c in zip(header, cells, strict=False) if n}
            if any(c is not None for c in cells[len(header) :]):
                yield BadRow(number, repr(values).encode(), "it has more cells than the header")
            else:
                yield Row(number, values)
    finally:
        book.close()


def _plain(cell: Any) -> Any:
    """A cell as JSON knows it; a date without a time stays a date."""
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    return cell
