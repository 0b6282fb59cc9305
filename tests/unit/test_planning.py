"""Decisions on values: when to flush, seal and merge, what is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from consumers.compaction.planning import (
    MERGED_BYTES,
    MERGED_FILES,
    merge_is_due,
    seal_is_due,
)
from consumers.ingest.buffer import TableBuffer
from consumers.ingest.memory import FetchSizer
from consumers.ingest.planning import (
    FLUSH_SHARE,
    PAUSE_SECONDS,
    BufferSize,
    FlushPace,
    Watermarks,
    all_read,
    flush_is_due,
    lost_offsets,
    over_memory_limit,
)
from lake.config import Consumer
from lake.ledger import LakeFile, TableState
from lake.storage.paths import unknown_files
from lake.storage.schema import Schema

LIMITS = Consumer(
    flush_rows=100, flush_mb=1, flush_seconds=2, seal_max_age_seconds=60, target_file_mb=1
)
DAY = 86_400.0


def hot(created_at: float, size: int = 10, number: int = 0) -> LakeFile:
    return LakeFile(number, Path(f"{number}.parquet"), "hot", 1, size, created_at, "")


@pytest.mark.parametrize(
    ("size", "due"),
    [
        (BufferSize(0, 0, 99.0), False),
        (BufferSize(1, 1, 0.0), False),
        (BufferSize(100, 1, 0.0), True),
        (BufferSize(1, 1024 * 1024, 0.0), True),
        (BufferSize(1, 1, 2.0), True),
    ],
)
def test_a_buffer_is_flushed_by_rows_bytes_or_age(size: BufferSize, due: bool) -> None:
    assert flush_is_due(size, LIMITS) is due


ONE = BufferSize(1, 1, 0.0)


def test_a_quiet_table_is_flushed_at_once_and_a_busy_one_as_often_as_flushes_are_cheap() -> None:
    pace = FlushPace()
    assert pace.allows("quiet", 0.0, 1, ONE)
    pace.flushed("busy", ONE, 99.99, 100.0)
    assert not pace.allows("busy", 100.0 + PAUSE_SECONDS / 2, 1, ONE)
    assert pace.allows("busy", 100.0 + PAUSE_SECONDS, 1, ONE)
    assert pace.allows("quiet", 100.0, 2, ONE), "another table's flushes do not hold it up"
    assert flush_is_due(BufferSize(1, 1, 0.0), LIMITS, allowed=True)
    assert not flush_is_due(BufferSize(0, 0, 0.0), LIMITS, allowed=True)


def test_flushes_before_the_age_limit_take_a_share_of_a_worker_s_time() -> None:
    pace = FlushPace()
    pace.flushed("slow", ONE, 99.5, 100.0)
    assert not pace.allows("slow", 100.0 + 0.5 / FLUSH_SHARE - 0.01, 1, ONE)
    assert pace.allows("slow", 100.0 + 0.5 / FLUSH_SHARE + 0.01, 1, ONE)
    assert not pace.allows("slow", 100.0 + 0.5 / FLUSH_SHARE + 0.01, 4, ONE), "others flush as well"


def test_a_worker_that_catches_up_flushes_by_size() -> None:
    """A second of reading, a flush of 300 ms: files of 50,000 rows as before."""
    pace, now, waiting = FlushPace(), 0.0, 0
    files: list[int] = []
    limits = Consumer(flush_rows=50_000)
    while sum(files) + waiting < 2_000_000:
        waiting, now = waiting + 5_000, now + 0.03
        size = BufferSize(waiting, waiting * 540, waiting / 5_000 * 0.03)
        if flush_is_due(size, limits, pace.allows("orders", now, 1, size)):
            took = 0.008 + waiting * 6e-6
            pace.flushed("orders", size, now, now + took)
            now += took
            files.append(waiting)
            waiting = 0
    assert len(files) <= 2_000_000 / 50_000 * 1.2


def test_a_flush_of_wide_rows_takes_no_longer_than_a_while() -> None:
    """So that no other table waits behind one whose columns are many, whatever it has."""
    pace, row = FlushPace(), 48 * 1024
    pace.flushed("wide", ONE, 0.0, 9.0)
    assert not pace.allows("wide", 9.1, 1, BufferSize(10, 10 * row, 0.1))
    some = BufferSize(50, 50 * row, 0.1)
    assert pace.allows("wide", 9.1, 1, some), "it is not known how fast this is"
    pace.flushed("wide", some, 10.0, 10.1)  # as large documents are, and not many columns
    assert not pace.allows("wide", 10.2, 1, BufferSize(500, 500 * row, 0.1))
    assert pace.allows("wide", 10.2, 1, BufferSize(1100, 1100 * row, 0.1))
    assert pace.allows("wide", 10.2, 1, BufferSize(10, 10 * 8 * row, 0.1)), "these are others"
    narrow = BufferSize(100_000, 30_000_000, 0.1)
    pace.flushed("narrow", narrow, 10.0, 10.1)
    assert not pace.allows("narrow", 10.2, 1, narrow)


NOON = 20_000 * DAY + DAY / 2


@pytest.mark.parametrize(
    ("files", "now", "due"),
    [
        ([], NOON, False),
        ([hot(NOON)], NOON + 59, False),
        ([hot(NOON)], NOON + 60, True),
        ([hot(NOON, 600_000), hot(NOON, 600_000)], NOON, True),
        ([hot(20_000 * DAY - 1)], 20_000 * DAY + 1, True),
        ([hot(NOON)], NOON - 5, True),  # the clock was set back: its age means nothing
    ],
)
def test_hot_files_are_sealed_by_size_age_or_the_end_of_a_day(
    files: list[LakeFile], now: float, due: bool
) -> None:
    assert seal_is_due(files, now, LIMITS, force=False) is due
    assert seal_is_due(files, now, LIMITS, force=True) is bool(files)


def test_many_tables_together_hold_no_more_than_two() -> None:
    mb = 1024 * 1024
    sizes = {f"t{n}": BufferSize(0, n * mb // 4, 0.0) for n in range(4)}  # 0 to 0.75 MB
    assert over_memory_limit(sizes, LIMITS) == []
    assert over_memory_limit({**sizes, "t4": BufferSize(0, mb - 1, 0.0)}, LIMITS) == ["t4"]
    many = {f"t{n}": BufferSize(0, mb // 2, 0.0) for n in range(7)}
    assert len(over_memory_limit(many, LIMITS)) == 3
    small = {"t0": BufferSize(3 * 1024, 0, 0.0)}
    assert over_memory_limit(small, LIMITS) == ["t0"], "many small messages take memory, too"


def test_a_portion_learns_how_large_records_are() -> None:
    portion = FetchSizer(5_000, 16_000_000)
    assert portion.messages() == 5_000
    portion.observe(100, 100 * 1_000_000)  # believed at once
    assert portion.messages() == 16
    for _ in range(10):  # by and by
        portion.observe(portion.messages(), portion.messages() * 540)
    assert portion.messages() == 5_000
    portion.observe(1, 100_000_000)
    assert portion.messages() == 1
    portion.observe(0, 0)
    assert portion.messages() == 1


def test_small_hot_files_are_merged_once_they_are_many() -> None:
    small = [hot(0.0, number=n) for n in range(MERGED_FILES)]
    large = hot(0.0, MERGED_BYTES, 999)
    assert merge_is_due([*small[1:], large]) == []
    assert merge_is_due([*small, large]) == small


@given(st.none() | st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_only_what_was_not_read_is_lost(position: int | None, low: int, more: int) -> None:
    lost = lost_offsets(position, Watermarks(low, low + more))
    expected = [] if position is None else [o for o in range(position, low)]
    assert list(lost or []) == expected


def test_an_idle_topic_that_expired_to_its_end_has_lost_nothing() -> None:
    assert lost_offsets(100, Watermarks(100, 100)) is None


def test_a_partition_is_read_when_its_position_is_at_its_goal() -> None:
    assert all_read({0: 5, 1: 7}, {0: 5, 1: 6})
    assert not all_read({0: 5}, {0: 5, 1: 1})


def test_strangers_are_what_nobody_knows() -> None:
    assert unknown_files(["b", "a", "k"], ["k", "z"]) == ["a", "b"]


def _message(partition: int, offset: int) -> Message:
    return Message("t", partition, offset, None, b"{}", None, None, (1, 0), 0.0, 0)


def test_what_is_behind_the_position_is_not_taken_again() -> None:
    """A seek alone is not enough: what was fetched before it still arrives."""
    buffer = TableBuffer(TableState("t", 0, "0" * 32, 2, Schema(), 0, {0: 10, 1: 5}))
    buffer.add([_message(0, o) for o in (8, 9, 10, 11)] + [_message(1, 4)], 0.0)
    buffer.add([_message(0, 10), _message(1, 5)], 0.0)
    taken = [(m.partition(), m.offset()) for m in buffer.messages()]
    assert taken == [(0, 10), (0, 11), (1, 5)]
    assert buffer.starts() == {0: 10, 1: 5}
