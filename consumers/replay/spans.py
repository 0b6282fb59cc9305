"""Offsets of one partition, half-open: what is read again, what is kept, what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ducklake.records import OffsetRange


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


def shares(stretches: Iterable[Stretch], workers: int) -> list[Stretch]:
    """Cut stretches so that all workers have about the same to do, and no piece is empty."""
    whole = [stretch for stretch in stretches if len(stretch)]
    if not whole:
        return []
    piece = max(1, -(-sum(map(len, whole)) // (workers * max(1, -(-len(whole) // workers)))))
    cut = []
    for stretch in whole:
        pieces = max(1, round(len(stretch) / piece))
        step = -(-len(stretch) // pieces)
        for first in range(stretch.first, stretch.end, step):
            cut.append(Stretch(stretch.partition, first, min(stretch.end, first + step)))
    return sorted(cut, key=len, reverse=True)


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


def gaps(covered: Sequence[OffsetRange], stretch: Stretch) -> list[Stretch]:
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
