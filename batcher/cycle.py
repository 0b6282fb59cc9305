"""The clock: each cycle takes one pinned commit through dbt to DuckDB's file and PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

import structlog

from batcher.cycle_lineage import CycleFacts, tell_cycle, tell_failed
from batcher.cycle_lock import WAIT_SECONDS, cycle_lock
from batcher.cycle_result import Cycle, log_cycle
from batcher.dbt_build import DbtProject
from batcher.failures import keep_failures
from batcher.freshness import FreshnessMeter, write_source_freshness
from batcher.held_back import HeldBack
from batcher.lineage import read_lineage
from batcher.model_build import BuildResult, ModelBuild
from batcher.pace import Pace
from batcher.postgres import ExportResult, ModelRows, PostgresExport
from batcher.publish import Publisher
from batcher.raw_loop import RawLoop
from batcher.waiting_rows import waiting_rows
from lake.config import Config, Endpoints
from lake.errors import (
    AlreadyRunning,
    BatchError,
    DuckLakeError,
    ServiceUnreachable,
    UnexpectedError,
)
from lake.ledger.freshness import Arrivals
from lake.opening import open_lake
from lake.processes.heartbeat import RETRYING, SILENT, Heartbeat, Part
from lake.storage.operations import make_scratch_folder

log = structlog.get_logger()
LOOK_SECONDS = 0.1
SETTLE_SECONDS = 0.2
EDIT_SECONDS = 5.0
"""Seconds between two looks for an edited model, or a new day."""
IDLE_WITHIN = 120.0
"""Seconds within which the loop moves between two cycles."""
STEP_WITHIN = 3600.0
"""Seconds that one model, the publication or the export may take: nothing is heard within them."""
CYCLE = "cycle"

Progress = Callable[[str], None]


class Batch:
    """The batch of one lake, in one long-lived process.

    Args:
        config: The configuration.
        endpoints: Where PostgreSQL is.
        progress: Called with the name of each step as it begins.
        heartbeat: Told that the loop moves, and whether its cycles fail.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        progress: Progress = lambda step: None,
        heartbeat: Heartbeat = SILENT,
    ) -> None:
        self._config = config
        self._progress = progress
        self._heartbeat = heartbeat
        self._held = HeldBack(heartbeat)
        with ExitStack() as opening:
            self._lake = opening.enter_context(open_lake(config, for_writing=False))
            self._ledger = self._lake.ledger
            make_scratch_folder(self._lake.paths.root / "work")
            self._open(config, endpoints)
            self._opened = opening.pop_all()

    def _open(self, config: Config, endpoints: Endpoints) -> None:
        heartbeat = self._heartbeat
        self._dbt = DbtProject(config, lambda: heartbeat.beat("dbt", STEP_WITHIN))
        self._build = ModelBuild(config, self._ledger, self._dbt)
        self._last: BuildResult | None = None
        self._export_error: str | None = None
        self._publisher = Publisher(config, self._ledger)
        self._export = PostgresExport(config, endpoints.postgres, self._ledger)
        self._raw = RawLoop(config, endpoints.postgres, heartbeat)

    def close(self) -> None:
        """Let go of the pin and the ledger."""
        self._opened.close()

    def load(self) -> None:
        """Do what costs time and needs no data: import dbt."""
        self._dbt.load()

    def run(self, stop: threading.Event) -> None:
        """Run a cycle every interval, and only when there is something new; raw goes on its own."""
        with self._raw.running(stop):
            self._run_cycles(stop)

    def _run_cycles(self, stop: threading.Event) -> None:
        pace = Pace(self._config.settings.batch.interval_seconds)
        look_at = 0.0
        while not stop.is_set():
            self._heartbeat.beat("waiting for commits", IDLE_WITHIN)
            now = time.monotonic()
            is_due = pace.is_new(self._ledger.commits.last())
            if not is_due and now >= look_at:
                look_at = now + EDIT_SECONDS
                is_due = self._is_due()
            if pace.may_start(now) and (is_due or pace.may_retry(now)):
                pace.begins(now)
                try:
                    self._run_one(pace, stop, is_due)
                except AlreadyRunning:
                    pass  # somebody else's cycle: the next one takes what that one left
                except Exception as error:  # the next cycle is a new try, whatever it was
                    pace.failed(time.monotonic())
                    self._failed(error)
            stop.wait(LOOK_SECONDS)

    def _run_one(self, pace: Pace, stop: threading.Event, is_due: bool) -> None:
        """Run a cycle; or only export again, where nothing else is to be done."""
        if not is_due and self._held.relations and self._export_error is None:
            self.export_again()
            pace.retried(not self._held.relations, time.monotonic())
            return
        # Commits come in groups (an order and its items): let them settle.
        stop.wait(SETTLE_SECONDS)
        cycle = self.cycle()
        self._export_error = cycle.export_error
        log_cycle(cycle)
        self._tell_export(cycle.export_error)
        is_exported = cycle.export_error is None and not self._held.relations
        pace.ended(cycle.commit, is_exported, time.monotonic())

    def _is_due(self) -> bool:
        """Whether there is something to do though nothing was committed."""
        try:
            return self._build.is_due(self._last)
        except DuckLakeError:  # the cycle says what is wrong with the project
            return True

    def _failed(self, error: Exception) -> None:
        remedy = "This is a defect of the batch."
        error = UnexpectedError.unless_named("the cycle", error, remedy)
        log.error(
            "cycle_failed",
            message="A cycle failed; the next one is attempted on schedule.",
            reason=str(error),
        )
        part = Part("step", RETRYING, reason=error.what, remedy=error.remedy)
        self._heartbeat.part(CYCLE, part)

    def _tell_export(self, error: str | None) -> None:
        if error is None:
            self._heartbeat.forget(CYCLE)
        else:
            self._heartbeat.part(CYCLE, Part("step", RETRYING, reason=error))

    def export_again(self) -> None:
        """Try the relations again that the last export held back; the models stay as they are.

        Raises:
            ServiceUnreachable: The database does not answer.
        """
        with self._lake.pinned() as commit:
            self._begin("export")
            result = self._exported(self._publisher.current(), commit)
        self._held.tell(result.held_back)

    def _exported(self, models: Mapping[str, ModelRows], commit: int) -> ExportResult:
        """Export the models, and raw where no loop does that."""
        if self._raw.is_running:
            return self._export.export_models(models)
        return self._export.export(models, commit)

    def _begin(self, step: str) -> None:
        self._progress(step)
        self._heartbeat.beat(step, STEP_WITHIN)

    def _keep_failures(self, built: BuildResult, commit: int) -> None:
        outcome = built.outcome
        keep_failures(self._lake.paths, outcome.failures, outcome.asked, built.tests, commit)

    def cycle(
        self, full: bool = False, rebuild: Iterable[str] | None = (), wait: float = 0.0
    ) -> Cycle:
        """Run one cycle.

        Args:
            full: Also run dbt's unit tests.
            rebuild: Models to be built from nothing; None: all.
            wait: Seconds to wait for the end of a cycle that somebody else runs.

        Raises:
            BatchError: dbt could not run.
            AlreadyRunning: Somebody else runs a cycle.
        """
        with cycle_lock(self._lake.paths, wait):
            started = time.time()
            try:
                return self._cycle(started, full, rebuild)
            except Exception as error:
                tell_failed(started, time.time(), error)
                raise

    def _cycle(self, started: float, full: bool, rebuild: Iterable[str] | None) -> Cycle:
        seconds: dict[str, float] = {}
        previous = self._ledger.runs.last()
        with self._lake.pinned() as commit:
            self._begin("dbt")
            built = self._build.run(commit, rebuild, full)
            outcome = built.outcome
            self._keep_failures(built, commit)
            seconds["dbt"] = time.time() - started
            self._begin("publish")
            snapshots = self._publisher.publish(built.to_publish(), commit)
            seconds["publish"] = time.time() - started - seconds["dbt"]
            self._begin("export")
            error: str | None = None
            exported = ExportResult()
            try:
                exported = self._exported(snapshots, commit)
                self._held.tell(exported.held_back)
            except DuckLakeError as failed:  # DuckDB is published all the same
                error = str(failed)
            published = {name: s.cycle for name, s in snapshots.items() if s.cycle >= 0}
            self._build.finish(built, published)
            self._last = built
            raw_waits = error or any(r.startswith("raw.") for r in self._held.relations)
            if self._raw.is_running or not raw_waits:
                # Single commits before that may be forgotten.
                self._lake.readers.state("batch", min(commit, built.passed_commit), commit)
            seconds["export"] = time.time() - started - seconds["dbt"] - seconds["publish"]
            relations = {**self._raw.held_back, **self._held.relations}
            held = {relation: str(why) for relation, why in relations.items()}
            waiting = waiting_rows(read_lineage(self._lake.paths), outcome.held_back, held)
            arrivals = self._arrived(commit, started, seconds, error, waiting)
        cycle = Cycle(commit, outcome, seconds, error, held, built.plan, built.rows, exported.left)
        first = previous.last_commit if previous else 0
        self._lake.runs.record(started, time.time() - started, first, cycle.summary(), arrivals)
        write_source_freshness(self._config, self._ledger)
        facts = CycleFacts(built, started, seconds, exported, error is None)
        tell_cycle(self._config, self._ledger, facts)
        return cycle

    def _arrived(
        self,
        commit: int,
        started: float,
        seconds: Mapping[str, float],
        error: str | None,
        waiting: Mapping[str, Mapping[str, str]],
    ) -> Arrivals:
        """How long the new rows took to each place that they have reached by now."""
        built = started + seconds["dbt"]
        published = built + seconds["publish"]
        ends = {"staging": built, "consume": published}
        if error is None:
            ends["postgres"] = published + seconds["export"]
        return FreshnessMeter(self._config, self._ledger).measure(commit, ends, waiting)


def once(batch: Batch, rebuild: Iterable[str] | None = ()) -> Cycle:
    """Run one full cycle.

    Args:
        batch: The batch.
        rebuild: Models to be built from nothing; None: all.

    Raises:
        ServiceUnreachable: PostgreSQL could not be brought up to date.
        BatchError: Some relations could not be exported; the others are.
        AlreadyRunning: Somebody else's cycle does not end.
    """
    cycle = batch.cycle(full=False, rebuild=rebuild, wait=WAIT_SECONDS)
    if cycle.export_error is not None:
        raise ServiceUnreachable(cycle.export_error)
    if cycle.not_exported:
        raise BatchError("\n".join(cycle.not_exported.values()))
    return cycle
