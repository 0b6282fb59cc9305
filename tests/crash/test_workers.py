"""`ducklake consume --workers N`: a supervised group; a worker that is killed comes back."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3

import psutil

from tests.crash.conftest import LakeMaker
from tests.crash.oracle import LakeUnderTest, until


def _children(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just died
            if "consume" in process.cmdline():
                found.append(process)
    return found


def _committers(lake: LakeUnderTest) -> int:
    """How many sessions have committed so far."""
    if not lake.paths.ledger.exists():
        return 0
    database = sqlite3.connect(lake.paths.ledger, timeout=30)
    try:
        found = database.execute("SELECT count(DISTINCT session) FROM commits").fetchone()
        return int(found[0])
    except sqlite3.OperationalError:
        return 0  # its tables are not there yet
    finally:
        database.close()


def test_workers_share_the_topics_and_a_killed_one_comes_back(make_lake: LakeMaker) -> None:
    lake = make_lake(partitions=3)
    supervisor = lake.start("consume", "--workers", "2")
    until(lambda: len(_children(supervisor.pid)) == 2, "two workers")

    def both_commit() -> bool:
        lake.loader.burst()
        return _committers(lake) >= 2

    until(both_commit, "commits of both workers")
    victim = _children(supervisor.pid)[0]
    os.kill(victim.pid, signal.SIGKILL)
    lake.loader.burst()
    until(
        lambda: len([p for p in _children(supervisor.pid) if p.pid != victim.pid]) == 2,
        "a successor",
    )
    lake.loader.burst()
    lake.await_caught_up()
    workers = _children(supervisor.pid)
    lake.stop()
    assert not any(worker.is_running() for worker in workers), "workers end with their supervisor"
    lake.check()
