"""The pipeline under Dagster: the same functions, one cycle at a time, each model and test seen."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import requests
from dagster import (
    AssetKey,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    SensorResult,
    SkipReason,
)
from playwright.sync_api import expect

from batcher.cycle_lock import cycle_lock
from ducklake.cli.dagster_ui import GRACE_SECONDS
from ducklake.cli.dashboard import free_port
from ducklake.dagster_assets import cycles
from ducklake.dagster_assets.definitions import look_for_commits, pipeline
from lake.config import Config
from lake.ledger import LedgerReader
from lake.processes.heartbeat import RoleHeartbeat
from lake.storage.paths import LakePaths
from tests.browser import chromium, needs_browser
from tests.integration.producers_lab import make_lab, unique, wait_until
from tests.integration.test_same_word import small_project, with_alerts

pytestmark = pytest.mark.stack
PATIENCE = 120.0
TABLE = unique("things_")
TEST = "select * from {{ ref('stg_things') }} where v = 'bad'"
MODEL = AssetKey(["staging", "stg_things"])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Config:
    """A lake of one file, with one model and one test."""
    folder = tmp_path_factory.mktemp("dagster")
    drops = folder / "drops"
    drops.mkdir()
    (drops / "things.csv").write_text("id,v\n1,a\n2,b\n")
    table = {"file": "things.csv", "key": ["id"], "columns": {"id": "BIGINT"}}
    spec = {"type": "files", "directory": str(drops), "tables": {TABLE: table}}
    made = make_lab(folder, stack_config, spec).config
    project = small_project(folder, TABLE, stack_config)
    (project / "tests" / "small.sql").write_text(TEST)
    return with_alerts(made, stack_config, "json://127.0.0.1:9")


@pytest.fixture(scope="module")
def definitions(lake: Config) -> Definitions:
    return pipeline(lake)


@pytest.fixture(scope="module")
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as made:
        yield made


def run(
    definitions: Definitions, instance: DagsterInstance, job: str, **options: Any
) -> ExecuteInProcessResult:
    found = definitions.resolve_job_def(job)
    return found.execute_in_process(instance=instance, raise_on_error=False, **options)


def failure_of(result: ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None, "it has a name"
    return str(data.description)


def in_postgres(lake: Config) -> list[tuple[int, str]]:
    at = lake.endpoints().postgres
    with (
        closing(
            psycopg2.connect(
                host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
            )
        ) as database,
        database.cursor() as cursor,
    ):
        cursor.execute("SELECT id, v FROM staging.stg_things ORDER BY id")
        return list(cursor.fetchall())


def drop(lake: Config, text: str) -> None:
    [source] = lake.settings.sources.values()
    Path(source.directory, "things.csv").write_text(text)


def test_everything_is_materialised_from_the_source_to_postgres(
    lake: Config, definitions: Definitions, instance: DagsterInstance
) -> None:
    result = run(definitions, instance, "pipeline")
    assert result.success
    done = {event.asset_key for event in result.get_asset_materialization_events()}
    names = ("raw_ingestion", "duckdb_catalog", "postgres_export")
    assert done == {MODEL, *(AssetKey(name) for name in names)}
    checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert checks == {"no_table_is_in_trouble": True, "small": True}
    assert in_postgres(lake) == [(1, "a"), (2, "b")]
    graph = definitions.resolve_asset_graph()
    assert graph.get(AssetKey("postgres_export")).parent_keys == {MODEL}
    assert graph.get(MODEL).parent_keys == {AssetKey("duckdb_catalog")}
    assert graph.get(AssetKey("duckdb_catalog")).parent_keys == {AssetKey("raw_ingestion")}


def test_a_test_that_fails_is_a_check_that_fails_and_holds_its_model_back(
    lake: Config, definitions: Definitions, instance: DagsterInstance
) -> None:
    drop(lake, "id,v\n1,a\n2,bad\n")
    result = run(definitions, instance, "pipeline")
    assert not result.success and "staging.stg_things: test small: fail" in failure_of(result)
    done = {event.asset_key for event in result.get_asset_materialization_events()}
    assert MODEL not in done and AssetKey("raw_ingestion") in done
    checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert checks["small"] is False
    assert in_postgres(lake) == [(1, "a"), (2, "b")], "the last good state"
    drop(lake, "id,v\n1,a\n2,c\n")
    assert run(definitions, instance, "pipeline").success


def test_a_day_that_is_materialised_is_replayed(
    lake: Config, definitions: Definitions, instance: DagsterInstance
) -> None:
    paths, day = LakePaths(lake.data_dir), datetime.now(UTC).date()
    [ref] = [ref for ref, _ in lake.tables()]
    lost = next(paths.day(ref, day, 0).glob("*.parquet"))
    lost.unlink()
    asset = definitions.get_assets_def("raw_replay")
    job = Definitions(assets=[asset]).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, partition_key=day.isoformat())
    [event] = result.get_asset_materialization_events()
    assert event.partition == day.isoformat()
    found = event.materialization.metadata[ref.topic].value
    assert isinstance(found, dict) and found["exact"] and found["files_written_again"] == 1
    [check] = result.get_asset_check_evaluations()
    assert check.check_name == "equals_kafka" and check.passed


def test_a_cycle_that_runs_is_waited_for_and_then_refused_by_name(
    lake: Config,
    definitions: Definitions,
    instance: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cycles, "WAIT_SECONDS", 0.5)
    with cycle_lock(LakePaths(lake.data_dir)):
        result = run(definitions, instance, "cycle")
        skipped = look_for_commits(lake, None)
    assert "A cycle of this lake is running (process" in failure_of(result)
    assert not result.get_asset_materialization_events()
    assert isinstance(skipped, SkipReason) and skipped.skip_message == "A cycle is running."
    assert run(definitions, instance, "cycle").success


def test_the_sensor_starts_a_cycle_for_new_commits_and_none_beside_a_batch(lake: Config) -> None:
    with LedgerReader(LakePaths(lake.data_dir)) as ledger:
        commit = ledger.commits.last()
    found = look_for_commits(lake, str(commit - 1))
    assert isinstance(found, SensorResult) and found.cursor == str(commit)
    assert [request.run_key for request in found.run_requests or ()] == [f"commit-{commit}"]
    assert isinstance(look_for_commits(lake, str(commit)), SkipReason)
    batch = RoleHeartbeat(LakePaths(lake.data_dir).run, "batch")
    try:
        beside = look_for_commits(lake, str(commit - 1))
    finally:
        batch.close()
    assert isinstance(beside, SkipReason) and "`ducklake batch`" in str(beside.skip_message)


def test_cycles_beside_a_running_batch_take_turns(
    lake: Config, definitions: Definitions, instance: DagsterInstance
) -> None:
    command = [sys.executable, "-m", "ducklake.cli", "batch", "--config", str(lake.path)]
    log = lake.root / "batch.log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as batch:
        try:
            wait_until(lambda: b"cycle_completed" in log.read_bytes(), "a cycle", PATIENCE)
            for name in "xyz":
                drop(lake, f"id,v\n1,{name}\n2,c\n")
                assert run(definitions, instance, "pipeline").success
            wait_until(lambda: in_postgres(lake) == [(1, "z"), (2, "c")], "the last file", PATIENCE)
        finally:
            batch.send_signal(signal.SIGTERM)
    assert batch.returncode == 0
    assert b"cycle_failed" not in log.read_bytes(), log.read_text()


@pytest.fixture(scope="module")
def served(lake: Config) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`ducklake dagster` and its port, once the page answers; the last test ends it."""
    port = free_port()
    words = [sys.executable, "-m", "ducklake.cli", "dagster", "--config", str(lake.path)]
    with (lake.root / "dagster.log").open("w") as told:
        program = subprocess.Popen([*words, "--port", str(port)], stdout=told, stderr=told)
    try:
        wait_until(lambda: _answers(port), "Dagster's page", PATIENCE)
        yield program, port
    finally:
        program.kill()
        program.wait()
        wait_until(lambda: not _processes_of(lake), "the end of Dagster", GRACE_SECONDS + 10)


