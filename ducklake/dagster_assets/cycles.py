"""The assets of a cycle: the catalog, each dbt model with its tests, and PostgreSQL.

One cycle is one step, as it is for `ducklake batch`: models are published and exported together,
or not at all.
"""

# No `from __future__ import annotations` here: Dagster reads the annotation of a step's options.

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    Failure,
    MaterializeResult,
    multi_asset,
)
from dagster import (
    Config as RunConfig,
)
from pydantic import Field

from batcher.cycle import Batch
from batcher.cycle_lock import WAIT_SECONDS, cycle_lock
from batcher.cycle_result import Cycle
from batcher.dbt_build import DbtProject
from batcher.failures import Failure as FailedTest
from batcher.failures import failures
from ducklake.dagster_assets.failing import named
from ducklake.dagster_assets.ingestion import INGESTION, role_at_work
from ducklake.dagster_assets.translation import CATALOG, relation_of, translated
from lake.config import Config
from lake.openlineage.recording import lineage_told
from lake.storage.operations import make_scratch_folder
from lake.storage.paths import LakePaths

EXPORT = AssetKey("postgres_export")


class CycleConfig(RunConfig):
    """How a cycle is run; as the options of `ducklake batch --once`.

    Attributes:
        full_refresh: Whether models are built from nothing.
        select: Which; all by default.
    """

    full_refresh: bool = False
    select: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class CycleAssets:
    """What a cycle materialises.

    Attributes:
        models: Relation to the asset of each model.
        checks: The tests.
    """

    models: Mapping[str, AssetSpec]
    checks: Sequence[AssetCheckSpec]


def cycle_assets(lake: Config) -> AssetsDefinition:
    """The assets of a cycle.

    Args:
        lake: The configuration.

    Raises:
        BatchError: dbt cannot read the project.
        AlreadyRunning: A cycle that runs does not end.
    """
    manifest, published = _project(lake)
    specs, checks = translated(manifest)
    assets = CycleAssets({relation_of(spec): spec for spec in specs}, checks)
    catalog = AssetSpec(
        CATALOG,
        deps=[INGESTION],
        group_name="duckdb",
        kinds={"duckdb"},
        description="The raw relations as views in DuckDB: what dbt's sources name.",
    )
    export = AssetSpec(
        EXPORT,
        deps=[spec.key for spec in specs if relation_of(spec) in published],
        group_name="postgres",
        kinds={"postgres"},
        skippable=True,
        description="The schemas raw, staging and consume in PostgreSQL.",
    )

    @multi_asset(name="lake_cycle", specs=[catalog, *specs, export], check_specs=checks)
    def cycle(context: AssetExecutionContext, config: CycleConfig) -> Iterator[Any]:
        with named():
            yield from run_cycle(lake, assets, config, context.log.info)

    return cycle


def _project(config: Config) -> tuple[Mapping[str, Any], frozenset[str]]:
    """The dbt project's manifest, and the relations that others see; read while no cycle does."""
    paths = LakePaths(config.data_dir)
    make_scratch_folder(paths.root / "work")
    with cycle_lock(paths, WAIT_SECONDS):
        project = DbtProject(config)
        models = project.graph().models
        published = frozenset(model.relation for model in models if model.is_published)
        return project.manifest(), published


def run_cycle(
    config: Config, assets: CycleAssets, wish: CycleConfig, say: Any
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    """Run one cycle, and say what became of each asset.

    Raises:
        AlreadyRunning: Another cycle does not end.
        Failure: Something failed, as where `ducklake batch --once` ends with exit code 1.
    """
    if (role := role_at_work(config, "batch")) is not None:
        say(f"`ducklake {role}` runs cycles as well: this one waits for its turn.")
    rebuild = (wish.select or None) if wish.full_refresh else ()
    batch = Batch(config, config.endpoints(), lambda step: say(f"{step} ..."))
    with lineage_told(config), closing(batch):
        cycle = batch.cycle(rebuild=rebuild, wait=WAIT_SECONDS)
    yield from _results(config, assets, cycle)
    problems = [f"{name}: {why}" for name, why in cycle.outcome.held_back.items()]
    problems += [f"{name}: {why}" for name, why in cycle.not_exported.items()]
    if cycle.export_error is not None:
        problems.append(cycle.export_error)
    if problems:
        raise Failure(
            "Not everything is up to date; the last good state stays published.\n"
            + "\n".join(problems),
            allow_retries=False,
        )


def _results(
    config: Config, assets: CycleAssets, cycle: Cycle
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    outcome = cycle.outcome
    yield MaterializeResult(asset_key=CATALOG, metadata={"commit": cycle.commit})
    for relation, spec in assets.models.items():
        if relation in outcome.held_back:
            continue
        is_new = relation in outcome.seconds
        about: dict[str, Any] = {
            "commit": cycle.commit,
            "state": "computed" if is_new else "as it was",
        }
        if is_new:
            about["seconds"] = outcome.seconds[relation]
        if relation in cycle.rows:
            about["rows_written"] = cycle.rows[relation]
        yield MaterializeResult(asset_key=spec.key, metadata=about)
    found = {failure.test: failure for failure in failures(LakePaths(config.data_dir))}
    for check in assets.checks:
        yield _checked(check, found.get(check.name))
    if cycle.export_error is None:
        seconds = {name: round(value, 3) for name, value in cycle.seconds.items()}
        about = {"commit": cycle.commit, "held_back": len(cycle.not_exported), "seconds": seconds}
        yield MaterializeResult(asset_key=EXPORT, metadata=about)


def _checked(check: AssetCheckSpec, failure: FailedTest | None) -> AssetCheckResult:
    """As the test last came out: one of what has not changed is not asked again."""
    if failure is None:
        return AssetCheckResult(passed=True, asset_key=check.asset_key, check_name=check.name)
    is_warning = failure.status == "warn"
    return AssetCheckResult(
        passed=False,
        asset_key=check.asset_key,
        check_name=check.name,
        severity=AssetCheckSeverity.WARN if is_warning else AssetCheckSeverity.ERROR,
        metadata={"status": failure.status, "query": failure.query},
        description="`ducklake failures` shows the rows.",
    )
