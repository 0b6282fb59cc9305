"""Where the last line that has an end ends, whatever the encoding."""

from __future__ import annotations

import json
from typing import BinaryIO

from producers.formats import FileOptions
from producers.formats.lines import unmarked

_BLOCK = 1 << 20
_LONGEST = 64 * _BLOCK
"""Bytes without a line end after which there is none."""


def end_of_last_line(content: BinaryIO, size: int, options: FileOptions) -> int:
    """How many bytes of a file are whole lines.

    Args:
        content: The file.
        size: Its bytes.
        options: Those of its reader, which may name its encoding.
    """
    ends = _line_ends(content, options)
    width = len(ends[0])
    at = size - size % width
    while at:
        start = max(0, at - _BLOCK)
        content.seek(start)
        block = content.read(at - start)
        found = max(_last(block, end) for end in ends)
        if found >= 0:
            return start + found + width
        if size - start > _LONGEST:
            return 0
        at = start
    return 0


def _last(block: bytes, end: bytes) -> int:
    """The last place of a line end among whole characters; -1 where there is none."""
    found = block.rfind(end)
    while found > 0 and found % len(end):
        found = block.rfind(end, 0, found + len(end) - 1)
    return found


def _line_ends(content: BinaryIO, options: FileOptions) -> tuple[bytes, ...]:
    content.seek(0)
    start = content.read(4)
    said = getattr(options, "encoding", None) or json.detect_encoding(start)
    encoding = unmarked(said, start)
    return "\n".encode(encoding), "\r".encode(encoding)
