"""One small reader for each file format; `FORMATS` maps a suffix to its format.

A reader takes a binary stream and the table's options, and yields rows and bad rows in order. It
keeps one row in memory at a time where the format allows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from lake.config import Section
from producers.formats import delimited, json, xlsx, xml
from producers.formats.row import BadRow, Row


class Reader(Protocol):
    """Reads a file of one format."""

    def __call__(self, stream: BinaryIO, options: Any) -> Iterator[Row | BadRow]:
        """Rows and bad rows, in order."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: the model of its options, and its reader, which takes them."""

    options: type[Section]
    read: Reader


FORMATS: Mapping[str, Format] = {
    ".csv": Format(delimited.DelimitedOptions, delimited.read),
    ".json": Format(json.JsonOptions, json.read),
    ".txt": Format(delimited.DelimitedOptions, delimited.read),
    ".xlsx": Format(xlsx.XlsxOptions, xlsx.read),
    ".xml": Format(xml.XmlOptions, xml.read),
}

__all__ = ["FORMATS", "BadRow", "Format", "Reader", "Row"]
