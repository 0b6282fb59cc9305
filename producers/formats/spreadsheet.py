"""Workbooks (.xlsx, .xls, .xlsb, .ods): one sheet, typed cells."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

import orjson
from pydantic import Field

from producers.formats.columns import Duplicates, Names, column_names
from producers.formats.file_options import FileOptions
from producers.formats.isolation import isolated_lines
from producers.formats.row import BadRow, Row, UnreadableFile


class SpreadsheetOptions(FileOptions):
    """Where a workbook's rows begin.

    Attributes:
        sheet: The sheet, by its name or by its number from 1.
        header_row: The 1-based row that holds the column names.
        names: The columns of a sheet without a header; then rows begin at `header_row`.
        skip_bottom: Rows at the end that are none, such as a total.
        nulls: Texts that mean NULL.
        duplicates: What happens to a header that names a column twice.
    """

    sheet: Annotated[int, Field(ge=1)] | str = 1
    header_row: Annotated[int, Field(ge=1)] = 1
    names: Names | None = None
    skip_bottom: Annotated[int, Field(ge=0, le=1000)] = 0
    nulls: tuple[str, ...] = ()
    duplicates: Duplicates = "rename"


def read(stream: BinaryIO, options: SpreadsheetOptions) -> Iterator[Row | BadRow]:
    """Read the rows below the header; empty rows are skipped.

    Raises:
        UnreadableFile: It is no workbook, is protected, or has no header at that row.
    """
    held: deque[Row | BadRow] = deque()
    for row in _rows(stream, options):
        held.append(row)
        if len(held) > options.skip_bottom:
            yield held.popleft()


def _rows(stream: BinaryIO, options: SpreadsheetOptions) -> Iterator[Row | BadRow]:
    header = column_names(options.names, "reject") if options.names else None
    unnamed: frozenset[int] = frozenset()
    number = 0
    for what, *parts in isolated_lines("workbook", stream, {"sheet": options.sheet}):
        if what == "refused":
            raise UnreadableFile(*parts)
        place, cells, *reason = parts
        if place < options.header_row:
            continue
        if header is None:
            if place > options.header_row:
                break
            header, unnamed = _header(cells, options)
            continue
        number += 1
        if reason:
            yield BadRow(number, orjson.dumps(cells), reason[0], place)
        else:
            row = _row(number, header, unnamed, cells, options.nulls)
            yield row._replace(line=place)
    if header is None:
        raise UnreadableFile(
            f"its header (row {options.header_row}) is empty", "Set `header_row` or `names`."
        )


def _header(cells: list[Any], options: SpreadsheetOptions) -> tuple[list[str], frozenset[int]]:
    texts = ["" if cell is None else str(cell) for cell in cells]
    while texts and not texts[-1].strip():
        texts.pop()
    unnamed = frozenset(n for n, text in enumerate(texts) if not text.strip())
    return column_names(texts, options.duplicates), unnamed


def _row(
    number: int,
    header: list[str],
    unnamed: frozenset[int],
    cells: list[Any],
    nulls: tuple[str, ...],
) -> Row | BadRow:
    """A row; a column without a name is one only where a cell of it holds something."""
    values: dict[str, Any] = {n: None for i, n in enumerate(header) if i not in unnamed}
    for place, cell in enumerate(cells):
        if place >= len(header):
            if cell is not None:
                reason = f"its cell {place + 1} has no column name"
                return BadRow(number, orjson.dumps(cells), reason)
        elif cell is not None or place not in unnamed:
            values[header[place]] = None if cell in nulls else cell
    return Row(number, values)
