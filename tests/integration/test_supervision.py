"""`ducklake run` on real services: what stops, hangs or loops is told, and recovers by itself."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncssh
import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ducklake.cli.live import LiveView
from ducklake.supervision.condition import Condition, Problem, look
from ducklake.supervision.roles import RoleSupervisor
from lake.config import Config
from lake.failpoints import ENVIRONMENT
from lake.formats import RunSummary
from lake.ledger import Ledger
from lake.processes.heartbeat import HANG_SECONDS, RoleHeartbeat
from lake.storage.paths import LakePaths
from producers import source_loop
from producers.runner import SourceRunner
from stack.ports import LOOPBACK
from tests.integration.producers_lab import Lab, make_lab, unique, wait_until

pytestmark = pytest.mark.stack

SHAKY = """
from pathlib import Path
from lake.records import Record
from producers.base import Batch, Connector

class Shaky(Connector):
    def poll(self, cursors):
        (table,) = self.source.tables
        if Path(__file__).with_name("broken").exists():
            raise KeyError("juan.perez@example.com")
        done = int(cursors.get(f"{table}:all", {}).get("done", 0)) + 1
        yield Batch(table, "all", {"done": done}, [Record(table, str(done), {"n": done})])

    def count(self):
        return {}

class Sound(Shaky):
    def poll(self, cursors):
        (table,) = self.source.tables
        done = int(cursors.get(f"{table}:all", {}).get("done", 0)) + 1
        yield Batch(table, "all", {"done": done}, [Record(table, str(done), {"n": done})])
