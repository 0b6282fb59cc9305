"""Keeps one program running, in a thread of its own to which the child's life is tied."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from dataclasses import dataclass

from lake.errors import DuckLakeError, ProcessFailed
from lake.processes.backoff import Backoff
from lake.processes.child import CappedLog, Child
from lake.processes.program import Program
from lake.processes.status_file import (
    CRASH_LOOPING,
    HANGING,
    HEALTHY,
    LOADING,
    PREPARING,
    RESTARTING,
    STARTING,
    StatusFile,
)
from lake.storage.operations import make_scratch_folder

SECOND_TRY_SECONDS = 2.0
_POLL_SECONDS = 0.1
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a program is started again, and when not.

    Attributes:
        must_start: Whether the first start has to succeed: its failure is then everybody's.
        final_codes: Exit codes after which it is not started again.
        start_seconds: It has to answer within this time.
        first_pause: Seconds before it is started again for the first time.
        most_pause: Seconds that no pause exceeds.
        steady_seconds: After so long a life, earlier ends count no more.
        early_ends: Ends of shorter lives, one after the other, that make a crash loop.
        grace_seconds: What a hanging process is given to end by itself.
    """

    must_start: bool = False
    final_codes: frozenset[int] = frozenset()
    start_seconds: float = 180.0
    first_pause: float = 0.5
    most_pause: float = 30.0
    steady_seconds: float = 60.0
    early_ends: int = 3
    grace_seconds: float = 5.0


class _Stopped(Exception):
    """Everything is being stopped."""


