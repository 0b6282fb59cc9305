"""When to flush, and what is lost: decisions on values, without I/O.

The clock is passed in, in seconds; positions and offsets are Kafka's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lake.config import Consumer

MESSAGE_BYTES = 1024
"""What a message takes in memory in addition to its value, about."""


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


def flush_is_due(buffer: BufferSize, limits: Consumer) -> bool:
    """Whether a table's buffer must become a hot file: by rows, bytes or age."""
    return buffer.rows > 0 and (
        buffer.rows >= limits.flush_rows
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
