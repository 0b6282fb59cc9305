"""Promise 5: a producer's cursor moves in the same transaction as its rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
import yaml
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from lake.config import Config
from lake.errors import CursorMissing, ProducerFenced, ServiceUnreachable
from lake.kafka.sending import Outgoing, send
from lake.records import CURSORS_TOPIC, Record, Reject
from producers import transactions
from producers.base import Batch
from tests.integration.producers_lab import Lab, make_lab, unique, wait_until

pytestmark = pytest.mark.stack
STEPS = ("after_begin", "after_rows", "after_flush", "after_commit")
NUMBERS = """
    from lake.records import Record
    from producers.base import Batch, Connector

    ROWS, BATCHES = 10, {batches}

    class Numbers(Connector):
        def poll(self, cursors):
            done = cursors.get("numbers:all", {{}}).get("done", 0)
            while done < BATCHES:
                numbers = range(done * ROWS, done * ROWS + ROWS)
                done += 1
                records = [Record("numbers", str(n), {{"n": n}}) for n in numbers]
                yield Batch("numbers", "all", {{"done": done}}, records)
                if BATCHES > 100:
                    return  # without an end, but at leisure

        def count(self):
            return {{"numbers": ROWS * BATCHES}}
"""


@pytest.fixture
def numbers(tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A source that counts: ten rows a transaction."""
    return counting(tmp_path, stack_config, monkeypatch, batches=5)


def counting(folder: Path, stack: Config, monkeypatch: pytest.MonkeyPatch, batches: int) -> Lab:
    module = unique("numbers")
    (folder / f"{module}.py").write_text(textwrap.dedent(NUMBERS.format(batches=batches)))
    monkeypatch.syspath_prepend(str(folder))
    spec = {"type": f"{module}:Numbers", "poll_seconds": 0.2, "tables": {"numbers": {}}}
    lab = make_lab(folder, stack, spec)
    lab.environment["PYTHONPATH"] = ":".join(sys.path)
    return lab


def batch(done: int, *rows: int) -> Batch:
    records = [Record("numbers", str(n), {"n": n}) for n in rows]
    return Batch("numbers", "all", {"done": done}, records)


def test_a_producer_killed_at_any_step_repeats_and_loses_nothing(numbers: Lab) -> None:
    for step in STEPS:
        ended = numbers.produce_once(f"producer.{step}:2")
        assert ended.returncode == -9, (step, ended.stderr)
        # What is there is whole, and the cursor says so.
        done = (numbers.cursors().get("numbers:all") or [{"done": 0}])[-1]["done"]
        found = Counter(seen.row["n"] for seen in numbers.rows("numbers"))
        assert found == Counter(range(10 * done)), step
    assert done == 5  # one batch before each kill, and the one that was killed after its commit
    ended = numbers.produce_once()
    assert ended.returncode == 0, ended.stderr
    found = Counter(seen.row["n"] for seen in numbers.rows("numbers"))
    assert found == Counter(range(50)), "each row exactly once"
    assert [cursor["done"] for cursor in numbers.cursors()["numbers:all"]] == [1, 2, 3, 4, 5]


def test_a_fenced_producer_ends_and_does_not_fence_back(numbers: Lab) -> None:
    old = numbers.writer()
    old.write(batch(1, 1))
    new = numbers.writer()
    assert new.cursors == {"numbers:all": {"done": 1}}
    with pytest.raises(ProducerFenced, match="has taken over"):
        old.write(batch(2, 2))
    assert not old.usable
    new.write(batch(2, 3))
    assert [seen.row["n"] for seen in numbers.rows("numbers")].count(2) == 0
    assert sorted(seen.row["n"] for seen in numbers.rows("numbers")) == [1, 3]


