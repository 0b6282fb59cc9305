"""Ranges that every reader has passed are joined, and every answer stays what it was (promise 12).

The oracle is a plain list of what was committed, which nobody joins.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import CommitConflict, CommitsJoined
from lake.formats import CompactionIntent, PlannedFile
from lake.ledger import NOW, Gap, Ledger, TableState
from lake.ledger import core as clock
from lake.ledger.joinable import placed
from lake.ledger.readers import ABSENT_SECONDS
from lake.records import OffsetRange
from lake.storage.parquet_files import WrittenFile
from lake.storage.paths import LakePaths, SealedName
from lake.storage.schema import Schema

TOPIC, ID, EMPTY = "shop.orders", "a" * 32, Schema()
Place = tuple[int, int]


@dataclass
class Lake:
    """A ledger, and a list of what was committed to it."""

    ledger: Ledger
    rows: dict[Place, int] = field(default_factory=dict)
    looked_to: int = 0
    files: int = 0

    @property
    def state(self) -> TableState:
        state = self.ledger.tables.get(TOPIC)
        assert state is not None
        return state

    def _file(self, rows: int) -> WrittenFile:
        self.files += 1
        path = self.ledger.paths.root / f"hot/shop/orders/{self.files}.parquet"
        return WrittenFile(path, 1, "sha", rows)

    def flush(self, offsets: dict[int, int], empty: bool = False, skip: int = 0) -> int:
        """Commit so many offsets of each partition; `empty`: none of them is a row.

        `skip` leaves a hole before them, as a ledger has that lost a commit.
        """
        state = self.state
        spans, starts = [], {}
        for partition, count in offsets.items():
            starts[partition] = state.positions.get(partition)
            first = state.positions.get(partition, 0) + skip
            rows = 0 if empty else count
            spans.append(OffsetRange(ID, partition, first, first + count - 1, rows))
        total = sum(s.rows for s in spans)
        file = self._file(total) if total else None
        number = self.ledger.commits.add(state, "s", spans, starts, file, EMPTY)
        for span in spans:
            if span.rows:
                self._are_there(span, number)
        return number

    def fill(self, span: OffsetRange) -> int:
        number = self.ledger.commits.backfill(
            self.state, "s", [Gap(span)], self._file(span.rows), EMPTY
        )
        self._are_there(span, number)
        return number

    def _are_there(self, span: OffsetRange, number: int) -> None:
        self.rows |= {(span.partition, o): number for o in range(span.first, span.last + 1)}

    def seal(self, most: int = 1000) -> None:
        """The oldest hot files become one public file of each partition."""
        ledger = self.ledger
        hot = ledger.files.hot(TOPIC)[:most]
        if not hot:
            return
        spans = ledger.offsets.of_files(f.file_id for f in hot)
        outputs = []
        for partition in sorted({s.partition for _, s in spans if s.rows}):
            own = [(n, s) for n, s in spans if s.partition == partition]
            name = SealedName(ID, partition, own[0][1].first, own[-1][1].last).name()
            final = f"raw/shop/orders/year=2026/month=01/day=0{1 + self.files % 9}/{name}"
            rows = sum(s.rows for _, s in own)
            numbers = tuple(dict.fromkeys(n for n, _ in own))
            outputs.append(PlannedFile("staging/x", final, rows, 1, "sha", numbers))
        intent = CompactionIntent(tuple(f.file_id for f in hot), tuple(outputs))
        number = ledger.compactions.record_intent(TOPIC, 0, intent)
        ledger.compactions.flip(number, TOPIC, intent)

    def join(self) -> int:
        joined = 0
        while True:
            step = self.ledger.joins.step(TOPIC, self.looked_to, lambda session: session == "live")
            self.looked_to, joined = step.looked_to, joined + step.joined
            if step.is_done:
                return joined

    def books(self, partition: int = 0) -> list[tuple[int, int, int]]:
        return [
            (r.first, r.last, r.rows)
            for r in self.ledger.offsets.history(TOPIC)
            if r.partition == partition
        ]

    def new(self, after: int, up_to: int) -> set[Place]:
        found = [
            (r.partition, o)
            for new in self.ledger.files.new_rows(TOPIC, after, up_to)
            for r in new.ranges
            if r.rows
            for o in range(r.first, r.last + 1)
            if (r.partition, o) in self.rows
        ]
        return set(found)

    def expected(self, after: int, up_to: int) -> set[Place]:
        return {place for place, number in self.rows.items() if after < number <= up_to}


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    with Ledger(LakePaths(tmp_path)) as ledger:
        ledger.tables.open(TOPIC, ID, 2)
        yield Lake(ledger)


def test_joined_commits_without_rows_hide_no_other_table_s_newest_commit(lake: Lake) -> None:
    """Offsets of markers and tombstones are committed, too; the newest rows may be another's."""
    ledger, other = lake.ledger, "shop.customers"
    lake.flush({0: 3})
    lake.flush({0: 1}, empty=True)
    state = ledger.tables.open(other, ID, 1)
    path = ledger.paths.root / "hot/shop/customers/1.parquet"
    rows = [OffsetRange(ID, 0, 0, 4, 5)]
    newest = ledger.commits.add(state, "s", rows, {0: None}, WrittenFile(path, 1, "sha", 5), EMPTY)
    lake.flush({0: 1}, empty=True)
    lake.seal()
    assert lake.join() > 0
    assert ledger.commits.last() == newest
    assert lake.new(0, newest) == lake.expected(0, newest)
    assert lake.new(newest, NOW) == set()


