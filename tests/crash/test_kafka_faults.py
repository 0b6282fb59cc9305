"""What Kafka can do to a lake: die, come back, lose records, hang, and hand partitions around."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import duckdb
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import MemberDescription, NewPartitions, NewTopic

from lake.ledger import Ledger
from tests.crash.conftest import Broker, LakeMaker
from tests.crash.oracle import LakeUnderTest, Worker, until, utc

PAIR = {"orders": "plain", "stock": "plain"}


def is_stopped(worker: Worker) -> bool:
    stat = Path(f"/proc/{worker.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def _stop_at(lake: LakeUnderTest, failpoint: str) -> Worker:
    """A worker that stands still at a point, in the middle of what it does."""
    worker = lake.start("consume", failpoint=f"{failpoint}:stop")

    def stands() -> bool:
        lake.loader.burst()
        return is_stopped(worker)

    until(stands, f"a worker at {failpoint}")
    return worker


# The broker dies -----------------------------------------------------------------------------


def test_a_broker_killed_while_workers_fetch(make_watched_lake: LakeMaker, broker: Broker) -> None:
    lake = make_watched_lake(PAIR)
    worker = lake.start("consume")
    lake.loader.send(lake.topics[0], 10)
    lake.await_caught_up(lake.topics[:1])  # it has started, and reads
    lake.loader.send(lake.topics[0], 5_000)
    broker.kill()
    broker.await_back()
    lake.loader.burst()
    lake.await_caught_up()
    assert worker.exit_code() is None, lake.show_logs()
    lake.stop()
    lake.check()


@pytest.mark.parametrize("point", ["commit.before_ledger:2", "commit.before_advisory_offsets:2"])
def test_a_broker_killed_while_a_worker_commits(
    point: str, make_watched_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_watched_lake(PAIR)
    worker = _stop_at(lake, point)
    broker.kill()
    worker.signal(signal.SIGCONT)
    broker.await_back()
    lake.loader.burst()
    lake.await_caught_up()
    assert worker.exit_code() is None, lake.show_logs()
    lake.stop()
    lake.check()


# Zombies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["commit.before_write:2", "commit.before_ledger:2"])
def test_a_worker_that_hangs_and_comes_back_is_fenced(
    point: str, make_watched_lake: LakeMaker
) -> None:
    lake = make_watched_lake(PAIR)
    zombie = _stop_at(lake, point)
    lake.start("consume")
    lake.await_caught_up()  # once the group has given the zombie's partitions to the other one
    zombie.signal(signal.SIGCONT)
    until(lambda: "commit_conflict" in zombie.text(), "the fence")
    lake.loader.burst()
    lake.await_caught_up()
    assert zombie.exit_code() is None, lake.show_logs()
    lake.stop()
    lake.check()
    assert not list(lake.paths.orphans.rglob("*.parquet")), "it drops its own file"


def test_a_worker_that_hangs_beyond_the_poll_interval_comes_back(
    make_watched_lake: LakeMaker,
) -> None:
    """Its loop stands still, its heartbeats do not: Kafka takes its partitions all the same."""
    limits = {"max.poll.interval.ms": "10000", "session.timeout.ms": "10000"}
    lake = make_watched_lake(PAIR, options=limits)
    hanging = lake.start("consume", failpoint="commit.before_ledger:2:hang")

    def hangs() -> bool:
        lake.loader.burst()
        return "hangs at" in hanging.text()

    until(hangs, "a worker that hangs")
    other = lake.start("consume")
    lake.await_caught_up()  # by the other one, which got all partitions
    hanging.signal(signal.SIGCONT)
    until(lambda: "commit_conflict" in hanging.text(), "the fence")
    until(lambda: "maximum poll interval" in hanging.text(), "Kafka's word of it")
    lake.loader.burst()
    lake.await_caught_up()
    other.signal(signal.SIGTERM)
    assert other.await_end() == 0
    lake.loader.burst()
    lake.await_caught_up()  # by the one that came back
    assert hanging.exit_code() is None, lake.show_logs()
    lake.stop()
    lake.check()


def test_a_worker_stopped_in_the_ledger_holds_up_but_harms_nobody(
    make_watched_lake: LakeMaker,
) -> None:
    lake = make_watched_lake(PAIR)
    holder = _stop_at(lake, "commit.in_ledger:2")
    other = lake.start("consume")
    holder.signal(signal.SIGKILL)
    holder.await_end()
    lake.start("consume")
    lake.await_caught_up()
    assert other.exit_code() is None, lake.show_logs()
    lake.stop()
    lake.check()


def _group(lake: LakeUnderTest) -> str:
    return f"ducklake.{lake.config.settings.name}.lake"


def _members(lake: LakeUnderTest, broker: Broker) -> list[MemberDescription]:
    """Who is in the group of a lake's workers now, and with which partitions."""
    group = _group(lake)
    described = broker.admin.describe_consumer_groups([group])[group].result(30)
    return list(described.members)


