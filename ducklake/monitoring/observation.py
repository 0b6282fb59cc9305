"""One look at everything: what runs, how fresh each table is, and whether it can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from batcher.failures import Failure, failures
from ducklake.monitoring.light import Light
from ducklake.monitoring.lineage import Lineage
from ducklake.monitoring.trust import ModelTrust, TableTrust, TrustView
from ducklake.supervision.condition import KAFKA, STACK, Condition, Problem, look
from ducklake.supervision.freshness import (
    TableFreshness,
    can_be_read,
    look_at_freshness,
    with_freshness,
)
from ducklake.supervision.kafka_ends import TopicEnds, topic_ends
from lake.config import EMBEDDED, Config
from lake.errors import DuckLakeError, LedgerError
from lake.ledger import LedgerReader
from lake.ledger.entries import Run
from lake.storage.paths import LakePaths

Ends = Mapping[str, TopicEnds] | None


@dataclass(frozen=True, slots=True)
class Observation:
    """The lake at a moment.

    Attributes:
        at: The moment, in seconds of the epoch.
        condition: What runs, and what of it is not well; tables that stall are among the problems.
        freshness: How far each table is.
        tables: Whether each table can be trusted.
        models: Whether each published model can be trusted.
        failures: Data tests that found something when they last ran.
        run: The newest cycle; None before the first one.
        commit: The newest commit of the ledger.
        ends: Where the topics end; None: Kafka was not asked, or does not answer.
    """

    at: float
    condition: Condition
    freshness: tuple[TableFreshness, ...] = ()
    tables: tuple[TableTrust, ...] = ()
    models: tuple[ModelTrust, ...] = ()
    failures: tuple[Failure, ...] = ()
    run: Run | None = None
    commit: int = 0
    ends: Ends = None

    @property
    def held_back(self) -> Mapping[str, str]:
        """Relation to the reason why its last good state is shown."""
        return self.run.summary.held_back if self.run is not None else {}

    @property
    def is_held_back(self) -> bool:
        """Whether readers see an older state of something than the lake has."""
        summary = self.run.summary if self.run is not None else None
        return summary is not None and bool(summary.held_back or summary.not_exported)

    @property
    def lights(self) -> tuple[Light, ...]:
        """The lights of all tables and models."""
        tables = tuple(table.light for table in self.tables)
        return tables + tuple(model.light for model in self.models)


def observe(config: Config, ask: Callable[[Config], Ends] = topic_ends) -> Observation:
    """Look at everything once; what cannot be asked is `unknown`, and no failure.

    Args:
        config: The configuration.
        ask: Asks Kafka for the ends of the topics; some seconds at most.
    """
    condition, ends = look(config), ask(config)
    freshness = look_at_freshness(config, condition, ends)
    condition = with_kafka(config, with_freshness(condition, freshness), ends)
    paths = LakePaths(config.data_dir)
    found = Observation(time.time(), condition, freshness, ends=ends)
    if not can_be_read(paths):
        return found
    try:
        with opened_ledger(paths) as ledger:
            run, tests = ledger.runs.last(), failures(paths)
            view = TrustView(
                config, condition, freshness, run, tests, Lineage.of(paths), _dead(ledger)
            )
            return Observation(
                found.at,
                condition,
                freshness,
                tuple(view.tables()),
                tuple(view.models()),
                tests,
                run,
                ledger.commits.last(),
                ends,
            )
    except DuckLakeError:
        return found  # replaced at this moment


def with_kafka(config: Config, condition: Condition, ends: Ends) -> Condition:
    """The condition, with a Kafka that does not answer among its problems.

    Only where something runs that needs it, and nothing else says what is wrong with it.
    """
    if ends is not None or not any(role.pid for role in condition.roles):
        return condition
    if any(problem.subject in (KAFKA, STACK) for problem in condition.problems):
        return condition
    brokers = config.settings.services.kafka.bootstrap_servers
    is_embedded = brokers == EMBEDDED
    what = "The embedded Kafka" if is_embedded else f"Kafka at {brokers}"
    remedy = "`ducklake up` starts it." if is_embedded else "Start it; nothing is lost."
    problem = Problem(KAFKA, "unreachable", time.time(), f"{what} does not answer.", remedy)
    return replace(condition, problems=(*condition.problems, problem))


def _dead(ledger: LedgerReader) -> Mapping[str, int]:
    return ledger.dead_letters.counts()


@contextmanager
def opened_ledger(paths: LakePaths) -> Iterator[LedgerReader]:
    """The ledger, to be asked.

    Raises:
        LedgerError: There is none yet, or an older release made it.
    """
    if not can_be_read(paths):
        raise LedgerError("There is no ledger of this release yet.", "Start `ducklake run`.")
    with LedgerReader(paths) as ledger:
        yield ledger
