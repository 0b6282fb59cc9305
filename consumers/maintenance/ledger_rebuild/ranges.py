"""The ranges that a table's files cover: what was filled in later cuts what was there before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pyarrow.parquet as pq

from consumers.maintenance.ledger_rebuild.found_files import FoundFile, count_rows, sums_of
from lake.records import OffsetRange


def ranges_of(files: Sequence[FoundFile]) -> list[OffsetRange]:
    """The ranges that the files cover: what was filled in later cuts what was there before."""
    have = sums_of(files)
    spans = sorted(have, key=lambda r: (r.topic_id, r.partition, r.first, r.last))
    if any(overlap(one, other) for one, other in pairwise(spans)):
        spans = _cut(files)
    return [
        OffsetRange(
            r.topic_id, r.partition, r.first, r.last, have[r] if r in have else _rows_in(r, files)
        )
        for r in spans
    ]


def _cut(files: Sequence[FoundFile]) -> list[OffsetRange]:
    """Ranges that overlap: the newer one cuts the older one."""
    written: dict[OffsetRange, int] = {}
    for file in files:
        for offset_range in file.counts:
            written[offset_range] = min(written.get(offset_range, file.after), file.after)
    placed: list[OffsetRange] = []
    for offset_range in sorted(written, key=lambda s: (written[s], s.first)):
        for old in [p for p in placed if overlap(p, offset_range)]:
            placed.remove(old)
            placed += _outside(old, offset_range)
        placed.append(offset_range)
    return sorted(placed, key=lambda r: (r.topic_id, r.partition, r.first))


def _rows_in(offset_range: OffsetRange, files: Iterable[FoundFile]) -> int:
    """Rows at the offsets of a range that no footer names."""
    found = 0
    for file in files:
        if any(overlap(offset_range, known) and n for known, n in file.counts.items()):
            places = pq.read_table(file.path, columns=["_partition", "_offset"])
            found += count_rows(places, [offset_range])[offset_range]
    return found


def overlap(one: OffsetRange, other: OffsetRange) -> bool:
    """Whether two ranges have an offset in common."""
    return (
        (one.topic_id, one.partition) == (other.topic_id, other.partition)
        and one.first <= other.last
        and other.first <= one.last
    )


def _outside(old: OffsetRange, new: OffsetRange) -> list[OffsetRange]:
    """What is left of a range around a newer one; its rows are not known."""
    sides = ((old.first, new.first - 1), (new.last + 1, old.last))
    return [
        OffsetRange(old.topic_id, old.partition, first, last, -1)
        for first, last in sides
        if first <= last
    ]
