"""Children of the supervisor: each dies with it, and each log is capped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from lake.config import Config
from lake.storage.operations import remove_file, rename

LAUNCH = Path(__file__).with_name("launch.py")
LOG_BYTES = 10 * 1024 * 1024
MOST_KEPT = 100


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much of a log is kept.

    Attributes:
        bytes: After which the file is put aside, and a new one begins.
        keep: Files that were put aside and are kept: `.1` is the newest of them.
    """

    bytes: int = LOG_BYTES
    keep: int = 3


def log_limits(config: Config) -> LogLimits:
    """How much of each log of a lake is kept, as configured."""
    logs = config.settings.logs
    return LogLimits(round(logs.max_mb * 1024 * 1024), logs.keep)


class CappedLog:
    """A log file and those before it (`.1`, `.2`, …); it outlives the processes that write to it.

    Args:
        path: The file; opened at the first line, and appended to.
        limits: How much is kept.
    """

    def __init__(self, path: Path, limits: LogLimits | None = None) -> None:
        self.path = path
        self._limits = limits or LogLimits()
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        """Append; a full disk loses log lines, never the service."""
        with self._lock:
            try:
                file = self._opened()
                if file.tell() + len(data) > self._limits.bytes:
                    self._shut()
                    self._put_aside()
                    file = self._opened()
                file.write(data)
                file.flush()
            except OSError:
                self._shut()  # whatever it was, the next line begins with a new file

    def close(self) -> None:
        """Let go of the file; what still comes opens it again."""
        with self._lock:
            self._shut()

    def _put_aside(self) -> None:
        """Each older file takes the next number; the oldest one is replaced."""
        for number in range(self._limits.keep - 1, 0, -1):
            older = self._aside(number)
            if older.exists():
                rename(older, self._aside(number + 1))
        rename(self.path, self._aside(1))
        for number in range(self._limits.keep + 1, MOST_KEPT + 1):  # fewer than before are wanted
            if not self._aside(number).exists():
                break
            remove_file(self._aside(number))

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = self.path.open("ab")
        return self._file

    def _shut(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()


def _wrapped(command: Sequence[str], identity: str) -> list[str]:
    start = [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), identity]
    return [*start, *command]


class Child:
    """A running service. Its life is tied to the thread that made it, and so to the supervisor.

    Args:
        command: Program and arguments; no secrets in them.
        environment: The whole environment.
        folder: Where it runs.
        log: Takes what it prints; it stays the caller's, who may give it to the next child.
        identity: `same`, `namespace` or `nobody` (see `launch`).
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: CappedLog,
        identity: str = "same",
    ) -> None:
        self._process = subprocess.Popen(
            _wrapped(command, identity),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
        )
        self.pid = self._process.pid
        self.started = psutil.Process(self.pid).create_time()
        self._pump = threading.Thread(target=self._copy, args=(log,), daemon=True)
        self._pump.start()

    def _copy(self, log: CappedLog) -> None:
        stream = self._process.stdout
        assert stream is not None
        while data := os.read(stream.fileno(), 65_536):
            log.write(data)
        stream.close()

    def wait(self, seconds: float | None) -> int | None:
        """The exit code, or None if it still runs after that time (None waits for ever)."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._pump.join(1)
        return code

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        self._process.send_signal(number)

    def end(self, number: int, seconds: float) -> int | None:
        """Ask it to end, kill it where it does not in time, and wait for that.

        Args:
            number: The signal that asks.
            seconds: How long it may take.
        """
        self.signal(number)
        if self.wait(seconds) is None:
            self.kill()
        return self.wait(1)

    def kill(self) -> None:
        """End it at once, and wait for that."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)


def run_to_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    log: CappedLog,
    identity: str = "same",
    seconds: float = 120,
) -> int:
    """Run a preparing command (initdb, format, …) and return its exit code; -9 if it took too long.

    Like a service it dies with the supervisor.
    """
    child = Child(command, environment, folder, log, identity)
    code = child.wait(seconds)
    if code is None:
        child.kill()
        return -signal.SIGKILL
    return code


def end_process(pid: int, started: float, seconds: float) -> bool:
    """Kill a process by its id and start time (an id alone may be somebody else's by now).

    Returns:
        Whether it is gone.
    """
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started) > 1:
            return True
        process.kill()
        deadline = time.monotonic() + seconds
        # in a container nobody may collect orphans: a zombie runs no more
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False
    return True
