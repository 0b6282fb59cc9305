"""The ledger lost, half lost, or older than the files: named, never guessed, made anew."""

from __future__ import annotations

import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lake.ledger import NOW, Ledger
from tests.crash.conftest import LakeMaker
from tests.crash.oracle import LakeUnderTest, until, utc
from tests.crash.test_failpoints import points
from tests.crash.test_kafka_faults import is_stopped
from tests.crash.test_replay import ONE, PAIR, files_of, loaded, said, sql


def lose(lake: LakeUnderTest, files: str = "ledger.db*") -> None:
    """As a disk does that has lost just these files."""
    for path in lake.paths.root.glob(files):
        path.unlink()


def rebuild(lake: LakeUnderTest) -> str:
    worker = lake.start("ledger", "rebuild", "--yes")
    assert worker.await_end() == 0, worker.text()
    return worker.text()


def ask_kafka(lake: LakeUnderTest) -> None:
    """What the files could not say is in Kafka still; then the lake is what it was."""
    for topic in lake.topics:
        assert said(lake, "replay", topic)["exact"]
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    lake.check()


def test_a_lake_without_its_ledger_stops_with_the_remedy(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, PAIR)
    lose(lake)
    before = files_of(lake)
    for command in (("consume", "--once"), ("compact", "--now"), ("verify",)):
        worker = lake.start(*command)
        assert worker.await_end() == 1
        assert "ducklake ledger rebuild" in worker.text(), worker.text()
    assert files_of(lake) == before
    text = rebuild(lake)
    assert files_of(lake) == before
    for topic in lake.topics:
        assert f"`ducklake replay {topic}` asks Kafka" in text
    ask_kafka(lake)


def test_a_ledger_older_than_the_files_is_refused_and_nothing_is_deleted(
    make_lake: LakeMaker, tmp_path: Path
) -> None:
    lake = loaded(make_lake, PAIR)
    backup = tmp_path / "backup"
    assert lake.start("backup", str(backup)).await_end() == 0, lake.show_logs()
    lake.start("consume")
    for _ in range(2):
        lake.loader.burst()
        lake.await_caught_up()
    lake.stop()
    lake.seal()
    before = files_of(lake)
    worker = lake.start("restore", str(backup), "--yes")
    assert worker.await_end() == 1 and "older than the lake's files" in worker.text()
    for command in (
        ("consume", "--once"),
        ("compact", "--now"),
        ("batch", "--once"),
        ("replay", lake.topics[0]),
        ("verify",),
    ):
        worker = lake.start(*command)
        assert worker.await_end() == 1
        assert "`ducklake ledger rebuild`" in worker.text(), worker.text()
    assert files_of(lake) == before
    rebuild(lake)
    assert files_of(lake) == before
    ask_kafka(lake)


def test_a_backup_taken_under_load_is_restored(make_lake: LakeMaker, tmp_path: Path) -> None:
    lake = make_lake(PAIR)
    backup = tmp_path / "backup"
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    assert lake.start("backup", str(backup)).await_end() == 0, lake.show_logs()
    again = lake.start("backup", str(backup))
    assert again.await_end() == 1 and "not empty" in again.text()
    lose(lake)
    assert lake.start("restore", str(backup), "--yes").await_end() == 0, lake.show_logs()
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    other = lake.start("restore", str(backup), "--yes")
    assert other.await_end() == 1 and "has the lake open" in other.text()
    lake.stop()
    lake.check()


def test_the_log_of_a_lost_ledger_is_not_applied_to_the_new_one(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, ONE)
    worker = lake.start("consume", failpoint="commit.after_ledger")
    while worker.exit_code() is None:
        lake.loader.burst()
    log = lake.paths.root / "ledger.db-wal"
    assert log.stat().st_size
    lose(lake, "ledger.db")
    rebuild(lake)
    assert sql(lake, "SELECT DISTINCT session FROM commits") == [("restored",)]
    [quarantined] = lake.paths.orphans.glob("ledger-*")
    assert log.name in {path.name for path in quarantined.iterdir()}
    ask_kafka(lake)


