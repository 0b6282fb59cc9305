"""A JSON answer as Python values, with every digit of its numbers."""

from __future__ import annotations

import json
from typing import Any

from producers.formats.json_values import DECODER


def json_items(content: bytes) -> list[Any]:
    """The items of an array, or the one document.

    Numbers are exact: one that neither a 64-bit integer nor a double holds is the text that stands
    in the answer. An object with the same key twice is refused.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        document = DECODER.decode(content.decode(json.detect_encoding(content)).strip())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return document if isinstance(document, list) else [document]
