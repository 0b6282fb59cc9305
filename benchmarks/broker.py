"""A broker of its own for a benchmark, and the records that all of them read."""

from __future__ import annotations

import contextlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
from confluent_kafka import Producer

from lake.config import Config, load_config
from lake.kafka.topics import make_topics
from stack import lifecycle
from stack.progress import Silent

PARTITIONS = 4
SETTINGS = """\
name: bench
data_dir: {data}
services:
  kafka: {{bootstrap_servers: embedded}}
  connect: {{url: "http://127.0.0.1:1"}}
  postgres: {{host: 127.0.0.1}}
topics: {{partitions: {partitions}, retention_mb: 8192}}
sources:
  {source}:
    type: mysql_cdc
    tables: {{orders: {{key: [order_id]}}}}
consumer: {{flush_seconds: {flush_seconds}, seal_max_age_seconds: 86400, target_file_mb: 100000}}
"""
_COLUMNS = (
    ("order_id", "BIGINT UNSIGNED", None, None),
    ("customer_id", "INT", None, None),
    ("ordered_at", "DATETIME", 6, None),
    ("status", "ENUM", None, None),
    ("payment_method", "ENUM", None, None),
    ("shipping_ars", "DECIMAL", 12, 2),
    ("total_ars", "DECIMAL", 12, 2),
    ("updated_at", "DATETIME", 6, None),
)


def note(text: str) -> None:
    """Progress, to standard error."""
    print(text, file=sys.stderr, flush=True)


def topic_of(config: Config) -> str:
    """The one topic of a configuration."""
    return next(ref.topic for ref, _ in config.tables())


@contextlib.contextmanager
def broker() -> Iterator[tuple[Config, Path]]:
    """A running broker and the folder of its configuration."""
    with TemporaryDirectory(prefix="ducklake-bench-") as name:
        path = Path(name) / "ducklake.yml"
        path.write_text(
            SETTINGS.format(data="data", partitions=PARTITIONS, source="broker", flush_seconds=1)
        )
        config = load_config(path)
        note("starting the broker ...")
        lifecycle.up(config, Silent())
        try:
            yield config, Path(name)
        finally:
            lifecycle.down(config)


def make_lake(config: Config, folder: Path, source: str, flush_seconds: float = 1.0) -> Config:
    """A lake on that broker: its own source, topic, data folder and consumer group."""
    text = SETTINGS.format(
        data=source, partitions=PARTITIONS, source=source, flush_seconds=flush_seconds
    )
    text = text.replace("name: bench", f"name: bench_{source}")
    at = config.endpoints()
    kafka = json.dumps({"bootstrap_servers": at.kafka, "options": at.kafka_options})
    text = text.replace("{bootstrap_servers: embedded}", kafka)
    path = folder / f"{source}.yml"
    path.write_text(text)
    made = load_config(path)
    make_topics(made, made.endpoints())
    announce_schema(made)
    return made


def value(number: int, rnd: random.Random) -> bytes:
    """A Debezium record of about 540 bytes."""
    row = {
        "order_id": number,
        "customer_id": rnd.randrange(100_000),
        "ordered_at": f"2026-11-23T07:{number % 60:02}:00.{number % 1_000_000:06}Z",
        "status": ("pending", "paid", "shipped", "delivered")[number % 4],
        "payment_method": ("credit_card", "transfer", "cash")[number % 3],
        "shipping_ars": f"{rnd.randrange(9000)}.00",
        "total_ars": f"{rnd.randrange(9_000_000)}.{number % 100:02}",
        "updated_at": "2026-11-23T07:00:00Z",
    }
    source = {
        "version": "3.6.1.Final",
        "connector": "mysql",
        "name": "mysql",
        "ts_ms": 1_763_881_200_123 + number,
        "snapshot": "false",
        "db": "techstore",
        "sequence": None,
        "table": "orders",
        "server_id": 1,
        "gtid": None,
        "file": "binlog.000002",
        "pos": 157 + number,
        "row": 0,
        "thread": 12,
        "query": None,
    }
    envelope: dict[str, Any] = {"before": None, "after": row, "source": source}
    return orjson.dumps({**envelope, "transaction": None, "op": "c", "ts_ms": 1_763_881_200_456})


def announce_schema(config: Config) -> None:
    """What Debezium would say of the table's exact types."""
    columns = [
        {"name": name, "typeName": type_, "length": length, "scale": scale}
        for name, type_, length, scale in _COLUMNS
    ]
    change = {"type": "CREATE", "id": '"techstore"."orders"', "table": {"columns": columns}}
    producer = Producer(config.endpoints().kafka_client())
    producer.produce(next(iter(config.settings.sources)), orjson.dumps({"tableChanges": [change]}))
    producer.flush(30)


def fill(config: Config, count: int) -> tuple[float, Callable[[], None]]:
    """Produce records, lz4, evenly over the partitions, in one transaction.

    Returns:
        The mean size of a value in bytes, and what makes all of them visible at once.
    """
    rnd = random.Random(1)
    to = topic_of(config)
    producer = Producer(
        config.endpoints().kafka_client(
            transactional_id=f"fill-{to}",
            transaction_timeout_ms=240_000,
            compression_type="lz4",
            linger_ms=50,
            batch_num_messages=10_000,
            queue_buffering_max_messages=500_000,
            queue_buffering_max_kbytes=1_000_000,
        )
    )
    producer.init_transactions(60)
    producer.begin_transaction()
    size = 0
    for number in range(count):
        data = value(number, rnd)
        size += len(data)
        while True:
            try:
                producer.produce(to, value=data, key=b"%d" % number, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
        if number % 500_000 == 0:
            note(f"{to}: produced {number:,} of {count:,}")
    producer.flush(120)
    return size / count, lambda: producer.commit_transaction(60)


def peak_rss_mb(pid: int) -> float:
    """Peak resident memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