"""


def command(config: Config, *words: str) -> list[str]:
    return [sys.executable, "-m", "ducklake.cli", *words, "--config", str(config.path)]


def ask(config: Config, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, *words), cwd=config.root, capture_output=True, text=True, timeout=60
    )


def problem(config: Config, subject: str, state: str = "") -> Problem | None:
    found = [p for p in look(config).problems if p.subject == subject]
    return next((p for p in found if not state or p.state == state), None)


def await_problem(config: Config, subject: str, state: str = "") -> Problem:
    wait_until(lambda: problem(config, subject, state) is not None, f"{subject} {state}")
    found = problem(config, subject, state)
    assert found is not None
    return found


def rows(config: Config, topic: str) -> int:
    if not LakePaths(config.data_dir).ledger.exists():
        return 0
    with Ledger(LakePaths(config.data_dir)) as ledger:
        return ledger.offsets.row_count(topic) if ledger.tables.get(topic) is not None else 0


Start = Callable[[Config, Mapping[str, tuple[str, ...]]], RoleSupervisor]


@pytest.fixture
def start() -> Iterator[Start]:
    supervisors: list[RoleSupervisor] = []

    def begin(config: Config, roles: Mapping[str, tuple[str, ...]]) -> RoleSupervisor:
        supervisors.append(RoleSupervisor(config, roles))
        supervisors[-1].start()
        return supervisors[-1]

    yield begin
    for supervisor in supervisors:
        supervisor.stop()


def test_a_broken_connector_is_told_and_asked_again_while_others_go_on(
    tmp_path: Path, stack_config: Config, start: Start
) -> None:
    (tmp_path / "shaky.py").write_text(SHAKY)
    (tmp_path / "broken").touch()
    sound = unique("sound")
    spec: dict[str, Any] = {"poll_seconds": 0.5}
    lab = make_lab(
        tmp_path,
        stack_config,
        {"type": "shaky:Shaky", "tables": {"things": {}}, **spec},
        more={sound: {"type": "shaky:Sound", "tables": {"others": {}}, **spec}},
    )
    start(lab.config, {"produce": ("produce",), "consume": ("consume",)})
    told = await_problem(lab.config, f"source {lab.source}", "retrying")
    assert "shaky.Shaky" in told.reason and "KeyError in poll, line" in told.reason
    assert "juan.perez" not in told.line()
    assert told.next_attempt is not None
    before = rows(lab.config, f"{sound}.others")
    wait_until(lambda: rows(lab.config, f"{sound}.others") > before + 2, "the other source's rows")
    shown = ask(lab.config, "status")
    assert shown.returncode == 3, shown.stdout
    assert f"1 problem: source {lab.source} retrying" in shown.stdout
    plain = json.loads(ask(lab.config, "status", "--json").stdout)
    assert plain["healthy"] is False and plain["roles"]["consume"]["state"] == "healthy"
    log = (lab.config.data_dir / "logs" / "produce.log").read_text()
    assert "Traceback" not in log and "juan.perez" not in log
    (tmp_path / "broken").unlink()
    wait_until(lambda: rows(lab.config, f"{lab.source}.things") > 0, "the mended source's rows")
    wait_until(lambda: look(lab.config).healthy, "all well")
    assert ask(lab.config, "status").returncode == 0


def fill(lab: Lab, topic: str, count: int = 50) -> None:
    producer = Producer(lab.endpoints.kafka_client())
    for number in range(count):
        producer.produce(topic, json.dumps({"n": number}).encode())
    assert producer.flush(30) == 0


@pytest.fixture
def feed(tmp_path: Path, stack_config: Config) -> tuple[Lab, str]:
    """A lake of one table, whose topic others write."""
    lab = make_lab(tmp_path, stack_config, {"type": "kafka", "tables": {"things": {}}})
    topic = f"{lab.source}.things"
    admin = AdminClient(lab.endpoints.kafka_client())
    admin.create_topics([NewTopic(topic, 2, 1)], operation_timeout=30)[topic].result(30)
    return lab, topic


def test_a_consumer_that_hangs_is_told_and_replaced(
    feed: tuple[Lab, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, topic = feed
    monkeypatch.setenv(HANG_SECONDS, "10")
    monkeypatch.setenv(ENVIRONMENT, "commit.before_advisory_offsets:1:hang")
    fill(lab, topic)
    supervisor = start(lab.config, {"consume": ("consume",)})
    wait_until(lambda: "consume" in supervisor.processes(), "a consumer")
    first = supervisor.processes()["consume"]
    monkeypatch.delenv(ENVIRONMENT)  # the one after it shall go on
    told = await_problem(lab.config, "consume", "hanging")
    assert "nothing moves since" in told.reason
    wait_until(lambda: supervisor.processes().get("consume") not in (first, None), "another one")
    fill(lab, topic)
    wait_until(lambda: rows(lab.config, topic) == 100, "all rows, each once")
    wait_until(lambda: look(lab.config).healthy, "all well")
    assert look(lab.config).roles[0].restarts == 1


def test_a_dead_batch_is_told_and_nobody_says_that_all_is_well(
    feed: tuple[Lab, str], start: Start
) -> None:
    lab, _ = feed
    with Ledger(LakePaths(lab.config.data_dir)) as ledger:
        ledger.runs.record(time.time() - 60, 2.0, 0, RunSummary(1, 3, 9, 0, 0, {}, {}, None))
    start(lab.config, {"batch": ("batch", "--no-such-option")})
    told = await_problem(lab.config, "batch", "crash-looping")
    assert told.reason and str(lab.config.data_dir / "logs" / "batch.log") in told.remedy
    screen = io.StringIO()
    view = LiveView(lab.config, screen)
    try:
        view._next_at = 0.0
        view.refresh()
    finally:
        view.close()
    assert "all tests passed" not in screen.getvalue()
    assert "1 problem: batch crash-looping" in screen.getvalue()
    asked = ask(lab.config, "report")
    assert asked.returncode == 1 and "1 problem: batch crash-looping" in asked.stderr
    assert ask(lab.config, "status").returncode == 3


def test_a_table_that_lost_records_is_told_and_goes_on_once_that_is_accepted(
    feed: tuple[Lab, str], start: Start
) -> None:
    lab, topic = feed
    fill(lab, topic)
    start(lab.config, {"consume": ("consume",)})
    wait_until(lambda: rows(lab.config, topic) == 50, "the rows")
    admin = AdminClient(lab.endpoints.kafka_client())
    partitions = len(admin.list_topics(timeout=30).topics[topic].partitions)
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=30).topics, "the topic gone")
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)
    fill(lab, topic, 70)
    told = await_problem(lab.config, f"table {topic}", "stopped")
    wait_until(
        lambda: "accept-loss" in await_problem(lab.config, f"table {topic}").remedy, "the remedy"
    )
    shown = ask(lab.config, "status")
    assert shown.returncode == 3
    assert f"table {topic} stopped" in shown.stdout and "ducklake accept-loss" in shown.stdout
    assert told.reason.startswith("Topic")
    accepted = ask(lab.config, "accept-loss", topic, "--yes")
    assert accepted.returncode == 0, accepted.stderr
    assert "within seconds" in accepted.stdout
    wait_until(lambda: rows(lab.config, topic) == 120, "the rows of the new topic")
    wait_until(lambda: look(lab.config).healthy, "all well")
    assert ask(lab.config, "verify").returncode == 0


def test_a_refused_password_is_asked_again_until_it_is_right(
    tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "server"
    (folder / "root" / "drop").mkdir(parents=True)
    (folder / "root" / "drop" / "stock.csv").write_text("sku,stock\nA,1\nB,2\n")
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(folder / "host_key"))
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "known_hosts").write_text(
        f"[{LOOPBACK}]:{port} {key.export_public_key().decode().strip()}\n"
    )
    server = {
        "host": LOOPBACK,
        "port": port,
        "user": "supplier",
        "password": "right",
        "known_hosts": str(tmp_path / "known_hosts"),
    }
    spec = {
        "type": "sftp",
        "directory": "/drop",
        "poll_seconds": 0.5,
        "tables": {"stock": {"file": "stock.csv"}},
    }
    lab = make_lab(tmp_path, stack_config, spec, {"sftp": server})
    monkeypatch.setattr(source_loop, "RETRY_SECONDS", 0.3)
    heartbeat = RoleHeartbeat(LakePaths(lab.config.data_dir).run, "produce")
    stop = threading.Event()
    runner = SourceRunner(lab.config, lab.endpoints, heartbeat=heartbeat)
    thread = threading.Thread(target=runner.run, args=(stop,))
    try:
        with SftpServer(folder, port, "wrong"):
            thread.start()
            told = await_problem(lab.config, f"source {lab.source}", "retrying")
            wait_until(
                lambda: "refuses the user"
                in await_problem(lab.config, f"source {lab.source}").reason,
                "a refusal",
            )
            assert told.remedy or told.reason
        with SftpServer(folder, port, "right"):
            wait_until(lambda: len(lab.rows("stock")) == 2, "the file's rows")
            wait_until(lambda: look(lab.config).healthy, "all well")
    finally:
        stop.set()
        thread.join(10)
        heartbeat.close()


class SftpServer:
    """A server of one user on a fixed port."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        (folder / "password").write_text(password)
        self._words = ["--port", str(port), "--user", "supplier", "--folder", str(folder)]

    def __enter__(self) -> None:
        words = [sys.executable, "-m", "stack.sftp", *self._words]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert b"listening" in self._process.stdout.readline()

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


