"""Topics read again: filled, rebuilt during live consumption, killed anywhere, and still exact."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing, suppress
from typing import Any

import psutil
import pytest
from confluent_kafka import TopicPartition

from consumers.replay.segments import OPEN_FILES
from lake.config import TableRef
from lake.ledger import NOW, Ledger
from lake.recovery import pinned
from lake.storage.session import Session
from tests.crash.conftest import Broker, LakeMaker
from tests.crash.oracle import LakeUnderTest, utc
from tests.crash.test_failpoints import points

ONE = {"orders": "plain"}
PAIR = {"orders": "plain", "customers": "cdc"}


def loaded(make_lake: LakeMaker, tables: dict[str, Any], bursts: int = 3) -> LakeUnderTest:
    """A lake with some public files, some hot ones, and nobody at work."""
    lake = make_lake(tables)
    lake.start("consume")
    for _ in range(bursts):
        lake.loader.burst()
        lake.await_caught_up()
        lake.seal()
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    return lake


def said(lake: LakeUnderTest, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a command with --json; gives its line."""
    worker = lake.start(*words, "--json")
    assert worker.await_end() == code, worker.text()
    [line] = [x for x in worker.text().splitlines() if x.startswith(("{", "["))]
    found: dict[str, Any] = json.loads(line)
    return found


def files_of(lake: LakeUnderTest) -> set[str]:
    return {lake.paths.relative(path) for path in lake.paths.lake_files()}


def test_a_replay_of_what_is_there_changes_nothing(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, PAIR)
    for topic in lake.topics:
        before = files_of(lake), lake.last_commit()
        for _ in range(2):
            found = said(lake, "replay", topic)
            assert found["exact"] and found["missing"] == found["filled"] == 0
            assert found["checksum"] == found["lake_checksum"]
            assert found["compared"] > 0
        assert (files_of(lake), lake.last_commit()) == before
    lake.check()


def test_a_rebuild_holds_the_same_rows_in_a_tree_of_its_own(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, PAIR)
    for topic in lake.topics:
        before = said(lake, "replay", topic, "--dry-run")
        built = said(lake, "replay", topic, "--rebuild", "--workers", "2")
        assert built["generation"] == 1 and built["reused"] == 0
        assert built["read_again"] == len(lake.loader.truths[topic].rows)
        after = said(lake, "replay", topic, "--dry-run")
        assert after["exact"] and after["checksum"] == before["checksum"]
        assert after["lake_checksum"] == before["lake_checksum"]
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    lake.check()


def test_a_rebuild_beside_workers_and_compactor_misses_and_repeats_nothing(
    make_lake: LakeMaker,
) -> None:
    lake = make_lake(PAIR)
    for words in (("consume",), ("consume",), ("compact",)):
        lake.start(*words)
    lake.loader.burst()
    lake.await_caught_up()
    for _ in range(2):
        rebuilds = [lake.start("replay", topic, "--rebuild") for topic in lake.topics]
        while any(worker.exit_code() is None for worker in rebuilds):
            lake.loader.burst()
        assert [worker.exit_code() for worker in rebuilds] == [0, 0], lake.show_logs()
    lake.await_caught_up()
    lake.stop()
    for topic in lake.topics:
        with Ledger(lake.paths) as ledger:
            assert ledger.tables.generation_at(topic, NOW) == 2
    lake.check()


def _expire(broker: Broker, topic: str, ends: dict[int, int]) -> None:
    wanted = [TopicPartition(topic, p, end) for p, end in ends.items()]
    for future in broker.admin.delete_records(wanted).values():
        future.result(30)


