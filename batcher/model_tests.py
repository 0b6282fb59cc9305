"""Asks the data tests of what a cycle built, and of what that reads from raw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from batcher.data_tests import ERROR, SKIPPED, DataTest, TestResult
from batcher.dbt_build import DbtProject
from batcher.model_state import WarehouseState, tested_whole
from batcher.outcome import PASSED
from batcher.selection import Plan
from lake.storage.sql import quoted

SLOW_SECONDS = 0.5
"""A warning whose test takes longer is looked for again among new rows, and by the full tests."""
RefreshRaw = Callable[[Any, Set[str]], None]
"""Brings views of raw up to date, through a cursor of the warehouse."""


@dataclass(frozen=True, slots=True)
class ModelTests:
    """The tests of a cycle.

    Attributes:
        dbt: The project.
        plan: What the cycle builds.
        state: As it was before the cycle.
        tests_all: Whether all tests read whole tables.
    """

    dbt: DbtProject
    plan: Plan
    state: WarehouseState
    tests_all: bool

    def run(self, results: Sequence[Any], refresh_raw: RefreshRaw) -> list[TestResult]:
        """Ask them.

        Args:
            results: What the models came to.
            refresh_raw: Called before tests that read whole tables of raw.
        """
        chosen = self._chosen(results)
        tests = [t for t in self.dbt.tests() if self.tests_all or chosen & set(t.relations)]
        if not tests:
            return []
        whole = frozenset[str]()
        if not self.tests_all:
            whole = tested_whole(self.dbt.ask, self.state) | self.plan.retested
        asked = {test.unique_id: self._reads_all(test, whole) for test in tests}
        stale = {name for test in tests for name in self._raw_of(test, asked[test.unique_id])}
        if stale:
            refresh_raw(self.dbt.cursor(), stale)
        missing = self._missing(results)
        found = []
        for test in tests:
            absent = next((missing[name] for name in test.nodes if name in missing), None)
            if absent is not None:
                found.append(TestResult(test, SKIPPED, f"{absent} was not built", ""))
            else:
                found.append(self._judged(test, asked[test.unique_id]))
        return found

    def _judged(self, test: DataTest, reads_all: bool) -> TestResult:
        began = time.monotonic()
        result = test.judge(self.dbt.ask, reads_all)
        seconds = self.state.failing.get(test.unique_id, 0.0)
        if reads_all:
            return replace(result, seconds=time.monotonic() - began)
        return replace(result, seconds=seconds, is_settled=not self._is_slow_warning(test))

    def _chosen(self, results: Sequence[Any]) -> Set[str]:
        """Relations of which tests are asked."""
        unchanged = {r.node.unique_id for r in results if getattr(r, "is_unchanged", False)}
        models = [m for m in self.plan.models if m.unique_id not in unchanged]
        built = {model.relation for model in models}
        seeds = {seed for m in models if m.relation in self.plan.full for seed, _ in m.seeds}
        return built | seeds | {f"raw.{name}" for name in self.plan.since}

    def _missing(self, results: Sequence[Any]) -> Mapping[str, str]:
        """Unique id and name of each model that was to be built, and was not."""
        built = {r.node.unique_id for r in results if r.status in PASSED}
        return {m.unique_id: m.name for m in self.plan.models if m.unique_id not in built}

    def _reads_all(self, test: DataTest, whole: Set[str]) -> bool:
        is_asked_again = test.unique_id in self.state.failing and not self._is_slow_warning(test)
        return self.tests_all or is_asked_again or bool(whole & set(test.relations))

    def _is_slow_warning(self, test: DataTest) -> bool:
        """Whether a warning is not worth a whole table in each cycle: the full tests look again."""
        seconds = self.state.failing.get(test.unique_id, 0.0)
        return test.severity != ERROR and seconds > SLOW_SECONDS

    def _raw_of(self, test: DataTest, reads_all: bool) -> Set[str]:
        """Tables of raw that a test reads as a whole, and that no model has asked for."""
        if self.tests_all:
            return frozenset()  # all are up to date
        query = test.whole if reads_all else test.changed
        names = {r.removeprefix("raw.") for r in test.relations if r.startswith("raw.")}
        return {
            name for name in names - self.plan.whole if f'{quoted("raw")}.{quoted(name)}' in query
        }
