"""What a step costs the ledger is the same on the first day and after years (promise 12).

Counted in steps of SQLite's machine, not in time: two ledgers, one with a hundred times the history
of the other, and the same step in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lake.formats import CompactionIntent, PlannedFile
from lake.ledger import Ledger
from lake.ledger.statements import add_file
from lake.records import OffsetRange
from lake.storage.parquet_files import WrittenFile
from lake.storage.paths import LakePaths, SealedName
from lake.storage.schema import Schema

TOPIC, ID = "shop.orders", "a" * 32
SHORT, LONG = 300, 30_000
COMMITS_A_FILE, OFFSETS, PARTITIONS = 100, 10, 2
GRAIN = 10


class Lake:
    """A ledger with so many commits behind it, all of them public, and two that are hot."""

    def __init__(self, folder: Path, commits: int) -> None:
        self.ledger = Ledger(LakePaths(folder))
        self.ledger.tables.open(TOPIC, ID, PARTITIONS)
        self._write_history(commits)
        self.end = commits * OFFSETS
        for _ in range(2):
            self.commit()

    def _write_history(self, commits: int) -> None:
        db = self.ledger._core.db
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for number in range(1, commits + 1):
            db.execute(
                "INSERT INTO commits VALUES (?, ?, 0, 'x', 0, ?, 0)",
                (number, TOPIC, PARTITIONS * OFFSETS),
            )
            db.execute(
                "INSERT INTO dead_letters VALUES (?, 0, ?, 2, ?, ?, ?, ?, 'x', 9, 'dropped')",
                (TOPIC, ID, number, number, number, TOPIC),
            )
            for partition in range(PARTITIONS):
                first = (number - 1) * OFFSETS
                db.execute(
                    "INSERT INTO ranges VALUES (?, 0, ?, ?, ?, ?, ?, ?)",
                    (TOPIC, ID, partition, first, first + OFFSETS - 1, OFFSETS, number),
                )
        for begin in range(1, commits + 1, COMMITS_A_FILE):
            numbers = range(begin, min(begin + COMMITS_A_FILE, commits + 1))
            for partition in range(PARTITIONS):
                file = WrittenFile(Path(), 1, "sha", len(numbers) * OFFSETS)
                first, last = (begin - 1) * OFFSETS, numbers[-1] * OFFSETS - 1
                path = f"raw/shop/orders/{SealedName(ID, partition, first, last).name()}"
                add_file(db, (TOPIC, 0), "sealed", path, file, numbers, 0.0)
        for partition in range(PARTITIONS):
            place = (TOPIC, ID, partition, commits * OFFSETS)
            db.execute("INSERT INTO positions VALUES (?, 0, ?, ?, ?)", place)
        db.execute("COMMIT")

    def commit(self) -> int:
        state = self.ledger.tables.get(TOPIC)
        assert state is not None
        spans = [
            OffsetRange(ID, partition, at, at + OFFSETS - 1, OFFSETS)
            for partition, at in state.positions.items()
        ]
        path = self.ledger.paths.root / f"hot/shop/orders/{spans[0].first}.parquet"
        file = WrittenFile(path, 1, "sha", PARTITIONS * OFFSETS)
        starts = dict(state.positions)
        return self.ledger.commits.add(state, "s", spans, starts, file, Schema())

    def seal(self) -> None:
        """What a compaction asks and says, of the files that are hot."""
        ledger = self.ledger
        hot = ledger.files.hot(TOPIC)
        ids = tuple(file.file_id for file in hot)
        assert len(ids) == 2 and set(ledger.files.topic_ids(ids).values()) == {ID}
        spans = ledger.offsets.of_files(ids)
        own = [span for _, span in spans if span.partition == 0]
        assert ledger.offsets.without_rows(TOPIC, 0, own) == []
        commits = tuple(sorted({number for number, _ in spans}))
        places = ("staging/s/x.parquet", "raw/shop/orders/new.parquet")
        output = PlannedFile(*places, 20, 1, "sha", commits)
        ledger.compactions.record_intent(TOPIC, 0, CompactionIntent(ids, (output,)))
        [found] = ledger.compactions.open()
        ledger.compactions.flip(found.number, found.topic, found.intent)
        for file in ledger.files.obsolete(1e12):
            ledger.files.forget(file.file_id)

    def steps_of(self, action: Callable[[Lake], object]) -> int:
        """Steps of SQLite's machine that something takes."""
        ticks = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1

        self.ledger._core.db.set_progress_handler(tick, GRAIN)
        try:
            action(self)
        finally:
            self.ledger._core.db.set_progress_handler(None, GRAIN)
        return ticks * GRAIN


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lake, Lake]]:
    made = [Lake(tmp_path_factory.mktemp("lake"), commits) for commits in (SHORT, LONG)]
    yield made[0], made[1]
    for lake in made:
        lake.ledger.close()


def _what_is_new(lake: Lake) -> None:
    last = lake.ledger.commits.last()
    assert len(lake.ledger.files.new_rows(TOPIC, last - 2, last)) >= 1
    assert lake.ledger.commits.newest_time(TOPIC) is not None


def _around(lake: Lake, at: int) -> None:
    span = OffsetRange(ID, 0, at, at + 2 * OFFSETS - 1, 0)
    assert len(lake.ledger.offsets.within(TOPIC, 0, span)) == 3
    assert lake.ledger.files.within(TOPIC, 0, span)


def _pin(lake: Lake) -> None:
    lake.ledger.pins.pin("reader")
    assert lake.ledger.pins.all()
    lake.ledger.pins.unpin("reader")


def _how_many(lake: Lake) -> None:
    rows = (lake.end + 2 * OFFSETS) * PARTITIONS
    assert lake.ledger.offsets.row_count(TOPIC) >= rows
    assert lake.ledger.offsets.row_count(TOPIC, lake.ledger.commits.last() - 1) >= rows - 20


def _join(lake: Lake) -> None:
    """The last files' ranges; in a ledger that was joined before, but for these."""
    newest = lake.ledger.commits.newest_number()
    lake.ledger.joins.step(TOPIC, newest - 150, lambda session: False)


def _dead_letters(lake: Lake) -> None:
    letters = lake.ledger.dead_letters
    usage = letters.usage(TOPIC, 1e9)
    assert (usage.rows, usage.recent) == (0, 0)
    assert letters.dropped()[TOPIC] >= SHORT and letters.counts() == {}
    assert letters.count(TOPIC) == letters.rejected(TOPIC) == 0


STEPS: dict[str, Callable[[Lake], object]] = {
    "a commit": Lake.commit,
    "what is new": _what_is_new,
    "a stretch near the end": lambda lake: _around(lake, lake.end - 3 * OFFSETS + 5),
    "a stretch in the middle": lambda lake: _around(lake, lake.end // 2 + 5),
    "how many rows": _how_many,
    "a pin": _pin,
    "ranges joined": _join,
    "the limits of dead letters": _dead_letters,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_costs_the_same_after_years(step: str, lakes: tuple[Lake, Lake]) -> None:
    few, many = (lake.steps_of(STEPS[step]) for lake in lakes)
    assert 0 < many <= 1.5 * few + 10 * GRAIN, f"{many} steps after {LONG} commits, {few} before"


def test_a_compaction_costs_the_same_after_years(tmp_path: Path) -> None:
    found = []
    for commits in (SHORT, LONG):
        lake = Lake(tmp_path / str(commits), commits)
        with lake.ledger:
            found.append(lake.steps_of(Lake.seal))
    few, many = found
    assert 0 < many <= 1.5 * few + 10 * GRAIN, f"{many} steps after {LONG} commits, {few} before"
