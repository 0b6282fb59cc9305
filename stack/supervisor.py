"""The one process that stays after `ducklake up`: starts the services, watches and ends them.

    python -m stack.supervisor --config ducklake.yml [--alive FD]

It leaves its parent's session. Whoever waits for it holds the other end of the pipe FD, which
closes when it dies, and reads `{stack}/supervisor.json`.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path
from types import FrameType

from lake.config import Config, load_config
from lake.errors import DuckLakeError
from lake.processes import lock
from lake.processes.child import CappedLog, log_limits
from lake.processes.managed_process import RestartPolicy
from lake.processes.status_file import StatusFile
from lake.processes.supervisor import ProcessSupervisor
from lake.storage.json_files import write_json
from lake.storage.privacy import keep_private
from producers.registry import embedded_services
from stack.downloads import cache_dir
from stack.ports import PortBook
from stack.secrets import Secrets
from stack.service import Service, StackContext
from stack.services import services_of
from stack.tools import Tools

STOP_SECONDS = 8.0
LOCK = "supervisor.lock"
STATUS_FILE = "supervisor.json"
LOG = "supervisor.log"
PORTS = "ports.json"
SECRETS = "secrets.json"


def wished_ports(config: Config) -> dict[str, int]:
    """One wish for each embedded service, and one for Kafka's controller."""
    ports = config.settings.embedded.ports.model_dump()
    wished = {name: ports[name] for name in embedded_services(config)}
    if "kafka" in wished:
        wished["controller"] = wished["kafka"] + 1
    return wished


class Supervisor:
    """One run of the stack.

    Args:
        config: What to run, and where.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = threading.Event()
        self._hurry = False
        logs = config.stack_dir / "logs"
        self._journal = CappedLog(logs / LOG, log_limits(config))
        names = embedded_services(config)
        self._status_file = StatusFile(
            config.stack_dir / STATUS_FILE, {name: logs / f"{name}.log" for name in names}
        )
        self._services: list[Service] = []
        self._processes: ProcessSupervisor | None = None

    def run(self) -> int:
        """Start everything, watch until told to stop, and end everything.

        Returns:
            The exit code.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told_to_stop)
        self._config.state_file.unlink(missing_ok=True)
        try:
            self._start()
            self._await_start()
            if not self._stop.is_set() and not self._status_file.error[0]:
                self._write_state()
                self._status_file.enter("up")
                self._stop.wait()
        except DuckLakeError as error:
            self._status_file.fail(error.what, error.remedy)
        failed = bool(self._status_file.error[0]) and self._status_file.phase == "starting"
        if not failed:
            self._status_file.enter("stopping")
        self._config.state_file.unlink(missing_ok=True)
        if self._processes is not None:
            self._processes.stop(STOP_SECONDS, lambda: self._hurry)
        # said last, so that whoever reads it finds nothing running
        self._status_file.enter("failed" if failed else "ended")
        return int(failed)

    def _told_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._hurry = self._stop.is_set()
        self._stop.set()
        self._status_file.changed.set()

    def _start(self) -> None:
        folder = self._config.stack_dir
        ports = PortBook(folder / PORTS, cache_dir() / "ports")
        site = StackContext(
            self._config,
            ports.choose(wished_ports(self._config)),
            Secrets(folder / SECRETS),
            Tools.locate(),
        )
        self._ports = ports  # its locks last as long as it does
        self._services = services_of(site)
        self._processes = ProcessSupervisor(
            self._services,
            self._status_file,
            self._journal,
            RestartPolicy(must_start=True),
            self._stop,
        )
        self._processes.start()

    def _await_start(self) -> None:
        while not (
            self._status_file.all_healthy() or self._status_file.error[0] or self._stop.is_set()
        ):
            self._status_file.changed.wait(1)
            self._status_file.changed.clear()

    def _write_state(self) -> None:
        services = {service.name: service.endpoint() for service in self._services}
        write_json(
            self._config.state_file,
            {"pid": os.getpid(), "started": self._status_file.started, "services": services},
        )


def main() -> int:
    """Detach, take the lock, and run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--alive", type=int)
    arguments = parser.parse_args()
    if arguments.alive is not None:
        os.set_inheritable(arguments.alive, False)  # a service must not keep it open
    if os.fork():
        os._exit(0)
    os.setsid()
    config = load_config(arguments.config)
    keep_private(config.data_dir)
    config.stack_dir.joinpath("logs").mkdir(parents=True, exist_ok=True)
    if lock.take(config.stack_dir / LOCK) is None:
        return 0  # another supervisor has this stack; whoever waits will read its status file
    return Supervisor(config).run()


if __name__ == "__main__":
    raise SystemExit(main())