def _processes_of(lake: Config) -> list[str]:
    """Command lines of living processes that serve this lake's page, whoever their parent is."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            home = process.environ().get("DAGSTER_HOME", "")
            if home.startswith(str(lake.data_dir)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


@needs_browser
def test_the_page_of_dagster_shows_each_step(
    served: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    _, port = served
    with chromium() as browser:
        page = browser.new_page()
        for asset in ("raw_ingestion", "duckdb_catalog", "staging/stg_things", "postgres_export"):
            page.goto(f"http://127.0.0.1:{port}/assets/{asset}")
            expect(page.get_by_text(asset.rpartition("/")[2], exact=True).first).to_be_visible()
            expect(page.get_by_text("Materialize").first).to_be_visible()
        page.screenshot(path=tmp_path / "dagster.png")


def test_one_sigterm_ends_the_page_the_daemon_and_the_code_server(
    lake: Config, served: tuple[subprocess.Popen[bytes], int]
) -> None:
    program, _ = served
    running = " ".join(_processes_of(lake))
    assert "dagster_webserver" in running and "dagster._daemon" in running
    program.send_signal(signal.SIGTERM)
    assert program.wait(GRACE_SECONDS + 5) == 0
    assert _processes_of(lake) == []


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/server_info", timeout=5).ok
    except requests.RequestException:
        return False
