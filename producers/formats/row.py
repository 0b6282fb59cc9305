"""What readers hand out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number in the file (1-based, header not counted) and its values."""

    number: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be parsed: its bytes as far as they are known, and the reason."""

    number: int
    payload: bytes
    reason: str


class UnreadableFile(Exception):
    """The whole file cannot be parsed; the message says why, without its contents."""
