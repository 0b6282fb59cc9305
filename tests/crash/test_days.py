"""`ducklake compact --days`: old days become few files, in one swap that a kill cannot halve."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from consumers.compaction.compactor import Compactor
from consumers.ingest.flush import Flush, commit_flush
from consumers.maintenance.verify import Verifier
from lake import recovery
from lake.config import Config, TableRef, load_config
from lake.errors import ServiceUnreachable
from lake.ledger import Ledger
from lake.records import OffsetRange
from lake.recovery import finish_date_rewrites, pinned
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session

REF = TableRef("shop", "orders")
TOPIC_ID = "ab" * 16
SCHEMA = Schema((source_column("order_id", "BIGINT"),))
OLD = datetime.now(UTC).date() - timedelta(days=3)
ROWS, FLUSHES = 10, 6
SETTINGS = "name: days\nsources: {shop: {type: sftp, tables: {orders: {file: orders.csv}}}}\n"


def flush(config: Config, day: date) -> None:
    """Commit some rows of each of two partitions, and seal them."""
    moment = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=5)
    with Ledger(LakePaths(config.data_dir)) as ledger, Session(ledger.paths) as session:
        state = ledger.tables.open(REF.topic, TOPIC_ID, 2)
        starts = {p: state.positions.get(p) for p in (0, 1)}
        firsts = {p: state.positions.get(p, 0) for p in (0, 1)}
        pairs = [(p, firsts[p] + n) for p in (0, 1) for n in range(ROWS)]
        rows = pa.table(
            {
                "order_id": [offset * 2 + p for p, offset in pairs],
                "_op": ["r"] * len(pairs),
                "_source_ts": pa.array([moment] * len(pairs), pa.timestamp("us", "UTC")),
                "_kafka_ts": pa.array([moment] * len(pairs), pa.timestamp("us", "UTC")),
                "_topic": [REF.topic] * len(pairs),
                "_partition": pa.array([p for p, _ in pairs], pa.int32()),
                "_offset": [offset for _, offset in pairs],
                "_topic_epoch": pa.array([0] * len(pairs), pa.int32()),
            }
        )
        spans = [OffsetRange(TOPIC_ID, p, firsts[p], firsts[p] + ROWS - 1, ROWS) for p in (0, 1)]
        commit_flush(ledger, session, REF, Flush(state, starts, spans, rows, SCHEMA))
    compactor = Compactor(config)
    compactor.pass_once(force=True)
    compactor.close()


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Config]:
    (tmp_path / "ducklake.yml").write_text(SETTINGS)
    config = load_config(tmp_path / "ducklake.yml")
    for _ in range(FLUSHES):
        flush(config, OLD)
    flush(config, OLD + timedelta(days=1))
    yield config


def run(config: Config, *words: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "DUCKLAKE_CONFIG": str(config.path),
        "DUCKLAKE_FAILPOINT": failpoint,
    }
    command = [sys.executable, "-m", "ducklake.cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def public(config: Config) -> list[Path]:
    return sorted((config.data_dir / "raw").rglob("*.parquet"))


def rows(config: Config) -> list[tuple[int, int]]:
    glob = config.data_dir / "raw" / "shop" / "orders" / "*" / "*" / "*" / "*.parquet"
    return list(duckdb.sql(f"SELECT _partition, _offset FROM '{glob}' ORDER BY ALL").fetchall())


def assert_exact(config: Config) -> None:
    verdict = Verifier(config, None).verify(list(config.tables()))
    assert verdict.differences == ()
    expected = [(p, n) for p in (0, 1) for n in range(ROWS * (FLUSHES + 1))]
    assert rows(config) == expected


def test_a_day_of_many_files_becomes_one_for_each_partition(lake: Config) -> None:
    before = len(public(lake))
    done = run(lake, "compact", "--days", OLD.isoformat())
    assert done.returncode == 0, done.stderr
    assert f"{(FLUSHES - 1) * 2} public files fewer" in done.stderr
    assert len(public(lake)) == before - (FLUSHES - 1) * 2
    assert_exact(lake)
    assert "0 public files fewer" in run(lake, "compact", "--days", OLD.isoformat()).stderr


@pytest.mark.parametrize(
    "point",
    [
        "days.before_intent",
        "days.after_intent",
        "days.after_claim",
        "days.before_swap",
        "days.after_swap",
        "days.before_remove",
    ],
)
def test_a_kill_at_any_step_of_a_day_s_merge_shows_each_row_once(lake: Config, point: str) -> None:
    expected = rows(lake)
    died = run(lake, "compact", "--days", OLD.isoformat(), failpoint=point)
    assert died.returncode == -9, died.stderr
    assert rows(lake) == expected, "a glob sees the old day or the new one"
    done = run(lake, "compact", "--days", f"{OLD}..{OLD + timedelta(days=1)}")
    assert done.returncode == 0, done.stderr
    assert len(public(lake)) == 4
    assert_exact(lake)


@pytest.mark.parametrize("point", ["days.after_claim", "days.after_swap"])
def test_a_reader_finishes_the_exchange_that_a_killed_one_had_begun(
    lake: Config, point: str
) -> None:
    """It would wait for ever, or be told of files that are not there any more."""
    died = run(lake, "compact", "--days", OLD.isoformat(), failpoint=point)
    assert died.returncode == -9, died.stderr
    assert_exact(lake)
    with Ledger(LakePaths(lake.data_dir)) as ledger:
        assert ledger.date_rewrites.open() == [] and ledger.pins.all() == []
    assert len(public(lake)) == 4


def test_nobody_pins_while_a_living_process_exchanges(
    lake: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = LakePaths(lake.data_dir)
    monkeypatch.setattr(recovery, "EXCHANGE_SECONDS", 0.2)
    died = run(lake, "compact", "--days", OLD.isoformat(), failpoint="days.after_intent")
    assert died.returncode == -9, died.stderr
    with Ledger(paths) as ledger, Session(paths) as other, Session(paths) as session:
        [rewrite] = ledger.date_rewrites.open()
        assert ledger.date_rewrites.claim(rewrite.number, other.id, lambda _: True)
        with pytest.raises(ServiceUnreachable, match="exchanged for"), pinned(ledger, session):
            pass
        assert ledger.pins.all() == []
        with pytest.raises(ServiceUnreachable, match="Another process"):
            finish_date_rewrites(ledger, session)
        finish_date_rewrites(ledger, other)
    assert_exact(lake)


def test_a_day_is_not_swapped_under_a_reader_that_has_pinned_it(lake: Config) -> None:
    paths = LakePaths(lake.data_dir)
    with Ledger(paths) as ledger, Session(paths) as session, pinned(ledger, session):
        files = [file.path for file in ledger.files.live(REF.topic)]
        refused = run(lake, "compact", "--days", OLD.isoformat())
        assert refused.returncode == 1
        assert "pinned" in refused.stderr
        assert all(path.exists() for path in files)
    done = run(lake, "compact", "--days", OLD.isoformat())
    assert done.returncode == 0, done.stderr
    assert_exact(lake)


@pytest.mark.parametrize("days", ["yesterday", "2026-02-30", "today"])
def test_days_that_are_none_or_not_over_are_refused(lake: Config, days: str) -> None:
    # not when tests are collected: midnight may pass until this one runs
    days = str(datetime.now(UTC).date()) if days == "today" else days
    refused = run(lake, "compact", "--days", days)
    assert refused.returncode == 1
    assert "--days" in refused.stderr
