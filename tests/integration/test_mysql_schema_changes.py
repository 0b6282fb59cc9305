"""Tables whose definition changes, through MySQL, Debezium, the consumer, verify and a rebuild."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests

from lake.config import Config
from producers.mysql.cdc import MysqlCdcConnector
from tests.integration.producers_lab import Lab, make_lab, shop_server, sql, unique, wait_until

pytestmark = pytest.mark.stack
CHANGES = "_op = 'c'"
"""Rows that came one by one; those that were read as a whole after a change are of it."""


@dataclass
class Changing:
    """Tables of their own in the real shop, and a lake that follows them."""

    lab: Lab
    stack: Config
    tables: tuple[str, ...]

    def run(self, *statements: str) -> None:
        sql(shop_server(self.stack), *statements)

    def deliver(self) -> None:
        """Have everything committed in MySQL in Kafka."""
        source = self.lab.connector()
        assert isinstance(source, MysqlCdcConnector)

        def settled() -> bool:
            list(source.poll({}))
            return source.settled()

        wait_until(settled, "everything is in Kafka")
        source.close()

    def command(self, *words: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.lab.config.path)],
            env={**os.environ, **self.lab.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def take(self) -> None:
        self.deliver()
        self.command("consume", "--once")

    def rows(self, table: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """Rows by one plain glob over all files that are public, whatever their types became."""
        config = self.lab.config
        current = json.loads(self.command("generations", "list", "--json"))
        [number] = [
            g["number"]
            for g in current
            if g["topic"] == f"{self.lab.source}.{table}" and g["state"] == "current"
        ]
        tree = "raw" if not number else f"generations/{number}"
        glob = config.data_dir / tree / self.lab.source / table / "*" / "*" / "*" / "*.parquet"
        found: list[tuple[Any, ...]] = duckdb.sql(
            f"SELECT {columns} FROM read_parquet('{glob}', union_by_name = true)"
            f" WHERE {where} ORDER BY id"
        ).fetchall()
        return found

    def is_exact(self) -> bool:
        return bool(json.loads(self.command("verify", "--json"))["exact"])


@pytest.fixture
def changing(tmp_path: Path, stack_config: Config) -> Iterator[Changing]:
    tables = (unique("ra"), unique("rb"))
    at = shop_server(stack_config)
    for table in tables:
        sql(at, f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(40), d DATE, b BIT(1))")
    spec = {"type": "mysql_cdc", "tables": {table: {"key": ["id"]} for table in tables}}
    lab = make_lab(tmp_path, stack_config, spec)
    made = Changing(lab, stack_config, tables)
    yield made
    name = f"{lab.config.settings.name}-{lab.source}"
    requests.delete(f"{lab.endpoints.connect}/connectors/{name}", timeout=30)
    for table in tables:
        sql(at, f"DROP TABLE {table}")


def test_two_tables_that_gain_a_column_in_one_batch_both_have_it(changing: Changing) -> None:
    one, other = changing.tables
    changing.deliver()  # a connector that follows the binlog, not a snapshot
    for table in changing.tables:
        changing.run(f"INSERT INTO {table} (id, v) VALUES (1, 'a')")
    for table in changing.tables:
        changing.run(f"ALTER TABLE {table} ADD x INT")
    for table in changing.tables:
        changing.run(f"INSERT INTO {table} (id, v, x) VALUES (2, 'b', 33)")
    changing.take()
    assert changing.rows(one, "id, x") == changing.rows(other, "id, x") == [(1, None), (2, 33)]
    assert changing.is_exact()


def test_rows_keep_what_they_were_when_their_column_s_type_changes(changing: Changing) -> None:
    one, _ = changing.tables
    changing.deliver()
    changing.run(f"INSERT INTO {one} VALUES (1, 'test', '2024-02-03', 1)")
    changing.run(
        f"ALTER TABLE {one} MODIFY v VARBINARY(40), MODIFY d DATETIME, MODIFY b BIT(8)",
        f"INSERT INTO {one} VALUES (2, 'user', '2024-02-03 10:11:12', 5)",
        f"ALTER TABLE {one} MODIFY v VARCHAR(40)",
        f"INSERT INTO {one} VALUES (3, 'dXNlcg==', NULL, NULL)",
    )
    changing.take()
    wanted = [
        (1, "test", None, "2024-02-03 00:00:00", True, None),
        (2, None, b"user", "2024-02-03 10:11:12", None, b"\x05"),
        (3, "dXNlcg==", None, None, None, None),
    ]
    columns = "id, v, v__blob, d::TIMESTAMP::VARCHAR, b, b__blob"
    assert changing.rows(one, columns, CHANGES) == wanted
    assert changing.is_exact()
    changing.command("replay", one, "--rebuild")
    changing.command("compact", "--now")
    assert changing.rows(one, columns, CHANGES) == wanted
    assert changing.is_exact()


def test_a_truncation_is_a_row_of_raw_live_late_and_in_a_rebuild(changing: Changing) -> None:
    one, other = changing.tables
    changing.run(f"INSERT INTO {one} (id, v) VALUES (1, 'a')")
    changing.take()
    changing.run(f"TRUNCATE {one}", f"INSERT INTO {one} (id, v) VALUES (2, 'b')")
    changing.run(f"INSERT INTO {other} (id, v) VALUES (1, 'a')", f"DROP TABLE {other}")
    changing.run(f"CREATE TABLE {other} (id INT PRIMARY KEY, v VARCHAR(40), d DATE, b BIT(1))")
    changing.take()
    assert changing.rows(one, "id, _op, v") == [(1, "r", "a"), (2, "c", "b"), (None, "t", None)]
    assert changing.rows(other, "id, _op, v") == [(1, "c", "a"), (None, "t", None)]
    assert changing.is_exact()
    changing.command("replay", one, "--rebuild")
    assert changing.rows(one, "id, _op, v") == [(1, "r", "a"), (2, "c", "b"), (None, "t", None)]
    assert changing.is_exact()


def test_rows_of_before_and_after_a_change_read_one_by_one_are_the_same(
    changing: Changing,
) -> None:
    one, _ = changing.tables
    changing.deliver()
    changing.run(f"INSERT INTO {one} (id, v) VALUES (1, 'hello')")
    changing.take()
    changing.run(f"ALTER TABLE {one} MODIFY v BLOB", f"INSERT INTO {one} (id, v) VALUES (2, 'x')")
    changing.take()
    wanted = [(1, "hello", None), (2, None, b"x")]
    assert changing.rows(one, "id, v, v__blob", CHANGES) == wanted
    assert changing.is_exact()
