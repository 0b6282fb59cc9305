"""Whether a table or a model can be trusted now: the worst of fresh, complete and tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batcher.failures import Failure
from ducklake.monitoring.light import CRITICAL, GOOD, UNKNOWN, WARNING, Light, worst
from ducklake.monitoring.lineage import Lineage
from ducklake.reconciliation.result import DIFFERENT, FAILED, TableResult
from ducklake.supervision.condition import Condition, Problem
from ducklake.supervision.freshness import ARRIVING, STALLED, STOPPED, TableFreshness
from ducklake.supervision.freshness import UNKNOWN as NOT_KNOWN
from lake.config import MYSQL, Config, TableRef
from lake.ledger.entries import Run

_PUBLISHED = ("staging.", "consume.")


@dataclass(frozen=True, slots=True)
class TableTrust:
    """A table of the lake.

    Attributes:
        table: Its topic.
        fresh: Whether what its source has arrives.
        complete: Whether the lake has what the source has, as far as somebody has compared.
        tested: Whether the tests of what reads it directly passed.
        as_of: When its source committed the newest row that readers see; None: not known.
        source_rows: Rows at the source, by the last comparison.
        lake_rows: Current rows in the lake, by the same comparison.
        compared_at: When that was, in seconds of the epoch.
        dead_letters: Records that could not be decoded.
    """

    table: str
    fresh: Light
    complete: Light
    tested: Light
    as_of: float | None = None
    source_rows: int | None = None
    lake_rows: int | None = None
    compared_at: float | None = None
    dead_letters: int = 0

    @property
    def light(self) -> Light:
        """The worst of the three."""
        return worst((self.fresh, self.complete, self.tested))

    def dump(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "light": asdict(self.light)}


@dataclass(frozen=True, slots=True)
class ModelTrust:
    """A model that readers see.

    Attributes:
        model: Its relation.
        fresh: The worst of the tables from which it comes.
        complete: The same.
        tested: Whether its own tests passed, and none above it holds it back.
        reads: The relations that it reads itself.
    """

    model: str
    fresh: Light
    complete: Light
    tested: Light
    reads: tuple[str, ...] = ()

    @property
    def light(self) -> Light:
        """The worst of the three."""
        return worst((self.fresh, self.complete, self.tested))

    def dump(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "light": asdict(self.light)}


class TrustView:
    """Judges tables and models by what is known of them at one moment.

    Args:
        config: The configuration.
        condition: What runs, and what of it is not well.
        freshness: How far each table is.
        run: The newest cycle.
        failures: The tests that found something.
        lineage: What reads what.
        dead_letters: How many each table has.
    """

    def __init__(
        self,
        config: Config,
        condition: Condition,
        freshness: Sequence[TableFreshness],
        run: Run | None,
        failures: Sequence[Failure],
        lineage: Lineage,
        dead_letters: Mapping[str, int],
    ) -> None:
        self._config = config
        self._problems = {problem.subject: problem for problem in condition.problems}
        self._running = {role.name.partition("-")[0] for role in condition.roles if role.pid}
        self._fresh = {table.table: table for table in freshness}
        self._compared = {result.table: result for result in condition.reconciled}
        self._run = run
        self._failures = failures
        self._lineage = lineage
        self._dead = dead_letters
        self._tables = {f"raw.{config.relation(ref)}": ref for ref, _ in config.tables()}

    def tables(self) -> Iterator[TableTrust]:
        """All configured tables, in the file's order."""
        for relation, ref in self._tables.items():
            result = self._compared.get(ref.topic)
            is_known = result is not None and result.state != FAILED
            yield TableTrust(
                ref.topic,
                self._fresh_of(ref),
                self._complete_of(ref, result),
                worst(self._tested_of(name) for name in self._readers(relation)),
                self._as_of(ref),
                result.source_rows if result and is_known else None,
                result.lake_rows if result and is_known else None,
                result.at if result else None,
                self._dead.get(ref.topic, 0),
            )

    def models(self) -> Iterator[ModelTrust]:
        """All models that readers see, by name."""
        known = {table.table: table for table in self.tables()}
        for model in sorted(self._lineage.parents):
            if not model.startswith(_PUBLISHED):
                continue
            above = [self._tables[n] for n in self._lineage.upstream(model) if n in self._tables]
            tables = [known[ref.topic] for ref in sorted(above, key=lambda ref: ref.topic)]
            yield ModelTrust(
                model,
                worst(_said_of(table, table.fresh) for table in tables),
                worst(_said_of(table, table.complete) for table in tables),
                self._tested_of(model),
                self._lineage.parents[model],
            )

    def _readers(self, relation: str) -> tuple[str, ...]:
        """What tells whether a raw relation passed its tests: itself and its own models."""
        return (relation, *self._lineage.children(relation))

    def _problem(self, ref: TableRef) -> Problem | None:
        for subject in (f"table {ref.topic}", f"source {ref.source}"):
            if subject in self._problems:
                return self._problems[subject]
        return None

    def _fresh_of(self, ref: TableRef) -> Light:
        problem, found = self._problem(ref), self._fresh.get(ref.topic)
        if problem is not None and problem.state not in ("differs from its source", "not compared"):
            return Light(CRITICAL, f"{problem.state}: {problem.reason}", problem.remedy)
        if found is None:
            return Light(UNKNOWN, "Nothing has arrived yet.", "ducklake run")
        if found.state == STALLED:
            hop = next(name for name, hop in found.hops.items() if hop.state == STALLED)
            return Light(CRITICAL, f"stalled before {hop}: {found.hops[hop].reason}".rstrip(": "))
        if found.state == STOPPED:
            return Light(
                CRITICAL, "New rows wait, and nothing runs that brings them on.", "ducklake run"
            )
        absent = [role for role in ("produce", "consume", "batch") if role not in self._running]
        if absent:
            text = f"No new row can arrive: {', '.join(absent)} does not run."
            return Light(UNKNOWN, text, "ducklake run")
        if found.state == NOT_KNOWN:
            return Light(UNKNOWN, "Kafka does not answer.", "ducklake status")
        return Light(
            GOOD,
            (
                "New rows are on their way."
                if found.state == ARRIVING
                else "Everything that was read is here."
            ),
        )

    def _complete_of(self, ref: TableRef, result: TableResult | None) -> Light:
        verify = f"ducklake verify {ref.topic} --against-source"
        if result is not None and result.state == DIFFERENT:
            return Light(
                CRITICAL,
                f"differs from its source: {result.summary()}",
                result.remedy or f"{verify} --repair",
            )
        dead = self._dead.get(ref.topic, 0)
        if dead:
            text = f"{dead:,} records could not be decoded."
            return Light(WARNING, text, f"ducklake dead-letters list {ref.topic}")
        if result is not None and result.state == FAILED:
            return Light(WARNING, f"not compared: {result.reason}", result.remedy or verify)
        if result is None and self._config.settings.sources[ref.source].type in MYSQL:
            return Light(UNKNOWN, "Not compared with its source yet.", verify)
        return Light(
            GOOD,
            (
                "Equal to its source when last compared."
                if result
                else "Every record that was sent is here."
            ),
        )

    def _tested_of(self, relation: str) -> Light:
        if self._run is None:
            return Light(UNKNOWN, "No cycle has run yet.", "ducklake batch --once")
        summary = self._run.summary
        if relation in summary.held_back:
            return Light(CRITICAL, f"held back: {summary.held_back[relation]}", "ducklake failures")
        mine = [f for f in self._failures if {relation, relation.partition(".")[2]} & {*f.models}]
        for failure in mine:
            if failure.status != "warn":
                return Light(
                    CRITICAL, f"test {failure.test}: {failure.message}", "ducklake failures"
                )
        if relation in summary.not_exported:
            return Light(
                WARNING,
                f"not exported: {summary.not_exported[relation]}",
                "ducklake export --repair",
            )
        if mine:
            return Light(WARNING, f"test {mine[0].test}: {mine[0].message}", "ducklake failures")
        return Light(GOOD, "All its tests passed.")

    def _as_of(self, ref: TableRef) -> float | None:
        found = self._fresh.get(ref.topic)
        if found is None:
            return None
        for hop in ("postgres", "consume", "staging", "raw"):
            state = found.hops[hop]
            if (moment := state.source_at or state.kafka_at) is not None:
                return moment
        return None


def _said_of(table: TableTrust, light: Light) -> Light:
    """A table's light, naming the table."""
    if light.colour == GOOD:
        return light
    return Light(light.colour, f"{table.table}: {light.reason}", light.remedy)
