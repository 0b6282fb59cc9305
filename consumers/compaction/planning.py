"""When to seal and what to merge: decisions on values, without I/O.

The clock is passed in, in seconds of the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from lake.config import Consumer
from lake.ledger import LakeFile
from lake.records import OffsetRange

MERGED_FILES = 64
MERGED_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DatePart:
    """The rows of one public file: of a partition and a date.

    Attributes:
        last: The last offset among them.
        offset_ranges: The ranges of their commits, which other dates may have rows of as well.
    """

    partition: int
    day: date
    last: int
    offset_ranges: tuple[OffsetRange, ...]


def seal_is_due(hot: Sequence[LakeFile], now: float, limits: Consumer, force: bool) -> bool:
    """Whether a table's hot files must become public: by size, age, or because it was asked."""
    if not hot:
        return False
    oldest = min(file.created_at for file in hot)
    return (
        force
        or sum(file.bytes for file in hot) >= limits.target_file_mb * 1024 * 1024
        # A file from the future: the clock was set back, and its age means nothing.
        or not 0 <= now - oldest < limits.seal_max_age_seconds
        or utc_day(oldest) < utc_day(now)
    )


def utc_day(moment: float) -> int:
    """The number of the UTC day that holds a moment (seconds since the epoch)."""
    return int(moment // 86_400)


def merge_is_due(hot: Sequence[LakeFile]) -> list[LakeFile]:
    """The small hot files of a table, once they are so many that readers feel it; else none."""
    small = [file for file in hot if file.bytes < MERGED_BYTES]
    return small if len(small) >= MERGED_FILES else []
