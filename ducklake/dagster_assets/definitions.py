"""All that Dagster shows of a lake."""

# No `from __future__ import annotations` here: Dagster reads the annotations of what it calls.

from dagster import (
    AssetSelection,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    Definitions,
    RunRequest,
    ScheduleDefinition,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    define_asset_job,
    in_process_executor,
    sensor,
)

from batcher.cycle_lock import is_cycle_running
from ducklake.dagster_assets.cycles import cycle_assets
from ducklake.dagster_assets.ingestion import INGESTION, ingestion_assets, role_at_work
from lake.certificates import use_system_certificates
from lake.config import Config
from lake.errors import DuckLakeError
from lake.ledger import LedgerReader
from lake.storage.paths import LakePaths

CYCLE_JOB, PIPELINE_JOB = "cycle", "pipeline"
NIGHTLY = "0 3 * * *"
LOOK_SECONDS = 15
"""Seconds between two looks for new commits."""


def pipeline(config: Config) -> Definitions:
    """The assets, jobs, sensor and schedule of a lake.

    Args:
        config: Its configuration.

    Raises:
        BatchError: dbt cannot read the project.
        AlreadyRunning: A cycle that runs does not end.
    """
    use_system_certificates()
    cycle = cycle_assets(config)
    ingestion = ingestion_assets(config)
    cycle_job = define_asset_job(
        CYCLE_JOB,
        AssetSelection.assets(*cycle.keys),
        description="One cycle: the models that changed, their tests, and their export.",
    )
    pipeline_job = define_asset_job(
        PIPELINE_JOB,
        AssetSelection.assets(INGESTION, *cycle.keys),
        description="What the sources have now, and one cycle.",
    )
    return Definitions(
        assets=[*ingestion, cycle],
        jobs=[cycle_job, pipeline_job],
        sensors=[_new_commits(config)],
        schedules=[
            ScheduleDefinition(
                name="nightly",
                job=pipeline_job,
                cron_schedule=NIGHTLY,
                execution_timezone=config.settings.batch.time_zone,
                default_status=DefaultScheduleStatus.STOPPED,
                description="The whole pipeline, once a night.",
            )
        ],
        executor=in_process_executor,
    )


def _new_commits(config: Config) -> SensorDefinition:
    """A sensor that starts a cycle once the ledger has commits that none has shown."""

    @sensor(
        name="new_commits",
        job_name=CYCLE_JOB,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=DefaultSensorStatus.STOPPED,
        description="Starts a cycle once the ledger has new commits; idle beside `ducklake batch`.",
    )
    def new_commits(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        return look_for_commits(config, context.cursor)

    return new_commits


def look_for_commits(config: Config, cursor: str | None) -> SensorResult | SkipReason:
    """Whether a cycle is to be started.

    Args:
        config: The configuration.
        cursor: The commit for which one was started last.
    """
    paths = LakePaths(config.data_dir)
    if (role := role_at_work(config, "batch")) is not None:
        return SkipReason(f"`ducklake {role}` runs cycles by itself.")
    if is_cycle_running(paths):
        return SkipReason("A cycle is running.")
    try:
        with LedgerReader(paths) as ledger:
            commit = ledger.commits.last()
    except DuckLakeError as error:
        return SkipReason(str(error))
    if commit <= int(cursor or 0):
        return SkipReason(f"Nothing was committed after commit {commit}.")
    request = RunRequest(run_key=f"commit-{commit}")
    return SensorResult(run_requests=[request], cursor=str(commit))
