"""A process that is stopped while it holds the ledger's write lock is found, and ended if ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ducklake.supervision import stuck_writer as stuck
from ducklake.supervision.stuck_writer import StuckWriterWatch, write_lock_holder
from lake.ledger import Ledger
from lake.storage.paths import LakePaths

HOLDER = """
import os, signal, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    paths = LakePaths(tmp_path)
    Ledger(paths).close()
    return paths.ledger


@pytest.fixture
def stopped(ledger: Path) -> Iterator[subprocess.Popen[str]]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ledger)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    # What it says comes before it stops.
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
    yield holder
    holder.kill()
    holder.wait()
    holder.stdout.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(stuck, "LOOK_SECONDS", 0.0)


def test_the_kernel_says_who_holds_the_write_lock(
    ledger: Path, stopped: subprocess.Popen[str]
) -> None:
    assert write_lock_holder(ledger) == stopped.pid


def test_nobody_holds_it_where_nobody_writes(ledger: Path) -> None:
    assert write_lock_holder(ledger) is None


def test_a_stopped_worker_is_ended_and_the_others_can_write(
    ledger: Path, stopped: subprocess.Popen[str]
) -> None:
    watch = StuckWriterWatch(ledger)
    ended = [watch.look([stopped.pid]) for _ in range(3)]
    assert stopped.pid in ended
    assert stopped.wait(5) == -signal.SIGKILL
    with Ledger(LakePaths(ledger.parent)) as again:
        again.pins.pin("somebody")


def test_somebody_else_s_process_is_never_ended(
    ledger: Path, stopped: subprocess.Popen[str]
) -> None:
    watch = StuckWriterWatch(ledger)
    assert [watch.look([1]) for _ in range(3)] == [None] * 3
    assert psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED
