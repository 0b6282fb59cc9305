"""One small reader for each file format; `FORMATS` maps a suffix to its format.

A reader takes a binary stream and the table's options, and yields rows and bad rows in order. It
keeps one row in memory at a time where the format allows it; else it works in a process of its own,
whose memory is limited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from producers.formats import delimited, fixed_width, json, parquet, spreadsheet, xml
from producers.formats.file_options import FileOptions
from producers.formats.row import BadRow, Row, UnfinishedFile, UnreadableFile


class Reader(Protocol):
    """Reads a file of one format."""

    def __call__(self, stream: BinaryIO, options: Any) -> Iterator[Row | BadRow]:
        """Rows and bad rows, in order."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: the model of its options, and its reader, which takes them.

    Attributes:
        options: The model.
        read: The reader.
        count: Counts the good rows faster than the reader does, where there is such a way.
        is_text: Whether every value is text, of which an empty one may be a NULL.
        has_lines: Whether each row ends with a line: then a file may grow.
        has_header: Whether all rows of a file have the same columns.
    """

    options: type[FileOptions]
    read: Reader
    count: Callable[[BinaryIO, Any], int] | None = None
    is_text: bool = False
    has_lines: bool = False
    has_header: bool = False


_DELIMITED = Format(delimited.DelimitedOptions, delimited.read, delimited.count, True, True, True)
_TABBED = Format(delimited.TabbedOptions, delimited.read, delimited.count, True, True, True)
_LINES = Format(json.JsonLinesOptions, json.read_lines, has_lines=True)
_WORKBOOK = Format(spreadsheet.SpreadsheetOptions, spreadsheet.read, has_header=True)
FORMATS: Mapping[str, Format] = {
    ".csv": _DELIMITED,
    ".fwf": Format(fixed_width.FixedWidthOptions, fixed_width.read, None, True, True, True),
    ".json": Format(json.JsonOptions, json.read),
    ".jsonl": _LINES,
    ".ndjson": _LINES,
    ".ods": _WORKBOOK,
    ".parquet": Format(parquet.ParquetOptions, parquet.read, has_header=True),
    ".tsv": _TABBED,
    ".txt": _DELIMITED,
    ".xls": _WORKBOOK,
    ".xlsb": _WORKBOOK,
    ".xlsm": _WORKBOOK,
    ".xlsx": _WORKBOOK,
    ".xml": Format(xml.XmlOptions, xml.read, is_text=True),
}

__all__ = [
    "FORMATS",
    "BadRow",
    "FileOptions",
    "Format",
    "Reader",
    "Row",
    "UnfinishedFile",
    "UnreadableFile",
]
