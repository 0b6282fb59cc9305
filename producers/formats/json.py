"""JSON: an array of objects, or one object; nested values are kept as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import orjson

from producers.formats.row import BadRow, Options, Row, UnreadableFile


def read(stream: BinaryIO, options: Options) -> Iterator[Row | BadRow]:
    """Read an array of objects; the whole file is held in memory.

    Raises:
        UnreadableFile: It is not JSON.
    """
    try:
        document = orjson.loads(stream.read())
    except orjson.JSONDecodeError as error:
        raise UnreadableFile(f"it is not JSON: {error.msg} (line {error.lineno})") from None
    items = document if isinstance(document, list) else [document]
    for number, item in enumerate(items, 1):
        if isinstance(item, dict):
            yield Row(number, item)
        else:
            yield BadRow(number, orjson.dumps(item), "it is not a JSON object")
