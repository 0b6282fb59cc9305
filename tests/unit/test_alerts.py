"""Alerts: once as something begins and once as it ends, to real servers, without rows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from batcher.failures import Failure
from ducklake.alerts.notifier import QUIET_SECONDS, START_SECONDS, Notifier
from ducklake.alerts.targets import targets
from ducklake.monitoring.alert_state import alert_state
from ducklake.monitoring.causes import causes
from ducklake.monitoring.light import Light
from ducklake.monitoring.lineage import Lineage
from ducklake.monitoring.observation import Observation, with_kafka
from ducklake.monitoring.trust import TableTrust
from ducklake.supervision.condition import NOT_EQUAL, Condition, Problem, RoleView
from ducklake.supervision.freshness import STALLED, HopFreshness, TableFreshness
from lake.config import Config, load_config
from lake.errors import ConfigError
from lake.failpoints import ENVIRONMENT
from lake.formats import RunSummary
from lake.lags import HOPS
from lake.ledger.entries import Run
from lake.processes.heartbeat import SILENT, STOPPED, Heartbeat, Part, RoleHeartbeat
from lake.storage.paths import LakePaths
from tests.hook import Hook

SECRET = "juan.perez@example.com"
PASSWORD = "hunter2hunter2"
SETTINGS = """\
name: told
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources: {shop: {type: kafka, tables: {orders: {}}}}
metrics: {port: off}
alerts: ALERTS
"""
TABLE = Problem("table shop.orders", "stopped", 1.0, f"It reads {SECRET}.", "ducklake accept-loss")


class Mailbox:
    """An SMTP server's handler."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []

    async def handle_DATA(  # noqa: N802 - the library's name
        self, server: object, session: object, envelope: Envelope
    ) -> str:
        self.got.append(envelope)
        return "250 OK"


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        time.sleep(0.02)


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.close()


def configured(folder: Path, alerts: str) -> Config:
    (folder / "ducklake.yml").write_text(SETTINGS.replace("ALERTS", alerts))
    return load_config(folder / "ducklake.yml")


def seen(*problems: Problem, roles: tuple[str, ...] = (), **more: Any) -> Observation:
    views = tuple(RoleView(name, "healthy", 1, 0.0, 0, "", "", {}) for name in roles)
    return Observation(time.time(), Condition(views, problems), **more)


class Told:
    """A notifier whose clock the test moves."""

    def __init__(self, config: Config, heartbeat: Heartbeat = SILENT) -> None:
        self.notifier = Notifier(config, targets(config)[0], heartbeat)
        self.now = 1000.0
        self.notifier.start()

    def look(self, found: Observation, after: float = 0.0) -> None:
        self.now += after
        self.notifier.look(found, self.now)

    def ends(self, found: Observation, after: float = QUIET_SECONDS) -> None:
        """Look until what is gone has been gone for long."""
        self.look(found)
        self.look(found, after + 1)

    def stop(self) -> None:
        self.notifier.stop()


BEGIN = ("begin", "table shop.orders", "stopped")
END = ("end", "table shop.orders", "stopped")


def test_it_is_told_once_as_it_begins_and_once_as_it_ends(tmp_path: Path, hook: Hook) -> None:
    told = Told(configured(tmp_path, f"{{to: ['{hook.address}']}}"))
    for _ in range(3):
        told.look(seen(TABLE), after=5)
    told.look(seen(replace(TABLE, state="crash-looping", reason="another")))
    told.look(seen(), after=5)  # it comes and goes
    told.look(seen(TABLE), after=3)
    wait_until(lambda: hook.got, "the alert")
    assert hook.said() == [BEGIN]
    told.ends(seen())
    wait_until(lambda: len(hook.got) == 2, "the end")
    told.look(seen(), after=100)
    told.ends(seen(TABLE))
    wait_until(lambda: len(hook.got) == 3, "the next one")
    told.stop()
    assert hook.said() == [BEGIN, END, BEGIN]
    assert len(set(hook.keys)) == 3
    assert hook.got[0]["alert"] == hook.got[1]["alert"] != hook.got[2]["alert"]


