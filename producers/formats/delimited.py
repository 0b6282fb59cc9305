"""CSV and other delimited text: every value stays the text that stands in the file."""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Self

from pydantic import Field, field_validator, model_validator

from lake.config import Section
from producers.formats.row import BadRow, Row, UnreadableFile

MAX_CHARACTERS = 4 * 1024 * 1024
"""Of one row, over all its lines: what is beyond is no row, and memory stays bounded."""
BOM = "\ufeff"

Character = Annotated[str, Field(min_length=1, max_length=1)]


class DelimitedOptions(Section):
    """How a delimited text is written.

    Attributes:
        delimiter: One character.
        quote: The quoting character, doubled inside a quoted text.
        encoding: Python's name of the encoding; the default takes a BOM or none.
    """

    delimiter: Character = ","
    quote: Character = '"'
    encoding: str = "utf-8-sig"

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, encoding: str) -> str:
        try:
            io.TextIOWrapper(io.BytesIO(), encoding=encoding).detach()
        except LookupError:
            raise ValueError(f"Python knows no text encoding {encoding!r}") from None
        return encoding

    @model_validator(mode="after")
    def _characters_fit_together(self) -> Self:
        try:
            csv.reader([], delimiter=self.delimiter, quotechar=self.quote, strict=True)
        except (TypeError, ValueError) as error:
            raise ValueError(str(error)) from None
        return self


def read(stream: BinaryIO, options: DelimitedOptions) -> Iterator[Row | BadRow]:
    """Read delimited text with a header line.

    A row that breaks the rules of quoting costs its first line and no other: reading goes on with
    the line after it, since a quote that is never closed would else swallow the rest of the file.

    Raises:
        UnreadableFile: No header, a header with a column twice, or not of that encoding at all.
    """
    encoding = options.encoding
    lines = _Lines(stream, encoding)
    csv.field_size_limit(MAX_CHARACTERS)
    cells = csv.reader(lines, delimiter=options.delimiter, quotechar=options.quote, strict=True)
    try:
        header = _header(cells, lines)
        number = 0
        while True:
            lines.taken.clear()
            try:
                row = next(cells, None)
            except csv.Error as error:
                number += 1
                yield BadRow(number, lines.give_back(), str(error))
                continue
            if row is None:
                return
            if not row:
                continue  # an empty line is no row
            number += 1
            yield _row(number, header, row, lines)
    except UnicodeDecodeError as error:  # what surrogateescape cannot carry: half a UTF-16 pair
        raise UnreadableFile(f"it is not valid {encoding}: {error.reason}") from None
    finally:
        lines.leave()


def _header(cells: Iterator[list[str]], lines: _Lines) -> list[str]:
    try:
        header = [name.strip() for name in next((row for row in cells if row), [])]
    except csv.Error as error:
        raise UnreadableFile(f"its header line cannot be read: {error}") from None
    if lines.undecoded():
        raise UnreadableFile(f"its header line is not valid {lines.encoding}")
    if not any(header):
        raise UnreadableFile("it has no header line")
    if not all(header):
        raise UnreadableFile("its header has a column without a name")
    if len(set(header)) < len(header):
        raise UnreadableFile("its header names a column twice")
    return header


def _row(number: int, header: list[str], cells: list[str], lines: _Lines) -> Row | BadRow:
    if len(cells) != len(header):
        reason = f"it has {len(cells)} fields, the header has {len(header)}"
        return BadRow(number, lines.raw(), reason)
    if lines.undecoded():
        return BadRow(number, lines.raw(), f"it is not valid {lines.encoding}")
    return Row(number, dict(zip(header, cells, strict=True)))


class _Lines:
    """The lines of a file; knows those of the current row, and takes all but the first back."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self.encoding = encoding
        # Undecodable bytes are carried along, so that they cost their own row and no other.
        self._text = io.TextIOWrapper(
            stream, encoding=encoding, errors="surrogateescape", newline=""
        )
        # These two write a BOM of their own.
        plain = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}
        name = codecs.lookup(encoding).name
        self._plain = plain.get(name, name)
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self._letters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self.taken:
            self._letters = 0
        line = self._again.popleft() if self._again else self._text.readline(MAX_CHARACTERS)
        if not line:
            raise StopIteration
        self.taken.append(line)
        self._letters += len(line)
        if self._letters >= MAX_CHARACTERS:
            self._skip_to_its_end()
            raise csv.Error(
                f"it is longer than {MAX_CHARACTERS:,} characters, or a quote is not closed"
            )
        return line

    def _skip_to_its_end(self) -> None:
        if self.taken[-1].endswith(("\n", "\r")):
            return
        self.taken[-1] += "\n"  # it ends here, also where it is read a second time
        rest = self._text.readline(MAX_CHARACTERS)
        while rest and not rest.endswith(("\n", "\r")):
            rest = self._text.readline(MAX_CHARACTERS)

    def leave(self) -> None:
        """Let go of the stream without closing it: it is the caller's."""
        self._text.detach()

    def give_back(self) -> bytes:
        """Put all lines of this row but the first back; the first one's bytes."""
        first, *rest = self.taken or [""]
        self._again.extendleft(reversed(rest))
        self.taken = [first]
        return self.raw()

    def raw(self) -> bytes:
        """The bytes of this row as they stand in the file."""
        return "".join(self.taken).rstrip("\r\n").encode(self._plain, errors="surrogateescape")

    def undecoded(self) -> bool:
        """Whether a byte of this row stands for no letter."""
        return any(
            not line.isascii() and any("\udc80" <= letter <= "\udcff" for letter in line)
            for line in self.taken
        )
