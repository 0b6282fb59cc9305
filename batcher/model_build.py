"""One build of the models: what changed since each of them was green, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from batcher.catalog import (
    create_new_views,
    create_raw_views,
    opened_warehouse,
    refresh_dead_letters,
)
from batcher.changed_models import ChangedModels
from batcher.dbt_build import DbtProject
from batcher.dbt_graph import ModelGraph, ModelNode
from batcher.edits import keep_definitions
from batcher.lineage import keep_lineage
from batcher.model_state import (
    WarehouseState,
    begin_cycle,
    end_cycle,
    read_state,
    rows_written,
)
from batcher.model_tests import ModelTests
from batcher.outcome import Outcome
from batcher.outcome import outcome as outcome_of
from batcher.project_docs import keep_docs
from batcher.raw_inputs import DEAD_LETTERS, RawInputs
from batcher.selection import Plan, select
from batcher.snapshot_writer import TrackedModel
from batcher.states_after import after_full_tests, failing_after, states_after
from lake.config import Config
from lake.errors import BatchError
from lake.ledger import LedgerReader
from lake.storage.sql import quoted, quoted_relation


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did.

    Attributes:
        number: Of the cycle.
        plan: What was chosen, and why.
        outcome: What dbt came to.
        graph: The project's models.
        state: How far each of them is now.
        day: Today, as its models have it.
        tests_all: Whether tests read whole tables.
        rows: Rows of each tracked model that were written.
        tests: Names of the tests that the project has.
    """

    number: int
    plan: Plan
    outcome: Outcome
    graph: ModelGraph
    state: WarehouseState
    day: str
    tests_all: bool = False
    rows: Mapping[str, int] = field(default_factory=dict)
    tests: frozenset[str] = frozenset()

    @property
    def passed_commit(self) -> int:
        """The newest ledger commit that every model has read, or does not ask about."""
        read = (i.commit for s in self.state.models.values() for i in s.inputs.values())
        return min(read, default=0)

    def to_publish(self) -> Iterator[TrackedModel]:
        """The models that passed, that others see, and that are not as they were."""
        for model in self.outcome.passed:
            node = self.graph.by_relation.get(model.relation)
            if model.relation in self.outcome.unchanged:
                continue
            if node is not None and node.is_published:
                yield TrackedModel(model, self.number, node.is_tracked)