class ManagedProcess(threading.Thread):
    """Prepares, starts, checks and restarts a program until everything stops.

    The kernel ends a child when the thread that made it ends (PR_SET_PDEATHSIG); this thread
    lives as long as the child does.

    Args:
        program: What to run.
        status: Takes the news.
        stop: Set when everything stops.
        journal: The supervisor's log.
        policy: When to start it again.
    """

    def __init__(
        self,
        program: Program,
        status: StatusFile,
        stop: threading.Event,
        journal: CappedLog,
        policy: RestartPolicy,
    ) -> None:
        super().__init__(name=f"process-{program.name}", daemon=True)
        self.program = program
        self.child: Child | None = None
        self._status = status
        self._stop_event = stop
        self._journal = journal
        self._policy = policy
        self._backoff = Backoff(policy.first_pause, policy.most_pause)
        self._early_ends = 0
        self._healthy_since: float | None = None

    def run(self) -> None:
        """The thread's work."""
        try:
            self._await_needs()
            self._first_start()
            self._keep()
        except _Stopped:
            self._await_end()
        except DuckLakeError as error:
            self._status.fail(error.what, error.remedy)
        except OSError as error:
            self._status.fail(*self._explained(error))
        except Exception as error:  # the thread's edge: nobody else would ever hear of it
            self._note(f"{type(error).__name__}: {error}")
            self._status.fail(
                f"{self.program.name} could not be started ({type(error).__name__}: {error}).",
                f"See {self._journal.path}.",
            )

    def _note(self, text: str) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        self._journal.write(f"{now} {self.program.name}: {text}\n".encode())

    def _await_needs(self) -> None:
        for name in self.program.needs:
            while not self._status.await_healthy(name, 0.2):
                if self._stop_event.is_set():
                    raise _Stopped

    def _await_end(self) -> None:
        """Stay as long as the child: it dies with this thread, and has things to finish."""
        if self.child is not None:
            self.child.wait(None)

    # Starting --------------------------------------------------------------------------------

    def _first_start(self) -> None:
        """Start; a program that must start is given a second try.

        One that was killed a moment ago may still hold its files, or its port, while its threads
        go.
        """
        try:
            self._start()
        except _Stopped:
            raise
        except Exception as error:
            if not self._policy.must_start:
                self._start_again(None, str(error))
                return
            ended = self.child is not None and self.child.wait(0) is not None
            if not (isinstance(error, DuckLakeError) and ended):
                raise
            self._note(f"{error}; once more in {SECOND_TRY_SECONDS} s")
            if self._stop_event.wait(SECOND_TRY_SECONDS):
                raise _Stopped from None
            self._start()

    def _start(self) -> None:
        name, began = self.program.name, time.monotonic()
        self._healthy_since = None
        self._status.state(name, self._shown(PREPARING))
        make_scratch_folder(self.program.folder)
        self.program.log.touch()  # whoever is told its name finds it
        self.program.prepare()
        if self._stop_event.is_set():
            raise _Stopped
        self.child = Child(
            self.program.command(),
            {**os.environ, **self.program.environment()},
            self.program.folder,
            self.program.output,
            self.program.identity(),
        )
        self._status.child(name, self.child.pid, self.child.started)
        self._status.state(name, self._shown(STARTING))
        if not self._await_health(self.child):
            return
        self._status.state(name, self._shown(LOADING))
        self.program.finish()
        self._status.state(name, self._shown(HEALTHY))
        self._healthy_since = time.monotonic()
        took = self._healthy_since - began
        self._note(f"healthy after {took:.1f} s, process {self.child.pid}")

    def _await_health(self, child: Child) -> bool:
        """Whether it answers; False where it ended for good before that.

        Raises:
            ProcessFailed: It ended, or does not answer in time.
        """
        deadline = time.monotonic() + self._policy.start_seconds
        name, log = self.program.name, self.program.log
        while not self._answers(child):
            if self._stop_event.wait(_POLL_SECONDS):
                raise _Stopped
            code = child.wait(0)
            if code in self._policy.final_codes:
                return False
            if code is not None:
                cause = self.program.cause(child.pid)
                said = f": {cause}" if cause else ""
                raise ProcessFailed(f"{name} ended with exit code {code}{said}.", f"See {log}.")
            if time.monotonic() > deadline:
                child.kill()
                limit = self._policy.start_seconds
                raise ProcessFailed(f"{name} did not answer within {limit:.0f} s.", f"See {log}.")
        return True

    def _answers(self, child: Child) -> bool:
        try:
            return self.program.answers(child.pid)
        except Exception:  # whatever a client library raises while a server starts
            return False

    def _shown(self, state: str) -> str:
        """What it counts as; one that kept ending early has yet to prove itself."""
        return CRASH_LOOPING if self._early_ends >= self._policy.early_ends else state

    # Keeping it running ----------------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            assert self.child is not None
            code, reason = self._watch(self.child)
            if self._stop_event.is_set():
                self._note(f"ended with exit code {code}")
                return
            if code in self._policy.final_codes:
                self._note(f"ended for good with exit code {code}: {reason}")
                self._status.stopped(self.program.name, code, reason)
                return
            self._start_again(code, reason)

    def _watch(self, child: Child) -> tuple[int | None, str]:
        """Wait for the process's end, and end it where it hangs.

        Returns:
            The exit code, and why it ended.
        """
        while (code := child.wait(_LOOK_SECONDS)) is None:
            if self._early_ends and self._is_steady():
                self._forget_ends()
                self._status.state(self.program.name, HEALTHY)
            why = None if self._stop_event.is_set() else self.program.hangs(child.pid)
            if why is not None:
                self._note(f"hangs: {why}; it is ended")
                self._status.state(self.program.name, HANGING, why)
                return child.end(signal.SIGTERM, self._policy.grace_seconds), f"it hung: {why}"
        return code, self.program.cause(child.pid)

    def _is_steady(self) -> bool:
        since = self._healthy_since
        return since is not None and time.monotonic() - since > self._policy.steady_seconds

    def _forget_ends(self) -> None:
        self._early_ends = 0
        self._backoff.reset()

    def _start_again(self, code: int | None, reason: str) -> None:
        """Start it again, as often as it takes: what else runs is in use."""
        while True:
            if self._is_steady():
                self._forget_ends()
            self._early_ends += 1
            pause = self._backoff.pause()
            self._status.restarting(self.program.name, self._shown(RESTARTING), code, reason)
            ended = f"ended with exit code {code}: {reason}" if code is not None else reason
            self._note(f"{ended}; starting again in {pause:.1f} s")
            if self._stop_event.wait(pause):
                raise _Stopped
            try:
                self._start()
                return
            except _Stopped:
                raise
            except Exception as error:  # whatever it was: this program is to run
                reason = str(error)
                code = None if self.child is None else self.child.end(signal.SIGKILL, 1)

    def _explained(self, error: OSError) -> tuple[str, str]:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return (
                f"The disk that holds {self.program.folder} is full.",
                "Free some space, then run `ducklake up` again.",
            )
        name, log = self.program.name, self.program.log
        return f"{name} could not be started ({error}).", f"See {log}."
