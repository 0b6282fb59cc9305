"""Which ranges become one: decisions on values, without I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from pathlib import PurePath

from lake.records import OffsetRange
from lake.storage.paths import SealedName

MOST_OFFSETS = 100_000
"""A backfill or a redrive that cuts a range counts the rows in it: they must fit into memory."""


@dataclass(frozen=True, slots=True)
class HeldRange:
    """A range with its commit, and where its rows are.

    Attributes:
        file: The public file that holds all of its rows; 0: it has none.
        has_files: Whether its commit has rows elsewhere.
        is_fixed: It stays as it is: its rows are in a private file or in several ones.
    """

    span: OffsetRange
    commit: int
    file: int
    has_files: bool
    is_fixed: bool


def placed(
    span: OffsetRange, number: int, files: Sequence[tuple[int, str, str]], is_kept: bool
) -> HeldRange:
    """A range and where its rows are.

    Args:
        span: The range.
        number: Its commit.
        files: (id, tier, path) of the live files that hold rows of the commit.
        is_kept: Whether it stays as it is in any case.
    """
    hot = any(tier == "hot" for _, tier, _ in files)
    mine = [
        file_id
        for file_id, tier, path in files
        if tier != "hot" and _partition_of(path) == span.partition
    ]
    has_rows_nowhere = span.rows > 0 and not mine
    is_fixed = is_kept or hot or len(mine) > 1 or has_rows_nowhere
    return HeldRange(span, number, mine[0] if len(mine) == 1 else 0, bool(files), is_fixed)


@lru_cache(maxsize=4096)
def _partition_of(path: str) -> int:
    return SealedName.parse(PurePath(path).name).partition


def runs_of(ranges: Iterable[HeldRange]) -> Iterator[Sequence[HeldRange]]:
    """Ranges that become one: they meet, and one file holds their rows.

    Args:
        ranges: In the order of topic ids, partitions and offsets.
    """
    place = attrgetter("span.topic_id", "span.partition")
    for _, group in groupby(ranges, place):
        yield from _runs_of_partition(group)


class _Run:
    """Neighbouring ranges that may become one.

    Attributes:
        ranges: In their order.
        file: The one that holds their rows; 0: they have none.
    """

    def __init__(self) -> None:
        self.ranges: list[HeldRange] = []
        self.file = 0
        self._newest = 0
        self._newest_without_rows = 0

    def add(self, held: HeldRange) -> None:
        self.ranges.append(held)
        self.file = self.file or held.file
        self._newest = max(self._newest, held.commit)
        if not held.file:
            self._newest_without_rows = max(self._newest_without_rows, held.commit)

    def meets(self, held: HeldRange) -> bool:
        return not self.ranges or self.ranges[-1].span.next_offset == held.span.first

    def may_grow_by(self, held: HeldRange, loose: _Run) -> bool:
        """Whether a range belongs to it, and with it those without a row in between.

        Those without a row only where all of them stand in the same footers, or where a later
        commit has the rows behind them: as the highest commit they would seem to have a file.
        """
        first = (self.ranges or loose.ranges or [held])[0]
        if held.span.last - first.span.first >= MOST_OFFSETS:
            return False
        if not held.file:
            return not self.ranges or self.ranges[-1].has_files == held.has_files
        older = max(self._newest, loose._newest)
        without_rows = max(self._newest_without_rows, loose._newest)
        return self.file in (0, held.file) and without_rows < max(held.commit, older)

    def extend(self, other: _Run) -> None:
        for held in other.ranges:
            self.add(held)


def _runs_of_partition(ranges: Iterable[HeldRange]) -> Iterator[Sequence[HeldRange]]:
    run = _Run()
    # Without a row, and not known yet what follows: the footer of the file behind them names them.
    loose = _Run()
    for held in ranges:
        if held.is_fixed or not (loose if loose.ranges else run).meets(held):
            yield from (run.ranges, loose.ranges)
            run, loose = _Run(), _Run()
        if held.is_fixed:
            continue
        if not held.file:
            if not loose.may_grow_by(held, _Run()):
                yield from (run.ranges, loose.ranges)
                run, loose = _Run(), _Run()
            loose.add(held)
            continue
        if not run.ranges or not run.may_grow_by(held, loose):
            yield run.ranges
            run = _Run()
            if not run.may_grow_by(held, loose):
                yield loose.ranges
                loose = _Run()
        run.extend(loose)
        run.add(held)
        loose = _Run()
    yield from (run.ranges, loose.ranges)
