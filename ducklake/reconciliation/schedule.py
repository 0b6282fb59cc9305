"""Reconciles MySQL's tables by itself, each as often as its configuration says.

It runs in a thread of `ducklake produce`. Its results are state: `ducklake status` shows the last
one of each table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from ducklake.reconciliation.comparison import tables_of_mysql
from ducklake.reconciliation.reconciler import Reconciler
from ducklake.reconciliation.result import LastResults, TableResult
from lake.config import Config, Endpoints, TableRef
from lake.errors import Interrupted, UnexpectedError
from lake.storage.paths import LakePaths

log = structlog.get_logger()
FIRST_SECONDS = 3600.0
"""After so long a table is compared that never was, if it is not to be compared more often."""
RETRY_SECONDS = 600.0
"""After so long a table is tried again that could not be compared."""
LOOK_SECONDS = 1.0


def seconds_between(config: Config, ref: TableRef) -> float | None:
    """The seconds between two comparisons of a table; None: never."""
    source = config.settings.sources[ref.source]
    return (source.tables[ref.table].reconcile or source.reconcile).seconds


def due_at(every: float, last: TableResult | None, started: float) -> float:
    """When a table is to be compared next, in seconds of the epoch.

    Args:
        every: The seconds between two comparisons.
        last: Its last result; None: it was never compared.
        started: Since when the schedule runs.
    """
    if last is None:
        return started + min(every, FIRST_SECONDS)
    return last.at + (min(every, RETRY_SECONDS) if last.state == "failed" else every)


class ReconciliationSchedule:
    """Compares one table after the other, as each is due.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        stop: Ends it.
        sources: Only tables of these; all by default.
        now: The clock, in seconds of the epoch.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        stop: threading.Event,
        sources: Sequence[str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._stop = stop
        self._now = now
        self._started = now()
        self._results = LastResults(LakePaths(config.data_dir))
        self._reconciler = Reconciler(config, endpoints, wait=self._wait)
        tables = tables_of_mysql(config, [ref for ref, _ in config.tables()])
        self._tables = [ref for ref in tables if not sources or ref.source in sources]

    def start(self) -> None:
        """Run in a thread that does not keep the process alive."""
        threading.Thread(target=self.run, name="reconciliation", daemon=True).start()

    def run(self) -> None:
        """Run until told to stop."""
        while not self._stop.wait(LOOK_SECONDS):
            for ref in self.due():
                if self._stop.is_set():
                    return
                self._reconcile(ref)

    def due(self) -> list[TableRef]:
        """The tables that are to be compared now."""
        now = self._now()
        found = []
        for ref in self._tables:
            every = seconds_between(self._config, ref)
            last = self._results.of(ref.topic)
            if every is not None and due_at(every, last, self._started) <= now:
                found.append(ref)
        return found

    def _reconcile(self, ref: TableRef) -> None:
        try:
            self._reconciler.reconcile(ref)
        except Interrupted:
            return
        except Exception as error:  # it must not end the role, and not end silently
            named = UnexpectedError.of(
                f"The comparison of {ref.topic}", error, "This is a defect; it is tried again."
            )
            self._reconciler.keep_failure(ref, named)

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Interrupted("A comparison was told to stop.")
