"""`dbt source freshness` and `ducklake status` say the same of the same tables (promise 11)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from batcher.freshness import FreshnessMeter, write_source_freshness
from consumers.ingest.flush import Flush, commit_flush
from ducklake.cli.condition_text import freshness_lines
from ducklake.supervision.condition import Condition
from ducklake.supervision.freshness import look_at_freshness
from lake.config import Config, TableRef, load_config
from lake.formats import RunSummary
from lake.lags import HOPS
from lake.ledger import Ledger
from lake.records import OffsetRange
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session

PROJECT = Path(__file__).parents[2] / "dbt_techstore"
SETTINGS = """\
name: fresh
sources: {shop: {type: plain, tables: {orders: {}, customers: {}, products: {}}}}
"""
AGES = {"orders": 0, "customers": 40, "products": 24 * 8}
"""Hours since the newest row of each table was produced."""
DBT = """
import json, sys
from dbt.cli.main import dbtRunner
for command in sys.argv[1:]:
    dbtRunner().invoke(json.loads(command))
"""
STATUS = {"orders": "pass", "customers": "warn", "products": "error"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    return load_config(tmp_path / "ducklake.yml")


def _commit(ledger: Ledger, session: Session, table: str, hours: int) -> None:
    ref = TableRef("shop", table)
    state = ledger.tables.open(ref.topic, "ab" * 16, 1)
    newest = datetime.now(UTC) - timedelta(hours=hours)
    stamps = pa.array([newest - timedelta(hours=1), newest], pa.timestamp("us", "UTC"))
    rows = pa.table(
        {
            "id": [1, 2],
            "_op": ["r", "r"],
            "_source_ts": stamps,
            "_kafka_ts": stamps,
            "_topic": [ref.topic] * 2,
            "_partition": pa.array([0, 0], pa.int32()),
            "_offset": pa.array([0, 1], pa.int64()),
            "_topic_epoch": pa.array([0, 0], pa.int32()),
        }
    )
    schema = Schema((source_column("id", "BIGINT"),))
    span = OffsetRange("ab" * 16, 0, 0, 1, 2)
    commit_flush(ledger, session, ref, Flush(state, {0: None}, [span], rows, schema))


def test_dbt_and_status_agree_on_every_table(config: Config, tmp_path: Path) -> None:
    with Ledger(LakePaths(config.data_dir)) as ledger, Session(ledger.paths) as session:
        for table, hours in AGES.items():
            _commit(ledger, session, table, hours)
        commit = ledger.commits.last()
        ends = dict.fromkeys(HOPS[2:], time.time())
        arrivals = FreshnessMeter(config, ledger).measure(commit, ends)
        ledger.runs.record(time.time(), 1.0, 0, RunSummary(commit, 1, 1, 0, 0), arrivals)
        ledger.paths.warehouse.parent.mkdir(parents=True, exist_ok=True)
        write_source_freshness(config, ledger)
        warehouse = ledger.paths.warehouse
    seen = {t.table.partition(".")[2]: t for t in look_at_freshness(config, Condition(), {})}
    told = _dbt_says(warehouse, tmp_path)
    assert {name: status for name, (status, _) in told.items()} == STATUS
    for name, (_, loaded_at) in told.items():
        assert loaded_at == pytest.approx(seen[name].hops["raw"].kafka_at, abs=1e-5)
        assert seen[name].hops["raw"].state == "current", "old is not stalled"
    assert freshness_lines(list(seen.values()))


def _dbt_says(warehouse: Path, folder: Path) -> dict[str, tuple[str, float]]:
    """Table to its status and the moment of its newest row, as dbt has it."""
    output = folder / "sources.json"
    where = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    selected = [f"source:raw.{table}" for table in AGES]
    done = subprocess.run(
        [
            *(sys.executable, "-c", DBT),
            json.dumps(["deps", *where]),
            json.dumps(
                ["source", "freshness", *where, "--output", str(output), "--select", *selected]
            ),
        ],
        env={
            **os.environ,
            "DUCKLAKE_WAREHOUSE": str(warehouse),
            "DUCKLAKE_DBT_PACKAGES": str(folder / "packages"),
            "DUCKLAKE_DBT_TARGET": str(folder / "target"),
            "DBT_LOG_PATH": str(folder / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert output.exists(), done.stdout + done.stderr
    found = {}
    for result in json.loads(output.read_text())["results"]:
        loaded = datetime.fromisoformat(result["max_loaded_at"])
        found[result["unique_id"].rpartition(".")[2]] = (result["status"], loaded.timestamp())
    return found
