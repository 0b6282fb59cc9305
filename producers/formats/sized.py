"""Rows with their sizes, so that a transaction and a message stay within their limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import orjson

from lake.config import Section
from producers.base import REJECT_BYTES
from producers.formats import BadRow, Format, Row

ROW_BYTES = 8 * 1024 * 1024


def sized_rows(
    form: Format, content: BinaryIO, options: Section
) -> Iterator[tuple[Row | BadRow, int]]:
    """The rows of a file with their sizes in bytes; one too large for a message is a bad row."""
    for row in form.read(content, options):
        if isinstance(row, BadRow):
            yield row, len(row.payload)
            continue
        try:
            text = orjson.dumps(row.values, default=str)
        except TypeError:
            yield BadRow(row.number, repr(dict(row.values)).encode(), "JSON cannot hold it"), 0
            continue
        if len(text) > ROW_BYTES:
            reason = f"it has {len(text):,} bytes, and {ROW_BYTES:,} is the most"
            yield BadRow(row.number, text[:REJECT_BYTES], reason), REJECT_BYTES
        else:
            yield row, len(text)
