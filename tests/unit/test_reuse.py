"""Rows taken over into a new generation: all that is kept, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from consumers.compaction.compactor import Compactor
from consumers.ingest.flush import Flush, commit_flush
from consumers.maintenance.ledger_rebuild import FoundFile, chosen_files, restore_ledger
from consumers.replay.offset_ranges import OffsetSpan, outside
from consumers.replay.reuse import FileReuse
from consumers.replay.segments import Target
from lake.config import Config, TableRef, load_config
from lake.errors import LedgerError
from lake.kafka.topics import TopicIdentity
from lake.ledger import Ledger
from lake.ledger.staleness import assert_ledger_current
from lake.records import DeadLetter, OffsetRange
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session
from lake.storage.sql import rows_query

REF = TableRef("shop", "orders")
ID = "ab" * 16
SCHEMA = Schema((source_column("order_id", "BIGINT"),))
MOMENT = datetime(2026, 3, 1, 5, tzinfo=UTC)
SETTINGS = "name: reuse\nsources: {shop: {type: sftp, tables: {orders: {file: orders.csv}}}}\n"


@dataclass
class Lake:
    config: Config
    ledger: Ledger
    session: Session

    def flush(self, count: int, end: int | None = None, dead_letters: tuple[int, ...] = ()) -> None:
        """Commit rows of partition 0 from its position on, and nothing up to an end."""
        state = self.ledger.tables.open(REF.topic, ID, 1)
        first = state.positions.get(0, 0)
        offsets = [o for o in range(first, first + count) if o not in dead_letters]
        end = max(first + count, end or 0)
        rows = None
        if offsets:
            stamps = pa.array([MOMENT] * len(offsets), pa.timestamp("us", "UTC"))
            rows = pa.table(
                {
                    "order_id": offsets,
                    "_op": ["r"] * len(offsets),
                    "_source_ts": stamps,
                    "_kafka_ts": stamps,
                    "_topic": [REF.topic] * len(offsets),
                    "_partition": pa.array([0] * len(offsets), pa.int32()),
                    "_offset": offsets,
                    "_topic_epoch": pa.array([0] * len(offsets), pa.int32()),
                }
            )
        dead = [
            DeadLetter(REF.topic, 0, o, MOMENT, REF.topic, "why", None, b"v", "{}")
            for o in dead_letters
        ]
        span = OffsetRange(ID, 0, first, end - 1, len(offsets))
        starts = {0: state.positions.get(0)}
        flush = Flush(state, starts, [span], rows, SCHEMA, dead)
        commit_flush(self.ledger, self.session, REF, flush)

    def seal(self) -> None:
        compactor = Compactor(self.config)
        compactor.pass_once(force=True)
        compactor.close()

    def reuse(self, again: OffsetSpan) -> int:
        """Take over all but some offsets into a generation that is begun here."""
        number = self.ledger.generations.begin(REF.topic, self.session.id)
        target = Target(REF, number, ID, self.session.id, self.session.folder, 1e9)
        reuse = FileReuse(self.ledger, self.session, target, "plain", partial(_outside, again))
        state = self.ledger.tables.get(REF.topic)
        assert state is not None
        reuse.take_over(state, 0, self.ledger.commits.newest_number())
        return reuse.rows

    def give_up(self) -> None:
        """Forget what is being built."""
        for left in self.ledger.generations.abandoned(lambda session: False):
            assert self.ledger.generations.drop_abandoned(*left)

    def books(self, generation: int) -> list[tuple[int, int, int]]:
        with closing(sqlite3.connect(self.ledger.paths.ledger)) as db:
            return db.execute(
                "SELECT first, last, rows FROM ranges WHERE generation = ? ORDER BY first",
                (generation,),
            ).fetchall()

    def files(self, generation: int) -> list[tuple[str, int]]:
        with closing(sqlite3.connect(self.ledger.paths.ledger)) as db:
            return db.execute(
                "SELECT path, rows FROM files WHERE generation = ? AND obsolete_at IS NULL",
                (generation,),
            ).fetchall()

    def offsets(self, generation: int) -> list[int]:
        """What the files of a generation hold, whatever the ranges say."""
        listed = [self.ledger.paths.root / path for path, _ in self.files(generation)]
        query = rows_query([("_offset", "BIGINT")], listed)
        return [o for (o,) in duckdb.sql(f"SELECT _offset FROM ({query}) ORDER BY 1").fetchall()]


def _outside(again: OffsetSpan, offset_range: OffsetRange) -> list[OffsetRange]:
    return outside(offset_range, again)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    config = load_config(tmp_path / "ducklake.yml")
    with Ledger(LakePaths(config.data_dir)) as ledger, Session(ledger.paths) as session:
        yield Lake(config, ledger, session)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_file_that_straddles_gives_its_part_and_no_more(lake: Lake, sealed: bool) -> None:
    lake.flush(10)
    lake.flush(10)
    if sealed:
        lake.seal()
    assert lake.reuse(OffsetSpan(0, 15, 20)) == 15
    assert lake.offsets(1) == list(range(15))
    # What is public was joined: nobody reads this lake.
    assert lake.books(1) == ([(0, 14, 15)] if sealed else [(0, 9, 10), (10, 14, 5)])
    assert sum(rows for _, rows in lake.files(1)) == 15


def test_a_whole_public_file_gets_a_second_name(lake: Lake) -> None:
    lake.flush(10)
    lake.seal()
    lake.flush(5)
    lake.reuse(OffsetSpan(0, 10, 15))
    [(path, rows)] = lake.files(1)
    [(old, _)] = [f for f in lake.files(0) if f[0].startswith("raw/")]
    root = lake.ledger.paths.root
    assert path == f"generations/1/{old.removeprefix('raw/')}" and rows == 10
    assert (root / path).samefile(root / old)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_missing_file_is_named_where_it_is_needed(lake: Lake, sealed: bool) -> None:
    lake.flush(10)
    if sealed:
        lake.seal()
    lake.flush(5)
    [path] = [path for path, rows in lake.files(0) if rows == 10]
    (lake.ledger.paths.root / path).unlink()
    assert lake.reuse(OffsetSpan(0, 0, 10)) == 5  # its rows are read again
    lake.give_up()
    for again in (OffsetSpan(0, 10, 15), OffsetSpan(0, 4, 8)):
        with pytest.raises(LedgerError, match="is missing"):
            lake.reuse(again)
        lake.give_up()


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_file_is_not_read_and_its_rows_get_no_new_checksum(
    lake: Lake, sealed: bool
) -> None:
    lake.flush(10)
    if sealed:
        lake.seal()
    lake.flush(5)
    [path] = [path for path, rows in lake.files(0) if rows == 10]
    _flip_a_bit(lake.ledger.paths.root / path)
    with pytest.raises(LedgerError, match=f"{path} is damaged"):
        lake.reuse(OffsetSpan(0, 4, 8))
    lake.give_up()
    assert lake.reuse(OffsetSpan(0, 0, 10)) == 5  # its rows are read again


@pytest.mark.parametrize("gone", [True, False])
def test_a_compaction_leaves_a_damaged_file_alone_and_names_it(lake: Lake, gone: bool) -> None:
    for _ in range(3):
        lake.flush(5)
    first = lake.files(0)[0][0]
    damaged = lake.ledger.paths.root / first
    damaged.unlink() if gone else _flip_a_bit(damaged)
    compactor = Compactor(lake.config)
    assert compactor.pass_once(force=True) == 1  # nothing else is stopped by it
    with pytest.raises(LedgerError, match=first):
        compactor.damaged.must_be_none()
    assert compactor.pass_once(force=True) == 0
    compactor.close()
    left, sealed = lake.files(0)
    assert left == (first, 5) and sealed[1] == 10 and sealed[0].startswith("raw/")


def test_offsets_without_a_row_are_reused_too(lake: Lake) -> None:
    """Else the new generation would have a gap there, and a lost ledger no word of it."""
    lake.flush(5)
    lake.flush(0, end=8)
    lake.flush(2)
    lake.reuse(OffsetSpan(0, 100, 200))
    assert lake.books(1) == [(0, 4, 5), (5, 7, 0), (8, 9, 2)]


def test_dead_letters_come_along_with_their_ranges(lake: Lake) -> None:
    lake.flush(6, dead_letters=(2, 5))
    assert lake.reuse(OffsetSpan(0, 5, 6)) == 4
    with closing(sqlite3.connect(lake.ledger.paths.ledger)) as db:
        found = db.execute("SELECT offset FROM dead_letters WHERE generation = 1").fetchall()
    assert found == [(2,)]


def test_a_ledger_that_is_older_than_a_file_is_refused(lake: Lake, tmp_path: Path) -> None:
    lake.flush(5)
    old = tmp_path / "old.db"
    lake.ledger.copy_to(old)
    lake.flush(5)
    with Ledger(lake.ledger.paths, old) as restored:
        assert_ledger_current(restored)  # that one may be what a killed process left
        lake.flush(5)
        with pytest.raises(LedgerError, match="older than the lake's files"):
            assert_ledger_current(restored)
    assert_ledger_current(lake.ledger)


# Which files a lost ledger is made of --------------------------------------------------------


def found_file(name: str, tier: str, counts: dict[OffsetRange, int], after: int = 0) -> FoundFile:
    rows = sum(counts.values())
    return FoundFile(Path(name), tier, 0, rows, after, SCHEMA, 0, "", counts)


FIRST, SECOND = OffsetRange(ID, 0, 0, 9, 10), OffsetRange(ID, 0, 10, 19, 10)


def chosen(*files: FoundFile) -> set[str]:
    kept, left = chosen_files(files)
    assert {f.path for f in kept} | {f.path for f in left} == {f.path for f in files}
    return {f.path.name for f in kept}


def test_public_files_that_have_all_rows_are_taken_and_hot_ones_are_not() -> None:
    hot = [found_file("h1", "hot", {FIRST: 10}), found_file("h2", "hot", {SECOND: 10})]
    days = [found_file("s1", "sealed", {FIRST: 4}), found_file("s2", "sealed", {FIRST: 6})]
    assert chosen(*hot, *days) == {"s1", "s2", "h2"}


def test_a_half_done_seal_is_not_taken() -> None:
    """One of two days was renamed when it was killed: its hot file has all rows."""
    assert chosen(found_file("h1", "hot", {FIRST: 10}), found_file("s1", "sealed", {FIRST: 4})) == {
        "h1"
    }


def test_a_merged_file_is_taken_before_what_it_was_made_of() -> None:
    parts = [found_file("h1", "hot", {FIRST: 10}), found_file("h2", "hot", {SECOND: 10})]
    merged = found_file("merged", "hot", {FIRST: 10, SECOND: 10}, after=2)
    assert chosen(*parts, merged) == {"merged"}


def test_a_rebuild_that_was_killed_half_way_is_not_taken_for_the_table(
    lake: Lake,
) -> None:
    """It may have come as far as the old generation, and lack what Kafka no longer holds."""
    lake.flush(10)
    lake.flush(10)
    lake.seal()
    lake.reuse(OffsetSpan(0, 0, 10))  # offsets 10 to 19 are in it, 0 to 9 were to be read again
    paths = lake.ledger.paths
    lake.ledger.close()
    lake.session._lock.close()
    for path in paths.root.glob("ledger.db*"):
        path.unlink()
    result = restore_ledger(paths, {REF.topic: TopicIdentity(REF.topic, ID, 1)})
    assert any("generation 1 was not complete" in text for text in result.unknown)
    with Ledger(paths) as ledger:
        assert ledger.offsets.row_count(REF.topic) == 20
