"""A program that starts processes of its own: none of them outlives whoever asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

GRACE = 0.5
CHILD = """
import os, signal, subprocess, sys, time
if len(sys.argv) > 2:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
else:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "deaf"])
with open(sys.argv[1], "a") as told:
    told.write(f"{os.getpid()}\\n")
time.sleep(600)
"""
CALLER = """
import os, sys
from ducklake.cli.signals import stop_on_signals
from lake.processes.guarded import run_guarded
code = run_guarded(sys.argv[2:], dict(os.environ), stop_on_signals(), float(sys.argv[1]))
print(code)
"""


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Where each process of the program writes its id; none is left behind."""
    path = tmp_path / "pids"
    yield path
    for pid in _told(path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _told(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def _lives(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def started(folder: Path, pids: Path) -> subprocess.Popen[str]:
    """A caller whose program has started a process that hears no signal."""
    script = folder / "child.py"
    script.write_text(CHILD)
    words = [sys.executable, "-c", CALLER, str(GRACE), sys.executable, str(script), str(pids)]
    caller = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    until(lambda: len(_told(pids)) == 2)
    return caller


def test_a_signal_to_the_caller_ends_all(tmp_path: Path, pids: Path) -> None:
    with started(tmp_path, pids) as caller:
        caller.send_signal(signal.SIGTERM)
        assert caller.communicate(timeout=20)[0] == "None\n" and caller.returncode == 0
    assert not any(_lives(pid) for pid in _told(pids))


def test_a_caller_that_is_killed_leaves_nothing_behind(tmp_path: Path, pids: Path) -> None:
    with started(tmp_path, pids) as caller:
        caller.kill()
    until(lambda: not any(_lives(pid) for pid in _told(pids)))


def test_a_guard_that_is_killed_leaves_nothing_behind(tmp_path: Path, pids: Path) -> None:
    with started(tmp_path, pids) as caller:
        [guard] = psutil.Process(caller.pid).children()
        guard.kill()
        assert caller.communicate(timeout=20)[0] == "-9\n"
    until(lambda: not any(_lives(pid) for pid in _told(pids)))


def test_a_program_that_ends_by_itself_takes_its_own_with_it(tmp_path: Path, pids: Path) -> None:
    with started(tmp_path, pids) as caller:
        os.kill(_told(pids)[0] if _is_heard(pids, 0) else _told(pids)[1], signal.SIGKILL)
        assert caller.communicate(timeout=20)[0] == f"{-signal.SIGKILL & 0xFF}\n"
    until(lambda: not any(_lives(pid) for pid in _told(pids)))


def _is_heard(pids: Path, at: int) -> bool:
    """Whether a process is the program itself, not the deaf one that it has started."""
    return "deaf" not in psutil.Process(_told(pids)[at]).cmdline()