class ModelBuild:
    """Builds the models of one lake.

    Args:
        config: The configuration.
        ledger: The lake's ledger.
        dbt: The dbt project.
    """

    def __init__(self, config: Config, ledger: LedgerReader, dbt: DbtProject) -> None:
        self._config = config
        self._ledger = ledger
        self._dbt = dbt
        self._refs = {config.relation(ref): ref for ref, _ in config.tables()}
        self._zone = ZoneInfo(config.settings.batch.time_zone)

    def run(
        self, commit: int, rebuild: Iterable[str] | None = (), unit_tests: bool = False
    ) -> BuildResult:
        """Build what changed.

        Args:
            commit: The ledger's commit that the models shall show, pinned.
            rebuild: Models to be built from nothing, by name or relation; None: all.
            unit_tests: Also run dbt's unit tests.

        Raises:
            BatchError: dbt could not run, or there is no such model.
        """
        graph = self._dbt.graph()
        keep_lineage(self._ledger.paths, graph)
        keep_docs(self._ledger.paths, graph.docs)
        day = self._today()
        raw = RawInputs(self._config, self._ledger, commit)
        inputs = raw.current()
        with opened_warehouse(self._ledger.paths.warehouse) as warehouse:
            state = raw.without_forgotten(read_state(warehouse))
            wanted = _named(graph, rebuild)
            plan = select(graph, state, inputs, day, raw.has_new, wanted)
            tests_all = self._full_tests_due(state)
            plan = self._prepare(warehouse, plan, commit, tests_all)
            begin_cycle(warehouse, state, plan.full, tests_all)
        columns = tuple(sorted((name, each.schema) for name, each in inputs.items()))
        try:
            changed = self._change(plan, state, columns, unit_tests)
            results = changed.results + self._build(graph, changed.left, plan.full, unit_tests)
            tests = ModelTests(self._dbt, plan, state, tests_all)
            found = tests.run(results, partial(self._refresh_raw, commit))
            outcome = outcome_of(results, found, graph)
            rows = self._rows_written(changed, outcome, state.number)
            names = self._dbt.test_names()
        finally:
            self._dbt.release()
        models = states_after(graph, plan, outcome, state, inputs, day)
        if tests_all:
            models = {name: after_full_tests(model) for name, model in models.items()}
        tested_at = time.time() if tests_all else state.full_tests_at
        failing = failing_after(found, state.failing, self._dbt.nodes)
        after = WarehouseState(state.number + 1, models, tested_at, failing)
        return BuildResult(state.number, plan, outcome, graph, after, day, tests_all, rows, names)

    def finish(self, result: BuildResult, published: Mapping[str, int]) -> None:
        """Keep what a build came to, once it is published.

        Args:
            result: The build.
            published: For each relation the newest cycle whose changes its readers outside the
                warehouse have.
        """
        readers = {}
        for model in result.graph.models:
            known = result.state.models.get(model.relation)
            if known is None:
                continue
            children = [
                result.state.models[child.relation].seen
                for child in result.graph.models
                if model.unique_id in child.parents and child.relation in result.state.models
            ]
            outside = [published[model.relation]] if model.relation in published else []
            tested = known.tested if known.tested >= 0 else known.seen
            readers[model.relation] = min([tested, *children, *outside])
        with opened_warehouse(self._ledger.paths.warehouse) as warehouse:
            end_cycle(warehouse, result.state, readers)
        keep_definitions(self._ledger.paths, result.graph, result.state.models)

    def is_due(self, result: BuildResult | None) -> bool:
        """Whether a new cycle has something to do though nothing was committed."""
        if result is None:
            return True
        # A graph is read again only where a file of the project was edited.
        is_edited = self._dbt.graph() is not result.graph
        return is_edited or self._today() != result.day or self._full_tests_due(result.state)

    def _full_tests_due(self, state: WarehouseState) -> bool:
        hours = self._config.settings.batch.full_tests_hours
        return time.time() - state.full_tests_at > 3600 * hours

    def _today(self) -> str:
        return datetime.now(self._zone).date().isoformat()

    def _prepare(
        self,
        warehouse: duckdb.DuckDBPyConnection,
        plan: Plan,
        commit: int,
        tests_all: bool,
    ) -> Plan:
        """Create the views that the models read."""
        create_new_views(self._config, self._ledger, commit, warehouse, plan.since)
        refresh_dead_letters(warehouse, self._ledger, commit)
        plan = _with_emptied(warehouse, plan)
        self._refresh_raw(commit, warehouse, self._refs.keys() if tests_all else plan.whole)
        for model in plan.models:
            if model.relation in plan.full:
                for seed, _ in model.seeds:  # dbt does not give a seed other columns
                    warehouse.execute(f"DROP TABLE IF EXISTS {quoted_relation(seed)} CASCADE")
        return plan

    def _refresh_raw(self, commit: int, warehouse: Any, names: Set[str]) -> None:
        create_raw_views(self._config, self._ledger, commit, warehouse, names)

    def _change(
        self, plan: Plan, state: WarehouseState, columns: object, unit_tests: bool
    ) -> ChangedModels:
        """Change the models that need no dbt; it runs unit tests where they are asked for."""
        fixed = any(m.has_fixed_text and m.relation not in plan.full for m in plan.models)
        if unit_tests or not fixed:
            return ChangedModels(plan, state, {}, {}, left=list(plan.models))
        changed = ChangedModels(plan, state, self._dbt.scripts(columns), self._dbt.nodes)
        changed.run(self._dbt.cursor(), self._dbt.moved)
        return changed

    def _build(
        self, graph: ModelGraph, models: Sequence[ModelNode], full: Set[str], unit_tests: bool
    ) -> list[Any]:
        if not models:
            return []
        if len(models) == len(graph.models):
            return self._dbt.build(full=unit_tests)
        names = {model.name: None for model in models}
        for model in models:
            names |= dict.fromkeys(model.snapshots)
            if model.relation in full:
                names |= dict.fromkeys(name for _, name in model.seeds)
        return self._dbt.build(list(names), unit_tests)

    def _rows_written(
        self, changed: ChangedModels, outcome: Outcome, number: int
    ) -> dict[str, int]:
        built = [m.relation for m in changed.left if m.is_tracked and m.relation in outcome.built]
        found = rows_written(self._dbt.ask, number, built) if built else {}
        return {**changed.rows, **found}


def _named(graph: ModelGraph, names: Iterable[str] | None) -> frozenset[str]:
    """Relations of models that are named by their name or relation; None: all."""
    if names is None:
        return frozenset(graph.by_relation)
    found = set()
    for name in names:
        matching = {m.relation for m in graph.models if name in (m.name, m.relation)}
        if not matching:
            raise BatchError(
                f"The dbt project has no model {name}.", "`ducklake report` lists the models."
            )
        found |= matching
    return frozenset(found)


def _with_emptied(warehouse: duckdb.DuckDBPyConnection, plan: Plan) -> Plan:
    """Build a model from nothing where a new record emptied its table: it concerns old rows."""
    emptied = set()
    for name in plan.since:
        if name == DEAD_LETTERS or name not in {n for m in plan.models for n in m.sources}:
            continue
        view = f"raw_new.{quoted(name)}"
        [(found,)] = warehouse.execute(f"SELECT count(*) FROM {view} WHERE _op = 't'").fetchall()
        if found:
            emptied.add(name)
    if not emptied:
        return plan
    full = {m.relation for m in plan.models if m.reads_versions and emptied & set(m.sources)}
    return replace(plan, full=plan.full | full, whole=plan.whole | emptied)
