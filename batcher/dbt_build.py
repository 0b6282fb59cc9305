"""dbt in this process: built once, called each cycle, read for what passed its tests."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batcher.dbt_graph import ModelGraph, model_graph
from batcher.description import NOT_DESCRIBED, ModelDescription
from batcher.templates import keep_compiled_templates
from lake.config import Config
from lake.errors import BatchError
from lake.storage.paths import LakePaths

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
        models: Number of models that were to be built.
        tests: Number of tests that were to run.
        failed: Number of models and tests that failed.
        warned: Number of tests of severity warn that found something.
        built: Relations that were built, whatever their tests said.
        failures: The tests that found something, or broke.
    """

    passed: tuple[Model, ...]
    held_back: Mapping[str, str] = field(default_factory=dict)
    models: int = 0
    tests: int = 0
    failed: int = 0
    warned: int = 0
    built: frozenset[str] = frozenset()
    failures: tuple[FailedTest, ...] = ()


class DbtProject:
    """The dbt project, called in this process so that parsing and imports are paid once.

    Args:
        config: The configuration.
        moved: Called whenever dbt has something to say, as before and after each model.

    Raises:
        BatchError: There is no dbt project.
    """

    def __init__(self, config: Config, moved: Callable[[], None] = lambda: None) -> None:
        self._moved = moved
        self._project = config.dbt_project
        self._paths = LakePaths(config.data_dir)
        self._packages = self._paths.root.absolute() / "work" / "dbt_packages"
        self._threads = config.settings.batch.threads
        if not (self._project / "dbt_project.yml").is_file():
            raise BatchError(
                f"{self._project} is no dbt project.", "Set batch.dbt_project in ducklake.yml."
            )
        self._runner: Any = None
        self._graph: tuple[object, ModelGraph] | None = None

    def load(self) -> None:
        """Import dbt (4 s); a caller with something to wait for can do it meanwhile."""
        if self._runner is None:
            self._environment()
            from dbt.cli.main import dbtRunner

            keep_compiled_templates()
            self._runner = dbtRunner(callbacks=[lambda event: self._moved()])
            self._install_packages()

    def graph(self) -> ModelGraph:
        """The project's models, as its files are now; parsed again only where one changed.

        Raises:
            BatchError: dbt cannot read the project.
        """
        self.load()
        files = _files(self._project, self._packages)
        if self._graph is None or self._graph[0] != files:
            manifest = self._invoke("parse")
            self._graph = files, model_graph(manifest, self._project)
        return self._graph[1]

    def build(self, select: Sequence[str] = (), full: bool = False) -> Outcome:
        """Build models and run their tests.

        Args:
            select: As dbt's `--select` takes it; empty takes everything.
            full: Also run dbt's unit tests, which need no data.

        Raises:
            BatchError: dbt could not run at all; a failed test is not that.
        """
        self.load()
        arguments = ["build"]
        if select:
            arguments += ["--select", *select]
        if not full:
            arguments += ["--exclude-resource-type", "unit_test"]
        return outcome(self._invoke(*arguments).results)

    def test(self) -> Outcome:
        """Run all data tests, and build nothing.

        Raises:
            BatchError: dbt could not run at all; a failed test is not that.
        """
        self.load()
        arguments = ["test", "--exclude-resource-type", "unit_test"]
        return outcome(self._invoke(*arguments).results)

    def _invoke(self, *arguments: str) -> Any:
        where = ["--project-dir", str(self._project), "--profiles-dir", str(self._project)]
        # Standard output belongs to results: what dbt has to say is read from its results.
        quiet = ["--log-level", "none", "--no-write-json"]
        try:
            result = self._runner.invoke([*quiet, *arguments, *where])
        finally:
            _close_connections()
        if result.exception is not None or (result.result is None and not result.success):
            raise BatchError(
                f"dbt could not run: {result.exception}.",
                f"Correct that; `{self._by_hand()}` says more, and runs it alone.",
            )
        return result.result

    def _install_packages(self) -> None:
        """Have the packages that the project names, as `dbt deps` installs them."""
        if not (self._project / "packages.yml").is_file():
            return
        if not any(path.exists() for path in self._packages.glob("*/dbt_project.yml")):
            self._invoke("deps")

    def _by_hand(self) -> str:
        """The command that does the same in a terminal."""
        project = shlex.quote(str(self._project))
        warehouse = shlex.quote(str(self._paths.warehouse))
        program = shlex.quote(str(Path(sys.executable).with_name("dbt")))
        where = f"--project-dir {project} --profiles-dir {project}"
        packages = shlex.quote(str(self._packages))
        environment = f"DUCKLAKE_WAREHOUSE={warehouse} DUCKLAKE_DBT_PACKAGES={packages}"
        return f"{environment} {program} build {where}"

    def _environment(self) -> None:
        work = self._paths.root / "work"
        os.environ |= {
            "DUCKLAKE_WAREHOUSE": str(self._paths.warehouse),
            "DUCKLAKE_DBT_THREADS": str(self._threads),
            "DUCKLAKE_DBT_TARGET": str(work / "dbt"),
            "DUCKLAKE_DBT_PACKAGES": str(self._packages),
            "DBT_LOG_PATH": str(work / "dbt"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
        }


def _close_connections() -> None:
    """Close dbt's connections: DuckDB lets only one set of settings into a file at a time."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()


def _files(*folders: Path) -> frozenset[tuple[str, int, int]]:
    """What tells whether a project was edited: each file's name, time of change and size."""
    found = set()
    for folder in folders:
        for path in (*folder.glob("*.yml"), *folder.glob("*/**/*.sql"), *folder.glob("*/**/*.yml")):
            if not {"target", "dbt_packages"} & set(path.relative_to(folder).parts):
                about = path.stat()
                found.add((str(path), about.st_mtime_ns, about.st_size))
    return frozenset(found)


def outcome(results: Iterable[Any]) -> Outcome:
    """Read dbt's run results: a failed test holds back its models and all that depends on them."""
    ran = list(results)
    models = [r for r in ran if r.node.resource_type == "model"]
    tests = [r for r in ran if r.node.resource_type in ("test", "unit_test")]
    bad: dict[str, str] = {}
    for result in tests:
        if result.status not in PASSED and result.status != "skipped":
            for unique_id in result.node.depends_on.nodes:
                bad.setdefault(unique_id, f"test {result.node.name}: {result.status}")
    for result in models:
        if result.status not in PASSED and result.status != "skipped":
            text = (result.message or "").strip().partition("\n")[0] or str(result.status)
            bad.setdefault(result.node.unique_id, text)
    _hold_back_dependents(bad, models)
    for result in models:
        if result.status == "skipped":
            bad.setdefault(result.node.unique_id, "skipped")
    passed, held = [], {}
    for result in models:
        model = Model(
            result.node.unique_id,
            result.node.schema,
            result.node.name,
            ModelDescription.of_node(result.node),
        )
        if result.node.unique_id in bad:
            held[model.relation] = bad[result.node.unique_id]
        else:
            passed.append(model)
    status = Counter(str(r.status) for r in ran)
    failed = sum(status[name] for name in ("error", "fail", "runtime error"))
    built = frozenset(_relation(r.node) for r in models if r.status in PASSED)
    names = {r.node.unique_id: _relation(r.node) for r in models}
    return Outcome(
        tuple(passed),
        held,
        len(models),
        len(tests),
        failed,
        status["warn"],
        built,
        tuple(_failed(r, names) for r in tests if r.status not in ("pass", "skipped")),
    )


def _relation(node: Any) -> str:
    return f"{node.schema}.{node.name}"


def _failed(result: Any, names: Mapping[str, str]) -> FailedTest:
    tested = result.node.depends_on.nodes
    return FailedTest(
        result.node.name,
        tuple(names.get(unique_id, unique_id.rpartition(".")[2]) for unique_id in tested),
        str(result.status),
        (result.message or "").strip(),
        (getattr(result.node, "compiled_code", None) or "").strip(),
    )


def _hold_back_dependents(bad: dict[str, str], models: Iterable[Any]) -> None:
    """What depends on something held back is held back as well."""
    pending = list(models)
    moved = True
    while moved:
        moved = False
        for result in pending:
            unique_id = result.node.unique_id
            before = next((n for n in result.node.depends_on.nodes if n in bad), None)
            if unique_id not in bad and before is not None:
                bad[unique_id] = f"depends on {before.rpartition('.')[2]}, which is held back"
                moved = True