def test_ranges_of_one_public_file_that_meet_become_one(lake: Lake) -> None:
    for _ in range(5):
        lake.flush({0: 10, 1: 3})
    assert lake.join() == 0  # private files are sealed soon, with the ranges of their commits
    lake.seal()
    assert lake.join() == 8
    assert (lake.books(0), lake.books(1)) == ([(0, 49, 50)], [(0, 14, 15)])
    assert lake.ledger.offsets.row_count(TOPIC) == 65
    assert lake.new(0, NOW) == lake.expected(0, NOW)
    [one, other] = lake.ledger.files.contents(TOPIC, 0, 0, NOW)
    assert (one.commits, other.commits) == ((5,), (5,))


def test_what_is_missing_between_two_ranges_stays_visible(lake: Lake) -> None:
    lake.flush({0: 10})
    lake.flush({0: 10}, skip=2)
    lake.seal()
    before = lake.ledger.offsets.breaks(TOPIC)
    lake.join()
    assert lake.books() == [(0, 9, 10), (12, 21, 10)]
    assert lake.ledger.offsets.breaks(TOPIC) == before != []


def test_a_range_with_rows_in_two_files_stays_by_itself(lake: Lake) -> None:
    lake.flush({0: 10})
    number = lake.flush({0: 10})  # around midnight
    lake.flush({0: 10})
    lake.seal()
    db = lake.ledger._core.db
    name = f"raw/shop/orders/x/{SealedName(ID, 0, 15, 19).name()}"
    db.execute("INSERT INTO files SELECT 99, topic, generation, tier, ?, 5, 1, 's', 0, NULL FROM"
               " files WHERE tier = 'sealed'", (name,))  # fmt: skip
    db.execute("INSERT INTO file_commits VALUES (99, ?)", (number,))
    assert lake.join() == 0
    assert len(lake.books()) == 3


def test_a_range_stays_by_itself_while_its_commit_has_a_private_file() -> None:
    """As where the public file of its commit's other partition was lost, and written again."""
    public = f"raw/shop/orders/year=2026/month=01/day=01/{SealedName(ID, 0, 0, 9).name()}"
    span = OffsetRange(ID, 0, 0, 9, 10)
    files = [(1, "sealed", public)]
    assert not placed(span, 1, files, is_kept=False).is_fixed
    again = [*files, (2, "hot", "hot/shop/orders/s-1.parquet")]
    assert placed(span, 1, again, is_kept=False).is_fixed


def test_nothing_is_joined_that_a_reader_has_not_passed(lake: Lake) -> None:
    numbers = [lake.flush({0: 10}) for _ in range(6)]
    lake.seal()
    lake.ledger.readers.state("batch", numbers[2])
    lake.join()
    assert lake.books() == [(0, 29, 30), (30, 39, 10), (40, 49, 10), (50, 59, 10)]
    for after in (0, *numbers[2:]):
        assert lake.new(after, NOW) == lake.expected(after, NOW)
        assert lake.ledger.files.tells_apart(TOPIC, after, NOW)


