"""What a verification finds."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN = 5
"""Differences of one kind in one table that are listed."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it should be.

    Attributes:
        table: The topic.
        kind: missing-file, damaged-file, unknown-file, gap, overlap, position, row-count, repeated,
            stray, misplaced, kafka-missing, kafka-extra, kafka-differs.
        where: File, or partition and offsets.
        detail: What was expected and what was found.
    """

    table: str
    kind: str
    where: str
    detail: str
