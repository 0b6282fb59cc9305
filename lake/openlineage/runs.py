"""Which runs are told, and when: each beginning, end, failure and change; the rest now and then.

A lake commits every second, for years: an event for each commit of each table would be more than
its rows. What goes on as before is told once every `lineage.every`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lake.openlineage.events import (
    COMPLETE,
    FAIL,
    RUNNING,
    START,
    Step,
    Told,
    run_id,
)

Tell = Callable[[Told], None]


@dataclass(slots=True)
class _Stream:
    """A streaming job of this process."""

    step: Step
    run: str
    rows: int = 0
    size: int = 0
    told_at: float = 0.0
    failed: str = ""


class StreamRuns:
    """The streaming jobs of a process: a run from its first sign of life to the process's end.

    Args:
        tell: Takes what is told; it does not wait.
        every: Seconds between two events of a run in which nothing changes.
        clock: Monotonic.
    """

    def __init__(
        self, tell: Tell, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}

    def moved(self, step: Step, rows: int = 0, size: int = 0) -> None:
        """A job is at work, and may have written something."""
        now = self._clock()
        with self._lock:
            known = self._streams.get(step.job)
            if known is None or known.failed:
                known = self._streams[step.job] = _Stream(step, run_id(), told_at=now)
                self._say(known, START)
            changed = known.step != step
            known.step = step
            known.rows += rows
            known.size += size
            if changed or (rows and now - known.told_at >= self._every):
                known.told_at = now
                self._say(known, RUNNING)

    def failed(self, step: Step, problem: str) -> None:
        """A job has stopped, or is tried again; the same reason is told once."""
        with self._lock:
            known = self._streams.get(step.job)
            if known is not None and known.failed == problem:
                return
            if known is None or known.failed:
                known = self._streams[step.job] = _Stream(step, run_id())
                self._say(known, START)
            known.failed = problem
            self._say(known, FAIL)

    def step(self, job: str) -> Step:
        """A job as it was last told."""
        with self._lock:
            known = self._streams.get(job)
        return Step(job) if known is None else known.step

    def end(self) -> None:
        """The process ends, and with it all runs that have not failed."""
        with self._lock:
            streams, self._streams = self._streams, {}
            for stream in streams.values():
                if not stream.failed:
                    self._say(stream, COMPLETE)

    def _say(self, stream: _Stream, state: str) -> None:
        self._tell(
            Told(
                stream.step,
                state,
                stream.run,
                time.time(),
                None,
                stream.rows,
                stream.size or None,
                stream.failed,
            )
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that ran within a cycle, and is over.

    Attributes:
        step: The job.
        began: In seconds of the epoch.
        ended: In seconds of the epoch.
        rows: How many it wrote; None: nobody counted.
        problem: Why it failed; empty where it did not.
        version: Differs whenever the job does: its definition, or the columns that it reads.
    """

    step: Step
    began: float
    ended: float
    rows: int | None = None
    problem: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class FinishedCycle:
    """A cycle, and what ran within it."""

    cycle: Finished
    parts: Sequence[Finished] = field(default_factory=tuple)


class CycleRuns:
    """The cycles of a batch: a run each, the parent of those of models and exports.

    Args:
        tell: Takes what is told; it does not wait.
        every: Seconds between two runs of a job that are told where nothing changes.
        clock: Monotonic.
    """

    def __init__(
        self, tell: Tell, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self._every = every
        self._clock = clock
        self._told: dict[str, tuple[float, tuple[object, ...]]] = {}
        self.is_described = False

    def due(self, found: FinishedCycle) -> FinishedCycle | None:
        """The part of a cycle that is to be told; None: nothing of it."""
        parts = [part for part in found.parts if self._is_due(part)]
        return FinishedCycle(found.cycle, parts) if parts or self._is_due(found.cycle) else None

    def tell(self, due: FinishedCycle) -> None:
        """Tell it, the parent first and last."""
        cycle, run = due.cycle, run_id()
        self._tell(Told(cycle.step, START, run, cycle.began))
        for part in due.parts:
            parent, own = (cycle.step.job, run), run_id()
            self._tell(Told(part.step, START, own, part.began, parent))
            self._tell(_end(part, own, parent))
        self._tell(_end(cycle, run, None))
        now = self._clock()
        for each in (cycle, *due.parts):
            self._told[each.step.job] = (now, _state(each))

    def describe(self, steps: Iterable[Step]) -> None:
        """Tell of jobs that there are, of which this process may not see a run for long."""
        self.is_described = True
        for step in steps:
            self._tell(Told(step, at=time.time()))

    def _is_due(self, found: Finished) -> bool:
        at, state = self._told.get(found.step.job, (0.0, ()))
        return state != _state(found) or self._clock() - at >= self._every


def _state(found: Finished) -> tuple[object, ...]:
    names = [(d.namespace, d.name) for d in (*found.step.inputs, *found.step.outputs)]
    return found.problem, found.version, tuple(names)


def _end(found: Finished, run: str, parent: tuple[str, str] | None) -> Told:
    state = FAIL if found.problem else COMPLETE
    ended = found.ended
    return Told(found.step, state, run, ended, parent, found.rows, None, found.problem)
