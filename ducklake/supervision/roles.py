"""`ducklake run`: producers, consumer, compactor and batch under one supervisor."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import structlog

from ducklake.exit_codes import FENCED
from ducklake.supervision.stuck_writer import StuckWriterWatch
from lake.config import Config
from lake.errors import AlreadyRunning
from lake.processes import lock
from lake.processes.child import CappedLog, log_limits
from lake.processes.heartbeat import ROLE, forget_the_dead, report_of
from lake.processes.managed_process import RestartPolicy
from lake.processes.program import Program, last_line
from lake.processes.status_file import (
    CRASH_LOOPING,
    HANGING,
    RESTARTING,
    STOPPED,
    ProcessEntry,
    StatusFile,
)
from lake.processes.supervisor import ProcessSupervisor
from lake.storage.paths import LakePaths

log = structlog.get_logger()
ROLES: Mapping[str, tuple[str, ...]] = {
    "produce": ("produce",),
    "consume": ("consume",),
    "compact": ("compact",),
    "batch": ("batch",),
    "monitor": ("monitor",),
}
LIVE = "live"
RUN, WORKERS = "run", "workers"
"""Names of supervisors: that of `ducklake run`, and that of `ducklake consume --workers`."""
SUPERVISOR = ".supervisor.json"

STOP_SECONDS = 5.0
LOOK_SECONDS = 0.2
_POLICY = RestartPolicy(final_codes=frozenset({FENCED}), first_pause=1.0)


def all_roles(config: Config) -> dict[str, tuple[str, ...]]:
    """The roles of `ducklake run`: those of every lake, and the live figures where there are any.

    These need the extra `live`: without it they are left out.
    """
    has_live = config.settings.live is not None and find_spec("faust") is not None
    return {**ROLES, **({LIVE: (LIVE,)} if has_live else {})}


def consume_roles(workers: int) -> dict[str, tuple[str, ...]]:
    """The roles of some consumers that share all topics."""
    return {f"consume-{number}": ("consume",) for number in range(1, workers + 1)}


class Role(Program):
    """A command of the project, kept running; its heartbeat says whether it moves.

    Args:
        config: The configuration, handed on to the command.
        name: The role's name.
        arguments: The command's words.
    """

    def __init__(self, config: Config, name: str, arguments: tuple[str, ...]) -> None:
        paths = LakePaths(config.data_dir)
        super().__init__(config.root, paths.logs / f"{name}.log", log_limits(config))
        self.name = name
        self._config = config
        self._arguments = arguments
        self._run = paths.run

    def command(self) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "ducklake.cli", *self._arguments]

    def environment(self) -> dict[str, str]:
        """The configuration, and the name under which it tells how it is."""
        return {"DUCKLAKE_CONFIG": str(self._config.path), ROLE: self.name}

    def answers(self, pid: int) -> bool:
        """Whether its heart beats."""
        report = report_of(self._run, pid)
        return report is not None and report.alive

    def hangs(self, pid: int) -> str | None:
        """Why it counts as hanging."""
        report = report_of(self._run, pid)
        return report.hangs() if report is not None else None

    def cause(self, pid: int) -> str:
        """Its last words: the error that ended it, or the last line of its log."""
        report = report_of(self._run, pid)
        if report is not None and report.reason:
            return f"{report.reason} {report.remedy}".strip()
        return last_line(self.log).removeprefix("ducklake: ")


class RoleSupervisor:
    """Keeps one process for each role; a role that dies is started again, a fenced one is not.

    Args:
        config: The configuration, handed on to every role.
        roles: Role to command line arguments; by default all.
        name: Which supervisor this is; a data folder has one of each name.

    Raises:
        AlreadyRunning: Another one of this name runs on this data folder.
    """

    def __init__(
        self, config: Config, roles: Mapping[str, tuple[str, ...]] | None = None, name: str = RUN
    ) -> None:
        roles = all_roles(config) if roles is None else roles
        paths = LakePaths(config.data_dir)
        for folder in (paths.logs, paths.run):
            folder.mkdir(parents=True, exist_ok=True)
        self.stop_event = threading.Event()
        self._lock_file = paths.run / f"{name}.supervisor.lock"
        self._descriptor = _only_one(self._lock_file, name, config.data_dir)
        forget_the_dead(paths.run)
        programs = [Role(config, role, words) for role, words in roles.items()]
        self._status = StatusFile(
            paths.run / f"{name}{SUPERVISOR}", {role.name: role.log for role in programs}
        )
        self._journal = CappedLog(paths.logs / f"{name}.log", log_limits(config))
        self._processes = ProcessSupervisor(
            programs,
            self._status,
            self._journal,
            _POLICY,
            self.stop_event,
        )
        self._watch = StuckWriterWatch(paths.ledger)
        self._logged: dict[str, tuple[str, int]] = {}

    def start(self) -> None:
        """Start all roles."""
        self._processes.start()
        self._status.enter("up")

    def look(self) -> None:
        """Log what has happened, and end a role that is in the way of all others; call it often."""
        for name, entry in self._status.entries().items():
            if self._logged.get(name) != (entry.state, entry.restarts):
                self._log_change(name, entry)
                self._logged[name] = (entry.state, entry.restarts)
        ended = self._watch.look(self.processes().values())
        if ended is not None:
            log.error(
                "write_lock_holder_ended",
                message="A process that was suspended with the ledger's write lock was killed.",
                pid=ended,
            )

    @staticmethod
    def _log_change(name: str, entry: ProcessEntry) -> None:
        about = {"role": name, "reason": entry.reason, "log": entry.log}
        if entry.state == STOPPED:
            log.error(
                "role_superseded",
                message="Another process has taken over; the role is not restarted.",
                **about,
            )
        elif entry.state == HANGING:
            log.error(
                "role_hanging",
                message="A role makes no progress; it is stopped and restarted.",
                **about,
            )
        elif entry.state in (RESTARTING, CRASH_LOOPING):
            log.warning(
                "role_ended",
                message="A role ended and is restarted.",
                exit=entry.exit_code,
                **about,
            )

    def keep(self, stop: threading.Event) -> None:
        """Look after the roles until told to stop, then stop them."""
        self.start()
        try:
            while not stop.wait(LOOK_SECONDS):
                self.look()
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask all to finish what they hold; end what does not within some seconds."""
        self._status.enter("stopping")
        self._processes.stop(STOP_SECONDS)
        self._journal.close()
        self._status.enter("ended")
        lock.release(self._lock_file, self._descriptor)

    def processes(self) -> dict[str, int]:
        """Process ids by role."""
        return self._processes.pids()


def _only_one(lock_file: Path, name: str, data_dir: Path) -> int:
    descriptor = lock.take(lock_file)
    if descriptor is not None:
        return descriptor
    pid = lock.holder(lock_file)
    command = "`ducklake run`" if name == RUN else "`ducklake consume --workers`"
    who = f" (process {pid})" if pid else ""
    raise AlreadyRunning(
        (
            f"Another {command} or `ducklake demo` keeps the roles of {data_dir} running{who}."
            if name == RUN
            else f"Another {command} of {data_dir} is running{who}."
        ),
        "Stop it first, or give this one a data_dir of its own.",
    )
