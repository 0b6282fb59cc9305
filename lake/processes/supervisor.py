"""Some programs kept running together: the embedded services, or the roles of `ducklake run`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from lake.processes.child import CappedLog
from lake.processes.managed_process import ManagedProcess, RestartPolicy
from lake.processes.program import Program
from lake.processes.status_file import StatusFile

_FIRST_SECONDS = 1.5
_LAST_SECONDS = 1.0  # for the last line in the journal


class ProcessSupervisor:
    """Starts programs, watches them, starts again what ends, and ends them.

    Children die with this process (the kernel sees to it).

    Args:
        programs: What to run.
        status: Takes the state of each.
        journal: The supervisor's log.
        policy: When a program is started again.
        stop: Set by whoever wants everything to end; `stop()` sets it too.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        status: StatusFile,
        journal: CappedLog,
        policy: RestartPolicy,
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self._processes = [
            ManagedProcess(program, status, stop, journal, policy) for program in programs
        ]

    def start(self) -> None:
        """Start everything; returns at once."""
        for process in self._processes:
            process.start()

    def pids(self) -> dict[str, int]:
        """The ids of the running processes, by program."""
        return {
            process.program.name: process.child.pid
            for process in self._processes
            if process.child is not None and process.child.wait(0) is None
        }

    def stop(self, seconds: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """Ask all to finish what they hold, and end what does not in time.

        Args:
            seconds: How long they may take, all together.
            hurry: Asked all the while: whether to wait no longer.
        """
        self._stop.set()
        deadline = time.monotonic() + seconds
        first = [process for process in self._processes if process.program.stops_first]
        # Connect says goodbye to Kafka, for which Kafka has to be there
        _ask_to_end(first)
        _await_ends(first, min(deadline, time.monotonic() + _FIRST_SECONDS), hurry)
        _ask_to_end([p for p in self._processes if not p.program.stops_first])
        _await_ends(self._processes, deadline, hurry)
        for process in self._processes:
            if process.child is not None and process.child.wait(0) is None:
                process.child.kill()
            if process.ident is not None:  # it was started
                process.join(_LAST_SECONDS)
            process.program.output.close()


def _ask_to_end(processes: Sequence[ManagedProcess]) -> None:
    for process in processes:
        if process.child is not None:
            with suppress(Exception):  # it may be gone, starting, or stuck: the signal decides
                process.program.before_stop()
            process.child.signal(process.program.stop_signal)


def _await_ends(
    processes: Sequence[ManagedProcess], deadline: float, hurry: Callable[[], bool]
) -> None:
    for process in processes:
        while process.is_alive() and not hurry() and time.monotonic() < deadline:
            process.join(0.1)
