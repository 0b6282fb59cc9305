"""Offsets of one partition, half-open: what is read again, what is kept, what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lake.records import OffsetRange


@dataclass(frozen=True, slots=True)
class OffsetSpan:
    """Offsets `first` to `end` of a partition; `end` is not one of them."""

    partition: int
    first: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.first)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What somebody asked to be read again in each partition; None is open."""

    first: Mapping[int, int]
    end: Mapping[int, int | None]

    def until(self, partition: int, position: int) -> OffsetSpan:
        """The span that lies before a position."""
        first = self.first.get(partition, 0)
        end = self.end.get(partition)
        return OffsetSpan(
            partition, first, max(first, position if end is None else min(end, position))
        )


def shares(spans: Iterable[OffsetSpan], workers: int, least: int = 1) -> list[OffsetSpan]:
    """Cut spans into pieces, to be taken in their order by workers that are free.

    The first ones are large and the last ones small, so that all end at about the same time.

    Args:
        spans: What there is to do.
        workers: How many share it.
        least: No piece need be smaller; there are enough for all workers all the same.
    """
    whole = sorted((s for s in spans if len(s)), key=len, reverse=True)
    left = sum(map(len, whole))
    least = max(1, min(least, left // (2 * workers)))
    pieces = []
    for span in whole:
        at = span.first
        while at < span.end:
            size = max(least, left // (2 * workers))
            end = at + size
            if span.end - end < size // 2:  # a rest that is not worth a piece of its own
                end = span.end
            pieces.append(OffsetSpan(span.partition, at, end))
            left -= end - at
            at = end
    return pieces


def outside(offset_range: OffsetRange, span: OffsetSpan) -> list[OffsetRange]:
    """What of a range is not in a span; the rows of a part are not known and -1."""
    if not len(span) or offset_range.next_offset <= span.first or offset_range.first >= span.end:
        return [offset_range]
    parts = ((offset_range.first, span.first - 1), (span.end, offset_range.last))
    return [
        OffsetRange(offset_range.topic_id, offset_range.partition, first, last, -1)
        for first, last in parts
        if first <= last
    ]


def uncovered(covered: Sequence[OffsetRange], span: OffsetSpan) -> list[OffsetSpan]:
    """What of a span no range covers; the ranges are of its partition."""
    found, at = [], span.first
    for committed in sorted(covered, key=lambda s: s.first):
        if at < min(committed.first, span.end):
            found.append(OffsetSpan(span.partition, at, min(committed.first, span.end)))
        at = max(at, committed.next_offset)
    if at < span.end:
        found.append(OffsetSpan(span.partition, at, span.end))
    return found


def runs(offsets: Sequence[int], present: Sequence[int]) -> list[tuple[int, int]]:
    """Runs (first, last) of missing offsets between which no present one lies.

    Args:
        offsets: What is missing, ascending.
        present: What is there, ascending.
    """
    found: list[tuple[int, int]] = []
    at = 0
    for offset in offsets:
        before = at
        while at < len(present) and present[at] < offset:
            at += 1
        if found and at == before:
            found[-1] = (found[-1][0], offset)
        else:
            found.append((offset, offset))
    return found
