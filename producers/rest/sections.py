"""A part of a file, read as if it were one."""

from __future__ import annotations

from typing import BinaryIO


class FileSection:
    """A part of a file, as a stream.

    Args:
        file: The file.
        start: Where the part begins.
        size: Its bytes.
    """

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._at, self._end = file, start, start, start + size

    def read(self, most: int = -1) -> bytes:
        """As a file does."""
        left = self._end - self._at
        self._file.seek(self._at)
        block = self._file.read(left if most < 0 else min(most, left))
        self._at += len(block)
        return block

    def seek(self, place: int) -> int:
        """Go to a place, counted from where the part begins."""
        self._at = min(self._start + place, self._end)
        return self._at - self._start