def test_a_fenced_command_exits_with_3(
    tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = counting(tmp_path, stack_config, monkeypatch, batches=1_000_000)
    environment = {**os.environ, **lab.environment}
    with subprocess.Popen(
        lab.command(), env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(lambda: bool(lab.cursors()), "the first one writes")
            writer = lab.writer()
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 3, said
    assert "has taken over. Run one `ducklake produce`" in said
    writer.write(batch(1_000_000, -1))  # not fenced back
    found = Counter(seen.row["n"] for seen in lab.rows("numbers"))
    assert set(found.values()) == {1}


def test_a_hanging_transaction_never_makes_an_older_cursor_be_taken(
    numbers: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = numbers.writer()
    first.write(batch(1, 1))
    hanging = Producer(
        numbers.endpoints.kafka_client(transactional_id=unique("other"), linger_ms=0)
    )
    hanging.init_transactions(30)
    hanging.begin_transaction()
    try:
        hanging.produce(CURSORS_TOPIC, key=b"other:unit", value=b"{}")
        assert hanging.flush(30) == 0
        first.write(batch(2, 2))  # behind the open one: no reader of committed rows sees it yet
        monkeypatch.setattr(transactions, "READ_SECONDS", 2.0)
        with pytest.raises(ServiceUnreachable, match="a transaction is still open"):
            numbers.writer()
    finally:
        hanging.abort_transaction(30)
    monkeypatch.undo()
    assert numbers.writer().cursors == {"numbers:all": {"done": 2}}


def command(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """A command on the lab's lake; none ends in a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "ducklake.cli", *words, "--config", str(lab.config.path)],
        env={**os.environ, **lab.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def lose_the_cursor(lab: Lab) -> None:
    """Delete it, and see that it is missed."""
    lost = Outgoing(CURSORS_TOPIC, None, f"{lab.source}:numbers:all")
    send(Producer(lab.endpoints.kafka_client()), [lost])
    with pytest.raises(CursorMissing, match=r"has rows, but ducklake.cursors has no cursor") as no:
        lab.writer()
    assert "`ducklake restore`" in no.value.remedy and "`ducklake reset`" in no.value.remedy
    assert f"delete topic {lab.source}.numbers" in no.value.remedy


def test_rows_without_a_cursor_are_a_named_error_whose_remedies_work(
    numbers: Lab, tmp_path: Path
) -> None:
    numbers.writer().write(batch(1, 1))
    backup = str(tmp_path / "backup")
    assert command(numbers, "consume", "--once").returncode == 0
    assert command(numbers, "backup", backup).returncode == 0
    lose_the_cursor(numbers)
    done = command(numbers, "restore", backup, "--yes")
    assert done.returncode == 0, done.stderr
    assert numbers.writer().cursors == {"numbers:all": {"done": 1}}

    lose_the_cursor(numbers)
    assert command(numbers, "reset", "--yes").returncode == 0
    topic = f"{numbers.source}.numbers"
    admin = AdminClient(numbers.endpoints.kafka_client())
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=30).topics, "the topic is gone")
    assert command(numbers, "produce", numbers.source, "--once").returncode == 0
    assert command(numbers, "consume", "--once").returncode == 0
    assert Counter(seen.row["n"] for seen in numbers.rows("numbers")) == Counter(range(50))
    said = json.loads(command(numbers, "verify", "--json").stdout)
    assert said["exact"]


@pytest.mark.parametrize(
    "option",
    [
        {"no.such.option": "1"},
        {"security.protocol": "carrier pigeon"},
        {"enable.idempotence": "false"},
        {"error_cb": "print"},
    ],
)
def test_an_option_that_kafka_s_client_refuses_is_named_until_it_is_taken_out(
    numbers: Lab, option: dict[str, str]
) -> None:
    [name] = option
    path = numbers.config.path
    well = path.read_text()
    said = yaml.safe_load(well)
    said["services"]["kafka"]["options"] |= option
    path.write_text(yaml.safe_dump(said))
    commands = [f"produce {numbers.source} --once"]
    if name == "no.such.option":
        commands += ["config check --offline", "consume --once", "doctor"]
    for words in commands:
        done = command(numbers, *words.split())
        assert done.returncode in (1, 3), done.stderr
        assert "services.kafka: " in done.stderr + done.stdout
        assert name in done.stderr + done.stdout
        assert "Fix its options in ducklake.yml" in done.stderr + done.stdout
    path.write_text(well)
    assert command(numbers, "produce", numbers.source, "--once").returncode == 0


def test_aborted_rows_are_no_rows(numbers: Lab) -> None:
    other = Producer(numbers.endpoints.kafka_client(transactional_id=unique("other")))
    other.init_transactions(30)
    other.begin_transaction()
    for partition in (0, 1):
        other.produce(f"{numbers.source}.numbers", value=b"{}", partition=partition)
    assert other.flush(30) == 0
    other.abort_transaction(30)
    assert numbers.writer().cursors == {}


def test_a_row_that_no_message_can_hold_stops_no_other(numbers: Lab) -> None:
    rows = [
        Record("numbers", "1", {"n": 1}),
        Record("numbers", "2", {"n": 2, "text": "x" * (17 << 20)}),
        Record("numbers", "3", {"n": 1 << 80}),
        Record("numbers", "4", {"n": 4}),
    ]
    rejects = [Reject("numbers", b"\xff\x00", "as it came")]
    numbers.writer().write(Batch("numbers", "all", {"done": 1}, rows, rejects))
    assert sorted(seen.row["n"] for seen in numbers.rows("numbers")) == [1, 4]
    found = numbers.rejects()
    assert [seen.about["reason"].partition(",")[0] for seen in found] == [
        "a row of numbers: it has 17",
        "a row of numbers: JSON cannot hold it",
        "as it came",
    ]
    assert found[0].value is not None and found[0].value.startswith(b'{"n":2,"text":"xxx')
    assert found[2].value == b"\xff\x00"


def test_a_failed_write_leaves_the_writer_usable(numbers: Lab) -> None:
    writer = numbers.writer()
    too_large = Batch("numbers", "all" + "x" * (17 << 20), {}, [Record("numbers", "1", {"n": 1})])
    with pytest.raises(ServiceUnreachable, match="too large"):
        writer.write(too_large)
    assert writer.usable, "a new one would fence a successor"
    writer.write(batch(2, 2))
    assert writer.cursors == {"numbers:all": {"done": 2}}
    assert [seen.row["n"] for seen in numbers.rows("numbers")] == [2]


def test_a_record_that_the_broker_refuses_does_not_count_as_sent(stack_config: Config) -> None:
    kafka = stack_config.endpoints().kafka_client()
    topic = unique("narrow")
    narrow = NewTopic(topic, 1, 1, config={"max.message.bytes": "200"})
    admin = AdminClient(kafka)
    admin.create_topics([narrow])[topic].result()
    producer = Producer(kafka)
    send(producer, [Outgoing(topic, b"fits")])
    with pytest.raises(KafkaException, match="Message size too large"):
        send(producer, [Outgoing(topic, b"fits"), Outgoing(topic, os.urandom(300))])
