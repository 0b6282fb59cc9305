"""CSV and other delimited text: every value stays the text that stands in the file."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, BinaryIO, Literal, Self

import orjson
from pydantic import Field, field_validator, model_validator

from producers.formats.columns import Duplicates, Names, column_names, joined_header
from producers.formats.file_options import FileOptions
from producers.formats.lines import STAND_IN, Lines, check_encoding, undecodable
from producers.formats.row import ROW_BYTES, BadRow, Row, UnreadableFile

OPEN_QUOTE = "unexpected end of data"
"""What Python's parser says of a row whose quote is not closed before the file ends."""
Cells = tuple[int, int, "list[str] | BadRow"]
"""A row's number, the line on which it begins, and its cells."""


class DelimitedOptions(FileOptions):
    """How a delimited text is written.

    Attributes:
        delimiter: One character or several.
        quote: The quoting character, doubled inside a quoted text; empty for none.
        escape: The character that makes the next one mean itself; none by default.
        encoding: Python's name of the encoding; the default takes a BOM or none.
        names: The columns of a file without a header.
        header_rows: Rows that the header has; their texts are joined, and one above others is that
            of all columns to its right until the next.
        skip_top: Lines before the header.
        skip_bottom: Rows at the end that are none.
        comment: What a line starts with that is none.
        blank_rows: Whether a row that has delimiters and nothing else is one.
        nulls: Texts that mean NULL.
        ragged: A row with too few or too many fields is rejected; `pad` fills too few with NULL;
            `keep` also puts too many into columns `column_{n}`.
        duplicates: What happens to a header that names a column twice.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=20)] = ","
    quote: Annotated[str, Field(max_length=1)] = '"'
    escape: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: str = "utf-8-sig"
    names: Names | None = None
    header_rows: Annotated[int, Field(ge=1, le=10)] = 1
    skip_top: Annotated[int, Field(ge=0)] = 0
    skip_bottom: Annotated[int, Field(ge=0, le=1000)] = 0
    comment: Annotated[str, Field(min_length=1)] | None = None
    blank_rows: Literal["keep", "skip"] = "keep"
    nulls: tuple[str, ...] = ()
    ragged: Literal["reject", "pad", "keep"] = "reject"
    duplicates: Duplicates = "rename"

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, encoding: str) -> str:
        return check_encoding(encoding)

    @model_validator(mode="after")
    def _characters_fit_together(self) -> Self:
        if {"\r", "\n"} & {*self.delimiter, self.quote, self.escape}:
            raise ValueError("a line break separates rows, not fields")
        if self.comment is not None and self.comment[0] in {*self.delimiter, self.quote, *"\r\n"}:
            raise ValueError("a comment must not begin as a field, a quote or a line does")
        if self.names is not None and self.header_rows != 1:
            raise ValueError("`names` is for a file without a header, and `header_rows` is for one")
        if self.quote and self.quote in self.delimiter:
            raise ValueError("the quote must not be a part of the delimiter")
        try:
            self.rows(iter(()))
        except (TypeError, ValueError, csv.Error) as error:
            raise ValueError(str(error)) from None
        return self

    def reading(self) -> dict[str, Any]:
        """As of every format; what earlier releases did not know does not count where unset."""
        later = {"header_rows": 1, "blank_rows": "keep"}
        return {n: v for n, v in super().reading().items() if n not in later or later[n] != v}

    @property
    def one_character(self) -> str:
        """The delimiter, or what stands for it."""
        return self.delimiter if len(self.delimiter) == 1 else STAND_IN

    def rows(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Python's own parser of such text."""
        quoting: dict[str, Any] = {"quotechar": self.quote} if self.quote else {}
        return csv.reader(
            lines,
            delimiter=self.one_character,
            escapechar=self.escape,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            strict=True,
            **quoting,
        )


class TabbedOptions(DelimitedOptions):
    """The same for text whose fields are separated by tabs."""

    delimiter: Annotated[str, Field(min_length=1, max_length=20)] = "\t"


def read(stream: BinaryIO, options: DelimitedOptions) -> Iterator[Row | BadRow]:
    """Read delimited text with a header line, or with given names.

    A row that breaks the rules of quoting costs its first line and no other: reading goes on with
    the line after it, since a quote that is never closed would else swallow the rest of the file.

    Raises:
        UnreadableFile: No header, or not of that encoding at all.
    """
    form = _Form(options)
    for number, line, cells in _without_footer(form.cells(stream), options.skip_bottom):
        if isinstance(cells, BadRow):
            yield cells
        else:
            yield Row(number, form.values(cells), line)


def count(stream: BinaryIO, options: DelimitedOptions) -> int:
    """How many rows `read` would find that are good and fit in a message, without making them."""
    form = _Form(options)
    found = _without_footer(form.cells(stream), options.skip_bottom)
    return sum(type(cells) is list and form.fits(cells) for _, _, cells in found)


