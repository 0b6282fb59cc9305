"""Kafka to typed, synced Parquet and ledger, against the ceiling of the client and against Spark.

make bench NAME=ingest [RECORDS=2000000] [SPARK=0]
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, TopicPartition

from benchmarks.broker import PARTITIONS, TOPIC, announce_schema, another_lake, broker, fill, note
from ducklake.config import Config

DEADLINE_SECONDS = 300.0


def ceiling(config: Config, count: int) -> float:
    """Messages per second of `consume()` with values untouched."""
    consumer = Consumer(
        config.endpoints().kafka_client(
            group_id="ceiling", enable_auto_commit=False, queued_max_messages_kbytes=262_144
        )
    )
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
    seen = len(consumer.consume(1, 30))
    began = time.monotonic()
    while seen < count:
        seen += len(consumer.consume(50_000, 1.0))
    took = time.monotonic() - began
    consumer.close()
    return count / took


def ours(config: Config, folder: Path, workers: int, count: int) -> dict[str, Any]:
    """All the way to committed, typed, synced Parquet, with some workers."""
    lake = another_lake(config, folder, f"lake{workers}")
    log = (folder / f"workers-{workers}.log").open("wb")
    processes = [
        psutil.Popen(
            [sys.executable, "-m", "ducklake.cli", "consume"],
            env={**os.environ, "DUCKLAKE_CONFIG": str(lake.path)},
            stdout=log,
            stderr=log,
        )
        for _ in range(workers)
    ]
    ledger = lake.data_dir / "ledger.db"
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while _rows(ledger) < count:
            if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
                raise SystemExit(Path(log.name).read_text()[-3000:])
            time.sleep(0.2)
        cpu = sum(sum(p.cpu_times()[:2]) for p in processes)
        memory = max(_peak(p.pid) for p in processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
    with sqlite3.connect(ledger) as database:
        # From the first commit of the last worker on: start-up is no throughput.
        start = database.execute(
            "SELECT max(began) FROM (SELECT min(committed_at) began FROM commits"
            " WHERE records > 0 GROUP BY session)"
        ).fetchone()[0]
        end, rows = database.execute(
            "SELECT max(committed_at), sum(records) FROM commits WHERE committed_at > ?", (start,)
        ).fetchone()
        size = database.execute("SELECT sum(bytes) FROM files").fetchone()[0]
    return {
        "rate": rows / (end - start),
        "cpu_us_per_row": cpu / count * 1e6,
        "rss_mb": memory,
        "bytes_written": size,
    }


def _rows(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    database = sqlite3.connect(ledger, timeout=30)
    try:
        return int(database.execute("SELECT coalesce(sum(records), 0) FROM commits").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        database.close()


def _peak(pid: int) -> float:
    """Peak resident memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Run it."""
    count = int(os.environ.get("RECORDS", "2000000"))
    with broker() as (config, folder):
        announce_schema(config)
        note(f"{fill(config, count):.0f} bytes a record")
        top = ceiling(config, count)
        note(f"ceiling: {top:,.0f} messages/s")
        results = {}
        for workers in (1, 2):
            results[workers] = found = ours(config, folder, workers, count)
            share, cpu, memory = found["rate"] / top, found["cpu_us_per_row"], found["rss_mb"]
            note(
                f"ours, {workers} workers: {found['rate']:,.0f} messages/s, {share:.2f} of the ceiling"
            )
            note(f"  {cpu:.1f} µs of CPU a row, {memory:.0f} MB at most")
    print(
        json.dumps(
            {
                "ceiling": round(top),
                "ours_1": round(results[1]["rate"]),
                "ours_2": round(results[2]["rate"]),
                "cpu_us_per_row": round(results[2]["cpu_us_per_row"], 2),
                "rss_mb": round(max(r["rss_mb"] for r in results.values())),
                "bytes_written": results[2]["bytes_written"],
            }
        )
    )


if __name__ == "__main__":
    main()
