"""The assets of raw: what the sources have, and days that are compared with Kafka again."""

# No `from __future__ import annotations` here: Dagster reads the annotations of what it calls.

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    DailyPartitionsDefinition,
    MaterializeResult,
    multi_asset,
)

from consumers.compaction.compactor import Compactor
from consumers.ingest.lake_writer import LakeWriter
from consumers.replay.backfill import Replay
from consumers.replay.context import ReplayScope
from ducklake.cli.replay import Wish, bounds
from ducklake.dagster_assets.failing import named
from ducklake.supervision.condition import look
from lake.config import Config
from lake.ledger import LedgerReader
from lake.openlineage.recording import lineage_told
from lake.processes.heartbeat import role_reports
from lake.storage.paths import LakePaths, files_below
from producers.runner import SourceRunner

INGESTION, REPLAY = AssetKey("raw_ingestion"), AssetKey("raw_replay")
TABLES_CHECK, EXACT_CHECK = "no_table_is_in_trouble", "equals_kafka"
GROUP = "raw"


def ingestion_assets(config: Config) -> list[AssetsDefinition]:
    """Raw as the sources fill it, and as days of it are replayed."""
    return [_ingestion(config), _replay(config)]


def role_at_work(config: Config, role: str) -> str | None:
    """The name of a living process of a role; None where there is none."""
    reports = role_reports(LakePaths(config.data_dir).run)
    return next((r.role for r in reports if r.alive and r.role.partition("-")[0] == role), None)


# Ingestion -------------------------------------------------------------------------------------


def _ingestion(config: Config) -> AssetsDefinition:
    spec = AssetSpec(
        INGESTION,
        group_name=GROUP,
        kinds={"kafka", "parquet"},
        description="Raw rows of all sources. Materialising reads once what they have now; where"
        " `ducklake produce` and `ducklake consume` run, they do that, and it only looks.",
    )
    check = AssetCheckSpec(
        TABLES_CHECK,
        asset=INGESTION,
        description="`ducklake status` names no source and no table.",
    )

    @multi_asset(name="raw_ingestion", specs=[spec], check_specs=[check])
    def raw_ingestion(context: AssetExecutionContext) -> Iterator[Any]:
        with named():
            ingest(config, context.log.info)
            yield MaterializeResult(asset_key=INGESTION, metadata=_rows(config))
            yield _tables_check(config)

    return raw_ingestion


def ingest(config: Config, say: Any) -> None:
    """Read what the sources have, as far as no role does that.

    Args:
        config: The configuration.
        say: Told what is done.
    """
    endpoints, stop = config.endpoints(), threading.Event()
    with lineage_told(config):
        if (role := role_at_work(config, "produce")) is not None:
            say(f"`ducklake {role}` reads the sources.")
        else:
            SourceRunner(
                config, endpoints, progress=lambda topic, rows: say(f"{topic}: {rows:,} sent")
            ).run(stop, once=True)
        if (role := role_at_work(config, "consume")) is not None:
            say(f"`ducklake {role}` writes the raw lake.")
            return
        writer = LakeWriter(config, endpoints, once=True)
        try:
            writer.run(stop)
        finally:
            writer.close()
    if role_at_work(config, "compact") is None:
        compactor = Compactor(config)
        try:
            compactor.pass_once(force=True)
        finally:
            compactor.close()


def _rows(config: Config) -> dict[str, Any]:
    with LedgerReader(LakePaths(config.data_dir)) as ledger:
        rows = {ref.topic: ledger.offsets.row_count(ref.topic) for ref, _ in config.tables()}
        return {"commit": ledger.commits.last(), "dagster/row_count": sum(rows.values()), **rows}


def _tables_check(config: Config) -> AssetCheckResult:
    bad = {
        problem.subject: f"{problem.state}: {problem.reason} {problem.remedy}".strip()
        for problem in look(config).problems
        if problem.subject.startswith(("source ", "table "))
    }
    return AssetCheckResult(
        passed=not bad, asset_key=INGESTION, check_name=TABLES_CHECK, metadata=bad
    )


# Days ------------------------------------------------------------------------------------------


def _replay(config: Config) -> AssetsDefinition:
    spec = AssetSpec(
        REPLAY,
        deps=[INGESTION],
        group_name=GROUP,
        kinds={"kafka", "parquet"},
        partitions_def=DailyPartitionsDefinition(first_day(config).isoformat(), end_offset=1),
        description="A day of raw, by Kafka's timestamp in UTC. Materialising it is"
        " `ducklake replay --from DAY --to NEXT_DAY`: the day is compared with Kafka, and what is"
        " missing filled in.",
    )
    check = AssetCheckSpec(
        EXACT_CHECK, asset=REPLAY, description="The lake holds exactly what Kafka holds."
    )

    @multi_asset(name="raw_replay", specs=[spec], check_specs=[check])
    def raw_replay(context: AssetExecutionContext) -> Iterator[Any]:
        with named():
            found = replayed(config, date.fromisoformat(context.partition_key))
            yield MaterializeResult(asset_key=REPLAY, metadata=found)
            exact = all(entry["exact"] for entry in found.values())
            yield AssetCheckResult(passed=exact, asset_key=REPLAY, check_name=EXACT_CHECK)

    return raw_replay


def replayed(config: Config, day: date) -> dict[str, dict[str, Any]]:
    """Compare a day of each table with Kafka, and fill in what is missing.

    Returns:
        For each table what was found and done.
    """
    endpoints, stop = config.endpoints(), threading.Event()
    with LedgerReader(LakePaths(config.data_dir)) as ledger:
        tables = [pair for pair in config.tables() if ledger.tables.get(pair[0].topic)]
    found = {}
    for ref, spec in tables:
        wish = Wish(ref.topic, day.isoformat(), (day + timedelta(days=1)).isoformat())
        scope = ReplayScope(ref, spec, bounds(config, ref, wish))
        seen = Replay(config, endpoints, scope).run(stop)
        found[ref.topic] = {
            "exact": seen.exact,
            "compared": seen.compared,
            "missing": seen.missing,
            "filled": seen.filled,
            "differing": len(seen.differing),
            "files_written_again": len(seen.repaired),
        }
    return found


def first_day(config: Config) -> date:
    """The first day of which there are public files; today where there are none."""
    paths, today = LakePaths(config.data_dir), datetime.now(UTC).date()
    files = files_below(paths.root / "raw", ".parquet")
    return min((paths.day_of(file) for file in files), default=today)
