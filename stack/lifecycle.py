"""The embedded stack as the rest of the project uses it: up, down, status, reset.

Every function may be called by several processes at once.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lake.config import Config
from lake.errors import StackError
from lake.processes import lock
from lake.processes.child import end_process
from lake.processes.status_file import HEALTHY, Report
from lake.storage.privacy import close_data_folder
from producers.registry import embedded_services
from stack.ports import PortBook
from stack.progress import Reporter, for_stderr
from stack.secrets import Secrets
from stack.service import Service, StackContext
from stack.services import services_of
from stack.supervisor import LOCK, LOG, PORTS, SECRETS, STATUS_FILE, STOP_SECONDS
from stack.supervisor_process import is_released, signal_supervisor
from stack.tools import Tools, check_platform, check_room, provide

_UP_SECONDS = 300.0
# everything that the project writes under data_dir; `reset` touches nothing else
_OURS = (
    "raw",
    "hot",
    "staging",
    "generations",
    "orphans",
    "published",
    "work",
    "workers",
    "logs",
    "stack",
    "ledger.db*",
    "ledger.lock",
    "lake.duckdb*",
    "iceberg",
    "catalog.ducklake",
    ".catalog.ducklake.new*",
    "definitions.json",
    "lineage.json",
    "project_docs.json",
    "failures.json",
    "alerts.json",
    "disk_use.json",
    "dead_letters.db*",
    "reconciliation",
    "schemas",
    "compactor.lock",
    "run",
)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service as seen now; `healthy` was asked for, not remembered."""

    name: str
    state: str
    healthy: bool
    address: str
    pid: int | None
    restarts: int
    log: Path


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The stack as seen now."""

    up: bool
    pid: int | None
    started: str
    services: tuple[ServiceStatus, ...]


def is_up(config: Config) -> bool:
    """Whether every embedded service has been started and is supervised (True if there is none)."""
    wanted = embedded_services(config)
    report = _current(config)
    return not wanted or (
        report is not None and report.phase == "up" and set(wanted) <= set(report.processes)
    )


def up(config: Config, progress: Reporter | None = None) -> None:
    """Start what is not running, and return once all of it is healthy.

    Args:
        config: Which services, where.
        progress: Takes news; None shows them on standard error.

    Raises:
        StackError: It cannot be started; says why and what to do. Nothing is left running.
    """
    reporter = progress or for_stderr()
    try:
        if not embedded_services(config):
            reporter.note("no service is embedded: nothing to start")
            return
        if not is_up(config):
            _await_stop(config)
            if lock.holder(config.stack_dir / LOCK) is None:
                check_platform()
                check_room(config.data_dir)
                provide(reporter)
            _start(config, reporter)
    except OSError as error:
        where = error.filename or config.data_dir
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StackError(
                f"The disk that holds {where} is full.", "Free some space, then try again."
            ) from None
        raise StackError(
            f"{where}: {error.strerror or error}.",
            "Set data_dir in ducklake.yml, or DUCKLAKE_CACHE, to a folder that you may write.",
        ) from None
    finally:
        reporter.close()


def down(config: Config) -> bool:
    """Stop everything and make sure that nothing is left.

    Returns:
        Whether anything was running.

    Raises:
        StackError: A process could not be ended.
    """
    lock_file = config.stack_dir / LOCK
    pid = lock.holder(lock_file)
    if pid is not None:
        signal_supervisor(pid, signal.SIGTERM)
        if not is_released(lock_file, STOP_SECONDS + 2):
            signal_supervisor(pid, signal.SIGKILL)
            is_released(lock_file, 2)
    report = Report.read(config.stack_dir / STATUS_FILE)
    left = []
    for name, entry in report.processes.items() if report else ():
        if entry.pid is not None and not end_process(entry.pid, entry.started, 3):
            left.append(f"{name} ({entry.pid})")
    if left:
        raise StackError(f"Still running: {', '.join(left)}.", "Stop these processes by hand.")
    config.state_file.unlink(missing_ok=True)
    return pid is not None


def status(config: Config) -> StackStatus:
    """Ask every service how it is."""
    report = _current(config)
    if report is None:
        return StackStatus(up=False, pid=None, started="", services=())
    seen = []
    for service in services(config):
        entry = report.processes.get(service.name)
        if entry is not None:
            seen.append(
                ServiceStatus(
                    service.name,
                    entry.state,
                    entry.state == HEALTHY and _answers(service),
                    service.address(),
                    entry.pid,
                    entry.restarts,
                    service.log,
                )
            )
    return StackStatus(report.phase == "up", report.pid, report.started, tuple(seen))


def services(config: Config) -> list[Service]:
    """The services of a stack that has been started, for asking them."""
    folder = config.stack_dir
    ports = PortBook(folder / PORTS, folder).known()
    site = StackContext(config, ports, Secrets(folder / SECRETS), Tools.locate())
    return [service for service in services_of(site) if service.name in ports]


def reset(config: Config) -> list[Path]:
    """Stop everything and delete all data of the project, so that the next start is the first.

    Returns:
        What stands in the data folder and is not the project's; it was left alone.
    """
    down(config)
    folder = config.data_dir
    for path in {path for pattern in _OURS for path in folder.glob(pattern)}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return sorted(folder.iterdir()) if folder.exists() else []


def _answers(service: Service) -> bool:
    try:
        return service.healthy()
    except Exception:  # whatever a client library raises
        return False


def _current(config: Config) -> Report | None:
    """The report of the supervisor that runs now."""
    pid = lock.holder(config.stack_dir / LOCK)
    report = Report.read(config.stack_dir / STATUS_FILE) if pid is not None else None
    return report if report is not None and report.pid == pid else None


def _await_stop(config: Config) -> None:
    """Let a supervisor that is on its way out finish."""
    report = _current(config)
    if report is not None and report.phase in ("stopping", "failed"):
        is_released(config.stack_dir / LOCK, STOP_SECONDS + 2)


def _start(config: Config, reporter: Reporter) -> None:
    logs = config.stack_dir / "logs"
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.stack_dir.mkdir(mode=0o700, exist_ok=True)
    close_data_folder(config.data_dir)
    logs.mkdir(exist_ok=True)
    log = os.fdopen(os.open(logs / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
    reading, writing = os.pipe()
    try:
        with log:
            command = [sys.executable, "-m", "stack.supervisor"]
            command += ["--config", str(config.path), "--alive", str(writing)]
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[writing],
                # the very folder of this configuration, wherever it came from
                env={**os.environ, "DUCKLAKE_DATA_DIR": str(config.data_dir)},
                timeout=60,
                check=False,
            )
        os.close(writing)
        writing = -1
        _await_up(config, reading, reporter)
    except KeyboardInterrupt:
        reporter.note("interrupted: stopping what was started")
        down(config)
        raise
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _await_up(config: Config, alive: int, reporter: Reporter) -> None:
    """Follow whichever supervisor has the lock: ours, or that of somebody who was faster."""
    deadline = time.monotonic() + _UP_SECONDS
    log = config.stack_dir / "logs" / LOG
    ours_ended = False
    while time.monotonic() < deadline:
        if not ours_ended:
            ours_ended = bool(select.select([alive], [], [], 0.1)[0])
        else:
            time.sleep(0.1)  # somebody else's supervisor: only its file can be watched
        report = _current(config)
        if report is not None:
            reporter.services({name: entry.state for name, entry in report.processes.items()})
            if report.phase == "up":
                _check_complete(config, report)
                return
        elif ours_ended and lock.holder(config.stack_dir / LOCK) is None:
            last = Report.read(config.stack_dir / STATUS_FILE)
            if last is not None and last.phase == "failed":
                raise StackError(last.error, last.remedy)
            raise StackError("The stack was stopped while it started.", f"See {log}.")
    raise StackError(f"The stack is not up after {_UP_SECONDS:.0f} s.", f"See {log}.")


def _check_complete(config: Config, report: Report) -> None:
    lacking = set(embedded_services(config)) - set(report.processes)
    if lacking:
        raise StackError(
            f"The running stack was started without {', '.join(sorted(lacking))}.",
            "Run `ducklake down`, then `ducklake up`.",
        )