def test_what_kafka_no_longer_holds_is_reused(make_lake: LakeMaker, broker: Broker) -> None:
    lake = loaded(make_lake, PAIR, bursts=2)
    for topic in lake.topics:
        ends = lake.loader.truths[topic].ends()
        _expire(broker, topic, {p: end // 2 for p, end in ends.items()})
        gone = sum(offset < ends[p] // 2 for p, offset in lake.loader.truths[topic].rows)
        for number in (1, 2):  # what was reused once is reused again
            built = said(lake, "replay", topic, "--rebuild", "--workers", "1")
            assert (built["generation"], built["reused"]) == (number, gone)
        said(lake, "generations", "list")
        worker = lake.start("generations", "remove", topic, "1", "--yes")
        assert worker.await_end() == 0, worker.text()
    lake.check()


def test_only_a_range_is_decoded_anew(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, PAIR)
    for topic in lake.topics:
        rows = lake.loader.truths[topic].rows
        within = sum(5 <= offset < 25 for _, offset in rows)
        built = said(
            lake,
            "replay",
            topic,
            "--rebuild",
            "--from",
            "5",
            "--to",
            "25",
            "--offsets",
            "--workers",
            "1",
        )
        assert (built["read_again"], built["reused"]) == (within, len(rows) - within)
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    lake.check()


STEPS = (
    "replay.after_begin",
    "replay.before_move",
    "replay.before_segment",
    "replay.in_segment",
    "replay.after_segment",
    "replay.before_reuse",
    "replay.after_reuse",
    "replay.after_hold",
    "replay.before_switch",
    "replay.in_switch",
    "replay.after_switch",
    "file.before_sync",
    "move.before_sync",
)


def test_every_step_of_a_rebuild_is_killed_somewhere() -> None:
    assert {s for s in points() if s.startswith("replay.")} <= {*STEPS, *FILLING}


@pytest.fixture(scope="module")
def expired(make_shared_lake: LakeMaker, broker: Broker) -> LakeUnderTest:
    """A lake whose older half is gone from Kafka."""
    lake = loaded(make_shared_lake, ONE, bursts=2)
    [topic] = lake.topics
    ends = lake.loader.truths[topic].ends()
    _expire(broker, topic, {p: end // 2 for p, end in ends.items()})
    lake.start("consume")
    for partition in range(2):  # whatever the seed says, there are rows to be read again
        lake.loader.send(topic, 30, partition)
    lake.await_caught_up()
    lake.stop()
    return lake


@pytest.mark.parametrize("step", STEPS)
def test_a_rebuild_killed_anywhere_has_changed_nothing_or_is_done(
    expired: LakeUnderTest, step: str
) -> None:
    lake, [topic] = expired, expired.topics
    with Ledger(lake.paths) as ledger:
        before = ledger.tables.generation_at(topic, NOW)
    killed = lake.start("replay", topic, "--rebuild", "--workers", "1", failpoint=step)
    assert killed.await_end() == -signal.SIGKILL, killed.text()
    with Ledger(lake.paths) as ledger:
        now = ledger.tables.generation_at(topic, NOW)
    assert (now == before) is (step != "replay.after_switch")
    lake.check_ledger(topic)
    lake.check_public(topic, all_of_it=False)
    said(lake, "replay", topic, "--rebuild", "--workers", "1")
    lake.check()


FILLING = ("replay.before_fill", "replay.in_fill", "replay.after_fill", "replay.before_replace")


def sql(lake: LakeUnderTest, statement: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(lake.paths.ledger)) as ledger, ledger:
        return ledger.execute(statement, values).fetchall()


def _make_a_hole(lake: LakeUnderTest, topic: str) -> int:
    """Take a commit with rows out of the lake, as if it had never been; gives its rows."""
    [(number, file, path, rows)] = sql(
        lake,
        "SELECT commit_no, file_id, path, f.rows FROM files f JOIN file_commits USING (file_id)"
        " WHERE f.topic = ? AND tier = 'hot' AND obsolete_at IS NULL ORDER BY f.rows DESC LIMIT 1",
        topic,
    )
    for statement, value in (
        ("DELETE FROM ranges WHERE commit_no = ?", number),
        ("DELETE FROM dead_letters WHERE commit_no = ?", number),
        ("DELETE FROM files WHERE file_id = ?", file),
        ("DELETE FROM file_commits WHERE file_id = ?", file),
    ):
        sql(lake, statement, value)
    (lake.paths.root / path).unlink()
    return int(rows)


@pytest.mark.parametrize("step", ["", *FILLING[:3]])
def test_what_is_missing_is_committed_once_and_is_new(make_lake: LakeMaker, step: str) -> None:
    lake = make_lake(ONE, consumer={"seal_max_age_seconds": 3600})
    [topic] = lake.topics
    lake.start("consume")
    for _ in range(3):
        lake.loader.burst()
        lake.await_caught_up()
    lake.stop()
    rows = _make_a_hole(lake, topic)
    with Ledger(lake.paths) as ledger:
        last = ledger.commits.newest_number()
    counted = said(lake, "replay", topic, "--dry-run", code=1)
    assert counted["missing"] >= rows and counted["filled"] == 0
    if step:
        killed = lake.start("replay", topic, failpoint=step)
        assert killed.await_end() == -signal.SIGKILL, killed.text()
    found = said(lake, "replay", topic)
    # One partition after the other: what the killed one has filled stays.
    filled = found["filled"] + counted["missing"] - found["missing"]
    assert found["exact"] and filled == counted["missing"]
    assert (found["filled"] < counted["missing"]) is (step == "replay.after_fill")
    with Ledger(lake.paths) as ledger:
        fresh = sum(r.rows for new in ledger.files.new_rows(topic, last, NOW) for r in new.ranges)
    assert fresh == rows
    assert said(lake, "replay", topic)["missing"] == 0
    lake.check()


@pytest.mark.parametrize(
    ("damage", "step"), [("deleted", ""), ("changed", "replay.before_replace")]
)
def test_a_lost_or_damaged_file_is_written_again(
    make_lake: LakeMaker, damage: str, step: str
) -> None:
    lake = loaded(make_lake, PAIR)
    for topic in lake.topics:
        for tier in ("hot", "sealed"):
            [(path,)] = sql(
                lake,
                "SELECT path FROM files WHERE topic = ? AND tier = ? AND obsolete_at IS NULL"
                " ORDER BY rows DESC LIMIT 1",
                topic,
                tier,
            )
            target = lake.paths.root / path
            if damage == "deleted":
                target.unlink()
            else:
                content = bytearray(target.read_bytes())
                content[len(content) // 2] ^= 0xFF
                target.write_bytes(content)
            if step:
                killed = lake.start("replay", topic, failpoint=step)
                assert killed.await_end() == -signal.SIGKILL, killed.text()
            last = lake.last_commit()
            found = said(lake, "replay", topic)
            assert found["lost_files"] == found["repaired"] == [path]
            assert lake.last_commit() == last  # the same rows: nothing is new
    lake.check()


def test_lost_days_of_one_compaction_are_all_written_again(make_lake: LakeMaker) -> None:
    lake = make_lake(ONE, consumer={"seal_max_age_seconds": 3600})
    [topic] = lake.topics
    noons = [utc(f"2026-01-0{day}T12:00") for day in (5, 6, 7)]
    lake.loader.send(topic, 60, partition=0, moment=lambda n: noons[n % 3])
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    lake.seal()
    public = sorted(lake.paths.raw(TableRef(*topic.split("."))).rglob("*.parquet"))
    assert len(public) == 3  # of the same commits, each with every third row
    public[0].unlink()
    public[1].write_bytes(b"no Parquet at all")
    found = said(lake, "replay", topic)
    lost = [lake.paths.relative(path) for path in public[:2]]
    assert sorted(found["lost_files"]) == sorted(found["repaired"]) == lost
    assert found["exact"] and found["missing"] == 0
    lake.check()


def test_a_lost_file_that_kafka_no_longer_holds_is_said_to_be_lost(
    make_lake: LakeMaker, broker: Broker
) -> None:
    lake = loaded(make_lake, ONE, bursts=1)
    [topic] = lake.topics
    [(path,)] = sql(
        lake,
        "SELECT path FROM files WHERE topic = ? AND tier = 'sealed' AND obsolete_at IS NULL"
        " ORDER BY rows DESC LIMIT 1",
        topic,
    )
    target = lake.paths.root / path
    content = target.read_bytes()
    target.unlink()
    ends = lake.loader.truths[topic].ends()
    _expire(broker, topic, {p: end // 2 for p, end in ends.items()})
    before = files_of(lake), lake.last_commit()
    found = said(lake, "replay", topic, code=1)
    assert found["lost_files"] == [path] and not found["exact"]
    assert found["repaired"] == [] and found["filled"] == 0  # else they were there twice below
    assert (files_of(lake), lake.last_commit()) == before
    text = lake.start("replay", topic)
    assert text.await_end() == 1 and "ducklake ledger rebuild" in text.text()
    target.write_bytes(content)
    lake.check()


def test_a_moment_and_a_range_of_time(make_lake: LakeMaker) -> None:
    lake = make_lake(ONE)
    [topic] = lake.topics
    days = {"2026-01-05T10:00": 30, "2026-01-06T23:59:59": 20, "2026-01-07T00:00": 10}
    for text, count in days.items():
        at = utc(text)
        lake.loader.send(topic, count, partition=0, moment=lambda _, at=at: at)  # type: ignore[misc]
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    for words, expected in (
        (("--from", "2026-01-06"), 30),
        (("--from", "2026-01-06", "--to", "2026-01-07"), 20),
        (("--to", "2026-01-06T00:00:00+00:00"), 30),
        (("--from", "2027-01-01"), 0),
    ):
        assert said(lake, "replay", topic, *words)["compared"] == expected
    worker = lake.start("replay", topic, "--from", "yesterday")
    assert worker.await_end() == 1 and "2026-10-01" in worker.text()


def test_a_reader_sees_one_generation_from_beginning_to_end(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, ONE)
    [topic] = lake.topics
    with Ledger(lake.paths) as ledger, Session(lake.paths) as session:
        with pinned(ledger, session) as last:
            old = {new.path for new in ledger.files.new_rows(topic, 0, last)}
            said(lake, "replay", topic, "--rebuild", "--workers", "1")
            assert {new.path for new in ledger.files.new_rows(topic, 0, last)} == old
            assert ledger.offsets.row_count(topic, last) == len(lake.loader.truths[topic].rows)
            assert all(path.exists() for path in old)
            refused = lake.start("generations", "remove", topic, "0", "--yes")
            assert refused.await_end() == 1 and "pinned" in refused.text()
            assert len(list(lake.read(ledger, topic, last))) == len(lake.loader.truths[topic].rows)
        new = ledger.files.new_rows(topic, last, NOW)  # all of it is new to whoever had the old one
        assert new and not {n.path for n in new} & old
        removed = lake.start("generations", "remove", topic, "0", "--yes")
        assert removed.await_end() == 0, removed.text()
        assert not any(path.exists() for path in old)
    refused = lake.start("generations", "remove", topic, "1", "--yes")
    assert refused.await_end() == 1 and "is at generation 1" in refused.text()
    lake.check()


def test_ten_years_of_days_pass_in_bounded_memory(make_lake: LakeMaker) -> None:
    lake = make_lake(ONE, consumer={"seal_max_age_seconds": 3600})
    [topic] = lake.topics
    days, rows = 3_650, 4
    first = utc("2016-11-01")
    lake.loader.send(topic, days * rows, 0, lambda n: first + (n // rows) * 86_400_000)
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    worker = lake.start("replay", topic, "--rebuild", "--workers", "1")
    memory = files = 0
    while worker.exit_code() is None:
        with suppress(psutil.Error):
            process = psutil.Process(worker.pid)
            memory = max(memory, process.memory_info().rss)
            opened = [f.path for f in process.open_files() if "/staging/" in f.path]
            files = max(files, len(opened))
        time.sleep(0.02)
    assert worker.exit_code() == 0, worker.text()
    assert 0 < memory < 700 * 1024 * 1024
    assert 0 < files <= OPEN_FILES + 2  # the session's lock, and one that is about to be
    [public] = {p.parents[3] for p in lake.paths.lake_files() if "generations" in p.parts}
    assert len(list(public.glob("*/*/*"))) == days
    lake.check_ledger(topic)
    lake.check_public(topic)
