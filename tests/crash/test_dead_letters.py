"""Dead letters come back: once, at their own offsets, whoever is killed or at work meanwhile."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Mapping
from typing import Any

import duckdb
import pytest
import yaml
from confluent_kafka import TopicPartition

from consumers.replay.redrive import Redrive
from lake.config import load_config
from lake.errors import CommitConflict
from lake.ledger import NOW, Ledger, payloads
from lake.storage.json_files import read_json
from lake.storage.sql import rows_query
from tests.crash.conftest import Broker, LakeMaker
from tests.crash.oracle import LakeUnderTest, until
from tests.crash.test_failpoints import points

ORDERS = {"orders": "plain"}
STEPS = [name for name in points() if name.startswith("redrive.")]


def declare(lake: LakeUnderTest, **columns: str) -> None:
    """Declare types of the table's columns, as somebody who edits ducklake.yml does."""
    path = lake.config.path
    settings = yaml.safe_load(path.read_text())
    for source in settings["sources"].values():
        for table in source["tables"]:
            source["tables"][table] = {"columns": columns}
    path.write_text(yaml.safe_dump(settings))
    lake.config = load_config(path)


def set_policy(lake: LakeUnderTest, **policy: Any) -> None:
    """Set what becomes of the dead letters of all tables, as somebody who edits ducklake.yml."""
    path = lake.config.path
    settings = yaml.safe_load(path.read_text())
    for source in settings["sources"].values():
        for table in source["tables"].values():
            table["dead_letters"] = policy
    path.write_text(yaml.safe_dump(settings))
    lake.config = load_config(path)


def with_dead_letters(make: LakeMaker, sealed: bool = False) -> LakeUnderTest:
    """A lake whose table has rows before, between and after three dead letters."""
    lake = make(ORDERS)
    declare(lake, price="DECIMAL(10,2)")
    lake.start("consume")
    [topic] = lake.topics
    for price in ("1.50", "n/a", "2.50", "2.505", "3.50", "n/a"):
        lake.loader.send(topic, 1, 0, extra={"price": price})
    lake.loader.send(topic, 5, extra={"price": "4"})
    lake.await_caught_up()
    lake.stop()
    if sealed:
        lake.seal()
    return lake


def said(lake: LakeUnderTest, *words: str, code: int = 0) -> Any:
    worker = lake.start("dead-letters", *words)
    assert worker.await_end() == code, worker.text()
    [line] = [x for x in worker.text().splitlines() if x.startswith(("{", "["))]
    return json.loads(line)


def redriven(lake: LakeUnderTest, *words: str, code: int = 0) -> Mapping[str, Any]:
    [found] = said(lake, "redrive", *words, "--json", code=code)["tables"]
    assert isinstance(found, dict)
    return found


def prices(lake: LakeUnderTest) -> list[tuple[int, str]]:
    """(offset, price) of the first partition's rows, through the ledger."""
    [topic] = lake.topics
    with Ledger(lake.paths) as ledger, duckdb.connect() as db:
        state = ledger.tables.get(topic)
        assert state is not None
        columns = state.schema.relation("plain")
        found = []
        for new in ledger.files.new_rows(topic, 0, NOW - 1):
            query = rows_query(columns, [new.path], new.ranges)
            found += db.execute(
                f"SELECT _offset, price::VARCHAR FROM ({query}) WHERE _partition = 0"
            ).fetchall()
    return sorted(found)[:6]


def offsets_of_dead_letters(lake: LakeUnderTest) -> list[int]:
    with Ledger(lake.paths) as ledger:
        return [entry.offset for entry in ledger.dead_letters.up_to(NOW - 1)]


def test_a_type_that_was_mended_brings_them_back_at_their_offsets(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake, sealed=True)
    assert offsets_of_dead_letters(lake) == [1, 3, 5]
    still = redriven(lake, code=1)
    assert (still["rows"], still["still_dead"]) == (0, 3)
    assert any("price" in reason for reason in still["reasons"]), still

    declare(lake, price="VARCHAR")
    assert redriven(lake)["rows"] == 3
    assert [price for _, price in prices(lake)] == ["1.50", "n/a", "2.50", "2.505", "3.50", "n/a"]
    assert [offset for offset, _ in prices(lake)] == [0, 1, 2, 3, 4, 5]
    assert offsets_of_dead_letters(lake) == []
    assert said(lake, "redrive", "--json") == {"tables": [], "rejects": {}}
    lake.check()


