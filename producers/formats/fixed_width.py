"""Text of fixed width: each column has as many characters in every line."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Self

from pydantic import Field, field_validator, model_validator

from producers.formats.columns import Names, column_names
from producers.formats.file_options import FileOptions
from producers.formats.lines import Lines, check_encoding, undecodable
from producers.formats.row import BadRow, Row


class FixedWidthOptions(FileOptions):
    """How wide the columns are.

    Attributes:
        widths: Characters of each column, in order.
        names: Their names; without them the first line has them, in the same widths.
        encoding: Python's name of the encoding.
        skip_top: Lines before the header.
        skip_bottom: Lines at the end that are no rows.
        comment: What a line starts with that is none.
        nulls: Texts that mean NULL.
        trim: Whether spaces at both ends of a value are padding.
    """

    widths: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    names: Names | None = None
    encoding: str = "utf-8-sig"
    skip_top: Annotated[int, Field(ge=0)] = 0
    skip_bottom: Annotated[int, Field(ge=0, le=1000)] = 0
    comment: Annotated[str, Field(min_length=1)] | None = None
    nulls: tuple[str, ...] = ()
    trim: bool = True

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, encoding: str) -> str:
        return check_encoding(encoding)

    @model_validator(mode="after")
    def _as_many_names_as_widths(self) -> Self:
        if self.names is not None and len(self.names) != len(self.widths):
            raise ValueError("there must be as many names as widths")
        return self


def read(stream: BinaryIO, options: FixedWidthOptions) -> Iterator[Row | BadRow]:
    """Read lines of fixed width.

    Raises:
        UnreadableFile: It has no header, or is not of that encoding at all.
    """
    held: deque[Row | BadRow] = deque()
    lines = Lines(stream, options.encoding, options.comment)
    try:
        lines.skip(options.skip_top)
        for row in _rows(lines, options):
            held.append(row)
            if len(held) > options.skip_bottom:
                yield held.popleft()
    except UnicodeError as error:
        raise undecodable(options.encoding, error) from None
    finally:
        lines.leave()


def _rows(lines: Lines, options: FixedWidthOptions) -> Iterator[Row | BadRow]:
    names = options.names
    number, width = 0, sum(options.widths)
    while True:
        lines.taken.clear()
        try:
            line = next(lines, None)
        except csv.Error as error:
            number += 1
            yield BadRow(number, lines.raw(), str(error), lines.line)
            continue
        if line is None:
            if names is None:
                column_names([], "rename")
            return
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        if number == 0 and options.names is not None:
            lines.refuse_other_formats(of_rows=True)
        if names is None:
            lines.refuse_other_formats()
            names = column_names(_cut(line, options), "rename")
            continue
        number += 1
        if line[width:].strip():
            reason = f"it is longer than {width} characters"
            yield BadRow(number, lines.raw(), reason, lines.line)
        elif reason := lines.problem():
            yield BadRow(number, lines.raw(), reason, lines.line)
        else:
            cells = (None if c in options.nulls else c for c in _cut(line, options))
            yield Row(number, dict(zip(names, cells, strict=True)), lines.line)


def _cut(line: str, options: FixedWidthOptions) -> list[str]:
    cells, at = [], 0
    for width in options.widths:
        cell = line[at : at + width]
        cells.append(cell.strip() if options.trim else cell)
        at += width
    return cells
