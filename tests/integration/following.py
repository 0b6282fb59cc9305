"""Tables of the shop that a lake of its own follows, and what the tests do to both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import requests

from consumers.ingest.lake_writer import LakeWriter
from ducklake.reconciliation.reconciler import Reconciler
from ducklake.reconciliation.result import TableResult
from lake.config import Config, TableRef
from lake.errors import ServiceUnreachable
from tests.integration.producers_lab import Lab, make_lab, shop_server, wait_until


@dataclass
class Following:
    """A source with tables of its own, and the lake that follows them."""

    lab: Lab
    stack: Config
    tables: tuple[str, ...]

    def deliver(self, patience: float = 90.0) -> None:
        """Have everything committed in MySQL in Kafka; a task that failed is restarted."""
        source = self.lab.connector()

        def settled() -> bool:
            try:
                list(source.poll({}))
                return source.settled()
            except ServiceUnreachable:
                return False

        try:
            wait_until(settled, "everything is in Kafka", patience)
        finally:
            source.close()

    def consume(self) -> None:
        """Bring what is in Kafka into the lake."""
        writer = LakeWriter(self.lab.config, self.lab.endpoints, once=True)
        try:
            writer.run(threading.Event())
        finally:
            writer.close()

    def take(self) -> None:
        self.deliver()
        self.consume()

    def reconcile(self, table: str, repair: bool = False) -> TableResult:
        reconciler = Reconciler(self.lab.config, self.lab.endpoints)
        return reconciler.reconcile(TableRef(self.lab.source, table), repair)

    def command(self, *words: str, code: int = 0) -> str:
        """What a command prints; it must end with a code."""
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.lab.config.path)],
            env={**os.environ, **self.lab.environment},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout

    def against_source(self, *tables: str, code: int = 0) -> dict[str, Any]:
        """Each table's result, as the command prints it."""
        said = json.loads(self.command("verify", *tables, "--against-source", "--json", code=code))
        return {entry["table"].partition(".")[2]: entry for entry in said["tables"]}


@contextmanager
def following(
    folder: Path, stack: Config, tables: Mapping[str, Mapping[str, Any]], **more: Any
) -> Iterator[Following]:
    """Follow tables that exist; the connector is removed afterwards."""
    spec = {"type": "mysql_cdc", "tables": {name: dict(t) for name, t in tables.items()}, **more}
    lab = make_lab(folder, stack, spec)
    try:
        yield Following(lab, stack, tuple(tables))
    finally:
        name = f"{lab.config.settings.name}-{lab.source}"
        requests.delete(f"{lab.endpoints.connect}/connectors/{name}", timeout=30)


@contextmanager
def as_root(stack: Config, database: str | None = None) -> Iterator[Any]:
    """A cursor of MySQL's root, each statement committed at once."""
    connection = root(stack, database)
    with connection, connection.cursor() as cursor:
        yield cursor


def root(stack: Config, database: str | None = None) -> Any:
    """A connection of MySQL's root."""
    at = shop_server(stack)
    secrets = json.loads((stack.stack_dir / "secrets.json").read_text())
    return pymysql.connect(
        host=at.host,
        port=at.port,
        user="root",
        password=secrets["mysql_root"],
        database=database or at.database,
        autocommit=True,
        charset="utf8mb4",
        init_command="SET sql_mode = ''",
    )


def run(cursor: Any, statements: Sequence[str]) -> None:
    for statement in statements:
        cursor.execute(statement)


@contextmanager
def consumer_running(followed: Following) -> Iterator[None]:
    """`ducklake consume`, at work for the time of the block."""
    stop = threading.Event()
    writer = LakeWriter(followed.lab.config, followed.lab.endpoints)
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        writer.close()