def test_a_wider_number_keeps_the_column_a_number(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    declare(lake, price="DECIMAL(12,4)")
    found = redriven(lake, code=1)
    assert (found["rows"], found["still_dead"]) == (1, 2)
    assert (3, "2.5050") in prices(lake)
    assert offsets_of_dead_letters(lake) == [1, 5]
    assert lake.verify() == ()


def test_one_is_meant_by_its_address(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    declare(lake, price="VARCHAR")
    listed = said(lake, "list", lake.topics[0], "--json")
    assert [one["address"].rpartition("/")[2] for one in listed] == ["1", "3", "5"]
    assert redriven(lake, listed[1]["address"])["rows"] == 1
    assert offsets_of_dead_letters(lake) == [1, 5]


def test_a_rebuild_holds_the_same_rows_as_a_redrive(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    declare(lake, price="VARCHAR")
    redriven(lake)
    before = prices(lake)
    rebuild = lake.start("replay", lake.topics[0], "--rebuild")
    assert rebuild.await_end() == 0, rebuild.text()
    assert prices(lake) == before
    assert offsets_of_dead_letters(lake) == []
    lake.check()


def test_the_kept_bytes_do_where_kafka_has_forgotten(make_lake: LakeMaker, broker: Broker) -> None:
    lake = with_dead_letters(make_lake)
    [topic] = lake.topics
    ends = [TopicPartition(topic, p, -1) for p in (0, 1)]
    for future in broker.admin.delete_records(ends).values():
        future.result(30)
    declare(lake, price="VARCHAR")
    assert redriven(lake)["rows"] == 3
    assert [offset for offset, _ in prices(lake)] == [0, 1, 2, 3, 4, 5]
    lake.check()


def test_what_is_larger_than_what_is_kept_comes_from_kafka(
    make_lake: LakeMaker, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payloads, "MAX_VALUE_BYTES", 10)
    lake = with_dead_letters(make_lake)
    with Ledger(lake.paths) as ledger:
        for entry in ledger.dead_letters.up_to(NOW - 1):
            payload = ledger.dead_letters.payload(entry)
            assert payload is not None and payload.value is not None
            ledger.dead_letters.store.put(
                [(entry.topic_id, 0, entry.offset, payload.key, payload.value, payload.headers)]
            )
            cut = ledger.dead_letters.payload(entry)
            assert cut is not None and len(cut.value or b"") == 10
    declare(lake, price="VARCHAR")
    [(ref, spec)] = lake.config.tables()
    found = Redrive(lake.config, lake.config.endpoints(), ref, spec).run(
        threading.Event(), lambda entry: entry.offset == 1
    )
    assert (found.rows, found.unavailable) == (1, [])
    ends = [TopicPartition(ref.topic, p, -1) for p in (0, 1)]
    for future in broker.admin.delete_records(ends).values():
        future.result(30)
    found = Redrive(lake.config, lake.config.endpoints(), ref, spec).run(threading.Event())
    assert (found.rows, [e.offset for e in found.unavailable]) == (0, [3, 5])
    assert offsets_of_dead_letters(lake) == [3, 5], "they stay what they are"


@pytest.mark.parametrize("step", STEPS)
def test_a_redrive_killed_anywhere_repeats_none_and_loses_none(
    make_lake: LakeMaker, step: str
) -> None:
    lake = with_dead_letters(make_lake, sealed=step.endswith("in_ledger"))
    declare(lake, price="VARCHAR")
    killed = lake.start("dead-letters", "redrive", failpoint=step)
    assert killed.await_end() == -signal.SIGKILL, killed.text()
    again = lake.start("dead-letters", "redrive")
    assert again.await_end() == 0, again.text()
    assert [offset for offset, _ in prices(lake)] == [0, 1, 2, 3, 4, 5]
    assert offsets_of_dead_letters(lake) == []
    lake.check()


def test_two_that_redrive_at_once_bring_each_back_once(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    declare(lake, price="VARCHAR")
    workers = [lake.start("dead-letters", "redrive") for _ in range(2)]
    codes = sorted(worker.await_end() for worker in workers)
    assert codes in ([0, 0], [0, 1]), lake.show_logs()  # the second one finds none, or a conflict
    assert [offset for offset, _ in prices(lake)] == [0, 1, 2, 3, 4, 5]
    lake.check()


def test_a_redrive_beside_workers_and_compactor(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    declare(lake, price="VARCHAR")
    for words in (("consume",), ("consume",), ("compact",)):
        lake.start(*words)
    for _ in range(3):
        lake.loader.burst()
        worker = lake.start("dead-letters", "redrive", lake.topics[0])
        assert worker.await_end() in (0, 1), worker.text()
    lake.await_caught_up()
    lake.stop()
    assert [offset for offset, _ in prices(lake)] == [0, 1, 2, 3, 4, 5]
    lake.check()


def test_what_is_dropped_is_counted_no_more_and_stays_known(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    before = lake.last_commit()
    dropped = lake.start("dead-letters", "drop", f"{lake.topics[0]}/0/1", "--yes")
    assert dropped.await_end() == 0, dropped.text()
    assert offsets_of_dead_letters(lake) == [3, 5]
    assert lake.last_commit() > before, "downstream must hear of it"
    rest = lake.start("dead-letters", "drop", "--yes")
    assert rest.await_end() == 0, rest.text()
    assert said(lake, "list", "--json") == []
    with Ledger(lake.paths) as ledger:
        known = ledger.dead_letters.up_to(NOW - 1, all_states=True)
        assert [(entry.offset, entry.state) for entry in known] == [
            (offset, "dropped") for offset in (1, 3, 5)
        ]
        kept = [payload and payload.value for payload in ledger.dead_letters.payloads(known)]
        assert kept == [None, None, None]
    assert lake.verify() == ()
    rebuild = lake.start("replay", lake.topics[0], "--rebuild")
    assert rebuild.await_end() == 0, rebuild.text()
    assert offsets_of_dead_letters(lake) == [], "a rebuild decodes them again, and knows them"
    assert lake.verify() == ()


def test_a_table_that_is_being_rebuilt_takes_no_redrive(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    declare(lake, price="VARCHAR")
    [(ref, spec)] = lake.config.tables()
    with Ledger(lake.paths) as ledger:
        number = ledger.generations.begin(ref.topic, "alive")
        redrive = Redrive(lake.config, lake.config.endpoints(), ref, spec)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lake.opening.drop_abandoned", lambda ledger: None)
            with pytest.raises(CommitConflict, match="Run the same command again"):
                redrive.run(threading.Event())
        assert ledger.generations.drop_abandoned(ref.topic, number, "alive")
    assert redrive.run(threading.Event()).rows == 3


# Policies and limits ---------------------------------------------------------------------------


def send(lake: LakeUnderTest, *prices: str) -> None:
    for price in prices:
        lake.loader.send(lake.topics[0], 1, 0, extra={"price": price})


def states(lake: LakeUnderTest) -> list[tuple[int, str, bytes | None]]:
    """(offset, state, bytes) of all dead letters, whatever has become of them."""
    with Ledger(lake.paths) as ledger:
        known = ledger.dead_letters.up_to(NOW - 1, all_states=True)
        kept = ledger.dead_letters.payloads(known)
        return [
            (entry.offset, entry.state, None if payload is None else payload.value)
            for entry, payload in zip(known, kept, strict=True)
        ]


def problem_of(lake: LakeUnderTest) -> str:
    """What the consumer tells `ducklake status` of the table."""
    found = [read_json(file).get("parts", {}) for file in lake.paths.run.glob("consume*.json")]
    parts = [one[lake.topics[0]] for one in found if lake.topics[0] in one]
    return " ".join(part["reason"] for part in parts if part["state"] == "stopped")


def test_a_table_with_the_policy_stop_stops_and_goes_on_after_the_fix(
    make_lake: LakeMaker,
) -> None:
    lake = make_lake(ORDERS)
    declare(lake, price="DECIMAL(10,2)")
    set_policy(lake, policy="stop")
    send(lake, "1.50")
    worker = lake.start("consume")
    lake.await_caught_up()
    send(lake, "n/a", "2.50")
    until(lambda: "is `stop`" in problem_of(lake), "the table to stop")
    assert "the value does not fit DECIMAL(10,2)" in problem_of(lake)
    assert worker.exit_code() is None, "only the table stops"
    lake.stop()
    once = lake.start("consume", "--once")
    assert once.await_end() != 0 and "policy: quarantine" in once.text()
    assert prices(lake) == [(0, "1.50")] and states(lake) == []

    declare(lake, price="VARCHAR")
    set_policy(lake, policy="stop")
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    assert [price for _, price in prices(lake)] == ["1.50", "n/a", "2.50"]
    lake.check()


def test_a_full_quarantine_stops_the_table_until_there_is_room(make_lake: LakeMaker) -> None:
    lake = make_lake(ORDERS)
    declare(lake, price="DECIMAL(10,2)")
    set_policy(lake, max_rows=2)
    lake.start("consume")
    send(lake, "n/a", "n/a", "n/a")  # what is read at once may go beyond the limit
    lake.await_caught_up()
    assert len(states(lake)) == 3
    send(lake, "1.50")
    lake.await_caught_up()
    assert prices(lake) == [(3, "1.50")], "good rows go on"
    send(lake, "n/a", "2.50")
    until(lambda: "`max_rows` is 2" in problem_of(lake), "the table to stop")
    assert len(states(lake)) == 3

    dropped = lake.start("dead-letters", "drop", lake.topics[0], "--yes")
    assert dropped.await_end() == 0, dropped.text()
    lake.await_caught_up()  # by itself
    until(lambda: not problem_of(lake), "the table to be well")
    lake.stop()
    assert prices(lake) == [(3, "1.50"), (5, "2.50")]
    assert [(offset, state) for offset, state, _ in states(lake)] == [
        (0, "dropped"),
        (1, "dropped"),
        (2, "dropped"),
        (4, "dead"),
    ]
    assert lake.verify() == ()


def test_too_many_within_an_hour_stop_the_table(make_lake: LakeMaker) -> None:
    lake = make_lake(ORDERS)
    declare(lake, price="DECIMAL(10,2)")
    set_policy(lake, max_per_hour=2)
    send(lake, "n/a", "n/a")
    once = lake.start("consume", "--once")
    assert once.await_end() == 0, once.text()
    send(lake, "n/a")
    once = lake.start("consume", "--once")
    assert once.await_end() != 0 and "`max_per_hour` is 2" in once.text()
    set_policy(lake, max_per_hour=20)
    once = lake.start("consume", "--once")
    assert once.await_end() == 0, once.text()
    assert offsets_of_dead_letters(lake) == [0, 1, 2]


@pytest.mark.parametrize(
    "step", ["commit.before_ledger", "commit.in_ledger", "commit.after_ledger"]
)
def test_what_is_only_counted_is_counted_once_whoever_is_killed(
    make_lake: LakeMaker, step: str
) -> None:
    """Also after a rebuild, and whatever the policy is by then."""
    lake = make_lake(ORDERS)
    declare(lake, price="DECIMAL(10,2)")
    set_policy(lake, policy="drop")
    send(lake, "1.50", "n/a", "2.505", "3.50")
    killed = lake.start("consume", failpoint=step)
    assert killed.await_end() == -signal.SIGKILL, killed.text()
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    counted = [(1, "dropped", None), (2, "dropped", None)]
    assert states(lake) == counted and [o for o, _ in prices(lake)] == [0, 3]
    [listed] = said(lake, "list", "--json")
    assert (listed["count"], listed["dropped"]) == (0, 2)
    assert lake.verify() == ()

    if step == "commit.in_ledger":
        rebuild = lake.start("replay", lake.topics[0], "--rebuild")
        assert rebuild.await_end() == 0, rebuild.text()
        assert states(lake) == counted
        assert lake.verify() == ()


def test_what_was_kept_stays_kept_when_a_table_counts_only(make_lake: LakeMaker) -> None:
    lake = with_dead_letters(make_lake)
    before = states(lake)
    set_policy(lake, policy="drop")
    rebuild = lake.start("replay", lake.topics[0], "--rebuild")
    assert rebuild.await_end() == 0, rebuild.text()
    assert states(lake) == before and {state for _, state, _ in before} == {"dead"}
    declare(lake, price="VARCHAR")
    assert redriven(lake)["rows"] == 3
    lake.check()
