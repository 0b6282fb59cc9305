"""Kafka to typed, synced Parquet and ledger, against the ceiling of the client and against Spark.

make bench NAME=ingest [RECORDS=2000000] [SPARK=1]

Three turns of all contestants; the one with the median ratio is told.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.broker import PARTITIONS, broker, fill, make_lake, note, peak_rss_mb, topic_of
from benchmarks.commits import measure
from lake.config import Config
from lake.kafka.java_client import java_client
from lake.kafka.topics import admin
from stack.downloads import cache_dir, fetch
from stack.jars import read_lock
from stack.progress import PlainLines

DEADLINE_SECONDS = 300.0
PATIENCE_SECONDS = 30.0
TURNS = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """What one of them came to.

    Attributes:
        rate: Messages per second.
        cpu_us_per_row: Microseconds of CPU of all processes a message.
        rss_mb: Peak resident memory of the largest process in MB.
        bytes_written: Of Parquet.
    """

    rate: float
    cpu_us_per_row: float
    rss_mb: float = 0.0
    bytes_written: int = 0


def ceiling(config: Config, count: int) -> Measured:
    """`consume()` with values untouched."""
    consumer = Consumer(
        config.endpoints().kafka_client(
            group_id="ceiling",
            enable_auto_commit=False,
            queued_min_messages=1_000_000,
            queued_max_messages_kbytes=262_144,
            fetch_queue_backoff_ms=10,
        )
    )
    consumer.assign([TopicPartition(topic_of(config), number, 0) for number in range(PARTITIONS)])
    seen = len(consumer.consume(1, 30))
    began, before = time.monotonic(), time.process_time()
    while seen < count:
        seen += len(consumer.consume(50_000, 1.0))
    took, cpu = time.monotonic() - began, time.process_time() - before
    consumer.close()
    return Measured(count / took, cpu / count * 1e6)


def ours(lake: Config, reveal: Callable[[], None], workers: int, count: int) -> Measured:
    """All the way to committed, typed, synced Parquet: from the moment that the records show."""
    log = (lake.root / f"workers-{workers}.log").open("wb")
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
        _await_shares(lake, workers)
        before = sum(sum(p.cpu_times()[:2]) for p in processes)
        began = time.time()
        reveal()
        while _rows(ledger) < count:
            if time.monotonic() > deadline or any(p.poll() is not None for p in processes):
                raise SystemExit(Path(log.name).read_text()[-3000:])
            time.sleep(0.2)
        cpu = sum(sum(p.cpu_times()[:2]) for p in processes) - before
        if os.environ.get("THREADS"):
            for p in processes:
                for task in sorted(Path(f"/proc/{p.pid}/task").iterdir()):
                    words = (task / "stat").read_text().rpartition(")")[2].split()
                    used = (int(words[11]) + int(words[12])) / 100
                    if used > 0.2:
                        note(f"  {p.pid} {(task / 'comm').read_text().strip()}: {used:.1f} s")
        memory = max(peak_rss_mb(p.pid) for p in processes)
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in processes:
            process.wait(30)
    with contextlib.closing(sqlite3.connect(ledger)) as database:
        end = database.execute(
            "SELECT max(committed_at) FROM commits WHERE records > 0"
        ).fetchone()[0]
        size = database.execute("SELECT sum(bytes) FROM files").fetchone()[0]
    return Measured(count / (end - began), cpu / count * 1e6, memory, size)


def spark(lake: Config, count: int) -> Measured | None:
    """Spark structured streaming on the same topic; None without pyspark."""
    if importlib.util.find_spec("pyspark") is None:
        note("Spark is not installed: make bench NAME=ingest SPARK=1")
        return None
    jars = read_lock(Path(__file__).with_name("spark.lock"))
    folder = cache_dir() / "spark"
    fetch(jars, folder, PlainLines())
    login = java_client(lake.endpoints().kafka_options)
    login = {f"kafka.{key}": value for key, value in login.items()}
    note("Spark, warm, local[2] ...")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.spark_ingest", lake.endpoints().kafka),
            *(topic_of(lake), str(lake.root / "spark" / topic_of(lake))),
            ",".join(str(folder / jar.name) for jar in jars),
        ],
        env={**os.environ, "KAFKA_LOGIN": json.dumps(login)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    cpu = said["cpu_seconds"] / count * 1e6
    return Measured(count / said["seconds"], cpu, said["rss_mb"], said["bytes_written"])


def _await_shares(lake: Config, workers: int) -> None:
    """Wait until all partitions are spread over all workers: evenly, or else somehow."""
    patience = time.monotonic() + PATIENCE_SECONDS
    deadline = patience + PATIENCE_SECONDS
    while (shares := _shares(lake)) != [PARTITIONS // workers] * workers:
        if time.monotonic() > patience and sum(shares) == PARTITIONS and len(shares) == workers:
            note(f"the group does not share evenly: {shares}")
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the workers did not join their group: {shares}")
        time.sleep(0.2)


def _shares(lake: Config) -> list[int]:
    """How many partitions each member of the group has."""
    group = f"ducklake.{lake.settings.name}.lake"
    client = admin(lake.endpoints())  # its answers come only while it lives
    try:
        described = client.describe_consumer_groups([group])[group].result(30)
    except KafkaException:
        return []  # the group is not there yet
    return [
        sum(p.topic == topic_of(lake) for p in member.assignment.topic_partitions)
        for member in described.members
    ]


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


def _show(found: dict[str, Measured], top: float) -> None:
    """The table of docs/BENCHMARKS.md."""
    note("| | messages/s | of the ceiling | CPU a row | peak memory | bytes written |")
    note("|---|---|---|---|---|---|")
    for name, one in found.items():
        memory = f"{one.rss_mb:,.0f} MB" if one.rss_mb else ""
        written = f"{one.bytes_written / 1e6:.0f} MB" if one.bytes_written else ""
        note(
            f"| {name} | {one.rate:,.0f} | {one.rate / top:.2f} | {one.cpu_us_per_row:.1f} µs"
            f" | {memory} | {written} |"
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """All of them within a minute or two: the machine is not the same for long."""

    ours: Measured
    ceiling: Measured
    spark: Measured | None

    def against_ceiling(self) -> float:
        """Ours, as a share of the ceiling."""
        return self.ours.rate / self.ceiling.rate

    def against_spark(self) -> float:
        """How many times as fast as Spark; 0 without it."""
        return self.ours.rate / self.spark.rate if self.spark else 0.0


def main() -> None:
    """Run it."""
    count = int(os.environ.get("RECORDS", "2000000"))
    turns = []
    with broker() as (config, folder):
        for number in range(TURNS):
            made = make_lake(config, folder, f"bench_{number}")
            size, reveal = fill(made, count)
            turn = Turn(ours(made, reveal, 2, count), ceiling(made, count), spark(made, count))
            turns.append(turn)
            note(
                f"2 workers: {turn.ours.rate:,.0f} messages/s, {turn.against_ceiling():.2f} of the"
                f" ceiling of {turn.ceiling.rate:,.0f} ({size:.0f} bytes a record)"
            )
            if turn.spark:
                note(f"  {turn.against_spark():.1f} times Spark's {turn.spark.rate:,.0f}")
        made = make_lake(config, folder, "bench_alone")
        _, reveal = fill(made, count)
        alone = ours(made, reveal, 1, count)
    turns.sort(key=lambda turn: (turn.against_spark(), turn.against_ceiling()))
    chosen = turns[TURNS // 2]
    table = {"ours, 2 workers": chosen.ours, "ours, 1 worker": alone, "ceiling": chosen.ceiling}
    if chosen.spark is not None:
        table["Spark structured streaming"] = chosen.spark
    _show(table, chosen.ceiling.rate)
    print(
        json.dumps(
            {
                "ceiling": round(chosen.ceiling.rate),
                "ours_1": round(alone.rate),
                "ours_2": round(chosen.ours.rate),
                "spark": None if chosen.spark is None else round(chosen.spark.rate),
                "ceiling_ratios": sorted(round(turn.against_ceiling(), 2) for turn in turns),
                "spark_ratios": sorted(round(turn.against_spark(), 2) for turn in turns),
                "cpu_us_per_row": round(chosen.ours.cpu_us_per_row, 2),
                "rss_mb": round(max(alone.rss_mb, *(turn.ours.rss_mb for turn in turns))),
                "bytes_written": chosen.ours.bytes_written,
                **measure(int(os.environ.get("FLUSHES", "86400"))),
            }
        )
    )


if __name__ == "__main__":
    main()