def test_a_restart_repeats_nothing_and_still_tells_the_end(tmp_path: Path, hook: Hook) -> None:
    config = configured(tmp_path, f"{{to: ['{hook.address}']}}")
    for _ in range(3):
        told = Told(config)
        told.look(seen(TABLE), after=5)
        wait_until(lambda: not alert_state(LakePaths(config.data_dir)).messages, "all sent")
        told.stop()
    assert hook.said() == [BEGIN]
    told = Told(config)
    told.ends(seen())  # its role may not have found it again yet
    assert hook.said() == [BEGIN]
    told.ends(seen(), START_SECONDS)
    wait_until(lambda: len(hook.got) == 2, "the end")
    told.stop()
    assert hook.said() == [BEGIN, END]


def test_what_a_killed_role_cannot_tell_has_not_ended(tmp_path: Path, hook: Hook) -> None:
    told = Told(configured(tmp_path, f"{{to: ['{hook.address}']}}"))
    told.look(seen(TABLE, roles=("consume",)))
    wait_until(lambda: hook.got, "the alert")
    gone = Problem("consume", "crash-looping", 1.0, "It was killed.", "")
    told.ends(seen(gone, roles=("consume",)))
    wait_until(lambda: len(hook.got) == 2, "the role")
    told.stop()
    assert hook.said() == [BEGIN, ("begin", "consume", "crash-looping")]


@pytest.mark.parametrize("failpoint", ["alerts.before_send", "alerts.after_send"])
def test_a_monitor_that_is_killed_while_it_sends_never_tells_twice(
    tmp_path: Path, hook: Hook, failpoint: str
) -> None:
    config = configured(tmp_path, f"{{to: ['{hook.address}']}}")
    paths = LakePaths(config.data_dir)
    consumer = RoleHeartbeat(paths.run, "consume")
    consumer.part("shop.orders", Part("table", STOPPED, reason=SECRET))
    consumer.beat("reading")
    command = [sys.executable, "-m", "ducklake.cli", "monitor", "--config", str(config.path)]
    killed = subprocess.run(
        command, env={**os.environ, ENVIRONMENT: failpoint}, capture_output=True, timeout=120
    )
    assert killed.returncode == -9
    before = hook.said()
    assert before == ([BEGIN] if failpoint == "alerts.after_send" else before)
    again = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: not alert_state(paths).messages, "nothing waits")
        wait_until(lambda: len(hook.got) == len(before) or hook.got, "the other causes")
    finally:
        again.terminate()
        again.wait()
        consumer.close()
    assert len(hook.keys) == len(set(hook.keys)), "something was told twice"
    assert [one.subject for one in alert_state(paths).active].count("table shop.orders") == 1


