"""Where the last line that has an end ends, whatever the encoding."""

from __future__ import annotations

import codecs
import json
from typing import BinaryIO

from producers.formats import FileOptions

_BLOCK = 1 << 20
_LONGEST = 64 * _BLOCK
"""Bytes without a line end after which there is none."""
_MARKED = {
    "utf-16": ((codecs.BOM_UTF16_BE, "utf-16-be"), (b"", "utf-16-le")),
    "utf-32": ((codecs.BOM_UTF32_BE, "utf-32-be"), (b"", "utf-32-le")),
    "utf-8-sig": ((b"", "utf-8"),),
}
"""Encodings whose own encoder would write a byte order mark, by the mark of the file."""


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
    said = getattr(options, "encoding", None)
    if said is None:  # JSON tells it by its first bytes, and may have a \r within a record
        return ("\n".encode(_unmarked(json.detect_encoding(start), start)),)
    encoding = _unmarked(said, start)
    return "\n".encode(encoding), "\r".encode(encoding)


def _unmarked(encoding: str, start: bytes) -> str:
    name = codecs.lookup(encoding).name
    for mark, unmarked in _MARKED.get(name, ()):
        if start.startswith(mark):
            return unmarked
    return name
