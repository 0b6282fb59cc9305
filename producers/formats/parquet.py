"""Parquet files: decimals, times and timestamps as text, bytes as base64, nested values as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from producers.formats.file_options import FileOptions
from producers.formats.isolation import isolated_lines
from producers.formats.row import BadRow, Row, UnreadableFile


class ParquetOptions(FileOptions):
    """A Parquet file says everything itself."""


def read(stream: BinaryIO, options: ParquetOptions) -> Iterator[Row | BadRow]:
    """Read the rows.

    Raises:
        UnreadableFile: It is not Parquet, damaged, or larger in memory than the limit.
    """
    for number, (what, *parts) in enumerate(isolated_lines("parquet", stream, {}), 1):
        if what == "refused":
            raise UnreadableFile(*parts)
        yield BadRow(number, b"", parts[0]) if what == "bad" else Row(number, parts[0])
