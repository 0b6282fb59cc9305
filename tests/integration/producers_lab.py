"""What the tests of the producers share: a configuration of their own, and eyes on Kafka."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pymysql
import yaml
from confluent_kafka import Consumer, KafkaError, TopicPartition

from lake.config import Config, Connection, Endpoints, MysqlConnection, SftpConnection, load_config
from lake.failpoints import ENVIRONMENT
from lake.kafka.topics import make_topics
from lake.records import CURSORS_TOPIC, REJECTS_TOPIC
from producers.base import Connector
from producers.registry import connector, source_connection
from producers.transactions import TransactionalWriter

PATIENCE = 60.0
# The demo's source of each type, whose server the tests use.
DEMO = {"mysql_cdc": "mysql", "sftp": "sftp", "rest": "api"}


def shop_server(config: Config, source: str = "mysql") -> MysqlConnection:
    """The MySQL server of a source: by default of the demo's shop."""
    found = source_connection(config, source)
    assert isinstance(found, MysqlConnection)
    return found


def file_server(config: Config) -> SftpConnection:
    """The SFTP server of the demo's suppliers."""
    found = source_connection(config, "sftp")
    assert isinstance(found, SftpConnection)
    return found


def keys_of(connection: Connection) -> dict[str, Any]:
    """A connection as it would stand in a file."""
    keys = connection.model_dump(mode="json", exclude_none=True)
    if isinstance(connection, MysqlConnection | SftpConnection):
        keys["password"] = connection.plain_password
    keys.pop("connect_password", None)  # by default after the connection's name
    return keys


def unique(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex[:8]}"


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(0.05)


def sql(at: MysqlConnection, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements in the shop, each committed at once; the rows of the last one."""
    connection = pymysql.connect(
        host=at.host,
        port=at.port,
        user=at.user,
        password=at.plain_password,
        database=at.database,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


@dataclass(frozen=True)
class Seen:
    """A committed record."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    about: dict[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        assert self.value is not None
        row: dict[str, Any] = orjson.loads(self.value)
        return row


@dataclass
class Lab:
    """One source on the real services, with a name that no other test has."""

    config: Config
    source: str
    endpoints: Endpoints
    environment: dict[str, str] = field(default_factory=dict)

    def writer(self) -> TransactionalWriter:
        return TransactionalWriter(self.config, self.endpoints, self.source)

    def connector(self) -> Connector:
        return connector(self.config, self.endpoints, self.source)

    def rows(self, table: str) -> list[Seen]:
        return committed(self.endpoints, f"{self.source}.{table}")

    def rejects(self) -> list[Seen]:
        own = f"{self.source}."
        return [
            seen
            for seen in committed(self.endpoints, REJECTS_TOPIC)
            if seen.about["source_table"].startswith(own)
        ]

    def cursors(self) -> dict[str, list[Any]]:
        """Every committed state of each of this source's cursors."""
        found: dict[str, list[Any]] = {}
        for seen in committed(self.endpoints, CURSORS_TOPIC):
            source, _, unit = (seen.key or b"").decode().partition(":")
            if source == self.source:
                found.setdefault(unit, []).append(orjson.loads(seen.value or b"null"))
        return found

    def command(self, *arguments: str) -> list[str]:
        """The words of `ducklake produce` for this source."""
        own = ("--config", str(self.config.path))
        return [sys.executable, "-m", "ducklake.cli", "produce", self.source, *arguments, *own]

    def produce_once(self, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        """One pass as a process of its own, killed at a failpoint if one is named."""
        return subprocess.run(
            self.command("--once"),
            env={**os.environ, **self.environment, ENVIRONMENT: failpoint},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )


def poll(source: Connector, writer: TransactionalWriter) -> int:
    """One poll, written; the number of rows."""
    rows = 0
    for batch in source.poll(writer.view()):
        writer.write(batch)
        rows += len(batch.records)
    return rows


def drain(source: Connector, writer: TransactionalWriter) -> int:
    """Poll until everything is read; the number of rows."""
    rows = poll(source, writer)
    deadline = time.monotonic() + PATIENCE
    while not source.settled():
        assert time.monotonic() < deadline, "the source does not settle"
        time.sleep(0.05)
        rows += poll(source, writer)
    return rows


def make_lab(
    folder: Path,
    stack: Config,
    spec: Mapping[str, Any],
    servers: Mapping[str, Mapping[str, Any]] | None = None,
    like: Lab | None = None,
    more: Mapping[str, Any] | None = None,
) -> Lab:
    """A configuration whose services are those of the running stack.

    Args:
        folder: Where its file goes.
        stack: The running stack's configuration.
        spec: The source; its name is made here.
        servers: What is to differ in the services and in the connections of the demo's sources.
        like: A lab whose names it shall have; its own by default.
        more: Other sources.
    """
    at = stack.endpoints()
    source = like.source if like else unique("s")
    lake = like.config.settings.name if like else unique("t")
    services: dict[str, dict[str, Any]] = {
        "kafka": {"bootstrap_servers": at.kafka, "options": at.kafka_options},
        "connect": {"url": at.connect},
        "postgres": {"host": at.postgres.host, "port": at.postgres.port},
    }
    connections = {name: keys_of(source_connection(stack, name)) for name in DEMO.values()}
    for name, changed in (servers or {}).items():
        (services if name in services else connections)[name] |= changed
    sources = {
        name: {"connection": DEMO[entry["type"]], **entry} if entry["type"] in DEMO else entry
        for name, entry in {source: dict(spec), **(more or {})}.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(stack.root / "connect", folder / "connect", dirs_exist_ok=True)
    path = folder / f"{unique('lake')}.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": lake,
                "services": services,
                "connections": connections,
                "sources": sources,
            }
        )
    )
    config = load_config(path)
    lab = Lab(config, source, config.endpoints())
    make_topics(config, lab.endpoints)
    return lab


def committed(endpoints: Endpoints, topic: str) -> list[Seen]:
    """All committed records of a topic, by partition and offset."""
    reader = Consumer(
        endpoints.kafka_client(
            group_id=unique("eyes"),
            enable_auto_commit=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
    )
    found: list[Seen] = []
    try:
        partitions = reader.list_topics(topic, PATIENCE).topics[topic].partitions
        high = {
            number: reader.get_watermark_offsets(TopicPartition(topic, number), PATIENCE)[1]
            for number in partitions
        }
        reader.assign([TopicPartition(topic, number, 0) for number in partitions])
        # A partition's end is seen there, or passed: one that is written to all the time has none.
        ends: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while len(ends) < len(partitions):
            assert time.monotonic() < deadline, f"{topic} cannot be read"
            message = reader.poll(1.0)
            if message is None:
                continue
            if message.error() is not None:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ends.add(message.partition())
                continue
            if message.offset() + 1 >= high[message.partition()]:
                ends.add(message.partition())
            headers = dict(message.headers() or ())
            about = orjson.loads(headers.get("provenance") or b"{}")
            found.append(
                Seen(message.partition(), message.offset(), message.key(), message.value(), about)
            )
    finally:
        reader.close()
    return sorted(found, key=lambda seen: (seen.partition, seen.offset))
