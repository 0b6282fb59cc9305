"""dbt's data tests, compiled once and asked as plain queries in each cycle.

dbt takes 25 ms for a test whatever it asks, more than most of them need. So their queries are
compiled when the project is read, in two forms: one that reads whole tables, and one that reads
the rows that changed since their model's tests last passed (`dbt_ducklake/macros/tests.sql`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PASS, FAIL, WARN, ERROR, SKIPPED = "pass", "fail", "warn", "error", "skipped"

Ask = Callable[[str], Sequence[Any]]
"""Runs a query and gives its only row."""
Compiled = tuple[str, str]
"""A test's query, and why it has none."""


@dataclass(frozen=True, slots=True)
class DataTest:
    """A data test, ready to be asked.

    Attributes:
        unique_id: dbt's name of it.
        name: As users know it.
        nodes: Unique ids of the models and sources that it reads.
        relations: `schema.name` of the models among them, and the name of any other.
        whole: The rows that fail, in whole tables.
        changed: The rows that fail, among those that changed.
        verdict: A query over the failing rows, `{rows}`: their number as the test counts it,
            whether that is worth a warning, and whether it is an error.
        severity: `error`, or `warn`: then nothing is an error.
        error_if: When it is an error, as the project has it.
        warn_if: When it is a warning.
        broken: Why it has no query; empty where it has.
    """

    unique_id: str
    name: str
    nodes: tuple[str, ...]
    relations: tuple[str, ...]
    whole: str
    changed: str
    verdict: str
    severity: str
    error_if: str
    warn_if: str
    broken: str = ""

    def judge(self, ask: Ask, whole: bool) -> TestResult:
        """Ask it.

        Args:
            ask: Asks the warehouse.
            whole: Whether it reads whole tables.
        """
        if self.broken:
            return TestResult(self, ERROR, self.broken, "")
        query = self.whole if whole else self.changed
        try:
            count, warns, errs = ask(self.verdict.replace("{rows}", f"(\n{query}\n)"))
        except Exception as error:  # of DuckDB, or of the adapter around it
            return TestResult(self, ERROR, f"{error}".strip(), query)
        status = PASS
        if errs and self.severity == ERROR:
            status = FAIL
        elif warns:
            status = WARN
        if status == PASS:
            return TestResult(self, PASS, "", query)
        results = "1 result" if count == 1 else f"{count} results"
        condition = self.error_if if status == FAIL else self.warn_if
        message = f"Got {results}, configured to {status} if {condition}"
        return TestResult(self, status, message, query)


@dataclass(frozen=True, slots=True)
class TestResult:
    """What a test came to.

    Attributes:
        test: The test.
        status: `pass`, `warn`, `fail`, `error` (it could not be asked) or `skipped` (a model that
            it reads was not built).
        message: What it found; empty where it passed.
        query: Shows the rows that fail.
        seconds: How long it took.
        is_settled: Whether it read all that it had found something in before.
    """

    test: DataTest
    status: str
    message: str
    query: str
    seconds: float = 0.0
    is_settled: bool = True


def data_tests(
    manifest: Any, whole: Mapping[str, Compiled], changed: Mapping[str, Compiled]
) -> tuple[DataTest, ...]:
    """The data tests of a project.

    Args:
        manifest: dbt's.
        whole: Unique id to its query over whole tables.
        changed: The same over rows that changed.
    """
    return tuple(
        _data_test(manifest, unique_id, whole[unique_id], changed[unique_id])
        for unique_id in sorted(whole.keys() & changed.keys())
    )


def compiled(results: Iterable[Any]) -> dict[str, Compiled]:
    """What dbt made of each test."""
    return {
        r.node.unique_id: (
            (r.node.compiled_code or "").strip().rstrip(";"),
            "" if r.status == "success" else f"{r.message or r.status}".strip(),
        )
        for r in results
        if r.node.resource_type == "test"
    }


def _data_test(manifest: Any, unique_id: str, whole: Compiled, changed: Compiled) -> DataTest:
    node = manifest.nodes[unique_id]
    config = node.config
    limit = "" if config.limit is None else f" limit {config.limit}"
    severity = ERROR if config.severity.lower() == ERROR else WARN
    return DataTest(
        unique_id=unique_id,
        name=node.name,
        nodes=tuple(node.depends_on.nodes),
        relations=tuple(_relation(manifest, name) for name in node.depends_on.nodes),
        whole=whole[0],
        changed=changed[0],
        verdict=f"select {config.fail_calc}, {config.fail_calc} {config.warn_if},"
        f" {config.fail_calc} {config.error_if}"
        f" from (select * from {{rows}} as failing{limit}) as dbt_internal_test",
        severity=severity,
        error_if=config.error_if,
        warn_if=config.warn_if,
        broken=whole[1] or changed[1],
    )


def _relation(manifest: Any, unique_id: str) -> str:
    if unique_id in manifest.sources:
        source = manifest.sources[unique_id]
        return f"{source.schema}.{source.identifier}"
    node = manifest.nodes.get(unique_id)
    return unique_id.rpartition(".")[2] if node is None else f"{node.schema}.{node.alias}"
