"""CSV and other delimited text: every value stays the text that stands in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

from producers.formats.row import BadRow, Options, Row, UnreadableFile

csv.field_size_limit(16 * 1024 * 1024)


def read(stream: BinaryIO, options: Options) -> Iterator[Row | BadRow]:
    """Read delimited text with a header line.

    Options:
        delimiter: One character; a comma by default.
        quote: The quoting character, doubled inside a quoted text; `"` by default.
        encoding: Python's name of the encoding; utf-8-sig by default (takes a BOM or none).

    Raises:
        UnreadableFile: No header, or a header with a column twice.
    """
    encoding = str(options.get("encoding", "utf-8-sig"))
    # Undecodable bytes are carried along, so that they cost their own row and no other.
    text = io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
    lines = csv.reader(
        text,
        delimiter=str(options.get("delimiter", ",")),
        quotechar=str(options.get("quote", '"')),
        strict=True,
    )
    header = [name.strip() for name in next(lines, [])]
    if not any(header):
        raise UnreadableFile("it has no header line")
    if len(set(header)) < len(header):
        raise UnreadableFile("its header names a column twice")
    number = 0
    while True:
        try:
            cells = next(lines, None)
        except csv.Error as error:
            number += 1
            yield BadRow(number, b"", f"{error} (near line {lines.line_num})")
            continue
        if cells is None:
            return
        if not cells:
            continue  # an empty line is no row
        number += 1
        yield _row(number, header, cells, encoding)


def _row(number: int, header: list[str], cells: list[str], encoding: str) -> Row | BadRow:
    payload = "\t".join(cells).encode(errors="surrogateescape")
    if len(cells) != len(header):
        return BadRow(number, payload, f"it has {len(cells)} fields, the header has {len(header)}")
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        return BadRow(number, payload, f"it is not valid {encoding}")
    return Row(number, dict(zip(header, cells, strict=True)))
