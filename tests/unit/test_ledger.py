"""The ledger by itself: fences, uniqueness, epochs, pins and clocks."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from lake.config import TableRef
from lake.errors import CommitConflict, LedgerError, PartitionsChanged, TopicRecreated
from lake.formats import CompactionIntent, PlannedFile
from lake.ledger import Ledger, Payload
from lake.ledger import core as module
from lake.records import DeadLetter, OffsetRange
from lake.storage.parquet_files import WrittenFile
from lake.storage.paths import LakePaths
from lake.storage.schema import Column, Schema

TOPIC, ID, OTHER_ID = "shop.orders", "a" * 32, "b" * 32
EMPTY = Schema()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(LakePaths(tmp_path)) as ledger:
        ledger.tables.open(TOPIC, ID, 2)
        yield ledger


def commit(ledger: Ledger, first: int, last: int, name: str = "", partition: int = 0) -> int:
    state = ledger.tables.get(TOPIC)
    assert state is not None
    span = OffsetRange(state.topic_id, partition, first, last, last - first + 1)
    path = ledger.paths.root / "hot" / f"{name or f'{partition}-{first}'}.parquet"
    starts = {partition: state.positions.get(partition)}
    return ledger.commits.add(
        state, "session", [span], starts, WrittenFile(path, 1, "sha", span.rows), EMPTY
    )


def test_a_commit_moves_the_position_and_is_found_by_its_number(ledger: Ledger) -> None:
    one, two = commit(ledger, 0, 9), commit(ledger, 10, 14)
    state = ledger.tables.get(TOPIC)
    assert state is not None and state.positions == {0: 15}
    [new] = ledger.files.new_rows(TOPIC, one, two)
    assert [(r.first, r.last) for r in new.ranges] == [(10, 14)]
    assert ledger.offsets.row_count(TOPIC) == 15
    assert ledger.files.new_rows(TOPIC, two, two) == ()


def test_a_zombie_is_fenced_and_leaves_nothing(ledger: Ledger) -> None:
    zombie = ledger.tables.get(TOPIC)
    assert zombie is not None
    commit(ledger, 0, 9)
    span = OffsetRange(ID, 0, 0, 5, 6)
    with pytest.raises(CommitConflict):
        ledger.commits.add(zombie, "zombie", [span], {0: None}, None, EMPTY)
    assert ledger.offsets.row_count(TOPIC) == 10
    commit(ledger, 10, 11)  # the failed transaction is not in the way


def test_a_range_is_unique_even_where_the_position_was_lost(ledger: Ledger) -> None:
    commit(ledger, 0, 9)
    with closing(sqlite3.connect(ledger.paths.ledger)) as tampered, tampered:
        tampered.execute("DELETE FROM positions")
    with pytest.raises(sqlite3.IntegrityError):
        commit(ledger, 0, 9, "again")
    assert ledger.offsets.row_count(TOPIC) == 10


def test_two_workers_that_change_the_schema_do_not_overwrite_each_other(ledger: Ledger) -> None:
    state = ledger.tables.get(TOPIC)
    assert state is not None

    def add(column: str, partition: int) -> None:
        span = OffsetRange(ID, partition, 0, 0, 0)
        schema = state.schema.merged([Column(column, "BIGINT", column)])
        ledger.commits.add(state, "s", [span], {partition: None}, None, schema)

    add("a", 0)
    with pytest.raises(CommitConflict, match="schema"):
        add("b", 1)
    now = ledger.tables.get(TOPIC)
    assert now is not None and now.schema.fields() == {"a"}
    add("a", 1)  # it has found the same: no reason to read it again


def test_dead_letters_are_committed_with_their_range(ledger: Ledger) -> None:
    state = ledger.tables.get(TOPIC)
    assert state is not None
    letter = DeadLetter(
        TOPIC, 0, 3, datetime(2026, 1, 1, tzinfo=UTC), TOPIC, "why", b"k", b"v", "{}"
    )
    number = ledger.commits.add(
        state, "s", [OffsetRange(ID, 0, 0, 3, 0)], {0: None}, None, EMPTY, [letter]
    )
    assert ledger.dead_letters.offsets(TOPIC, OffsetRange(ID, 0, 0, 9, 0)) == [3]
    [entry] = ledger.dead_letters.up_to(number)
    assert (entry.reason, entry.value_bytes) == ("why", 1)
    assert ledger.dead_letters.payload(entry) == Payload(b"k", b"v", "{}")
    assert ledger.commits.last() == number, "downstream must hear of it"


def test_a_recreated_topic_and_more_partitions_are_named(ledger: Ledger) -> None:
    with pytest.raises(TopicRecreated, match="ducklake accept-loss"):
        ledger.tables.open(TOPIC, OTHER_ID, 2)
    with pytest.raises(PartitionsChanged, match="2 partitions and now has 3"):
        ledger.tables.open(TOPIC, ID, 3)


def test_accepting_begins_an_epoch_and_keeps_what_is_there(ledger: Ledger) -> None:
    commit(ledger, 0, 9)
    assert ledger.tables.accept_loss(TOPIC, OTHER_ID, {0: 0, 1: 0}) == []
    state = ledger.tables.open(TOPIC, OTHER_ID, 2)
    assert (state.epoch, dict(state.positions)) == (1, {})
    commit(ledger, 0, 4, "new")
    assert ledger.tables.epochs(TOPIC) == {ID: 0, OTHER_ID: 1}
    assert ledger.offsets.row_count(TOPIC) == 15
    topics = ledger.files.topic_ids(f.file_id for f in ledger.files.hot(TOPIC))
    assert sorted(topics.values()) == [ID, OTHER_ID]


def test_an_accepted_loss_is_remembered(ledger: Ledger) -> None:
    commit(ledger, 0, 9)
    [lost] = ledger.tables.accept_loss(TOPIC, ID, {0: 20, 1: 0})
    assert (lost.first, lost.last) == (10, 19)
    assert ledger.offsets.losses(TOPIC) == [lost]
    state = ledger.tables.get(TOPIC)
    assert state is not None and state.positions == {0: 20}


def _seal(ledger: Ledger, name: str) -> None:
    hot = ledger.files.hot(TOPIC)
    numbers = tuple(number for number, _ in ledger.offsets.of_files(f.file_id for f in hot))
    places = (f"staging/{name}", f"raw/{name}.parquet")
    output = PlannedFile(*places, sum(f.rows for f in hot), 1, "sha", numbers)
    intent = CompactionIntent(tuple(f.file_id for f in hot), (output,))
    seal = ledger.compactions.record_intent(TOPIC, 0, intent)
    ledger.compactions.flip(seal, TOPIC, intent)
    ledger.compactions.flip(seal, TOPIC, intent)  # redone by recovery: nothing happens


def test_a_flip_is_done_once(ledger: Ledger) -> None:
    commit(ledger, 0, 9)
    _seal(ledger, "one")
    assert [f.tier for f in ledger.files.live(TOPIC)] == ["sealed"]
    assert ledger.compactions.open() == []


def test_files_that_were_replaced_already_are_not_replaced_again(ledger: Ledger) -> None:
    commit(ledger, 0, 9)
    inputs = tuple(f.file_id for f in ledger.files.hot(TOPIC))
    _seal(ledger, "one")
    output = PlannedFile("staging/x", "raw/x.parquet", 10, 1, "sha", (1,))
    intent = CompactionIntent(inputs, (output,))
    with pytest.raises(LedgerError, match="replaced before"):
        ledger.compactions.flip(ledger.compactions.record_intent(TOPIC, 0, intent), TOPIC, intent)
    assert len(ledger.files.live(TOPIC)) == 1


@pytest.mark.parametrize("jump", [-7200.0, 0.0, 7200.0])
def test_a_pin_keeps_what_is_replaced_after_it_whatever_the_clock_says(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    now = 1_790_000_000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now))
    commit(ledger, 0, 9)
    ledger.pins.pin("reader")
    now += jump
    _seal(ledger, "one")
    [(_, pinned_at)] = ledger.pins.all()
    assert ledger.files.obsolete(before=pinned_at) == ()
    ledger.pins.pin("later")
    later = dict(ledger.pins.all())["later"]
    assert len(ledger.files.obsolete(before=later)) == 1


def test_a_ledger_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    Ledger(LakePaths(tmp_path)).close()
    later = sqlite3.connect(tmp_path / "ledger.db")
    later.execute("PRAGMA user_version = 99")
    later.close()
    with pytest.raises(LedgerError, match="version 99"):
        Ledger(LakePaths(tmp_path))


def test_a_generation_whose_tree_is_still_there_is_not_made_again(ledger: Ledger) -> None:
    """Killed before the tree was removed: what is in it would be public with the new rows."""
    source, table = TOPIC.split(".", 1)
    for _ in range(2):
        number = ledger.generations.begin(TOPIC, "session")
        tree = ledger.paths.raw(TableRef(source, table), number)
        assert tree.is_dir()
        (tree / "left.parquet").touch()
        ledger.generations.drop(TOPIC, number, lambda session: False)
    assert number == 2


def test_dead_letters_are_counted_whatever_changes_them(tmp_path: Path) -> None:
    chance = random.Random(7)
    with Ledger(LakePaths(tmp_path)) as ledger:
        db = ledger._core.db
        counted = "SELECT * FROM dead_letter_counts ORDER BY 1, 2, 3"
        scanned = (
            "SELECT topic, generation, source_table, count(*), sum(state = 'dead'),"
            " sum(state = 'dropped'), sum((state = 'dead') * min(value_bytes, 1048576))"
            " FROM dead_letters GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        for step in range(400):
            topic, generation = chance.choice("ab"), chance.randrange(3)
            state = chance.choice(["dead", "dropped", "redriven"])
            match chance.randrange(8):
                case 0:
                    db.execute(
                        "UPDATE dead_letters SET state = ? WHERE offset % 3 = ?", (state, step % 3)
                    )
                case 1:
                    db.execute(
                        "DELETE FROM dead_letters WHERE topic = ? AND generation = ?",
                        (topic, generation),
                    )
                case 2:
                    db.execute(
                        "INSERT OR IGNORE INTO dead_letters SELECT topic, ?, topic_id, partition,"
                        " offset, commit_no, kafka_ts, source_table, reason, value_bytes, state"
                        " FROM dead_letters WHERE topic = ?",
                        (generation, topic),
                    )
                case _:
                    size = chance.choice([0, 7, 1 << 20, 1 << 30])
                    db.execute(
                        "INSERT INTO dead_letters VALUES (?, ?, 'i', 0, ?, 1, 0, ?, 'x', ?, ?)",
                        (topic, generation, step, chance.choice("ab"), size, state),
                    )
            assert db.execute(counted).fetchall() == db.execute(scanned).fetchall()
