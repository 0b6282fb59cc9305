"""The main job as a user runs it: one pass, a second one, a running shop, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import psutil
import psycopg2
import pytest

from ducklake.supervision.condition import look
from lake.config import Config, load_config
from lake.kafka.topics import KPI_TOPIC
from stack import lifecycle
from tests.conftest import copy_project
from tests.integration.producers_lab import committed

PROGRAM = [sys.executable, "-m", "ducklake.cli"]
ROOT = Path(__file__).parents[2]
ZONE = ZoneInfo("America/Argentina/Buenos_Aires")
TABLES = 11
CONSUME_MODELS = 9
Name = tuple[str, str]
LINEAGE = """
lineage:
  file: data/lineage.ndjson
  url: http://127.0.0.1:9            # nobody listens there, and nobody waits for it
"""
NUMERIC = ("INTEGER", "BIGINT", "HUGEINT", "DOUBLE", "DECIMAL", "SMALLINT", "TINYINT", "FLOAT")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, timeout=400
    )


def descendants(folder: Path) -> list[psutil.Process]:
    """Every process that has the project's folder in its command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "pid"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(folder) in words and process.pid != os.getpid():
            found.append(process)
    return found


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"{what} did not happen within {seconds} s")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = copy_project(tmp_path_factory.mktemp("the main job"))
    with (folder / "ducklake.yml").open("a") as config:
        config.write(LINEAGE)
    yield folder
    run(folder, "down")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def passes(shop: Path) -> list[dict[str, Any]]:
    """The JSON of two passes, one after the other."""
    summaries = []
    for _ in range(2):
        done = run(shop, "demo", "--once", "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("lineage_not_sent") == 1, "a dead address is said once"
        lines = done.stdout.splitlines()
        assert len(lines) == 1, "exactly one line stands on standard output"
        summaries.append(json.loads(lines[0]))
        assert not descendants(shop), "one pass stops what it started"
    return summaries


def test_one_pass_takes_every_source_through_every_layer(passes: list[dict[str, Any]]) -> None:
    summary = passes[0]
    assert len(summary["source"]) == len(summary["raw"]) == TABLES
    assert len(summary["staging"]) == TABLES
    assert len(summary["consume"]) >= CONSUME_MODELS
    for layer in ("source", "raw", "staging", "consume"):
        assert all(rows > 0 for rows in summary[layer].values()), layer
    assert summary["raw"] == summary["source"]
    assert summary["dead_letters"] == 0
    assert summary["dbt"]["failed"] == 0
    assert summary["dbt"]["models"] == len(list((ROOT / "dbt_techstore/models").rglob("*.sql")))
    assert summary["dbt"]["tests"] > summary["dbt"]["models"]


def test_the_summary_has_the_promised_shape(passes: list[dict[str, Any]]) -> None:
    summary = passes[0]
    assert set(summary) == {
        "source",
        "raw",
        "staging",
        "consume",
        "postgres",
        "dbt",
        "dead_letters",
        "dead_letters_dropped",
        "seconds",
    }
    assert set(summary["seconds"]) == {"install", "stack", "ingest", "dbt", "export", "total"}
    assert summary["seconds"]["install"] is None
    assert set(summary["dbt"]) == {"models", "tests", "failed"}


def test_postgres_holds_the_same_counts(passes: list[dict[str, Any]]) -> None:
    for summary in passes:
        for layer in ("raw", "staging", "consume"):
            assert summary["postgres"][layer] == summary[layer]


def test_staging_has_as_many_rows_as_mysql(passes: list[dict[str, Any]]) -> None:
    for table in ("customers", "products", "orders", "order_items"):
        assert passes[0]["staging"][f"stg_{table}"] == passes[0]["source"][f"mysql.{table}"]


def test_a_second_pass_adds_nothing_to_raw(passes: list[dict[str, Any]]) -> None:
    assert passes[1]["raw"] == passes[0]["raw"]


def test_no_measure_is_all_null(shop: Path, passes: list[dict[str, Any]]) -> None:
    with duckdb.connect(str(shop / "data" / "lake.duckdb"), read_only=True) as lake:
        for model in passes[0]["consume"]:
            for name, type_, *_ in lake.execute(f"DESCRIBE consume.{model}").fetchall():
                if type_.startswith(NUMERIC):
                    count = f'SELECT count("{name}") FROM consume.{model}'
                    assert lake.execute(count).fetchone()[0], f"{model}.{name}"


def test_a_plain_glob_reads_the_same_rows(shop: Path, passes: list[dict[str, Any]]) -> None:
    for topic, rows in passes[0]["raw"].items():
        source, _, table = topic.partition(".")
        glob = shop / "data" / "raw" / source / table / "year=*" / "month=*" / "day=*" / "*.parquet"
        query = (
            "SELECT count(*), count(DISTINCT (_partition, _offset))"
            f" FROM read_parquet('{glob}', union_by_name = true)"
        )
        assert duckdb.execute(query).fetchone() == (rows, rows), topic


def test_the_published_file_does_not_lock_out_the_batch(
    shop: Path, passes: list[dict[str, Any]]
) -> None:
    with duckdb.connect(str(shop / "data" / "lake.duckdb"), read_only=True) as lake:
        relations = lake.execute("SELECT sql FROM duckdb_views() WHERE NOT internal").fetchall()
        assert all(str(shop / "data") in text for (text,) in relations if "read_parquet" in text)
        with duckdb.connect(str(shop / "data" / "work" / "warehouse.duckdb")):
            assert lake.execute("SELECT count(*) FROM consume.daily_sales").fetchone()


def walked(edges: dict[Name, set[Name]], start: Name) -> set[Name]:
    """All that is reached from a dataset by way of jobs."""
    found, pending = {start}, [start]
    while pending:
        new = edges.get(pending.pop(), set()) - found
        found |= new
        pending += new
    return found


def test_the_lineage_leads_from_each_source_to_its_table_in_postgres(
    shop: Path, passes: list[dict[str, Any]]
) -> None:
    lines = (shop / "data" / "lineage.ndjson").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    edges: dict[Name, set[Name]] = {}
    reads: dict[str, set[Name]] = {}
    for event in events:
        if event.get("eventType") == "COMPLETE":
            outputs = {(each["namespace"], each["name"]) for each in event["outputs"]}
            for each in event["inputs"]:
                name = each["namespace"], each["name"]
                edges[name] = edges.get(name, set()) | outputs
                reads.setdefault(event["job"]["name"], set()).add(name)
    assert not [event for event in events if event.get("eventType") == "FAIL"]
    for topic in passes[0]["source"]:
        table = topic.partition(".")[2]
        origins = reads[f"produce.{topic}"]
        assert origins and not any(space.startswith("kafka:") for space, _ in origins)
        for origin in origins:
            there = {name for space, name in walked(edges, origin) if space.startswith("postgres:")}
            wanted = {f"techstore.raw.{table}", f"techstore.staging.stg_{table}"}
            assert wanted <= there, origin
    revenue = [name for _, name in walked(edges, next(iter(reads["produce.mysql.orders"])))]
    assert "techstore.consume.daily_sales" in revenue
    spaces = {space.partition(":")[0] for space in {space for space, _ in edges}}
    assert spaces == {"mysql", "file", "http", "kafka", "duckdb"}


def test_the_lineage_has_schemas_parents_and_neither_rows_nor_secrets(
    shop: Path, passes: list[dict[str, Any]]
) -> None:
    text = (shop / "data" / "lineage.ndjson").read_text()
    events = [json.loads(line) for line in text.splitlines()]
    ended = [event for event in events if event.get("eventType") == "COMPLETE"]
    for event in ended:
        facets = event["run"]["facets"]
        name = event["job"]["name"]
        of_cycles = ("dbt.", "export.staging.", "export.consume.", "export.raw.dead_letters")
        assert ("parent" in facets) == name.startswith(of_cycles), name
    last = {output["name"]: output for e in ended for output in e["outputs"]}
    orders = {
        f["name"]: f["type"]
        for f in last["techstore.staging.stg_orders"]["facets"]["schema"]["fields"]
    }
    assert orders["total_ars"] == "numeric(12,2)"
    raw = last["techstore.raw.orders"]
    assert set(raw["facets"]["columnLineage"]["fields"]) >= {"order_id", "_offset"}
    rows = [
        e["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"]
        for e in ended
        if e["job"]["name"] == "consume.mysql.orders"
    ]
    assert rows == [passes[0]["raw"]["mysql.orders"]], "the second pass reads nothing"
    described = {event["job"]["name"] for event in events if "eventType" not in event}
    assert {"consume.mysql.orders", "export.raw.orders", "dbt.staging.stg_orders"} <= described
    with duckdb.connect(str(shop / "data" / "lake.duckdb"), read_only=True) as lake:
        people = lake.execute("SELECT email FROM raw.customers LIMIT 50").fetchall()
    secrets = json.loads((shop / "data" / "stack" / "secrets.json").read_text())
    assert not [word for (word,) in people if word in text]
    assert not [word for word in secrets.values() if str(word) in text]


@pytest.fixture
def running(shop: Path, passes: list[dict[str, Any]]) -> Iterator[subprocess.Popen[str]]:
    demo = subprocess.Popen(
        [*PROGRAM, "demo"], cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield demo
    finally:
        if demo.poll() is None:
            demo.send_signal(signal.SIGINT)
            demo.wait(30)


def orders_in_postgres(config: Config) -> int:
    at = config.endpoints().postgres
    with (
        psycopg2.connect(
            host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
        ) as database,
        database.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM raw.orders")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


def live_orders(config: Config) -> dict[str, tuple[int, int, Decimal]]:
    """Orders, cancelled ones and revenue of each minute, as `ducklake live` has them."""
    found: dict[str, tuple[int, int, Decimal]] = {}
    for seen in committed(config.endpoints(), KPI_TOPIC):
        key = (seen.key or b"").decode()
        found.pop(key, None)
        if seen.value is not None and key > the_day_before():
            row = json.loads(seen.value)
            found[key] = (row["orders"], row["cancelled_orders"], Decimal(row["revenue"]))
    return {key: row for key, row in found.items() if key.startswith("20")}


def batch_orders(config: Config) -> dict[str, tuple[int, int, Decimal]]:
    """The same as the batch has published it."""
    with duckdb.connect(str(config.data_dir / "lake.duckdb"), read_only=True) as lake:
        rows = lake.execute(
            "SELECT strftime(ordered_at, '%Y-%m-%dT%H:%M-03:00') AS minute,"
            " count(*) FILTER (NOT is_cancelled), count(*) FILTER (is_cancelled),"
            " coalesce(sum(total_ars) FILTER (NOT is_cancelled), 0)"
            " FROM staging.stg_orders GROUP BY 1 HAVING minute > ?",
            [the_day_before()],
        ).fetchall()
    return {minute: (sold, cancelled, revenue) for minute, sold, cancelled, revenue in rows}


def the_day_before() -> str:
    return (datetime.now(ZONE) - timedelta(hours=23)).isoformat(timespec="minutes")


def test_a_selling_shop_arrives_in_postgres_and_ctrl_c_ends_everything(
    shop: Path, passes: list[dict[str, Any]], running: subprocess.Popen[str]
) -> None:
    config = load_config(shop / "ducklake.yml")
    before = passes[1]["raw"]["mysql.orders"]
    wait_for(lambda: lifecycle.is_up(config), 90, "the stack")
    wait_for(lambda: orders_in_postgres(config) > before, 120, "a new order in PostgreSQL")
    report = run(shop, "report", "--json")
    assert report.returncode == 0, report.stderr
    found = json.loads(report.stdout)
    assert len(found["figures"]) == 5
    assert found["held_back"] == {}

    simulator = next(role.pid for role in look(config).roles if role.name == "simulate")
    os.kill(simulator or 0, signal.SIGSTOP)
    wait_for(lambda: live_orders(config) == batch_orders(config), 120, "live sums of the batch")
    os.kill(simulator or 0, signal.SIGCONT)

    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    wait_for(lambda: not descendants(shop), 20, "the end of every process")
    assert "ducklake report" in output
