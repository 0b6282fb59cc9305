"""Keeps one service running, in a thread of its own to which the service's life is tied."""

from __future__ import annotations

import errno
import os
import threading
import time

from lake.errors import DuckLakeError, StackError
from lake.processes.child import CappedLog, Child
from lake.processes.status_file import HEALTHY, StatusFile
from stack.service import Service, reason

START_SECONDS = 180.0
SECOND_TRY_SECONDS = 2.0
_BACKOFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_SECONDS = 60.0
_POLL_SECONDS = 0.1


class _Stopped(Exception):
    """The stack is being stopped."""


class ServiceRunner(threading.Thread):
    """Prepares, starts, checks and restarts a service until the stack stops.

    The kernel ends a child when the thread that made it ends (PR_SET_PDEATHSIG); this thread
    lives as long as the supervisor does.

    Args:
        service: What to run.
        board: Takes the news.
        stop: Set when the stack stops.
        diary: The supervisor's log.
    """

    def __init__(
        self, service: Service, board: StatusFile, stop: threading.Event, diary: CappedLog
    ) -> None:
        super().__init__(name=f"runner-{service.name}", daemon=True)
        self.service = service
        self.child: Child | None = None
        self._status_file = board
        self._stop_event = stop
        self._diary = diary

    def run(self) -> None:
        """The thread's work."""
        try:
            self._await_needs()
            self._start_twice()
            self._keep()
        except _Stopped:
            return
        except DuckLakeError as error:
            self._status_file.fail(error.what, error.remedy)
        except OSError as error:
            self._status_file.fail(*_explained(self.service, error))
        except Exception as error:  # the thread's edge: nobody else would ever hear of it
            self._note(f"{type(error).__name__}: {error}")
            self._status_file.fail(
                f"{self.service.name} could not be started ({type(error).__name__}: {error}).",
                f"See {self._diary.path}.",
            )

    def _note(self, text: str) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        self._diary.write(f"{now} {self.service.name}: {text}\n".encode())

    def _await_needs(self) -> None:
        for name in self.service.needs:
            while not self._status_file.await_healthy(name, 0.2):
                if self._stop_event.is_set():
                    raise _Stopped

    def _start_twice(self) -> None:
        """Start, and once more if it ends at once.

        One that was killed a moment ago may still hold its files, or its port, while its threads
        go.
        """
        try:
            self._start()
        except StackError as error:
            if self.child is None or self.child.wait(0) is None:
                raise
            self._note(f"{error}; once more in {SECOND_TRY_SECONDS} s")
            if self._stop_event.wait(SECOND_TRY_SECONDS):
                raise _Stopped from None
            self._start()

    def _start(self) -> None:
        name, began = self.service.name, time.monotonic()
        self._status_file.state(name, "preparing")
        self.service.folder.mkdir(exist_ok=True)
        self.service.prepare()
        if self._stop_event.is_set():
            raise _Stopped
        self.child = Child(
            self.service.command(),
            {**os.environ, **self.service.environment()},
            self.service.folder,
            CappedLog(self.service.log),
            self.service.identity(),
        )
        self._status_file.child(name, self.child.pid, self.child.started)
        self._status_file.state(name, "starting")
        self._await_health(self.child)
        self._status_file.state(name, "loading")
        self.service.finish()
        self._status_file.state(name, HEALTHY)
        self._note(f"healthy after {time.monotonic() - began:.1f} s, process {self.child.pid}")

    def _await_health(self, child: Child) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.service):
            if self._stop_event.wait(_POLL_SECONDS):
                raise _Stopped
            code = child.wait(0)
            if code is not None:
                raise StackError(
                    f"{self.service.name} ended with exit code {code}{reason(self.service.log)}.",
                    f"See {self.service.log}.",
                )
            if time.monotonic() > deadline:
                child.kill()
                raise StackError(
                    f"{self.service.name} did not answer within {START_SECONDS:.0f} s.",
                    f"See {self.service.log}.",
                )

    def _keep(self) -> None:
        failures, since = 0, time.monotonic()
        while True:
            assert self.child is not None
            code = self.child.wait(None)
            if self._stop_event.is_set():
                self._note(f"ended with exit code {code}")
                return
            if time.monotonic() - since > _STEADY_SECONDS:
                failures = 0
            pause = _BACKOFF[min(failures, len(_BACKOFF) - 1)]
            self._status_file.restarting(self.service.name)
            self._note(f"ended with exit code {code}; starting again in {pause} s")
            if self._stop_event.wait(pause):
                return
            failures, since = failures + 1, time.monotonic()
            try:
                self._start()
            except (DuckLakeError, OSError) as error:
                # unlike at the first start, the other services are in use: go on trying
                self._note(str(error))
                if self.child.wait(0) is None:
                    self.child.kill()


def _answers(service: Service) -> bool:
    try:
        return service.healthy()
    except Exception:  # whatever a client library raises while a server starts
        return False


def _explained(service: Service, error: OSError) -> tuple[str, str]:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk that holds {service.folder} is full.",
            "Free some space, then run `ducklake up` again.",
        )
    return f"{service.name} could not be started ({error}).", f"See {service.log}."
