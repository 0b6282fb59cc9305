"""What readers hand out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ROW_BYTES = 8 * 1024 * 1024
"""Of a row as JSON: a larger one fits in no message."""


class Row(NamedTuple):
    """A row: its number in the file (1-based, header not counted) and its values.

    `line` is where it begins as an editor counts, or its row of the sheet; 0 where it has none.
    """

    number: int
    values: Mapping[str, Any]
    line: int = 0


class BadRow(NamedTuple):
    """A row that cannot be parsed: its bytes as far as they are known, and the reason."""

    number: int
    payload: bytes
    reason: str
    line: int = 0


class UnreadableFile(Exception):
    """The whole file cannot be parsed.

    Args:
        what: Why, without its contents.
        remedy: What the reader should do about it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}" if self.remedy else self.what


class UnfinishedFile(UnreadableFile):
    """It ends in the middle: a writer may still be at it."""
