"""JSON: an array of objects, or one object; nested values are kept as they are."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

import orjson

from lake.config import Section
from producers.formats.row import BadRow, Row, UnreadableFile

MAX_BYTES = 256 * 1024 * 1024


class JsonOptions(Section):
    """A JSON file has none."""


def read(stream: BinaryIO, options: JsonOptions) -> Iterator[Row | BadRow]:
    """Read an array of objects; the whole file is held in memory, so its size is limited.

    Raises:
        UnreadableFile: It is not JSON, or too large.
    """
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UnreadableFile(f"it is larger than {MAX_BYTES >> 20} MB, which is the most for JSON")
    try:
        document = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise UnreadableFile(f"it is not JSON: {error.msg} (line {error.lineno})") from None
    del content
    items = document if isinstance(document, list) else [document]
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            yield Row(number, item)
        else:
            yield BadRow(number, orjson.dumps(item), "it is not a JSON object")
