"""From MySQL to the topic: a snapshot, a burst and calm changes, by rows and by latency.

[DEFAULTS=1] make bench NAME=cdc [SNAPSHOT_ROWS=2000000] [BURST_ROWS=300000] [CALM_SECONDS=20]

With DEFAULTS=1, a second connector with Debezium's own settings reads the same rows in the same
run; the ratios are those of the two.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pymysql
import requests
from confluent_kafka import Consumer, TopicPartition

from benchmarks.broker import note
from lake.config import Config, Endpoints, MysqlConnection, load_config
from lake.errors import TransientError
from lake.kafka.topics import make_topics
from producers.mysql.cdc import MysqlCdcConnector
from producers.registry import connector, source_connection
from stack import lifecycle
from stack.progress import Silent

SETTINGS = """\
name: bench
data_dir: data
services: {postgres: {host: 127.0.0.1}}
topics: {partitions: 2, retention_mb: 8192}
sources:
  tuned:
    type: mysql_cdc
    connection: embedded
    tables: {orders: {key: [id]}}
  plain:
    type: mysql_cdc
    connection: embedded
    tables: {orders: {key: [id]}}
    options:
"""
# Debezium's and Kafka's own values of everything that connect/mysql.json sets for speed.
DEFAULTS = {
    "poll.interval.ms": "500",
    "max.batch.size": "2048",
    "max.queue.size": "8192",
    "snapshot.fetch.size": "0",
    "producer.override.linger.ms": "5",
    "producer.override.batch.size": "16384",
    "producer.override.compression.type": "none",
}
TABLE = (
    "CREATE TABLE orders (id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT, customer_id INT NOT NULL,"
    " ordered_at DATETIME(6) NOT NULL, status ENUM('pending','paid','shipped') NOT NULL,"
    " payment VARCHAR(20), shipping DECIMAL(12,2), total DECIMAL(12,2) NOT NULL, note VARCHAR(80))"
)
ROWS = (
    "INSERT INTO orders (customer_id, ordered_at, status, payment, shipping, total, note)"
    " SELECT 1 + seq %% 9973, NOW(6), 1 + seq %% 3, 'credit_card', seq %% 900 + 0.25, seq %% 90000,"
    " CONCAT('left at the door of number ', seq) FROM numbers WHERE seq < %s"
)
BLOCK = 20_000
PATIENCE = 900.0


@dataclass
class Bench:
    """The stack, and the source that is measured."""

    config: Config
    endpoints: Endpoints
    server: MysqlConnection

    def sql(self, statement: str, *args: Any) -> None:
        """Run a statement."""
        with pymysql.connect(
            host=self.server.host,
            port=self.server.port,
            user=self.server.user,
            password=self.server.plain_password,
            database=self.server.database,
            autocommit=True,
        ) as db:
            db.cursor().execute(statement, args or None)

    def insert(self, rows: int) -> None:
        """Add rows, in transactions of `BLOCK`."""
        for first in range(0, rows, BLOCK):
            self.sql(ROWS, min(BLOCK, rows - first))

    def source(self, name: str) -> MysqlCdcConnector:
        """The source of a name."""
        made = connector(self.config, self.endpoints, name)
        assert isinstance(made, MysqlCdcConnector)
        return made

    def start(self, name: str) -> None:
        """Make the connector; it begins with the snapshot."""
        source = self.source(name)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                list(source.poll({}))
                break
            except TransientError:
                time.sleep(0.5)
        source.close()

    def remove(self, name: str) -> None:
        """Delete the connector."""
        source = self.source(name)
        source.rest.remove()
        source.close()

    def settle(self, name: str) -> None:
        """Wait for the end of the snapshot."""
        source = self.source(name)
        while not source.has_read_all():
            time.sleep(0.5)
        source.close()

    def connect_seconds(self) -> float:
        """The processor time that Kafka Connect has used."""
        pid = {s.name: s.pid for s in lifecycle.status(self.config).services}["connect"]
        used = psutil.Process(pid).cpu_times()
        return float(used.user + used.system)


@contextmanager
def reader(bench: Bench, name: str, latest: bool) -> Iterator[Consumer]:
    """A consumer of the committed records of the table's topic."""
    consumer = Consumer(
        bench.endpoints.kafka_client(
            group_id=f"bench-{name}-{time.time()}",
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_wait_max_ms=5,
        )
    )
    topic = f"{name}.orders"
    parts = [TopicPartition(topic, number) for number in range(2)]
    for part in parts:
        part.offset = consumer.get_watermark_offsets(part, 30)[1] if latest else 0
    consumer.assign(parts)
    try:
        yield consumer
    finally:
        consumer.close()