def _shares(lake: LakeUnderTest, broker: Broker, topic: str) -> list[set[int]]:
    """The partitions of a topic that each worker reads now, in the order of their numbers."""
    members = sorted(_members(lake, broker), key=lambda m: m.group_instance_id or "")
    held = [m.assignment.topic_partitions for m in members]
    return [{p.partition for p in share if p.topic == topic} for share in held]


def test_a_second_worker_takes_half_of_a_topic(
    make_watched_lake: LakeMaker, broker: Broker
) -> None:
    """The rejects are no share of the work; Kafka moves topics in the order of their names."""
    lake = make_watched_lake({"orders": "plain"}, partitions=4, prefix="z")
    [topic] = lake.topics
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.start("consume")

    def sizes() -> list[int]:
        return [len(share) for share in _shares(lake, broker, topic)]

    until(lambda: len(sizes()) == 2 and sum(sizes()) == 4 and min(sizes()) > 0, "two shares")
    assert sizes() == [2, 2]
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    lake.check()


def test_a_worker_whose_name_another_takes_joins_anew(
    make_watched_lake: LakeMaker, broker: Broker
) -> None:
    """A broker that was killed may take it for another one, too: the client says it is fatal."""
    lake = make_watched_lake(PAIR)
    worker = lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    [member] = _members(lake, broker)
    thief = Consumer(
        {
            **broker.bootstrap,
            "group.id": _group(lake),
            "log_level": 0,
            "group.instance.id": member.group_instance_id,
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    thief.subscribe(lake.topics)

    def is_robbed() -> bool:
        thief.consume(10, 0.1)
        return "rejoining_group" in worker.text()

    until(is_robbed, "the worker to notice")
    thief.close()
    for _ in range(3):
        lake.loader.burst()
        lake.await_caught_up()
    assert worker.exit_code() is None, lake.show_logs()
    lake.stop()
    lake.check()


def test_two_workers_that_meet_new_columns_at_once_keep_both_in_silence(
    make_watched_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_watched_lake({"orders": "plain"}, partitions=4)
    [topic] = lake.topics
    lake.loader.send(topic, 40)  # no transaction, whose marker would be worth a commit
    first = lake.start("consume")
    lake.await_caught_up()
    second = lake.start("consume", failpoint="commit.before_ledger:1:stop")

    def is_shared() -> bool:
        held = _shares(lake, broker, topic)
        return len(held) == 2 and all(held) and set.union(*held) == set(range(4))

    until(is_shared, "the two workers to share the topic")
    of_first, of_second = map(min, _shares(lake, broker, topic))
    lake.loader.send(topic, 10, partition=of_second, extra={"colour": "red"})
    until(lambda: is_stopped(second), "the second worker, with its new column")
    lake.loader.send(topic, 10, partition=of_first, extra={"weight": 7})
    end = lake.loader.truths[topic].ends()[of_first]
    until(lambda: _positions(lake, topic)[of_first] == end, "the first worker's new column")
    second.signal(signal.SIGCONT)
    until(lambda: "commit_conflict" in second.text(), "the schema's fence")
    lake.await_caught_up()
    lake.stop()
    assert not any(w.exit_code() or "table_halted" in w.text() for w in (first, second))
    lake.check()  # no dead letter, too
    with Ledger(lake.paths) as ledger:
        files = [str(f.path) for f in ledger.files.live(topic)]
    with duckdb.connect() as db:
        found = db.execute(
            "SELECT colour, weight, count(*) FROM read_parquet(?, union_by_name = true)"
            " WHERE colour IS NOT NULL OR weight IS NOT NULL GROUP BY ALL ORDER BY ALL",
            [files],
        ).fetchall()
    assert found == [("red", None, 10), (None, 7, 10)]


# Transactions --------------------------------------------------------------------------------


def test_aborted_transactions_leave_no_row(make_watched_lake: LakeMaker) -> None:
    lake = make_watched_lake(PAIR)
    lake.start("consume")
    for _ in range(5):
        lake.loader.transaction(lake.topics, 20, "abort")
        lake.loader.transaction(lake.topics, 20)
    lake.loader.transaction(lake.topics, 20, "abort")
    lake.await_caught_up()
    lake.stop()
    lake.check()


def test_a_hanging_transaction_holds_up_its_topic_until_it_times_out(
    make_watched_lake: LakeMaker,
) -> None:
    lake = make_watched_lake(PAIR)
    lake.start("consume")
    held_up, free = lake.topics
    lake.loader.burst()
    hanging = lake.loader.transactional(timeout_ms=3_000)
    lake.loader.transaction([held_up], 10, "hang", hanging)
    lake.loader.send(held_up, 10)
    lake.loader.send(free, 10)
    lake.await_caught_up([free])
    assert not lake.caught_up([held_up]), "read past an open transaction"
    lake.await_caught_up()
    lake.stop()
    lake.check()


# Loss ----------------------------------------------------------------------------------------


def _truncate(broker: Broker, topic: str, partition: int, before: int) -> None:
    wanted = [TopicPartition(topic, partition, before)]
    [future] = broker.admin.delete_records(wanted).values()
    future.result(30)


def _halts(worker: Worker, topic: str, *words: str) -> None:
    def said() -> bool:
        return any(
            "table_halted" in line and topic in line and all(w in line for w in words)
            for line in worker.text().splitlines()
        )

    until(said, lambda: f"{topic} stopped with {words}\n{worker.text()}")


def test_records_lost_while_nobody_read_stop_their_table_alone(
    make_watched_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_watched_lake(PAIR)
    broken, sound = lake.topics
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    lake.loader.send(broken, 100, partition=0)
    end = lake.loader.truths[broken].ends()[0]
    with Ledger(lake.paths) as ledger:
        state = ledger.tables.get(broken)
    assert state is not None
    _truncate(broker, broken, 0, end - 40)
    lake.loader.forget(broken, 0, state.positions[0], end - 40)
    worker = lake.start("consume")
    _halts(worker, broken, f"offsets {state.positions[0]} to {end - 41}", "ducklake accept-loss")
    lake.loader.send(sound, 30)
    lake.await_caught_up([sound])
    lake.stop()
    _accept_and_go_on(lake, broken)


def test_records_lost_under_a_reader_stop_its_table(
    make_watched_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_watched_lake(PAIR)
    broken, sound = lake.topics
    lake.loader.burst()
    worker = _stop_at(lake, "commit.before_advisory_offsets:3")
    lake.loader.send(broken, 20_000, partition=0)
    end = lake.loader.truths[broken].ends()[0]
    _truncate(broker, broken, 0, end)
    worker.signal(signal.SIGCONT)
    _halts(worker, broken, "ducklake accept-loss")
    lake.loader.send(sound, 30)
    lake.await_caught_up([sound])
    lake.stop()
    with Ledger(lake.paths) as ledger:
        state = ledger.tables.get(broken)
    assert state is not None
    lake.loader.forget(broken, 0, state.positions.get(0, 0), end)
    _accept_and_go_on(lake, broken)


def _accept_and_go_on(lake: LakeUnderTest, topic: str) -> None:
    assert lake.start("accept-loss", topic, "--yes").await_end() == 0, lake.show_logs()
    lake.loader.burst()
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    lake.check()


def test_an_idle_table_whose_topic_expired_goes_on_in_silence(
    make_watched_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_watched_lake(PAIR)
    topic = lake.topics[0]
    lake.start("consume")
    lake.loader.burst()
    lake.loader.transaction([topic], 10, "abort")  # retention takes its markers, too
    lake.await_caught_up()
    ends = {p: _high(broker, topic, p) for p in range(2)}
    until(lambda: _positions(lake, topic) == ends, "the positions past what was aborted")
    lake.stop()
    for partition, end in ends.items():
        _truncate(broker, topic, partition, end)
    worker = lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    assert "table_halted" not in worker.text()
    lake.check()


def _positions(lake: LakeUnderTest, topic: str) -> dict[int, int]:
    with Ledger(lake.paths) as ledger:
        state = ledger.tables.get(topic)
    return dict(state.positions) if state else {}


def _high(broker: Broker, topic: str, partition: int) -> int:
    from confluent_kafka import Consumer

    consumer = Consumer({**broker.bootstrap, "group.id": "ends"})
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, partition), 30)[1])
    finally:
        consumer.close()


@pytest.mark.parametrize("while_it_runs", [False, True])
def test_a_recreated_topic_stops_its_table_until_accepted(
    while_it_runs: bool, make_watched_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_watched_lake(PAIR)
    broken, sound = lake.topics
    worker = lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    if not while_it_runs:
        lake.stop()
    before = dict(lake.loader.truths[broken].rows)
    admin = broker.admin
    admin.delete_topics([broken])[broken].result(30)
    until(lambda: broken not in admin.list_topics(timeout=10).topics, "the topic gone")
    admin.create_topics([NewTopic(broken, 2, 1)])[broken].result(30)
    lake.loader.add_topic(broken, "plain")
    lake.loader.send(broken, len(before) + 200)  # more than before: no offset is out of range
    if not while_it_runs:
        worker = lake.start("consume")
    _halts(worker, broken, "made again", "ducklake accept-loss")
    lake.loader.send(sound, 30)
    lake.await_caught_up([sound])
    lake.stop()
    assert lake.start("accept-loss", broken, "--yes").await_end() == 0, lake.show_logs()
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    lake.seal()
    assert lake.verify() == ()
    with Ledger(lake.paths) as ledger:
        files = [str(f.path) for f in ledger.files.live(broken)]
    with duckdb.connect() as db:
        found = db.execute(
            "SELECT _topic_epoch, _partition, _offset, id FROM read_parquet(?)", [files]
        ).fetchall()
    now = lake.loader.truths[broken].rows
    expected = {(0, *key): row["id"] for key, row in before.items()}
    expected |= {(1, *key): row["id"] for key, row in now.items()}
    assert len(found) == len(expected)
    assert {row[:3]: row[3] for row in found} == expected


def test_more_partitions_stop_the_table_until_accepted(
    make_watched_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_watched_lake(PAIR)
    topic = lake.topics[0]
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    broker.admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    until(lambda: lake.loader.sees(topic, 3), "the new partition")
    worker = lake.start("consume")
    _halts(worker, topic, "2 partitions and now has 3", "ducklake accept-loss")
    lake.stop()
    _accept_and_go_on(lake, topic)
    lake.loader.send(topic, 20, partition=2)
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    lake.check()


# Time ----------------------------------------------------------------------------------------


def test_midnight_inside_a_batch_and_clocks_that_jump(make_watched_lake: LakeMaker) -> None:
    lake = make_watched_lake(PAIR)
    topic = lake.topics[0]
    midnight = utc("2026-03-01T00:00:00")
    lake.loader.send(topic, 10, partition=0, moment=lambda n: midnight - 5 + n)
    back_and_forth = (0, 86_400_000, -86_400_000, 40 * 86_400_000, -1, 1)
    lake.loader.send(topic, 60, moment=lambda n: midnight + back_and_forth[n % 6])
    lake.start("consume")
    lake.await_caught_up()
    lake.stop()
    lake.check()
    days = {"/".join(p.parts[-4:-1]) for p in lake.paths.raw(lake.refs[topic]).rglob("*.parquet")}
    assert days == {
        "year=2026/month=02/day=28",
        "year=2026/month=03/day=01",
        "year=2026/month=03/day=02",
        "year=2026/month=04/day=10",
    }


def test_verify_as_a_command_says_exact(make_watched_lake: LakeMaker) -> None:
    lake = make_watched_lake(PAIR)
    lake.start("consume")
    lake.loader.burst()
    lake.await_caught_up()
    lake.stop()
    verify = lake.start("verify", "--json")
    assert verify.await_end() == 0
    [line] = [x for x in verify.text().splitlines() if x.startswith("{")]
    verdict = json.loads(line)
    assert verdict["exact"] is True
    assert verdict["rows"] == sum(len(t.rows) for t in lake.loader.truths.values())
