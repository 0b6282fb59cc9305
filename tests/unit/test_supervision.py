"""One supervisor: it starts again what ends, tells a hang and a loop, and loses no log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from lake.errors import ConfigError
from lake.processes import lock
from lake.processes.backoff import Backoff
from lake.processes.child import CappedLog, LogLimits
from lake.processes.heartbeat import (
    HANG_SECONDS,
    RETRYING,
    ROLE,
    Part,
    RoleHeartbeat,
    RoleReport,
    forget_the_dead,
    report_of,
)
from lake.processes.managed_process import RestartPolicy
from lake.processes.program import Program, last_line
from lake.processes.status_file import ProcessEntry, Report, StatusFile
from lake.processes.supervisor import ProcessSupervisor

QUICK = RestartPolicy(
    first_pause=0.01, most_pause=0.05, grace_seconds=0.3, final_codes=frozenset({3})
)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


class Script(Program):
    """A few lines of Python; it hangs while `hung` says why."""

    def __init__(self, folder: Path, code: str, name: str = "script") -> None:
        super().__init__(folder, folder / f"{name}.log")
        self.name = name
        self.code = code
        self.hung: str | None = None

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]

    def answers(self, pid: int) -> bool:
        return psutil.pid_exists(pid)

    def hangs(self, pid: int) -> str | None:
        return self.hung


class Running:
    """A supervisor of one script."""

    def __init__(self, folder: Path, program: Program, policy: RestartPolicy = QUICK) -> None:
        self.path = folder / "status.json"
        self.status = StatusFile(self.path, {program.name: program.log})
        self.name = program.name
        stop = threading.Event()
        self.journal = CappedLog(folder / "supervisor.log")
        self.supervisor = ProcessSupervisor([program], self.status, self.journal, policy, stop)
        self.supervisor.start()

    def entry(self) -> ProcessEntry:
        report = Report.read(self.path)
        assert report is not None
        return report.processes[self.name]

    def pid(self) -> int:
        found: int = until(lambda: self.supervisor.pids().get(self.name))
        return found

    def stop(self, seconds: float = 5) -> None:
        self.supervisor.stop(seconds)
        self.journal.close()

    def kill(self) -> None:
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: self.supervisor.pids().get(self.name) not in (pid, None))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(program: Program, policy: RestartPolicy = QUICK) -> Running:
        running.append(Running(tmp_path, program, policy))
        return running[-1]

    yield begin
    for one in running:
        one.stop()


def says(log: Path, text: str) -> bool:
    return text in log.read_text()


LOUD = """
import os, sys, time
print("life", os.getpid(), flush=True)
for number in range(4000):
    print(f"{os.getpid()} {number:060}", flush=True)
