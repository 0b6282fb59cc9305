"""`ducklake run`: producers, consumer, compactor and batch under one supervisor."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from ducklake.cli.signals import FENCED
from ducklake.supervision.stuck_writer import StuckWriterWatch
from lake.config import Config
from lake.processes.child import CappedLog, Child
from lake.storage.paths import LakePaths

log = structlog.get_logger()
ROLES: Mapping[str, tuple[str, ...]] = {
    "produce": ("produce",),
    "consume": ("consume",),
    "compact": ("compact",),
    "batch": ("batch",),
}


def consume_roles(workers: int) -> dict[str, tuple[str, ...]]:
    """The roles of some consumers that share all topics."""
    return {f"consume-{number}": ("consume",) for number in range(1, workers + 1)}


STOP_SECONDS = 5.0
LOOK_SECONDS = 0.2
_BACKOFF = (1.0, 2.0, 5.0, 15.0, 30.0)


class _Role:
    def __init__(self, name: str, arguments: tuple[str, ...], folder: Path) -> None:
        self.name = name
        self.arguments = arguments
        self.log = CappedLog(folder / f"{name}.log")
        self.child: Child | None = None
        self.failures = 0
        self.start_at = 0.0
        self.ended_for_good = False


class RoleSupervisor:
    """Keeps one process for each role; a role that dies is started again, a fenced one is not.

    Children die with this process (the kernel sees to it), and with the thread that made it: use
    it from the main thread.

    Args:
        config: The configuration, handed on to every role.
        roles: Role to command line arguments.
    """

    def __init__(self, config: Config, roles: Mapping[str, tuple[str, ...]] = ROLES) -> None:
        self._config = config
        self.folder = config.data_dir / "logs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._watch = StuckWriterWatch(LakePaths(config.data_dir).ledger)
        self._roles = [_Role(name, words, self.folder) for name, words in roles.items()]

    def look(self) -> None:
        """Start what is not running and may be; call it often."""
        ended = self._watch.look(self.processes().values())
        if ended is not None:
            log.error(
                "write_lock_holder_ended",
                message="A process that was stopped with the ledger's write lock was ended.",
                pid=ended,
            )
        now = time.monotonic()
        for role in self._roles:
            if role.ended_for_good:
                continue
            if role.child is not None:
                code = role.child.wait(0)
                if code is None:
                    continue
                role.child = None
                self._ended(role, code, now)
            elif now >= role.start_at:
                role.child = self._start(role)

    def keep(self, stop: threading.Event) -> None:
        """Look after the roles until told to stop, then stop them."""
        try:
            while not stop.wait(LOOK_SECONDS):
                self.look()
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask all to finish what they hold; end what does not within some seconds."""
        running = [role.child for role in self._roles if role.child is not None]
        for child in running:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for child in running:
            if child.wait(max(0.0, deadline - time.monotonic())) is None:
                child.kill()

    def processes(self) -> dict[str, int]:
        """Process ids by role."""
        return {role.name: role.child.pid for role in self._roles if role.child is not None}

    def _start(self, role: _Role) -> Child:
        command = [sys.executable, "-m", "ducklake.cli", *role.arguments]
        environment = {**os.environ, "DUCKLAKE_CONFIG": str(self._config.path)}
        return Child(command, environment, self._config.root, role.log)

    def _ended(self, role: _Role, code: int, now: float) -> None:
        where = str(role.log.path)
        if code == FENCED:
            role.ended_for_good = True
            log.error(
                "role_superseded",
                message="Another process has taken over; the role is not started again.",
                role=role.name,
                log=where,
            )
            return
        pause = _BACKOFF[min(role.failures, len(_BACKOFF) - 1)]
        role.failures += 1
        role.start_at = now + pause
        log.warning(
            "role_ended",
            message="A role ended and is started again.",
            role=role.name,
            exit=code,
            log=where,
        )