def test_a_ledger_that_is_replaced_is_never_there_without_its_log(make_lake: LakeMaker) -> None:
    """It would be an older one, and look whole."""
    lake = loaded(make_lake, ONE)
    killed = lake.start("compact", failpoint="seal.before_delete")
    assert killed.await_end() == -signal.SIGKILL
    killed = lake.start("ledger", "rebuild", "--yes", failpoint="restore.after_part_quarantined")
    assert killed.await_end() == -signal.SIGKILL, killed.text()
    assert not lake.paths.ledger.exists() and (lake.paths.root / "ledger.db-wal").exists()
    rebuild(lake)
    ask_kafka(lake)


# Each leaves the files in another state; without the ledger its own steps make no difference.
STATES = (
    "seal.before_intent",
    "seal.after_move",
    "seal.before_flip",
    "seal.before_delete",
    "seal.before_forget",
    "commit.before_ledger",
    "commit.after_ledger",
    "move.before_rename",
)


@pytest.mark.parametrize("step", STATES)
def test_a_ledger_lost_when_a_process_was_killed(make_lake: LakeMaker, step: str) -> None:
    """Whatever half-done compaction or commit the files show, each row is found once."""
    lake = loaded(make_lake, ONE, bursts=1)
    [topic] = lake.topics
    victim = "consume" if step.startswith("commit.") else "compact"
    worker = lake.start(victim, failpoint=step)
    if victim == "consume":
        while worker.exit_code() is None:
            lake.loader.burst()
    assert worker.await_end() == -signal.SIGKILL, worker.text()
    lose(lake)
    rebuild(lake)
    lake.check_public(topic, all_of_it=False)
    ask_kafka(lake)


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_rows_that_are_in_no_file_are_named_and_filled(make_lake: LakeMaker, damage: str) -> None:
    lake = loaded(make_lake, PAIR)
    lost = []
    for topic in lake.topics:
        for tier in ("hot", "sealed"):
            [(path,)] = sql(
                lake,
                "SELECT path FROM files WHERE topic = ? AND tier = ? AND obsolete_at IS NULL"
                " ORDER BY rows DESC LIMIT 1",
                topic,
                tier,
            )
            lost.append(path)
            target = lake.paths.root / path
            if damage == "deleted":
                target.unlink()
            else:
                column = pq.read_metadata(target).row_group(0).column(0)
                start = column.dictionary_page_offset or column.data_page_offset
                content = bytearray(target.read_bytes())
                content[start + column.total_compressed_size - 2] ^= 0xFF  # within a page
                target.write_bytes(content)
    lose(lake)
    text = rebuild(lake)
    if damage == "changed":
        assert all(f"{path} is damaged" in text for path in lost)
        assert all((lake.paths.orphans / path).exists() for path in lost)
    ask_kafka(lake)


def test_generations_are_told_apart(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, ONE)
    [topic] = lake.topics
    said(lake, "replay", topic, "--rebuild", "--from", "20", "--offsets", "--workers", "1")
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    killed = lake.start(
        "replay", topic, "--rebuild", "--workers", "1", failpoint="replay.after_segment"
    )
    assert killed.await_end() == -signal.SIGKILL
    lose(lake)
    text = rebuild(lake)
    assert "generation 2 was not complete" in text
    with Ledger(lake.paths) as ledger:
        assert ledger.tables.generation_at(topic, NOW) == 1
        assert {g.number: g.state for g in ledger.generations.all() if g.topic == topic} == {
            0: "old",
            1: "current",
        }
    ask_kafka(lake)


def test_a_filled_hole_is_known_after_the_ledger_was_lost(make_lake: LakeMaker) -> None:
    lake = loaded(make_lake, ONE)
    [topic] = lake.topics
    for _ in range(2):  # the second time, ranges are there that were cut
        [(path,)] = sql(
            lake,
            "SELECT path FROM files WHERE topic = ? AND obsolete_at IS NULL"
            " ORDER BY rows DESC LIMIT 1",
            topic,
        )
        (lake.paths.root / path).unlink()
        lose(lake)
        rebuild(lake)
        assert said(lake, "replay", topic)["exact"]
        lake.seal()
    lose(lake)
    rebuild(lake)
    ask_kafka(lake)


@pytest.mark.parametrize(
    "step", [s for s in points() if s.startswith("restore.")] + ["move.before_rename"]
)
def test_a_rebuild_of_the_ledger_killed_anywhere_starts_again(
    make_lake: LakeMaker, step: str
) -> None:
    lake = loaded(make_lake, ONE)
    killed = lake.start("compact", failpoint="seal.before_delete")
    assert killed.await_end() == -signal.SIGKILL
    lose(lake, "ledger.db")  # its log is left
    killed = lake.start("ledger", "rebuild", "--yes", failpoint=step)
    assert killed.await_end() == -signal.SIGKILL, killed.text()
    rebuild(lake)
    ask_kafka(lake)