print("all said by", os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_process_killed_three_times_has_one_log_and_never_waits_for_its_reader(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    program = Script(tmp_path, LOUD)
    program.log.touch()
    running = start(program)
    pids = []
    for _ in range(4):
        pid = running.pid()
        pids.append(pid)
        # each life prints more than 200 KB, and a pipe that nobody reads holds 64 KB
        end = f"all said by {pid}\n"
        until(partial(says, program.log, end))
        if len(pids) < 4:
            running.kill()
    text = program.log.read_text()
    for pid in pids:
        assert [line for line in text.splitlines() if line.startswith(f"{pid} ")] == [
            f"{pid} {number:060}" for number in range(4000)
        ]
    assert running.entry().restarts == 3
    assert running.entry().exit_code == -signal.SIGKILL


def test_a_crash_loop_is_told_with_its_last_words(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    running = start(Script(tmp_path, "raise SystemExit('no such table')"))
    until(lambda: running.entry().state == "crash-looping")
    assert "no such table" in running.entry().reason
    assert running.entry().restarts >= 3
    assert running.entry().exit_code == 1


def test_a_process_that_proves_steady_is_no_crash_loop_any_more(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    flag = tmp_path / "mended"
    code = f"import pathlib, time\nif pathlib.Path({str(flag)!r}).exists(): time.sleep(600)"
    policy = RestartPolicy(first_pause=0.01, most_pause=0.05, steady_seconds=2.0)
    running = start(Script(tmp_path, code), policy)
    until(lambda: running.entry().state == "crash-looping")
    flag.touch()
    until(lambda: running.supervisor.pids() and running.entry().state == "healthy")


def test_a_hanging_process_is_told_and_replaced(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    program = Script(tmp_path, deaf)
    running = start(program)
    first = running.pid()
    until(lambda: running.entry().state == "healthy")
    time.sleep(0.3)  # until it is deaf
    program.hung = "nothing moves"
    until(lambda: running.entry().state == "hanging")
    assert running.entry().reason == "nothing moves"
    program.hung = None
    until(lambda: running.supervisor.pids().get("script") not in (first, None))
    until(lambda: running.entry().state == "healthy")
    assert not psutil.pid_exists(first)
    assert "it hung: nothing moves" in running.entry().reason


def test_a_process_that_was_replaced_stays_ended(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    running = start(Script(tmp_path, "print('replaced'); raise SystemExit(3)"))
    until(lambda: running.entry().state == "stopped")
    assert (running.entry().reason, running.entry().restarts) == ("replaced", 0)
    assert running.supervisor.pids() == {}


def test_what_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    running = Running(tmp_path, Script(tmp_path, deaf))
    pid = running.pid()
    until(lambda: running.entry().state == "healthy")
    time.sleep(0.3)
    running.stop(0.5)
    assert not psutil.pid_exists(pid)


def test_what_is_told_to_stop_finishes_first(tmp_path: Path) -> None:
    done = tmp_path / "done"
    code = (
        "import pathlib, signal, sys, time\n"
        f"def end(*_): time.sleep(0.5); pathlib.Path({str(done)!r}).touch(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); time.sleep(600)"
    )
    program = Script(tmp_path, code)
    running = Running(tmp_path, program)
    until(lambda: last_line(program.log) == "ready")
    running.stop(10)
    assert done.exists()


def test_a_log_survives_a_failed_rotation(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "x.log", LogLimits(100, keep=1))
    (tmp_path / "x.log.1").mkdir()
    (tmp_path / "x.log.1" / "in the way").touch()
    for number in range(5):
        log.write(b"%060d\n" % number)
    (tmp_path / "x.log.1" / "in the way").unlink()
    (tmp_path / "x.log.1").rmdir()
    log.write(b"it goes on\n")
    assert last_line(tmp_path / "x.log") == "it goes on"
    log.close()


def test_pauses_grow_to_a_limit_and_differ() -> None:
    for _ in range(20):
        backoff = Backoff(2, 300)
        pauses = [backoff.pause() for _ in range(12)]
        assert 1.6 <= pauses[0] <= 2.4 and 3.2 <= pauses[1] <= 4.8
        assert max(pauses) <= 300 and min(pauses[8:]) >= 240
    assert len({Backoff(2, 300).pause() for _ in range(20)}) > 1
    backoff.reset()
    assert backoff.pause() <= 2.4


# Heartbeats --------------------------------------------------------------------------------------


def report(folder: Path, name: str = "consume") -> RoleReport:
    found = RoleReport.read(folder / f"{name}.json")
    assert found is not None
    return found


def test_a_heartbeat_tells_what_moves_and_what_has_stopped(tmp_path: Path) -> None:
    heart = RoleHeartbeat(tmp_path, "consume")
    heart.part("shop.orders", Part("table", "stopped", reason="gone", remedy="accept-loss"))
    heart.beat("reading", 300)
    told = report(tmp_path)
    assert (told.alive, told.pid, told.doing, told.hangs()) == (True, os.getpid(), "reading", None)
    assert told.parts["shop.orders"].remedy == "accept-loss"
    heart.forget("shop.orders")
    heart.beat("reading", 300)
    assert report(tmp_path).parts == {}
    heart.close()
    assert not (tmp_path / "consume.json").exists()


def test_a_loop_that_stands_still_hangs(tmp_path: Path) -> None:
    heart = RoleHeartbeat(tmp_path, "consume")
    heart.part("sftp", Part("source", RETRYING, reason="refused"))
    heart.beat("committing", 60)
    assert report(tmp_path).hangs() is None
    long_ago = time.time() - 100
    os.utime(tmp_path / "consume.json", (long_ago, long_ago))
    assert "last: committing" in (report(tmp_path).hangs() or "")
    heart.close()


def test_a_source_that_stands_still_hangs_though_the_loop_moves(tmp_path: Path) -> None:
    heart = RoleHeartbeat(tmp_path, "produce")
    heart.part("sftp", Part("source", within=0.05))
    heart.part("api", Part("source", within=None))
    heart.beat("polling", 60)
    time.sleep(0.1)
    heart.beat("polling", 60)
    assert "source sftp does not move" in (report(tmp_path, "produce").hangs() or "")
    heart.close()


def test_a_short_limit_may_be_wished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HANG_SECONDS, "0.5")
    heart = RoleHeartbeat(tmp_path, "batch")
    heart.beat("dbt", 3600)
    assert report(tmp_path, "batch").within == 0.5
    heart.close()


def test_a_full_disk_is_no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lake.processes import heartbeat as module

    heart = RoleHeartbeat(tmp_path, "consume")
    heart.beat("reading", 60)

    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "replace_json", full)
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.0)
    long_ago = time.time() - 100
    os.utime(tmp_path / "consume.json", (long_ago, long_ago))
    heart.part("x", Part("table", "stopped"))
    heart.beat("waiting for room", 60)
    assert report(tmp_path).hangs() is None
    heart.close()


CLAIM = """
import sys, pathlib
from lake.processes.heartbeat import RoleHeartbeat
heart = RoleHeartbeat(pathlib.Path(sys.argv[1]), "consume")
heart.beat("reading", 60)
print(heart.name, flush=True)
sys.stdin.read()
"""


def test_two_of_one_role_have_two_names_and_a_killed_one_is_not_alive(tmp_path: Path) -> None:
    heart = RoleHeartbeat(tmp_path, "consume")
    with subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "consume-2\n"
        assert report(tmp_path, "consume-2").alive
        found = report_of(tmp_path, other.pid)
        assert found is not None and found.role == "consume-2"
        other.kill()
        other.wait()
    assert not report(tmp_path, "consume-2").alive
    forget_the_dead(tmp_path)
    assert not (tmp_path / "consume-2.json").exists()
    assert report(tmp_path).alive, "one that lives is not forgotten"
    heart.close()


def test_who_ends_with_an_error_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heart = RoleHeartbeat(tmp_path, "consume")
    heart.beat("reading", 60)
    heart.close(ConfigError("It cannot be.", "Mend it."))
    told = report(tmp_path)
    assert (told.alive, told.state, told.reason) == (False, "stopped", "It cannot be.")
    assert told.remedy == "Mend it."
    heart = RoleHeartbeat(tmp_path, "consume")
    heart.close(ConfigError("Said to whoever typed it.", ""))
    assert not (tmp_path / "consume.json").exists()
    monkeypatch.setenv(ROLE, "consume")
    heart = RoleHeartbeat(tmp_path, "consume")
    heart.close(KeyError("juan.perez@example.com"))
    assert "KeyError" in report(tmp_path).reason
    assert "juan" not in (tmp_path / "consume.json").read_text()


def test_a_process_may_ask_for_its_own_lock_without_losing_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    descriptor = lock.take(path)
    assert descriptor is not None
    assert lock.holder(path) == os.getpid()
    assert lock.take(path) is None
    ask = (
        "import sys, pathlib; from lake.processes import lock;"
        "print(lock.holder(pathlib.Path(sys.argv[1])))"
    )
    asked = subprocess.run([sys.executable, "-c", ask, str(path)], capture_output=True, text=True)
    assert asked.stdout.strip() == str(os.getpid())
    lock.release(path, descriptor)
    assert lock.holder(path) is None


def test_the_status_file_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    status = StatusFile(path, {"a": tmp_path / "a.log"})
    stop = threading.Event()
    bad: list[str] = []

    def look() -> None:
        while not stop.is_set():
            try:
                json.loads(path.read_text())
            except ValueError as error:
                bad.append(str(error))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(100):
        status.state("a", f"state {number}")
    stop.set()
    reader.join()
    assert not bad
