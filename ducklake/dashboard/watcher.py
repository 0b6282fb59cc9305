"""Looks at the lake for all open pages at once, so that fifty of them cost as much as one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from ducklake.monitoring.flow import LagHistory, TableFlow, table_flows
from ducklake.monitoring.observation import Ends, Observation, observe, opened_ledger
from ducklake.monitoring.pipeline import Pipeline, SnapshotClock, pipeline
from ducklake.supervision.freshness import can_be_read
from ducklake.supervision.kafka_ends import topic_ends
from lake.config import Config
from lake.errors import DuckLakeError
from lake.storage.paths import LakePaths

LOOK_SECONDS = 1.0
KAFKA_SECONDS = 5.0
LISTENED_SECONDS = 15.0
"""Without a reader for so long, it looks only every `KAFKA_SECONDS`, for the history of lag."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What all pages show; each look is another one, whatever it has seen.

    Attributes:
        version: Another one whenever something that a page shows has changed.
        seen: The lake.
        flows: The way of each table, with its lag over the last hour.
        pipeline: All of them together; None before there is a lake.
    """

    version: int
    seen: Observation
    flows: tuple[TableFlow, ...] = ()
    pipeline: Pipeline | None = None


class Watcher:
    """Keeps the newest look.

    Args:
        config: The configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._paths = LakePaths(config.data_dir)
        self._history = LagHistory()
        self._snapshots = SnapshotClock()
        self._ends: Ends = None
        self._asked = 0.0
        self._listened = 0.0
        self._known: object = None
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._look = Look(0, observe(config, lambda _: None))
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Look from now on."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def latest(self) -> Look:
        """The newest look; whoever asks keeps it fresh."""
        self._listened = time.monotonic()
        return self._look

    def refresh(self) -> Look:
        """Look now."""
        with self._mutex:
            now = time.monotonic()
            if now - self._asked >= KAFKA_SECONDS:
                self._ends, self._asked = topic_ends(self._config), now
            seen = observe(self._config, lambda _: self._ends)
            flows = self._flows(seen)
            shown = (seen.commit, seen.run and seen.run.number, _without_times(seen))
            version = self._look.version + (shown != self._known)
            self._known = shown
            whole = pipeline(self._config, seen, flows, self._snapshots) if flows else None
            self._look = Look(version, seen, flows, whole)
            return self._look

    def _flows(self, seen: Observation) -> tuple[TableFlow, ...]:
        if not can_be_read(self._paths):
            return ()
        try:
            with opened_ledger(self._paths) as ledger:
                flows = table_flows(self._config, ledger, seen)
        except DuckLakeError:
            return self._look.flows  # replaced at this moment
        self._history.add(flows, seen.at)
        return self._history.shown_with(flows)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            is_heard = time.monotonic() - self._listened < LISTENED_SECONDS
            if is_heard or time.monotonic() - self._asked >= KAFKA_SECONDS:
                self.refresh()


def _without_times(seen: Observation) -> object:
    """What is wrong, without for how long."""
    problems = tuple((p.subject, p.state, p.reason) for p in seen.condition.problems)
    roles = tuple((r.name, r.state, r.restarts) for r in seen.condition.roles)
    return problems, roles, seen.lights, seen.failures, seen.condition.reconciled
