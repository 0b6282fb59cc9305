"""dbt in this process: built once, called each cycle, read for what passed its tests."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from batcher.data_tests import Compiled, DataTest, compiled, data_tests
from batcher.dbt_graph import TRACKED, ModelGraph, model_graph
from batcher.dbt_packages import PACKAGE, PACKAGES, are_others, files_of
from batcher.model_scripts import ModelScript, asked, scripts
from batcher.templates import keep_compiled_templates
from lake.config import Config
from lake.config.trust import assert_believed
from lake.errors import BatchError
from lake.installation import PROJECT
from lake.storage.paths import LakePaths

TESTED_ROWS = "DUCKLAKE_TESTED_ROWS"
"""Tells dbt_ducklake's macros, while tests are compiled, which rows they shall read."""
SCRIPTS = "DUCKLAKE_SCRIPTS"
"""Tells them to say how models are changed, and to change nothing."""


class DbtProject:
    """The dbt project, called in this process so that parsing and imports are paid once.

    Args:
        config: The configuration.
        moved: Called whenever dbt has something to say, as before and after each model.
        scratch: A folder for all that dbt writes, where it shall only read the project: what a
            running batch has of it is left alone. The project's packages have to be there.

    Raises:
        BatchError: There is no dbt project.
    """

    def __init__(
        self,
        config: Config,
        moved: Callable[[], None] = lambda: None,
        scratch: Path | None = None,
    ) -> None:
        self._moved = moved
        self._project = config.dbt_project
        self._paths = LakePaths(config.data_dir)
        self._scratch = scratch
        packages = self._paths.dbt_packages.absolute()
        self._packages = packages if scratch is None else scratch / packages.name
        self._threads = config.settings.batch.threads
        if not (self._project / "dbt_project.yml").is_file():
            raise BatchError(
                f"{self._project} is no dbt project.", "Set batch.dbt_project in ducklake.yml."
            )
        for path in (self._project, self._project / "dbt_project.yml"):
            remedy = "Set batch.dbt_project to one of your own."
            assert_believed(path, "the dbt project", remedy, config.path)
        self._runner: Any = None
        self._graph: tuple[object, ModelGraph] | None = None
        self._manifest: Any = None
        self._tests: tuple[DataTest, ...] | None = None
        self._scripts: tuple[object, dict[str, ModelScript]] | None = None
        self._credentials: Any = None
        self._handle: Any = None
        self._cursor: Any = None

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
        files = files_of(self._project, self._packages)
        if self._graph is None or self._graph[0] != files:
            self._manifest = self._invoke("parse")
            self._graph = files, model_graph(self._manifest, self._project, self._packages)
            self._tests = self._scripts = None
        return self._graph[1]

    @property
    def nodes(self) -> Mapping[str, Any]:
        """The manifest's nodes of the graph that was asked for last, by unique id."""
        found: Mapping[str, Any] = self._manifest.nodes
        return found

    def manifest(self) -> Mapping[str, Any]:
        """The same graph's manifest, as dbt's `manifest.json` has it."""
        found: Mapping[str, Any] = self._manifest.writable_manifest().to_dict(omit_none=False)
        return found

    def moved(self) -> None:
        """Tell that something is being done."""
        self._moved()

    def build(self, select: Sequence[str] = (), full: bool = False) -> list[Any]:
        """Build models, and leave the data tests to `tests`.

        Args:
            select: As dbt's `--select` takes it; empty takes everything.
            full: Also run dbt's unit tests, which need no data.

        Returns:
            dbt's results.

        Raises:
            BatchError: dbt could not run at all; a failed model is not that.
        """
        self.load()
        arguments = ["build"]
        if select:
            arguments += ["--select", *select]
        left_out = ["test"] if full else ["test", "unit_test"]
        results = self._invoke(*arguments, "--exclude-resource-type", *left_out).results
        return list(results)

    def tests(self) -> tuple[DataTest, ...]:
        """The data tests of the graph that was asked for last, compiled once for it.

        Their queries look at what the warehouse has of the lake: its views must be there.

        Raises:
            BatchError: dbt cannot read the project.
        """
        if self._manifest is None:
            self.graph()
        if self._tests is None:
            whole, changed = (self._compiled_tests(rows) for rows in ("whole", "changed"))
            self._tests = data_tests(self._manifest, whole, changed)
        return self._tests

    def test_names(self) -> frozenset[str]:
        """Names of all tests of the graph that was asked for last, unit tests included."""
        units = self._manifest.unit_tests.values()
        return frozenset(t.name for t in self.tests()) | frozenset(unit.name for unit in units)

    def _compiled_tests(self, rows: str) -> dict[str, Compiled]:
        os.environ[TESTED_ROWS] = rows
        try:
            return compiled(self._invoke("compile", "--select", "resource_type:test").results)
        finally:
            del os.environ[TESTED_ROWS]

    def scripts(self, columns: object) -> Mapping[str, ModelScript]:
        """How the models of the graph that was asked for last are changed, by unique id.

        Args:
            columns: Whatever differs where columns of raw do: a model's text may depend on them.

        Returns:
            Scripts of those models whose text is the same in each cycle; the others need dbt.

        Raises:
            BatchError: dbt could not run at all.
        """
        if "macro.dbt_ducklake.script" not in self._manifest.macros:  # a package of one's own
            return {}
        if self._scripts is None or self._scripts[0] != columns:
            os.environ[SCRIPTS] = "1"
            try:
                found = scripts(
                    self._invoke("run", "--select", f"config.materialized:{TRACKED}").results
                )
            finally:
                del os.environ[SCRIPTS]
            fixed = {model.unique_id for model in self.graph().models if model.has_fixed_text}
            self._scripts = columns, {name: found[name] for name in sorted(fixed & found.keys())}
        return self._scripts[1]

    def cursor(self) -> Any:
        """The warehouse as the profile opens it; open until `release`, or until dbt runs."""
        if self._cursor is None:
            from dbt.adapters.duckdb import environments

            self._handle = environments.create(self._credentials)
            self._cursor = self._handle.handle().cursor()
        return self._cursor

    def ask(self, query: str) -> Sequence[Any]:
        """The only row of a query's answer."""
        return asked(self.cursor(), query)

    def release(self) -> None:
        """Close the warehouse."""
        if self._handle is not None:
            self._handle.close()
        self._handle = self._cursor = None

    def _invoke(self, *arguments: str) -> Any:
        where = ["--project-dir", str(self._project), "--profiles-dir", str(self._project)]
        # Standard output belongs to results: what dbt has to say is read from its results.
        quiet = ["--log-level", "none", "--no-write-json"]
        if self._scratch is not None:
            where += ["--target-path", str(self._scratch / "target")]
        self.release()
        self._environment()
        try:
            result = self._runner.invoke([*quiet, *arguments, *where])
        finally:
            self._credentials = _close_connections() or self._credentials
        if result.exception is not None or (result.result is None and not result.success):
            raise BatchError(
                f"dbt could not run: {result.exception}.",
                f"Correct that; `{self._by_hand()}` says more, and runs it alone.",
            )
        return result.result

    def _install_packages(self) -> None:
        """Have the packages that the project names, as `dbt deps` installs them."""
        if self._scratch is not None or not (self._project / "packages.yml").is_file():
            return
        if are_others(self._project, self._packages):
            self._invoke("deps")

    def _by_hand(self) -> str:
        """The command that does the same in a terminal."""
        project = shlex.quote(str(self._project))
        warehouse = shlex.quote(str(self._paths.warehouse))
        program = shlex.quote(str(Path(sys.executable).with_name("dbt")))
        where = f"--project-dir {project} --profiles-dir {project}"
        packages = shlex.quote(str(self._packages))
        environment = f"DUCKLAKE_WAREHOUSE={warehouse} DUCKLAKE_DBT_PACKAGES={packages}"
        environment += f" {PACKAGE}={shlex.quote(os.environ[PACKAGE])}"
        return f"{environment} {program} build {where}"

    def _environment(self) -> None:
        work = self._scratch or self._paths.root / "work"
        warehouse = self._paths.warehouse if self._scratch is None else work / "warehouse.duckdb"
        os.environ |= {
            "DUCKLAKE_WAREHOUSE": str(warehouse),
            "DUCKLAKE_DBT_THREADS": str(self._threads),
            "DUCKLAKE_DBT_TARGET": str(work / "dbt"),
            PACKAGES: str(self._packages),
            PACKAGE: str(PROJECT / "dbt_ducklake"),
            "DBT_LOG_PATH": str(work / "dbt"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
        }


def _close_connections() -> Any:
    """Close dbt's connections: DuckDB lets only one set of settings into a file at a time.

    Returns:
        What dbt opened the warehouse with; None where it did not open it.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    environment = DuckDBConnectionManager._ENV
    DuckDBConnectionManager.close_all_connections()
    return None if environment is None else environment.creds