def test_a_target_that_is_down_gets_all_of_it_later_and_status_says_so(
    tmp_path: Path, hook: Hook
) -> None:
    other = Hook()
    config = configured(tmp_path, f"{{to: ['{hook.address}', '{other.address}']}}")
    paths = LakePaths(config.data_dir)
    heartbeat = RoleHeartbeat(paths.run, "monitor")
    port = hook.server_address[1]
    hook.close()
    told = Told(config, heartbeat)
    told.look(seen(TABLE))
    wait_until(lambda: other.got, "the other target")
    other.close()

    def shown() -> Part | None:
        heartbeat.beat("looking")
        return heartbeat._parts.get("1 (webhook)")

    wait_until(lambda: (part := shown()) is not None and part.state == "retrying", "it is told")
    status = subprocess.run(
        [sys.executable, "-m", "ducklake.cli", "status", "--config", str(config.path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert status.returncode == 3 and "alert target 1 (webhook) retrying" in status.stdout
    assert "ducklake alerts test" in status.stdout and str(port) not in status.stdout
    told.ends(seen())
    back = Hook(port)
    wait_until(lambda: len(back.got) == 2, "both messages")
    told.stop()
    heartbeat.close()
    back.close()
    assert back.said() == [BEGIN, END]


def test_a_target_that_refuses_is_asked_again_with_the_same_id(tmp_path: Path, hook: Hook) -> None:
    hook.status = 500
    told = Told(configured(tmp_path, f"{{to: ['{hook.address}']}}"))
    told.look(seen(TABLE))
    wait_until(lambda: len(hook.keys) >= 2, "a second try")
    hook.status = 200
    wait_until(lambda: hook.got, "the alert")
    told.stop()
    assert hook.said() == [BEGIN] and len(set(hook.keys)) == 1


def test_a_mail_arrives_and_holds_no_contents_of_a_row(tmp_path: Path) -> None:
    mailbox = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    server.start()
    address = f"mailto://127.0.0.1:{port}?from=lake@example.com&to=team@example.com&mode=insecure"
    try:
        told = Told(configured(tmp_path, f"{{to: ['{address}']}}"))
        told.look(seen(TABLE))
        told.ends(seen())
        wait_until(lambda: len(mailbox.got) == 2, "two mails")
        told.stop()
    finally:
        server.stop()
    texts = [str(mail.content or b"") for mail in mailbox.got]
    assert "table shop.orders stopped" in texts[0].replace("_", " ")
    assert "ended" in texts[1]
    assert mailbox.got[0].rcpt_tos == ["team@example.com"]
    assert not any(SECRET in text for text in texts)


def test_a_command_gets_the_alert_and_one_that_fails_is_run_again(tmp_path: Path) -> None:
    script = tmp_path / "tell"
    script.write_text(
        "#!/bin/sh\ncat >> got\n[ -e second ] && echo >> got && exit 0\ntouch second\nexit 7\n"
    )
    script.chmod(0o755)
    told = Told(configured(tmp_path, "{to: [{command: ./tell}]}"))
    told.look(seen(TABLE))
    state = LakePaths(tmp_path / "data")
    wait_until(lambda: alert_state(state).active and not alert_state(state).messages, "sent")
    told.stop()
    tries = (tmp_path / "got").read_text().replace("}{", "}\n{").splitlines()
    assert [json.loads(line)["subject"] for line in tries] == ["table shop.orders"] * 2
    assert SECRET not in (tmp_path / "got").read_text()


# What is a cause ---------------------------------------------------------------------------------


def found(tmp_path: Path, alerts: str, what: Observation, lineage: Lineage) -> set[tuple[str, ...]]:
    config = configured(tmp_path, alerts)
    return {(c.kind, c.subject, c.state) for c in causes(config, what, lineage)}


def test_of_models_that_are_held_back_the_first_is_told(tmp_path: Path) -> None:
    lineage = Lineage({"consume.b": ("staging.a",), "staging.a": ("raw.orders",)})
    held = {"staging.a": f"test t: {SECRET}", "consume.b": "waits for staging.a"}
    run = Run(1, 5.0, 1.0, 0, 1, RunSummary(1, 2, 2, 1, 0, held))
    failing = (
        Failure("t", ("staging.a",), "fail", SECRET, "", (), (), 3.0, 4.0, 1),
        Failure("source_test", ("raw.orders",), "fail", SECRET, "", (), (), 3.0, 4.0, 1),
        Failure("soft", ("raw.orders",), "warn", SECRET, "", (), (), 3.0, 4.0, 1),
    )
    what = seen(run=run, failures=failing)
    assert found(tmp_path, "{}", what, lineage) == {
        ("tests", "model staging.a", "held back"),
        ("tests", "test source_test", "failed"),
    }
    assert not found(tmp_path, "{tests: off}", what, lineage)


def test_each_kind_can_be_set_and_turned_off(tmp_path: Path) -> None:
    good = Light()
    hops = {hop: HopFreshness(STALLED if hop == "raw" else "current", now_s=120.0) for hop in HOPS}
    what = seen(
        Problem("table shop.items", NOT_EQUAL, 1.0, "", ""),
        Problem("alert target 1 (webhook)", "retrying", 1.0, "", ""),
        Problem("consume", "gone", 1.0, "", ""),
        freshness=(TableFreshness("shop.orders", hops),),
        tables=(TableTrust("shop.orders", good, good, good, dead_letters=3),),
    )
    every = found(tmp_path, "{freshness: 1m, dead_letters: 3}", what, Lineage())
    assert every == {
        ("stalled", "consume", "gone"),
        ("freshness", "table shop.orders", "stalled"),
        ("dead_letters", "table shop.orders", "dead letters"),
        ("differences", "table shop.items", NOT_EQUAL),
    }
    some = found(tmp_path, "{freshness: 10m, dead_letters: 4, differences: off}", what, Lineage())
    assert some == {("stalled", "consume", "gone")}
    assert not found(
        tmp_path,
        "{stalled: off, freshness: off, dead_letters: off, differences: off}",
        what,
        Lineage(),
    )


def test_sources_that_wait_for_a_service_are_one_cause_with_it(tmp_path: Path, hook: Hook) -> None:
    told = Told(configured(tmp_path, f"{{to: ['{hook.address}']}}"))
    waits = Problem("source shop", "retrying", 1.0, "", "")
    told.look(seen(Problem("service kafka", "restarting", 1.0, "", ""), waits))
    wait_until(lambda: hook.got, "the service")
    told.look(seen(waits), after=1)
    wait_until(lambda: len(hook.got) == 2, "the source, which is not well without it")
    told.stop()
    assert [one["subject"] for one in hook.got] == ["service kafka", "source shop"]


def test_a_kafka_that_does_not_answer_is_a_problem_while_something_runs(tmp_path: Path) -> None:
    config = configured(tmp_path, "{}")
    assert with_kafka(config, Condition(), None) == Condition()
    running = seen(roles=("consume",)).condition
    assert with_kafka(config, running, {}) == running
    [problem] = with_kafka(config, running, None).problems
    assert (problem.subject, problem.state) == ("service kafka", "unreachable")
    known = replace(running, problems=(replace(problem, state="restarting"),))
    assert with_kafka(config, known, None) == known


# The command -------------------------------------------------------------------------------------


def ask(config: Config, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ducklake.cli", *words, "--config", str(config.path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_trial_says_who_has_taken_it_without_an_address(tmp_path: Path, hook: Hook) -> None:
    secret = f"http://lake:{PASSWORD}@127.0.0.1:9/hook"
    config = configured(tmp_path, f"{{to: ['{hook.address}', '{secret}']}}")
    tried = ask(config, "alerts", "test", "--json")
    assert tried.returncode == 1
    told = json.loads(tried.stdout)
    assert told["sent"] is False and told["targets"]["1 (webhook)"] == ""
    assert "does not answer" in told["targets"]["2 (webhook)"]
    assert PASSWORD not in tried.stdout + tried.stderr
    assert hook.said() == [("test", "this is a test", "of alerts")]
    nobody = ask(configured(tmp_path, "{}"), "alerts", "test")
    assert nobody.returncode == 1 and "alerts.to" in nobody.stderr


def test_a_wrong_entry_is_named_by_its_line_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHO", f"nonsense://{PASSWORD}")
    config = configured(tmp_path, "{to: ['${WHO}']}")
    _, [wrong] = targets(config)
    assert isinstance(wrong, ConfigError) and PASSWORD not in str(wrong)
    checked = ask(config, "config", "check", "--offline")
    assert checked.returncode == 1 and "line 5: alerts.to.0" in checked.stderr
    assert PASSWORD not in checked.stdout + checked.stderr
    assert PASSWORD not in repr(config.settings)
