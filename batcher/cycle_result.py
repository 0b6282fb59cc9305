"""What one cycle did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import structlog

from batcher.outcome import Outcome
from batcher.selection import Plan
from lake.formats import RunSummary
from lake.processes.instruments import CYCLE_SECONDS, EXPORT_SECONDS

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle did.

    Attributes:
        commit: The ledger's commit that it shows.
        outcome: What dbt came to.
        seconds: Duration of each step: dbt, publish, export.
        export_error: Why PostgreSQL was not brought up to date, where it was not.
        not_exported: Relation to the reason why PostgreSQL keeps its last state.
        plan: What was chosen, and why.
        rows: Rows of each tracked model that were written.
        left_columns: Columns in PostgreSQL that the rows of their table have no longer, each to
            the statement that drops it.
    """

    commit: int
    outcome: Outcome
    seconds: dict[str, float] = field(default_factory=dict)
    export_error: str | None = None
    not_exported: dict[str, str] = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan(()))
    rows: Mapping[str, int] = field(default_factory=dict)
    left_columns: Mapping[str, str] = field(default_factory=dict)

    def failing_query(self, relation: str) -> str:
        """Shows the rows that hold a model back; empty where no test of its own does."""
        reason = self.outcome.held_back.get(relation, "")
        names = {relation, relation.partition(".")[2]}
        for test in self.outcome.failures:
            if names & {*test.relations} and reason.startswith(f"test {test.name}: "):
                return test.query
        return ""

    def summary(self) -> RunSummary:
        """As the run history keeps it."""
        return RunSummary(
            commit=self.commit,
            models=self.outcome.models,
            tests=self.outcome.tests,
            failed=self.outcome.failed,
            warned=self.outcome.warned,
            held_back=dict(self.outcome.held_back),
            seconds={name: round(value, 3) for name, value in self.seconds.items()},
            export_error=self.export_error,
            not_exported=dict(self.not_exported),
            why={n: r for n, r in self.plan.why.items() if n not in self.plan.behind},
            since=dict(self.plan.read),
            model_seconds=dict(self.outcome.seconds),
            rows_written=dict(self.rows),
            whole=tuple(sorted(m.relation for m in self.plan.models if m.is_computed_whole)),
            left_columns=dict(self.left_columns),
        )


def log_cycle(cycle: Cycle) -> None:
    """Say in the log, and in the metrics, what a cycle came to."""
    CYCLE_SECONDS.observe(sum(cycle.seconds.values()))
    EXPORT_SECONDS.labels("models").observe(cycle.seconds["export"])
    summary = asdict(cycle.summary())
    held = summary.pop("held_back")
    del summary["not_exported"], summary["left_columns"]  # each has a line of its own, once
    del summary["since"]
    log.info("cycle_completed", message="A cycle is complete.", **summary)
    for relation, reason in held.items():
        log.warning(
            "model_held_back",
            message="Its last good state stays published.",
            relation=relation,
            reason=reason,
            query=cycle.failing_query(relation),
            remedy="`ducklake failures` shows the rows that failed.",
        )
