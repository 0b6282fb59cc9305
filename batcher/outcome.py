"""What a build came to: which models passed their tests, and what holds the others back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from batcher.data_tests import ERROR, FAIL, SKIPPED, WARN, TestResult
from batcher.dbt_graph import ModelGraph
from batcher.description import NOT_DESCRIBED, ModelDescription

PASSED = frozenset({"success", "pass", "warn"})


@dataclass(frozen=True, slots=True)
class Model:
    """A model: where it is in the warehouse, and what its project says of it."""

    unique_id: str
    schema: str
    name: str
    description: ModelDescription = NOT_DESCRIBED

    @property
    def relation(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class FailedTest:
    """A data test that found something.

    Attributes:
        name: Of the test.
        relations: The models that it tests.
        status: `fail`, `warn` or `error`.
        message: What dbt says.
        query: Shows the rows that fail; empty where there is none.
    """

    name: str
    relations: tuple[str, ...]
    status: str
    message: str
    query: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a build came to.

    Attributes:
        passed: Models that were built and whose own tests, and all before them, passed.
        held_back: `schema.name` to the reason why the last good state stays published.
        models: Number of models that were to be built, those left out that had no reason after all.
        tests: Number of tests that were to run.
        failed: Number of models and tests that failed.
        warned: Number of tests of severity warn that found something.
        built: Relations that were built, whatever their tests said.
        failures: The tests that found something, or broke.
        seconds: How long each relation that was built took.
        unchanged: Relations that are as they were, since nothing that they read had changed.
        asked: Names of the tests that ran, and would have found again what they had found before.
    """

    passed: tuple[Model, ...]
    held_back: Mapping[str, str] = field(default_factory=dict)
    models: int = 0
    tests: int = 0
    failed: int = 0
    warned: int = 0
    built: frozenset[str] = frozenset()
    failures: tuple[FailedTest, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    unchanged: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()


def outcome(
    results: Iterable[Any], tests: Iterable[TestResult] = (), graph: ModelGraph | None = None
) -> Outcome:
    """Read a build's results: a failed test holds back its models and all that depends on them.

    So does one that could not run: what nobody has tested is not published.

    Args:
        results: dbt's, of models and unit tests.
        tests: What the data tests came to, those that could not be asked included.
        graph: The project's models: full tests also read those that were not to be built.
    """
    ran, asked = list(results), list(tests)
    models = [r for r in ran if r.node.resource_type == "model"]
    unit_tests = [r for r in ran if r.node.resource_type == "unit_test"]
    bad = _not_good(models, unit_tests, asked)
    held = (
        {m.relation: bad[m.unique_id] for m in graph.models if m.unique_id in bad} if graph else {}
    )
    _hold_back_dependents(bad, models, graph)
    for result in models:
        if result.status == SKIPPED:
            bad.setdefault(result.node.unique_id, SKIPPED)
    held |= {_relation(r.node): bad[r.node.unique_id] for r in models if r.node.unique_id in bad}
    unchanged = frozenset(_relation(r.node) for r in models if getattr(r, "is_unchanged", False))
    status = Counter(str(r.status) for r in ran) + Counter(r.status for r in asked)
    built = {_relation(r.node): round(r.execution_time, 3) for r in models if r.status in PASSED}
    failures = [_failed_unit_test(r) for r in unit_tests if r.status not in ("pass", SKIPPED)]
    failures += [_failed(r) for r in asked if r.status in (WARN, FAIL, ERROR)]
    names = [r.node.name for r in unit_tests if r.status != SKIPPED]
    names += [r.test.name for r in asked if r.status != SKIPPED and r.is_settled]
    return Outcome(
        tuple(_model(r.node) for r in models if r.node.unique_id not in bad),
        held,
        len(models) - len(unchanged),
        len(unit_tests) + len(asked),
        sum(status[name] for name in ("error", "fail", "runtime error")),
        status["warn"],
        frozenset(built),
        tuple(failures),
        {relation: seconds for relation, seconds in built.items() if relation not in unchanged},
        unchanged,
        frozenset(names),
    )


def _model(node: Any) -> Model:
    return Model(node.unique_id, node.schema, node.name, ModelDescription.of_node(node))


def _not_good(
    models: Iterable[Any], unit_tests: Iterable[Any], tests: Iterable[TestResult]
) -> dict[str, str]:
    """Unique id of a node to what is wrong with it."""
    bad: dict[str, str] = {}
    for result in unit_tests:
        if result.status not in PASSED and result.status != "skipped":
            for unique_id in result.node.depends_on.nodes:
                bad.setdefault(unique_id, f"test {result.node.name}: {result.status}")
    for result in models:
        if result.status not in PASSED and result.status != "skipped":
            text = (result.message or "").strip().partition("\n")[0] or str(result.status)
            bad.setdefault(result.node.unique_id, text)
    for found in tests:
        if found.status in (FAIL, ERROR):
            for unique_id in found.test.nodes:
                bad.setdefault(unique_id, f"test {found.test.name}: {found.status}")
        elif found.status == SKIPPED and found.test.severity == ERROR:
            for unique_id in found.test.nodes:
                bad.setdefault(unique_id, f"test {found.test.name} did not run: {found.message}")
    return bad


def _relation(node: Any) -> str:
    return f"{node.schema}.{node.name}"


def _failed(result: TestResult) -> FailedTest:
    test = result.test
    return FailedTest(test.name, test.relations, result.status, result.message, result.query)


def _failed_unit_test(result: Any) -> FailedTest:
    return FailedTest(
        result.node.name,
        tuple(unique_id.rpartition(".")[2] for unique_id in result.node.depends_on.nodes),
        str(result.status),
        (result.message or "").strip(),
        (getattr(result.node, "compiled_code", None) or "").strip(),
    )


def _hold_back_dependents(
    bad: dict[str, str], models: Iterable[Any], graph: ModelGraph | None
) -> None:
    """What depends on something held back is held back as well."""
    reads = {r.node.unique_id: tuple(r.node.depends_on.nodes) for r in models}
    if graph:
        reads |= {m.unique_id: m.parents for m in graph.models if m.unique_id not in reads}
    moved = True
    while moved:
        moved = False
        for unique_id, nodes in reads.items():
            before = next((name for name in nodes if name in bad), None)
            if unique_id not in bad and before is not None:
                bad[unique_id] = f"depends on {before.rpartition('.')[2]}, which is held back"
                moved = True