def test_a_reader_that_comes_back_late_is_told_to_take_everything(lake: Lake) -> None:
    numbers = [lake.flush({0: 10}) for _ in range(4)]
    lake.seal()
    lake.ledger.readers.state("batch", numbers[3])
    lake.join()
    late = numbers[1]
    assert not lake.ledger.files.tells_apart(TOPIC, late, NOW)
    with pytest.raises(CommitsJoined, match="Take all rows"):
        lake.ledger.files.new_rows(TOPIC, late, NOW)
    with pytest.raises(CommitsJoined):
        lake.ledger.offsets.row_count(TOPIC, late)
    assert lake.new(0, NOW) == lake.expected(0, NOW)  # the remedy


def test_a_reader_that_is_silent_for_long_is_not_waited_for(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.flush({0: 10})
    lake.flush({0: 10})
    lake.seal()
    lake.ledger.readers.state("batch", 0)
    assert lake.join() == 0
    later = clock.now() + ABSENT_SECONDS + 1
    monkeypatch.setattr("lake.ledger.readers.now", lambda: later)
    assert lake.join() == 1


def test_what_a_pin_or_a_replay_looks_at_stays_as_it_is(lake: Lake) -> None:
    lake.flush({0: 10})
    lake.ledger.pins.pin("live")
    lake.flush({0: 10})
    lake.seal()
    assert lake.join() == 0
    lake.ledger.pins.unpin("live")
    with lake.ledger.readers.nothing_is_joined("live"):
        assert lake.join() == 0
    with lake.ledger.readers.nothing_is_joined("dead"):
        assert lake.join() == 1


def test_what_a_rebuild_takes_over_by_number_stays_as_it_is(lake: Lake) -> None:
    lake.flush({0: 10})
    lake.flush({0: 10})
    lake.seal()
    generation = lake.ledger.generations.begin(TOPIC, "live")
    assert lake.join() == 0
    assert lake.ledger.generations.drop_abandoned(TOPIC, generation, "live")
    assert lake.join() == 1


def test_offsets_without_a_row_go_with_the_rows_behind_them(lake: Lake) -> None:
    """The footer of the file behind them names them: a rebuild of the ledger knows them."""
    lake.flush({0: 10})
    lake.seal()
    lake.flush({0: 3}, empty=True)
    lake.flush({0: 4}, empty=True)
    lake.join()
    assert lake.books() == [(0, 9, 10), (10, 16, 0)]
    lake.flush({0: 5})
    lake.seal()
    lake.join()
    assert lake.books() == [(0, 9, 10), (10, 21, 5)]


def test_dead_letters_alone_do_not_let_the_ledger_grow(lake: Lake) -> None:
    for _ in range(1200):
        lake.flush({0: 1}, empty=True)
    lake.join()
    assert lake.books() == [(0, 1199, 0)]
    [(commits,)] = lake.ledger._core.db.execute("SELECT count(*) FROM commits").fetchall()
    assert commits == 1


def test_a_backfill_cuts_a_joined_range_and_is_new(lake: Lake) -> None:
    for _ in range(3):
        lake.flush({0: 10})
    lake.seal()
    lake.join()
    [whole] = list(lake.ledger.offsets.history(TOPIC))
    span = OffsetRange(ID, 0, 15, 15, 1)
    kept = (OffsetRange(ID, 0, 0, 14, 15), OffsetRange(ID, 0, 16, 29, 14))
    before = lake.ledger.commits.last()
    file = WrittenFile(lake.ledger.paths.root / "hot/f.parquet", 1, "s", 1)
    gap = Gap(span, (whole,), kept)
    lake.ledger.commits.backfill(lake.state, "s", [gap], file, EMPTY)
    assert lake.new(before, NOW) == {(0, 15)}
    assert lake.ledger.offsets.row_count(TOPIC) == 30
    with pytest.raises(CommitConflict):
        lake.ledger.commits.backfill(lake.state, "s", [gap], file, EMPTY)


def test_a_step_that_fails_half_way_has_changed_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        lake.flush({0: 10})
    lake.seal()

    class Killed(Exception):
        pass

    def killed(name: str) -> None:
        if name == "join.in_ledger":
            raise Killed

    before = lake.books()
    with monkeypatch.context() as patch:
        patch.setattr("lake.ledger.joining.failpoint", killed)
        with pytest.raises(Killed):
            lake.join()
    assert lake.books() == before
    assert lake.join() == 3


FLUSH = st.tuples(st.just("flush"), st.integers(1, 4), st.integers(0, 3), st.booleans())
STEP = st.one_of(
    FLUSH,
    FLUSH,
    st.tuples(st.just("hole"), st.integers(1, 4), st.just(1), st.just(False)),
    st.tuples(st.just("seal"), st.integers(1, 9), st.just(0), st.just(False)),
    st.tuples(st.just("join"), st.just(0), st.just(0), st.just(False)),
    st.tuples(st.just("fill"), st.just(0), st.just(0), st.just(False)),
    st.tuples(st.just("read"), st.just(0), st.just(0), st.just(False)),
)


@settings(deadline=None, max_examples=120)
@given(st.lists(STEP, max_size=40))
def test_every_answer_is_that_of_a_ledger_that_forgets_nothing(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder, Ledger(LakePaths(Path(folder))) as ledger:
        ledger.tables.open(TOPIC, ID, 2)
        lake = Lake(ledger)
        ledger.readers.state("reader", 0)
        passed = 0
        for kind, one, other, empty in [*steps, ("join", 0, 0, False)]:
            if kind == "flush":
                lake.flush({0: one} | ({1: other} if other else {}), empty=empty)
            elif kind == "hole":
                lake.flush({0: one}, skip=other)
            elif kind == "fill" and (gaps := ledger.offsets.breaks(TOPIC)):
                size = gaps[0].first - gaps[0].before
                last = gaps[0].first - 1
                lake.fill(OffsetRange(ID, gaps[0].partition, gaps[0].before, last, size))
            elif kind == "seal":
                lake.seal(one)
            elif kind == "read":
                passed = ledger.commits.last()
                ledger.readers.state("reader", passed)
            elif kind == "join":
                covered = _covered(lake)
                lake.join()
                assert _covered(lake) == covered
            _compare(lake, passed)


def _covered(lake: Lake) -> list[tuple[int, int]]:
    """Every offset that the ledger knows of, as often as it does."""
    return sorted(
        (r.partition, o)
        for r in lake.ledger.offsets.history(TOPIC)
        for o in range(r.first, r.last + 1)
    )


def _compare(lake: Lake, passed: int) -> None:
    newest = lake.ledger.commits.last()
    assert lake.new(0, NOW) == lake.expected(0, NOW)
    assert lake.ledger.offsets.row_count(TOPIC) == len(lake.rows)
    assert lake.new(passed, NOW) == lake.expected(passed, NOW)
    assert lake.ledger.offsets.row_count(TOPIC, passed) == len(lake.expected(0, passed))
    for after in range(1, newest):  # an answer that is right, or none
        if lake.ledger.files.tells_apart(TOPIC, after, NOW):
            assert lake.new(after, NOW) == lake.expected(after, NOW)
        else:
            assert after < passed
    with closing(sqlite3.connect(lake.ledger.paths.ledger)) as db:
        loose = db.execute(
            "SELECT count(*) FROM file_commits"
            " WHERE commit_no NOT IN (SELECT commit_no FROM ranges)"
        )
        assert loose.fetchone() == (0,)


FLUSHES, HOUR, ROWS_EACH = int(os.environ.get("LEDGER_FLUSHES", "100000")), 5_000, 20
MILLION = 1_000_000 // FLUSHES


def test_a_million_flushes_leave_a_ledger_below_50_mb(tmp_path: Path) -> None:
    """An always busy table of two partitions: what stays follows its files.

    Between the joins, which are real, an hour of flushes and its seal are written by SQL: through
    the ledger's own commits, each synced, a million would take an hour. A tenth of them is made
    here, and all by `make soak`; what the second half adds is no more than what the first one did.
    """
    with Ledger(LakePaths(tmp_path)) as ledger:
        ledger.tables.open(TOPIC, ID, 2)
        ledger._core.db.execute("PRAGMA synchronous = OFF")
        lake, sizes = Lake(ledger), []
        for first in range(0, FLUSHES, HOUR):
            _write_an_hour(ledger, first)
            ledger.readers.state("batch", first + HOUR - 1)
            lake.join()
            sizes.append(_used(ledger))
        middle = len(sizes) // 2
        first_half, second_half = sizes[middle] - sizes[0], sizes[-1] - sizes[middle]
        assert second_half <= first_half + (16 << 10)
        assert ledger.paths.ledger.stat().st_size + MILLION * second_half * 2 < 50 << 20
        files = 2 * FLUSHES // HOUR
        [(ranges,)] = ledger._core.db.execute("SELECT count(*) FROM ranges").fetchall()
        assert ranges <= files * (1 + HOUR * ROWS_EACH // 100_000)
        # The same answers: all rows, each place once, what is new, and what is missing.
        total = FLUSHES * ROWS_EACH
        assert ledger.offsets.row_count(TOPIC) == 2 * total
        assert ledger.offsets.row_count(TOPIC, FLUSHES - 1) == 2 * (total - ROWS_EACH)
        assert ledger.offsets.breaks(TOPIC) == []
        assert ledger.offsets.ends(TOPIC) == {(ID, 0): total, (ID, 1): total}
        [new, other] = ledger.files.new_rows(TOPIC, FLUSHES - 1, FLUSHES)
        assert {r for r in (*new.ranges, *other.ranges)} == {
            OffsetRange(ID, p, total - ROWS_EACH, total - 1, ROWS_EACH) for p in (0, 1)
        }
        everything = ledger.files.new_rows(TOPIC, 0, NOW)
        assert len(everything) == files
        assert sum(r.rows for r in {r for found in everything for r in found.ranges}) == 2 * total


def _used(ledger: Ledger) -> int:
    [(pages,)], [(free,)], [(size,)] = (
        ledger._core.db.execute(f"PRAGMA {name}").fetchall()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _write_an_hour(ledger: Ledger, done: int) -> None:
    """Flushes of both partitions, and the two public files that hold them."""
    db, numbers = ledger._core.db, range(done + 1, done + HOUR + 1)
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO commits (commit_no, topic, generation, session, committed_at, records)"
        f" VALUES (?, '{TOPIC}', 0, '0123456789abcdef', 1.8e9, {2 * ROWS_EACH})",
        ((n,) for n in numbers),
    )
    for partition in (0, 1):
        db.executemany(
            f"INSERT INTO ranges VALUES ('{TOPIC}', 0, '{ID}', {partition}, ?, ?, {ROWS_EACH}, ?)",
            (((n - 1) * ROWS_EACH, n * ROWS_EACH - 1, n) for n in numbers),
        )
        name = SealedName(ID, partition, done * ROWS_EACH, (done + HOUR) * ROWS_EACH - 1).name()
        file = db.execute(
            "INSERT INTO files (topic, generation, tier, path, rows, bytes, sha256, created_at)"
            " VALUES (?, 0, 'sealed', ?, ?, 1, ?, 0)",
            (TOPIC, f"raw/shop/orders/{name}", HOUR * ROWS_EACH, "f" * 64),
        ).lastrowid
        db.executemany(f"INSERT INTO file_commits VALUES ({file}, ?)", ((n,) for n in numbers))
    db.execute("COMMIT")


def test_a_reader_that_stays_behind_is_as_one_that_says_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = [1000.0]
    monkeypatch.setattr("lake.ledger.readers.now", lambda: moment[0])
    lake.ledger.readers.state("batch", 5, 9)
    moment[0] += 100
    lake.ledger.readers.state("batch", 5, 10)  # another cycle, and a model is still held back
    assert [r.stated_at for r in lake.ledger.readers.all()] == [1000.0]
    lake.ledger.readers.state("batch", 10, 10)
    moment[0] += 100
    lake.ledger.readers.state("batch", 10, 10)  # nothing is new: it is not behind
    assert [r.stated_at for r in lake.ledger.readers.all()] == [1200.0]
