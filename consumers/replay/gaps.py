"""Which offsets a backfill commits: what no range covers, and within ranges what is missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from consumers.replay.offset_ranges import OffsetSpan, runs, uncovered
from lake.ledger import Gap
from lake.records import OffsetRange

Present = Callable[[OffsetRange], Sequence[int]]
"""The offsets of a range that the lake has rows of, ascending."""


def gaps_of(
    span: OffsetSpan,
    topic_id: str,
    covered: Sequence[OffsetRange],
    rows: Collection[int],
    dead_letters: Collection[int],
    present: Present,
) -> list[Gap]:
    """The gaps of a span, to be committed.

    Args:
        span: The offsets that were compared.
        topic_id: Of its topic.
        covered: The committed ranges in it.
        rows: Offsets of rows that the lake lacks.
        dead_letters: Offsets of dead letters that it lacks.
        present: Asked for a range within which something is missing: that range is cut.
    """
    open_spans = uncovered(covered, span)
    gaps = [Gap(_counted(s, topic_id, rows)) for s in open_spans]
    inside = sorted(
        o for o in {*rows, *dead_letters} if not any(s.first <= o < s.end for s in open_spans)
    )
    return gaps + cuts_of(covered, inside, rows, present)


def cuts_of(
    covered: Sequence[OffsetRange], inside: Sequence[int], rows: Collection[int], present: Present
) -> list[Gap]:
    """The gaps within committed ranges alone; what no range covers stays as it is.

    Args:
        covered: Committed ranges of one partition.
        inside: Offsets that are committed now, ascending; those in no range are left alone.
        rows: Which of them are rows.
        present: Asked for each range that is cut.
    """
    gaps = []
    for committed in covered:
        missing = [o for o in inside if committed.first <= o <= committed.last]
        if missing:
            gaps += _cut(committed, missing, rows, present(committed))
    return gaps


def _cut(
    committed: OffsetRange, missing: Sequence[int], rows: Collection[int], present: Sequence[int]
) -> list[Gap]:
    """The gaps within a committed range; the first of them says what of it is kept."""
    partition, topic_id = committed.partition, committed.topic_id
    filled = [
        _counted(OffsetSpan(partition, first, last + 1), topic_id, rows)
        for first, last in runs(missing, present)
    ]
    whole = OffsetSpan(partition, committed.first, committed.next_offset)
    kept = tuple(_counted(s, topic_id, present) for s in uncovered(filled, whole))
    first, *others = filled
    return [Gap(first, (committed,), kept), *map(Gap, others)]


def _counted(span: OffsetSpan, topic_id: str, offsets: Collection[int]) -> OffsetRange:
    """A span as a range, with the number of these offsets that are in it."""
    rows = sum(span.first <= offset < span.end for offset in offsets)
    return OffsetRange(topic_id, span.partition, span.first, span.end - 1, rows)
