"""When to flush, and what is lost: decisions on values, without I/O.

The clock is passed in, in seconds; positions and offsets are Kafka's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lake.config import Consumer

MESSAGE_BYTES = 1024
"""What a message takes in memory in addition to its value, about."""
FLUSH_SHARE = 0.2
"""Of a worker's time, for flushes before the age limit."""
PAUSE_SECONDS = 0.15
"""Between two flushes of a table before the age limit: each makes a file."""


@dataclass(frozen=True, slots=True)
class BufferSize:
    """What a table's buffer holds: rows, bytes of values, and the age of its oldest in seconds."""

    rows: int
    bytes: int
    age: float

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes, about."""
        return self.bytes + self.rows * MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Watermarks:
    """A partition in Kafka: the oldest offset still there, and the next one to be written."""

    low: int
    high: int


MOST_FLUSH_SECONDS = 2.0
"""What one flush takes, about: all other tables wait meanwhile."""
LEAST_FLUSH_BYTES = 2 * 1024 * 1024
"""Of a table whose speed is not known; decoding this takes some seconds at the worst."""
LARGE_ROW_BYTES = 4 * 1024
"""A row of so many bytes may be one of very many columns, which are slow to decode."""


class FlushPace:
    """When a table may be flushed before its records have reached the age limit.

    A flush costs some milliseconds whatever is in it. Flushes may take a share of a worker's time:
    a quiet table is flushed at once, a busy one as often as that share allows, and where a worker
    catches up, or flushes are slow, rows, bytes and age alone decide.
    """

    def __init__(self) -> None:
        self._last_at: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._rates: dict[str, tuple[float, float]] = {}

    def flushed(self, table: str, size: BufferSize, began: float, ended: float) -> None:
        """Take note of a flush of so much."""
        self._took[table], self._last_at[table] = ended - began, ended
        if size.rows and size.bytes >= LEAST_FLUSH_BYTES // 2:
            rate = size.bytes / max(ended - began, 0.001)
            self._rates[table] = rate, size.bytes / size.rows

    def allows(self, table: str, now: float, active: int, size: BufferSize) -> bool:
        """Whether a table may be flushed now.

        Args:
            table: Its topic.
            now: The moment.
            active: How many tables have something to flush: all of them share the worker's time.
            size: What it has.
        """
        if size.bytes >= self._most_bytes(table, size):
            return True
        pause = max(PAUSE_SECONDS, self._took.get(table, 0.0) * active / FLUSH_SHARE)
        return now - self._last_at.get(table, -math.inf) >= pause

    def _most_bytes(self, table: str, size: BufferSize) -> float:
        """What of a table's large rows one flush may take: others wait no longer than a while."""
        row = size.bytes / max(1, size.rows)
        if row < LARGE_ROW_BYTES:
            return math.inf
        rate, usual_row = self._rates.get(table, (0.0, row))
        if row > 4 * usual_row:  # they are others than before
            rate = 0.0
        return max(LEAST_FLUSH_BYTES, rate * MOST_FLUSH_SECONDS)


def flush_is_due(buffer: BufferSize, limits: Consumer, allowed: bool = False) -> bool:
    """Whether a table's buffer must become a hot file: by rows, bytes or age, or if it may be."""
    return buffer.rows > 0 and (
        allowed
        or buffer.rows >= limits.flush_rows
        or buffer.bytes >= limits.flush_mb * 1024 * 1024
        or buffer.age >= limits.flush_seconds
    )


def over_memory_limit(sizes: Mapping[str, BufferSize], limits: Consumer) -> list[str]:
    """The largest of several tables' buffers: without them, the rest is within the memory limit.

    Together they may hold as much as two tables: memory must not grow with the number of tables.
    """
    held = sum(size.memory for size in sizes.values())
    found = []
    for table in sorted(sizes, key=lambda name: -sizes[name].memory):
        if held <= 2 * limits.flush_mb * 1024 * 1024:
            break
        held -= sizes[table].memory
        found.append(table)
    return found


def lost_offsets(position: int | None, marks: Watermarks) -> range | None:
    """Offsets that retention removed before they were read; None where nothing is lost.

    A partition that was never read starts at the oldest offset there is. A topic that expired to
    its end while everything in it had been read has lost nothing.
    """
    if position is None or position >= marks.low:
        return None
    return range(position, marks.low)


def all_read(positions: Mapping[int, int], goals: Mapping[int, int]) -> bool:
    """Whether every partition has been read up to its goal."""
    return all(positions.get(partition, -1) >= goal for partition, goal in goals.items())
