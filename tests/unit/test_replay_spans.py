"""Arithmetic of offsets: nothing is read twice, left out, or taken for another."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from consumers.replay.offset_ranges import Bounds, OffsetSpan, outside, runs, shares, uncovered
from lake.records import OffsetRange

ID = "a" * 32
OFFSETS = st.integers(0, 60)
SPANS = st.builds(lambda first, size: OffsetSpan(0, first, first + size), OFFSETS, OFFSETS)
RANGES = st.builds(
    lambda first, size: OffsetRange(ID, 0, first, first + size, 1), OFFSETS, st.integers(0, 20)
)


def offsets(*listed_of: OffsetSpan | OffsetRange) -> list[int]:
    listed: list[int] = []
    for s in listed_of:
        listed += range(s.first, s.next_offset if isinstance(s, OffsetRange) else s.end)
    return listed


@given(
    sizes=st.lists(st.tuples(OFFSETS, st.integers(0, 500)), max_size=6),
    workers=st.integers(1, 8),
    least=st.integers(1, 300),
)
def test_shares_are_everything_once_and_about_equal(
    sizes: list[tuple[int, int]], workers: int, least: int
) -> None:
    spans = [OffsetSpan(p, first, first + size) for p, (first, size) in enumerate(sizes)]
    pieces = shares(spans, workers, least)
    assert all(len(piece) for piece in pieces)
    for span in spans:
        mine = [piece for piece in pieces if piece.partition == span.partition]
        assert sorted(offsets(*mine)) == offsets(span)
    if pieces:
        # One worker is never left with most of it: pieces are no larger than two fair ones.
        total = sum(map(len, spans))
        fair = -(-total // workers)
        assert max(map(len, pieces)) <= max(2 * fair, 1)
        assert len(pieces) >= min(workers, total) or fair == 1


@given(covered=st.lists(RANGES, max_size=6), span=SPANS)
@example(covered=[OffsetRange(ID, 0, 1, 1, 1)], span=OffsetSpan(0, 0, 3))
def test_uncovered_offsets_are_what_nothing_covers(
    covered: list[OffsetRange], span: OffsetSpan
) -> None:
    found = uncovered(covered, span)
    assert all(len(gap) for gap in found)
    assert offsets(*found) == sorted(set(offsets(span)) - set(offsets(*covered)))
    assert all(one.end < other.first for one, other in pairwise(found))


@given(whole=RANGES, span=SPANS)
def test_outside_is_the_rest_of_a_range(whole: OffsetRange, span: OffsetSpan) -> None:
    parts = outside(whole, span)
    assert offsets(*parts) == sorted(set(offsets(whole)) - set(offsets(span)))
    # Only a whole range knows its rows.
    assert all(part == whole or part.rows == -1 for part in parts)


@given(offsets=st.sets(OFFSETS), present=st.sets(OFFSETS))
def test_runs_hold_all_that_is_missing_and_nothing_that_is_there(
    offsets: set[int], present: set[int]
) -> None:
    missing, there = sorted(offsets - present), sorted(present)
    found = runs(missing, there)
    within = [o for first, last in found for o in range(first, last + 1)]
    assert set(missing) <= set(within) and not set(within) & set(there)
    assert len(within) == len(set(within))
    # As few as can be: between two runs there is something.
    for (_, last), (first, _) in pairwise(found):
        assert any(last < o < first for o in there)


@given(first=OFFSETS, end=st.one_of(st.none(), OFFSETS), position=OFFSETS)
def test_bounds_never_reach_beyond_the_position(first: int, end: int | None, position: int) -> None:
    found = Bounds({0: first}, {0: end}).until(0, position)
    wanted = [o for o in range(position) if o >= first and (end is None or o < end)]
    assert offsets(found) == wanted
