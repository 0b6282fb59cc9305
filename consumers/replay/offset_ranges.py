"""Offsets of one partition, half-open: what is read again, what is kept, what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lake.records import OffsetRange


@dataclass(frozen=True, slots=True)
class Stretch:
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

    def until(self, partition: int, position: int) -> Stretch:
        """The stretch that lies before a position."""
        first = self.first.get(partition, 0)
        end = self.end.get(partition)
        return Stretch(
            partition, first, max(first, position if end is None else min(end, position))
        )


def shares(stretches: Iterable[Stretch], workers: int, least: int = 1) -> list[Stretch]:
    """Cut stretches into pieces, to be taken in their order by workers that are free.

    The first ones are large and the last ones small, so that all end at about the same time.

    Args:
        stretches: What there is to do.
        workers: How many share it.
        least: No piece need be smaller; there are enough for all workers all the same.
    """
    whole = sorted((s for s in stretches if len(s)), key=len, reverse=True)
    left = sum(map(len, whole))
    least = max(1, min(least, left // (2 * workers)))
    pieces = []
    for stretch in whole:
        at = stretch.first
        while at < stretch.end:
            size = max(least, left // (2 * workers))
            end = at + size
            if stretch.end - end < size // 2:  # a rest that is not worth a piece of its own
                end = stretch.end
            pieces.append(Stretch(stretch.partition, at, end))
            left -= end - at
            at = end
    return pieces


def outside(span: OffsetRange, stretch: Stretch) -> list[OffsetRange]:
    """What of a range is not in a stretch; the rows of a part are not known and -1."""
    if not len(stretch) or span.next_offset <= stretch.first or span.first >= stretch.end:
        return [span]
    parts = ((span.first, stretch.first - 1), (stretch.end, span.last))
    return [
        OffsetRange(span.topic_id, span.partition, first, last, -1)
        for first, last in parts
        if first <= last
    ]


def uncovered_ranges(covered: Sequence[OffsetRange], stretch: Stretch) -> list[Stretch]:
    """What of a stretch no range covers; the ranges are of its partition."""
    found, at = [], stretch.first
    for span in sorted(covered, key=lambda s: s.first):
        if at < min(span.first, stretch.end):
            found.append(Stretch(stretch.partition, at, min(span.first, stretch.end)))
        at = max(at, span.next_offset)
    if at < stretch.end:
        found.append(Stretch(stretch.partition, at, stretch.end))
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