def _without_footer(found: Iterator[Cells], footer: int) -> Iterator[Cells]:
    if not footer:
        yield from found
        return
    held: deque[Cells] = deque()
    for item in found:
        held.append(item)
        if len(held) > footer:
            yield held.popleft()


class _Form:
    """The rows of one file, cell by cell."""

    def __init__(self, options: DelimitedOptions) -> None:
        self._options = options
        self._header: list[str] = list(options.names or ())
        self._nulls = frozenset(options.nulls)

    def cells(self, stream: BinaryIO) -> Iterator[Cells]:
        options = self._options
        several = options.delimiter if len(options.delimiter) > 1 else ""
        lines = Lines(stream, options.encoding, options.comment, several)
        csv.field_size_limit(1 << 30)  # `Lines` bounds rows
        cells = options.rows(lines)
        try:
            lines.skip(options.skip_top)
            lines.skip_separator(options.delimiter)
            if not self._header:
                self._read_header(cells, lines)
            width, taken, number = len(self._header), lines.taken, 0
            is_first = options.names is not None
            skips_blank = options.blank_rows == "skip"
            while True:
                taken.clear()
                try:
                    row = next(cells, None)
                except csv.Error as error:
                    if is_first:
                        lines.refuse_other_formats(of_rows=True)
                        is_first = False
                    number += 1
                    line = lines.line
                    yield number, line, BadRow(number, lines.give_back(), str(error), line)
                    continue
                if row is None:
                    return
                if is_first:
                    lines.refuse_other_formats(of_rows=True)
                    is_first = not row
                if not row or (skips_blank and not any(map(str.strip, row))):
                    continue  # an empty line is no row
                number += 1
                line = lines.line
                if len(row) != width:
                    wrong = self._refitted(row, width)
                    if wrong:
                        yield number, line, BadRow(number, lines.raw(), wrong, line)
                        continue
                if wrong := lines.problem():
                    yield number, line, BadRow(number, lines.raw(), wrong, line)
                    continue
                yield number, line, row
        except UnicodeError as error:  # what surrogateescape cannot carry
            raise undecodable(options.encoding, error) from None
        finally:
            lines.leave()

    def _read_header(self, cells: Iterator[list[str]], lines: Lines) -> None:
        options = self._options
        lines.taken.clear()
        try:
            rows = islice((row for row in cells if self._is_of_header(row)), options.header_rows)
            header = joined_header(list(rows))
        except csv.Error as error:
            lines.refuse_other_formats()
            raise UnreadableFile(f"its header line cannot be read: {error}") from None
        lines.refuse_other_formats()
        if lines.problem():
            raise UnreadableFile(
                f"its header line is not valid {options.encoding}", "Set `encoding`."
            )
        header = [header[0].removeprefix("\ufeff"), *header[1:]] if header else header
        if len(header) > 1 and not header[-1].strip():
            header = header[:-1]  # a trailing delimiter is no column
        self._header = column_names(self._restored(header), options.duplicates)

    def _is_of_header(self, row: list[str]) -> bool:
        """Whether a row may have names."""
        takes_blank = self._options.header_rows == 1 and self._options.blank_rows == "keep"
        return bool(row) and (takes_blank or any(map(str.strip, row)))

    def _refitted(self, row: list[str], width: int) -> str:
        """Make a row as wide as the header where that is allowed; why not otherwise."""
        if len(row) == width + 1 and not row[-1].strip():
            row.pop()
            return ""
        if self._options.ragged != "reject" and len(row) < width:
            return ""
        if self._options.ragged == "keep":
            return ""
        return f"it has {len(row)} fields, the header has {width}"

    def fits(self, cells: list[str]) -> bool:
        """Whether a row fits in a message."""
        if sum(map(len, cells)) < ROW_BYTES // 16:  # one character may take six bytes as JSON
            return True
        return len(orjson.dumps(self.values(cells))) <= ROW_BYTES

    def values(self, cells: list[str]) -> dict[str, str | None]:
        """A row's values by column."""
        cells = self._restored(cells)
        header, found = self._header, len(cells)
        if found == len(header):
            values: dict[str, str | None] = dict(zip(header, cells, strict=True))
        else:
            values = dict.fromkeys(header)
            values.update(zip(header, cells, strict=False))
            for place in range(len(header), found):
                values[_free(f"column_{place + 1}", values)] = cells[place]
        if self._nulls:
            return {n: None if cell in self._nulls else cell for n, cell in values.items()}
        return values

    def _restored(self, cells: list[str]) -> list[str]:
        delimiter = self._options.delimiter
        if len(delimiter) == 1:
            return cells
        return [cell.replace(STAND_IN, delimiter) for cell in cells]


def _free(name: str, taken: dict[str, str | None]) -> str:
    while name in taken:
        name += "_"
    return name
