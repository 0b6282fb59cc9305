"""A commit of 200 rows with few and with many files in the ledger, and reading a day of flushes.

make bench NAME=commits [FLUSHES=86400]
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lake.storage.operations
from benchmarks.broker import note
from consumers.compaction.compactor import Compactor
from consumers.ingest.flush import Flush, commit_flush
from lake.config import Config, TableRef, load_config
from lake.ledger import Ledger
from lake.records import OffsetRange
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session

TOPIC_ID = "0" * 32
DAY = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
SCHEMA = Schema(
    (
        source_column("order_id", "BIGINT"),
        source_column("status", "VARCHAR"),
        source_column("total_ars", "DECIMAL(12,2)"),
    )
)
SETTINGS = """\
name: commits
sources:
  shop: {{type: sftp, tables: {{orders: {{file: orders.csv}}}}}}
consumer: {{seal_max_age_seconds: {seal_max_age_seconds}}}
"""
REF = TableRef("shop", "orders")


def _lake(folder: Path, seal_max_age_seconds: int = 3600) -> Config:
    path = folder / "ducklake.yml"
    path.write_text(SETTINGS.format(seal_max_age_seconds=seal_max_age_seconds))
    return load_config(path)


def _rows(first: int, count: int, moment: float, partition: int = 0) -> pa.Table:
    numbers = np.arange(first, first + count)
    stamp = pa.array(np.full(count, int(moment * 1e6)), pa.timestamp("us", "UTC"))
    status = pa.array(["paid", "shipped", "delivered", "pending"]).take(pa.array(numbers % 4))
    cents = pa.array(numbers % 1_000_000, pa.int64()).cast(pa.decimal128(19, 0))
    return pa.table(
        {
            "order_id": numbers,
            "status": status,
            "total_ars": cents.cast(pa.decimal128(12, 2)),
            "_op": pa.array(["r"] * count),
            "_source_ts": stamp,
            "_kafka_ts": stamp,
            "_topic": pa.array([REF.topic] * count),
            "_partition": pa.array(np.full(count, partition, np.int32)),
            "_offset": numbers,
            "_topic_epoch": pa.array(np.zeros(count, np.int32)),
        }
    )


class Writer:
    """Commits rows of one partition, one flush after the other."""

    def __init__(self, ledger: Ledger, session: Session) -> None:
        self._ledger = ledger
        self._session = session
        self._state = ledger.tables.open(REF.topic, TOPIC_ID, 1)

    def flush(self, count: int, moment: float) -> float:
        """Commit some rows; returns the seconds that it took."""
        state = self._state
        first = state.positions.get(0, 0)
        rows = _rows(first, count, moment)
        span = OffsetRange(TOPIC_ID, 0, first, first + count - 1, count)
        began = time.perf_counter()
        starts = {0: state.positions.get(0)}
        flush = Flush(state, starts, [span], rows, SCHEMA)
        commit_flush(self._ledger, self._session, REF, flush)
        took = time.perf_counter() - began
        again = self._ledger.tables.get(REF.topic)
        assert again is not None, "it was just written"
        self._state = again
        return took


def _add_files(ledger: Ledger, count: int) -> None:
    """Give the ledger a history: files of other tables that were committed before."""
    db = ledger._core.db
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN IMMEDIATE")
    numbers = range(1, count + 1)
    db.executemany(
        "INSERT INTO commits (commit_no, topic, generation, session, committed_at, records)"
        " VALUES (?, ?, 0, 'x', 0, 200)",
        ((n, f"shop.t{n % 20}") for n in numbers),
    )
    db.executemany(
        "INSERT INTO ranges VALUES (?, 0, ?, 0, ?, ?, 200, ?)",
        ((f"shop.t{n % 20}", TOPIC_ID, n * 200, n * 200 + 199, n) for n in numbers),
    )
    db.executemany(
        "INSERT INTO files"
        " (file_id, topic, generation, tier, path, rows, bytes, sha256, created_at)"
        " VALUES (?, ?, 0, 'sealed', ?, 200, 9000, 'x', 0)",
        ((n, f"shop.t{n % 20}", f"raw/{n}.parquet") for n in numbers),
    )
    db.executemany("INSERT INTO file_commits VALUES (?, ?)", ((n, n) for n in numbers))
    db.execute("COMMIT")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def commit_milliseconds(folder: Path, files: int, commits: int = 400) -> list[float]:
    """How long commits of 200 rows take in a ledger with some files."""
    folder.mkdir()
    with Ledger(LakePaths(folder / "data")) as ledger, Session(ledger.paths) as session:
        _add_files(ledger, files)
        writer = Writer(ledger, session)
        return [writer.flush(200, DAY) * 1000 for _ in range(commits)]


@contextmanager
def _clock(moment: list[float]) -> Iterator[None]:
    """A simulated day: the clock is passed by hand, and nothing waits for the disk."""
    real_time, real_sync = time.time, os.fsync
    time.time = lambda: moment[0]
    lake.storage.operations.os.fsync = lambda handle: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        time.time, os.fsync = real_time, real_sync


def read_day_ratio(folder: Path, flushes: int, rows: int = 20) -> float:
    """Reading a day that was flushed every second, against the same rows in one file."""
    folder.mkdir()
    config = _lake(folder)
    moment = [DAY]
    step = 86_400 / flushes
    with _clock(moment):
        compactor = Compactor(config)
        ledger, session = compactor.ledger, compactor.session
        ledger._core.db.execute("PRAGMA synchronous = OFF")
        writer = Writer(ledger, session)
        for number in range(flushes):
            moment[0] = DAY + number * step
            writer.flush(rows, moment[0])
            if number % 64 == 63:
                compactor.pass_once(force=False)
            if number % 10_000 == 0:
                note(f"flushed {number:,} of {flushes:,}")
        moment[0] = DAY + 86_400 + 1
        compactor.pass_once(force=False)
        compactor.close()
    public = sorted((folder / "data" / "raw").rglob("*.parquet"))
    single = folder / "one.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(f) for f in public]), single, compression="zstd")
    note(f"{len(public)} public files hold the day")
    glob = str(folder / "data" / "raw" / "shop" / "orders" / "*" / "*" / "*" / "*.parquet")
    ratios = [_read(glob) / _read(str(single)) for _ in range(15)]
    return statistics.median(ratios)


def _read(files: str) -> float:
    with duckdb.connect(config={"threads": 2}) as database:
        began = time.perf_counter()
        database.execute(
            "SELECT status, count(*), sum(total_ars), max(order_id), min(_kafka_ts)"
            f" FROM read_parquet('{files}', hive_partitioning = true) GROUP BY 1"
        ).fetchall()
        return time.perf_counter() - began


def measure(flushes: int) -> dict[str, float]:
    """All three figures."""
    with TemporaryDirectory(prefix="ducklake-bench-") as name:
        folder = Path(name)
        few = commit_milliseconds(folder / "few", 100)
        many = commit_milliseconds(folder / "many", 100_000)
        note(
            f"commit of 200 rows: p50 {statistics.median(few):.2f} ms,"
            f" with 100,000 files {statistics.median(many):.2f} ms"
        )
        ratio = read_day_ratio(folder / "day", flushes)
        note(f"reading a day: {ratio:.2f} times one file")
    ordered = sorted(few + many)
    return {
        "commit_p50_ms": round(statistics.median(ordered), 2),
        "commit_p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "commit_ratio": round(statistics.median(many) / statistics.median(few), 2),
        "read_day_ratio": round(ratio, 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(os.environ.get("FLUSHES", "86400")))))
