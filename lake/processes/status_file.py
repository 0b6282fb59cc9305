"""What the supervisor tells everybody else, in `{stack}/supervisor.json`."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from lake.storage.atomic_files import read_json, write_json

Phase = Literal["starting", "up", "failed", "stopping"]
HEALTHY = "healthy"


@dataclass(slots=True)
class ServiceEntry:
    """One service as the supervisor sees it; `started` is the child's, in seconds of the epoch."""

    state: str = "waiting"
    pid: int | None = None
    started: float = 0.0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """A reading of the board."""

    pid: int
    phase: Phase
    started: str
    error: str
    remedy: str
    services: dict[str, ServiceEntry]

    @classmethod
    def read(cls, path: Path) -> Report | None:
        """The last report, or None if there is no readable one."""
        raw = read_json(path)
        try:
            services = {name: ServiceEntry(**entry) for name, entry in raw["services"].items()}
            return cls(
                raw["pid"], raw["phase"], raw["started"], raw["error"], raw["remedy"], services
            )
        except (KeyError, TypeError, AttributeError):
            return None


class StatusFile:
    """Written by the supervisor's threads; every change goes to the file.

    Args:
        path: The file.
        names: The services.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self._path = path
        self._lock = threading.RLock()
        self.changed = threading.Event()
        self.phase: Phase = "starting"
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.error: tuple[str, str] = ("", "")
        self._services = {name: ServiceEntry() for name in names}
        self._healthy = {name: threading.Event() for name in self._services}
        self._write()

    def _write(self) -> None:
        services = {name: asdict(entry) for name, entry in self._services.items()}
        try:
            write_json(
                self._path,
                {
                    "pid": os.getpid(),
                    "phase": self.phase,
                    "started": self.started,
                    "error": self.error[0],
                    "remedy": self.error[1],
                    "services": services,
                },
            )
        except OSError:
            return  # a full disk must not end the services too
        finally:
            self.changed.set()

    def state(self, name: str, state: str) -> None:
        """A service came into another state."""
        with self._lock:
            self._services[name].state = state
            event = self._healthy[name]
            event.set() if state == HEALTHY else event.clear()
            self._write()

    def child(self, name: str, pid: int, started: float) -> None:
        """A service has a process now."""
        with self._lock:
            self._services[name].pid, self._services[name].started = pid, started
            self._write()

    def restarting(self, name: str) -> None:
        """A service ended and will be started again."""
        with self._lock:
            self._services[name].restarts += 1
            self.state(name, "restarting")

    def fail(self, what: str, remedy: str) -> None:
        """A service could not be started; the first such news counts."""
        with self._lock:
            if not self.error[0]:
                self.error = (what, remedy)
            self._write()

    def enter(self, phase: Phase) -> None:
        """The stack as a whole came into another phase."""
        with self._lock:
            self.phase = phase
            self._write()

    def await_healthy(self, name: str, seconds: float) -> bool:
        """Wait for a service; True at once if it is not one of this stack's."""
        event = self._healthy.get(name)
        return event is None or event.wait(seconds)

    def all_healthy(self) -> bool:
        """Whether every service answers."""
        return all(event.is_set() for event in self._healthy.values())
