"""What a supervisor tells everybody else: each process and its state, in one JSON file."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lake.storage.json_files import read_json, write_json

Phase = Literal["starting", "up", "failed", "stopping", "ended"]

WAITING = "waiting"  # for others that it needs
PREPARING = "preparing"
STARTING = "starting"
LOADING = "loading"
HEALTHY = "healthy"
HANGING = "hanging"  # it runs, and its main loop does not move
RESTARTING = "restarting"  # it ended, and is started again after a pause
CRASH_LOOPING = "crash-looping"  # the same, and it ended early several times in a row
STOPPED = "stopped"  # for good: somebody has to decide


@dataclass(slots=True)
class ProcessEntry:
    """One process as its supervisor sees it.

    Attributes:
        state: One of the states above.
        pid: The newest child's id.
        started: When that child started, in seconds of the epoch.
        restarts: How often it was started again.
        since: When it came into its state, in seconds of the epoch.
        exit_code: Of the last end; minus the signal's number.
        reason: Why it last ended, or hangs.
        log: The file that has what it printed.
    """

    state: str = WAITING
    pid: int | None = None
    started: float = 0.0
    restarts: int = 0
    since: float = 0.0
    exit_code: int | None = None
    reason: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A reading of the status file."""

    pid: int
    phase: Phase
    started: str
    error: str
    remedy: str
    processes: dict[str, ProcessEntry]

    @classmethod
    def read(cls, path: Path) -> Report | None:
        """The last report, or None if there is no readable one."""
        raw = read_json(path)
        try:
            processes = {name: ProcessEntry(**entry) for name, entry in raw["processes"].items()}
            return cls(
                raw["pid"], raw["phase"], raw["started"], raw["error"], raw["remedy"], processes
            )
        except (KeyError, TypeError, AttributeError):
            return None


class StatusFile:
    """Written by the supervisor's threads; every change goes to the file.

    Args:
        path: The file.
        logs: The processes by name, and the log of each.
    """

    def __init__(self, path: Path, logs: Mapping[str, Path]) -> None:
        self._path = path
        self._lock = threading.RLock()
        self.changed = threading.Event()
        self.phase: Phase = "starting"
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.error: tuple[str, str] = ("", "")
        self._processes = {name: ProcessEntry(log=str(log)) for name, log in logs.items()}
        self._healthy = {name: threading.Event() for name in self._processes}
        self._write()

    def _write(self) -> None:
        processes = {name: asdict(entry) for name, entry in self._processes.items()}
        try:
            write_json(
                self._path,
                {
                    "pid": os.getpid(),
                    "phase": self.phase,
                    "started": self.started,
                    "error": self.error[0],
                    "remedy": self.error[1],
                    "processes": processes,
                },
            )
        except OSError:
            return  # a full disk must not end the processes too
        finally:
            self.changed.set()

    def state(self, name: str, state: str, reason: str | None = None) -> None:
        """A process came into another state.

        Args:
            name: The process.
            state: Its state.
            reason: Why; None keeps what the last end left.
        """
        with self._lock:
            entry = self._processes[name]
            if entry.state != state:
                entry.state, entry.since = state, time.time()
            if reason is not None:
                entry.reason = reason
            event = self._healthy[name]
            event.set() if state == HEALTHY else event.clear()
            self._write()

    def child(self, name: str, pid: int, started: float) -> None:
        """A process has been started."""
        with self._lock:
            self._processes[name].pid, self._processes[name].started = pid, started
            self._write()

    def restarting(self, name: str, state: str, exit_code: int | None, reason: str) -> None:
        """A process ended and will be started again."""
        with self._lock:
            self._processes[name].restarts += 1
            self._processes[name].exit_code = exit_code
            self.state(name, state, reason)

    def stopped(self, name: str, exit_code: int | None, reason: str) -> None:
        """A process ended for good."""
        with self._lock:
            self._processes[name].exit_code = exit_code
            self.state(name, STOPPED, reason)

    def fail(self, what: str, remedy: str) -> None:
        """A process could not be started; the first such news counts."""
        with self._lock:
            if not self.error[0]:
                self.error = (what, remedy)
            self._write()

    def enter(self, phase: Phase) -> None:
        """The whole came into another phase."""
        with self._lock:
            self.phase = phase
            self._write()

    def entries(self) -> dict[str, ProcessEntry]:
        """All processes as they are now."""
        with self._lock:
            return {name: replace(entry) for name, entry in self._processes.items()}

    def await_healthy(self, name: str, seconds: float) -> bool:
        """Wait for a process; True at once if it is not one of this supervisor's."""
        event = self._healthy.get(name)
        return event is None or event.wait(seconds)

    def all_healthy(self) -> bool:
        """Whether every process answers."""
        return all(event.is_set() for event in self._healthy.values())
