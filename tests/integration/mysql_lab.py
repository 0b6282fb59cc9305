"""A MySQL source on the real services that many tests share: one connector, a table for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pymysql
import requests

from consumers.ingest.lake_writer import LakeWriter
from ducklake.reconciliation.reconciler import Reconciler
from ducklake.reconciliation.result import TableResult
from lake.config import Config, TableRef
from lake.errors import TransientError
from lake.opening import open_lake
from lake.records import notices_topic
from producers.base import TableState
from producers.mysql.backfill_state import Phase
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.notices import Notices
from producers.mysql.tables import mysql_tables
from tests.integration.producers_lab import (
    Lab,
    committed,
    make_lab,
    shop_server,
    sql,
    unique,
    wait_until,
)

Change = tuple[str, dict[str, Any] | None]
"""What happened and the row: that before, of a deletion."""


@dataclass
class MysqlLab:
    """A source that follows some tables of the shop's server."""

    lab: Lab
    stack: Config

    @property
    def name(self) -> str:
        return f"{self.lab.config.settings.name}-{self.lab.source}"

    def root(self, *statements: str, database: str = "techstore") -> list[tuple[Any, ...]]:
        """Run statements in one session that may do anything; the rows of the last one."""
        with as_root(self.stack, database) as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def deliver(self) -> None:
        """Have everything committed in MySQL in Kafka, as `produce --once` does."""
        self.deliver_and_ask()

    def deliver_and_ask(self, table: str = "") -> list[TableState]:
        """The same; and what is then told of the tables, or of one."""
        source = self.lab.connector()
        assert isinstance(source, MysqlCdcConnector)

        def settled() -> bool:
            try:
                list(source.poll({}))
                return source.settled()
            except TransientError:
                return False

        wait_until(settled, f"everything is in Kafka ({self.status()})")
        list(source.poll({}))
        states = [s for s in source.table_states() if table in ("", s.table)]
        source.close()
        return states

    def changes(self, table: str) -> list[Change]:
        """The records of a table by key, in the order in which they came."""
        rows = [seen.row for seen in self.lab.rows(table)]
        rows.sort(key=lambda row: row["ts_ms"])
        return [(r["op"], r["before"] if r["op"] == "d" else r["after"]) for r in rows]

    def streamed(self, table: str) -> list[Change]:
        """The same without rows that were read as a whole, at the start or again."""
        return [(op, row) for op, row in self.changes(table) if op not in ("r", "t")]

    def told(self, table: str) -> list[tuple[str, dict[str, Any] | None]]:
        """All that the connector ever told of a table, by kind; None where it was settled."""
        topic = notices_topic(self.lab.config.settings.name, self.lab.source)
        found = []
        for seen in committed(self.lab.endpoints, topic):
            about, _, kind = orjson.loads(seen.key or b"{}")["notice"].rpartition(":")
            if about.partition(".")[2] == table:
                found.append((kind, None if seen.value is None else orjson.loads(seen.value)))
        return found

    def notices(self, table: str) -> dict[str, dict[str, Any]]:
        """What the connector told of a table and nobody has settled, by kind."""
        return {kind: notice for kind, notice in dict(self.told(table)).items() if notice}

    def told_by(self, *words: str) -> Any:
        """What a command answers as JSON, whatever its exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.lab.config.path)],
            env={**os.environ, **self.lab.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def compare(self, table: str) -> TableResult:
        """Bring what is in Kafka into the lake, and compare a table with MySQL."""
        writer = LakeWriter(self.lab.config, self.lab.endpoints, once=True)
        try:
            writer.run(threading.Event())
        finally:
            writer.close()
        reconciler = Reconciler(self.lab.config, self.lab.endpoints)
        return reconciler.reconcile(TableRef(self.lab.source, table))

    def dead_letters(self, table: str) -> int:
        """How many records of a table could not be decoded."""
        with open_lake(self.lab.config, for_writing=False) as lake:
            return lake.ledger.dead_letters.count(f"{self.lab.source}.{table}")

    def backfill(self, table: str) -> None:
        """Have a table read again, as the remedies say."""
        source = self.lab.connector()
        assert isinstance(source, MysqlCdcConnector)
        request = source.backfills.request(table)

        def done() -> bool:
            list(source.poll({}))
            return not source.backfills.pending()

        wait_until(done, f"{table} is read again ({self.status()})")
        state = source.backfills.state(request.id)
        assert state is not None and state.phase is Phase.COMPLETED, state
        list(source.poll({}))
        source.close()

    def settle(self, table: str) -> None:
        """Say that the table is as MySQL has it, as a backfill does."""
        config, source = self.lab.config, self.lab.source
        tables = mysql_tables(config.settings.sources[source], "techstore")
        notices = Notices(config.settings.name, source, tables, self.lab.endpoints)
        notices.settle(table)
        notices.close()

    def status(self) -> Any:
        url = f"{self.lab.endpoints.connect}/connectors/{self.name}/status"
        return requests.get(url, timeout=30).json()

    def restart(self) -> None:
        """Start the connector's task anew, and wait until it runs."""
        url = f"{self.lab.endpoints.connect}/connectors/{self.name}"
        requests.post(f"{url}/restart?includeTasks=true", timeout=30).raise_for_status()
        time.sleep(0.5)

        def runs() -> bool:
            states = [task["state"] for task in self.status().get("tasks", [])]
            return states == ["RUNNING"]

        wait_until(runs, "the connector runs again")


@contextmanager
def as_root(stack: Config, database: str) -> Iterator[Any]:
    secrets = json.loads((stack.stack_dir / "secrets.json").read_text())
    at = shop_server(stack)
    connection = pymysql.connect(
        host=at.host,
        port=at.port,
        user="root",
        password=secrets["mysql_root"],
        database=database,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        yield cursor


@contextmanager
def followed(
    folder: Path,
    stack: Config,
    tables: Sequence[str],
    servers: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[MysqlLab]:
    """A connector that has taken its snapshot of some tables, which are there already."""
    spec = {"type": "mysql_cdc", "tables": {table: {"key": ["id"]} for table in tables}}
    made = MysqlLab(make_lab(folder, stack, spec, servers), stack)
    made.deliver()
    try:
        yield made
    finally:
        url = f"{made.lab.endpoints.connect}/connectors/{made.name}"
        requests.delete(url, timeout=30)
        for table in tables:
            sql(shop_server(stack), f"DROP TABLE IF EXISTS `{table}`")


def names(*prefixes: str) -> dict[str, str]:
    """A table's name of its own for each prefix."""
    return {prefix: unique(prefix) for prefix in prefixes}
