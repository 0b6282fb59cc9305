"""One small reader for each file format; `READERS` maps a suffix to its reader.

A reader takes a binary stream and the table's options, and yields rows and bad rows in order. It
keeps one row in memory at a time where the format allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from producers.formats import delimited, json, xlsx, xml
from producers.formats.row import BadRow, Options, Row

Reader = Callable[[BinaryIO, Options], Iterator[Row | BadRow]]

READERS: Mapping[str, Reader] = {
    ".csv": delimited.read,
    ".json": json.read,
    ".txt": delimited.read,
    ".xlsx": xlsx.read,
    ".xml": xml.read,
}

__all__ = ["READERS", "BadRow", "Options", "Reader", "Row"]