# The supervisor itself ---------------------------------------------------------------------------


class Run:
    """`ducklake run` as a process."""

    def __init__(self, config: Config, log: Path) -> None:
        self.config = config
        with log.open("ab") as out:
            self.process = subprocess.Popen(command(config, "run"), stdout=out, stderr=out)

    def roles(self) -> list[psutil.Process]:
        return [
            psutil.Process(role.pid)
            for role in look(self.config).roles
            if role.state == "healthy" and role.pid
        ]

    def await_roles(self, count: int = 5) -> list[psutil.Process]:
        wait_until(lambda: len(self.roles()) == count, "all roles")
        return self.roles()


@pytest.fixture
def running(feed: tuple[Lab, str], tmp_path: Path) -> Iterator[Run]:
    (tmp_path / "dbt_techstore").mkdir()
    (tmp_path / "dbt_techstore" / "dbt_project.yml").write_text("name: nothing\n")
    run = Run(feed[0].config, tmp_path / "run.txt")
    yield run
    run.process.kill()
    run.process.wait()


def gone(processes: list[psutil.Process]) -> bool:
    def runs(process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(runs(process) for process in processes)


def test_a_second_run_is_refused_and_a_killed_one_is_not_shown_as_running(running: Run) -> None:
    roles = running.await_roles()
    second = ask(running.config, "run")
    assert second.returncode == 1
    assert f"process {running.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    wait_until(lambda: gone(roles), "no role outlives its supervisor", 5)
    shown = ask(running.config, "status")
    assert shown.returncode == 3
    assert "`ducklake run` gone" in shown.stdout
    assert "healthy" not in shown.stdout
    assert {role.state for role in look(running.config).roles} == {"gone"}


def test_a_term_signal_ends_all_in_order_and_leaves_no_problem(running: Run) -> None:
    roles = running.await_roles()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    assert gone(roles)
    assert look(running.config) == Condition()
    assert ask(running.config, "status").returncode == 4


def test_a_second_term_signal_ends_it_at_once(running: Run) -> None:
    roles = running.await_roles()
    consumer = next(process for process in roles if "consume" in process.cmdline())
    consumer.suspend()  # it would be waited for
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) != 0
    wait_until(lambda: gone(roles), "no role outlives its supervisor", 5)


def test_a_lone_role_is_shown_and_a_killed_one_is_not_taken_for_running(
    feed: tuple[Lab, str],
) -> None:
    lab, _ = feed
    process = subprocess.Popen(command(lab.config, "consume"), stderr=subprocess.DEVNULL)

    def seen() -> dict[str, Any]:
        return {role.name: role.state for role in look(lab.config).roles}

    try:
        wait_until(lambda: seen() == {"consume": "healthy"}, "the role")
        assert ask(lab.config, "status").returncode == 0
    finally:
        process.kill()
        process.wait()
    assert seen() == {"consume": "gone"}
    assert ask(lab.config, "status").returncode == 3