def test_nobody_begins_while_the_ledger_is_replaced(make_lake: LakeMaker) -> None:
    """What keeps processes alive starts them again at any moment."""
    lake = loaded(make_lake, ONE)
    rebuilding = lake.start("ledger", "rebuild", "--yes", failpoint="restore.before_rename:1:stop")
    until(lambda: is_stopped(rebuilding), "the rebuild, half-way")
    before = files_of(lake)
    for command in (
        ("consume", "--once"),
        ("compact", "--now"),
        ("accept-loss", *lake.topics, "--yes"),
    ):
        worker = lake.start(*command)
        assert worker.await_end() == 1
        assert "is being replaced" in worker.text(), worker.text()
    assert files_of(lake) == before
    rebuilding.signal(signal.SIGCONT)
    assert rebuilding.await_end() == 0, rebuilding.text()
    ask_kafka(lake)


@pytest.mark.parametrize("step", [s for s in points() if s.startswith("backup.")])
def test_a_backup_killed_anywhere_is_whole_or_not_there(
    make_lake: LakeMaker, tmp_path: Path, step: str
) -> None:
    lake = loaded(make_lake, ONE)
    folder = tmp_path / "backups" / "first"
    killed = lake.start("backup", str(folder), failpoint=step)
    assert killed.await_end() == -signal.SIGKILL, killed.text()
    if not folder.exists():
        assert lake.start("backup", str(folder)).await_end() == 0, lake.show_logs()
    lose(lake)
    assert lake.start("restore", str(folder), "--yes").await_end() == 0, lake.show_logs()
    ask_kafka(lake)


@pytest.mark.parametrize(
    "step", ["restore.after_part_quarantined", "restore.before_rename", "restore.after_rename"]
)
def test_a_restore_killed_anywhere_starts_again(
    make_lake: LakeMaker, tmp_path: Path, step: str
) -> None:
    lake = loaded(make_lake, ONE)
    backup = str(tmp_path / "backup")
    assert lake.start("backup", backup).await_end() == 0, lake.show_logs()
    killed = lake.start("compact", failpoint="seal.before_delete")
    assert killed.await_end() == -signal.SIGKILL  # the ledger that is there has a log
    killed = lake.start("restore", backup, "--yes", failpoint=step)
    assert killed.await_end() == -signal.SIGKILL, killed.text()
    worker = lake.start("restore", backup, "--yes")
    assert worker.await_end() == 1 and "older than the lake's files" in worker.text()
    rebuild(lake)
    ask_kafka(lake)


@pytest.mark.parametrize(
    ("what", "killed_at"),
    [("seal", ""), ("seal", "seal.before_delete"), ("merge", ""), ("days", "")],
)
def test_a_backup_from_before_a_compaction_is_older_than_the_files(
    make_lake: LakeMaker, tmp_path: Path, what: str, killed_at: str
) -> None:
    """No commit came after it whose number would tell."""
    lake = make_lake(ONE, consumer={"seal_max_age_seconds": 3600}, merge_files=2)
    midnight = utc("2026-03-01T00:00:00")
    for _ in range(3):
        lake.start("consume")
        lake.loader.send(lake.topics[0], 30, moment=lambda n: midnight + n)
        lake.await_caught_up()
        lake.stop()
        if what == "days":
            lake.seal()
    backup = str(tmp_path / "backup")
    assert lake.start("backup", backup).await_end() == 0, lake.show_logs()
    before = files_of(lake)
    words = {"seal": ("--now",), "merge": (), "days": ("--days", "2026-03-01..2026-03-01")}[what]
    compacting = lake.start("compact", *words, failpoint=killed_at)
    if what == "merge":
        until(lambda: files_of(lake) != before, "a merge")
        lake.stop()
    assert compacting.await_end() == (-signal.SIGKILL if killed_at else 0), lake.show_logs()
    after = files_of(lake)
    assert after != before
    worker = lake.start("restore", backup, "--yes")
    assert worker.await_end() == 1 and "older than the lake's files" in worker.text()
    assert "Nothing was deleted" in worker.text()
    assert files_of(lake) == after
    rebuild(lake)
    ask_kafka(lake)