def take(consumer: Consumer, rows: int, what: str) -> tuple[float, float]:
    """Read rows: the moments of the first and of the last one."""
    got, first, told = 0, 0.0, time.monotonic()
    deadline = time.monotonic() + PATIENCE
    while got < rows:
        assert time.monotonic() < deadline, f"{what}: {got:,} of {rows:,} rows after {PATIENCE} s"
        messages = consumer.consume(10_000, 0.2)
        first = first or (time.monotonic() if messages else 0.0)
        got += len(messages)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            note(f"{what}: {got:,} of {rows:,} rows")
    return first, time.monotonic()


def measure(bench: Bench, name: str, sizes: dict[str, int]) -> dict[str, float]:
    """Snapshot, burst and calm of one connector."""
    found: dict[str, float] = {}
    began = time.monotonic()
    used = bench.connect_seconds()
    with reader(bench, name, latest=False) as consumer:
        bench.start(name)
        _, ended = take(consumer, sizes["snapshot"], f"{name} snapshot")
    found["snapshot_rows_per_s"] = round(sizes["snapshot"] / (ended - began))
    found["snapshot_cpu_us_per_row"] = round(
        (bench.connect_seconds() - used) / sizes["snapshot"] * 1e6, 1
    )
    bench.settle(name)
    with reader(bench, name, latest=True) as consumer:
        latencies = calm(bench, consumer, sizes["calm"])
    found["calm_p50_ms"] = round(statistics.median(latencies) * 1000, 1)
    found["calm_p99_ms"] = round(sorted(latencies)[int(len(latencies) * 0.99)] * 1000, 1)
    rest = requests.put(f"{bench.endpoints.connect}/connectors/bench-{name}/pause", timeout=30)
    assert rest.ok
    with reader(bench, name, latest=True) as consumer:
        time.sleep(3)
        bench.insert(sizes["burst"])
        used = bench.connect_seconds()
        assert requests.put(rest.url.replace("pause", "resume"), timeout=30).ok
        first, ended = take(consumer, sizes["burst"], f"{name} burst")
    found["burst_rows_per_s"] = round(sizes["burst"] / (ended - first))
    found["burst_cpu_us_per_row"] = round(
        (bench.connect_seconds() - used) / sizes["burst"] * 1e6, 1
    )
    return found


def calm(bench: Bench, consumer: Consumer, seconds: int) -> list[float]:
    """Seconds from the commit to the committed record, one change at a time."""
    found = []
    for _ in range(seconds * 4):
        bench.sql(ROWS, 1)
        committed = time.monotonic()
        while not consumer.consume(1, 2.0):
            assert time.monotonic() - committed < PATIENCE
        found.append(time.monotonic() - committed)
        time.sleep(0.2)
    return found


def main() -> None:
    """Run it."""
    sizes = {
        "snapshot": int(os.environ.get("SNAPSHOT_ROWS", "2000000")),
        "burst": int(os.environ.get("BURST_ROWS", "300000")),
        "calm": int(os.environ.get("CALM_SECONDS", "20")),
    }
    extra = json.loads(os.environ.get("OPTIONS", "{}"))
    with TemporaryDirectory(prefix="ducklake-bench-") as name:
        path = Path(name) / "ducklake.yml"
        lines = "".join(f'      {key}: "{value}"\n' for key, value in DEFAULTS.items())
        path.write_text(SETTINGS + lines)
        (Path(name) / "connect").symlink_to(Path("connect").absolute())
        config = load_config(path)
        config.settings.sources["tuned"].options.update(extra)
        note("starting MySQL, Kafka and Connect ...")
        lifecycle.up(config, Silent())
        try:
            server = source_connection(config, "tuned")
            assert isinstance(server, MysqlConnection)
            bench = Bench(config, config.endpoints(), server)
            print(json.dumps(run(bench, sizes)))
        finally:
            lifecycle.down(config)


def run(bench: Bench, sizes: dict[str, int]) -> dict[str, Any]:
    """Fill the table, and measure one connector or two."""
    make_topics(bench.config, bench.endpoints)
    note(f"filling a table with {sizes['snapshot']:,} rows ...")
    for statement in (
        "DROP TABLE IF EXISTS orders, order_items, numbers",
        TABLE,
        "CREATE TABLE numbers (seq INT PRIMARY KEY)",
        "INSERT INTO numbers WITH RECURSIVE r AS (SELECT 0 AS i UNION ALL SELECT i + 1 FROM r WHERE"
        " i < 999) SELECT a.i * 1000 + b.i FROM r a JOIN r b WHERE a.i < 20",
    ):
        bench.sql(statement)
    bench.insert(sizes["snapshot"])
    found: dict[str, Any] = measure(bench, "tuned", sizes)
    found["load_average"] = round(os.getloadavg()[0], 1)
    if os.environ.get("DEFAULTS"):
        bench.remove("tuned")
        more = {**sizes, "snapshot": sizes["snapshot"] + sizes["burst"] + sizes["calm"] * 4}
        plain = measure(bench, "plain", more)
        found["defaults"] = plain
        found["ratio"] = {key: round(found[key] / plain[key], 2) for key in plain if plain[key]}
    return found


if __name__ == "__main__":
    main()
