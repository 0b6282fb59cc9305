"""A connector's life: paused, removed, idle, and a server whose log no longer continues."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pymysql
import pytest
import yaml

from lake.config import Config, load_config
from lake.errors import BinlogLost, DuckLakeError, SourceError
from lake.kafka.topics import make_topics
from producers.mysql.cdc import MysqlCdcConnector
from stack import lifecycle
from stack.progress import Silent
from stack.secrets import Secrets
from tests.conftest import copy_project
from tests.integration.producers_lab import PATIENCE, Lab, shop_server, wait_until

pytestmark = pytest.mark.stack


@dataclass
class Life:
    """One source on a stack of its own, whose server's log the tests may destroy."""

    config: Config
    lab: Lab

    def root(self, *statements: str) -> list[tuple[Any, ...]]:
        at = shop_server(self.config, "shop")
        connection = pymysql.connect(
            host=at.host,
            port=at.port,
            user="root",
            password=Secrets(self.config.stack_dir / "secrets.json").get("mysql_root"),
            database=at.database,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def source(self) -> MysqlCdcConnector:
        made = self.lab.connector()
        assert isinstance(made, MysqlCdcConnector)
        return made

    def deliver(self) -> None:
        source = self.source()

        def settled() -> bool:
            try:
                list(source.poll({}))
                return source.settled()
            except DuckLakeError as error:
                assert not isinstance(error, SourceError), error
                return False

        wait_until(settled, "everything is in Kafka", 2 * PATIENCE)
        source.close()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.config.path)],
            capture_output=True,
            text=True,
            timeout=180,
        )

    def done(self, *words: str) -> dict[str, Any]:
        ended = self.command(*words, "--json")
        assert ended.returncode == 0, ended.stderr
        said: dict[str, Any] = json.loads(ended.stdout)
        return said

    def newest(self) -> dict[int, str]:
        """The newest version of each key, as staging chooses it: the greatest offset."""
        rows = [s.row for s in self.lab.rows("life")]
        seen = {(r["after"] or r["before"])["id"]: r for r in rows}
        return {key: row["after"]["word"] for key, row in seen.items() if row["op"] != "d"}

    def truth(self) -> dict[int, str]:
        return {row[0]: row[1] for row in self.root("SELECT id, word FROM life")}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = copy_project(tmp_path_factory.mktemp("life"))
    path = folder / "ducklake.yml"
    text = yaml.safe_load(path.read_text())
    tables = {"life": {"key": ["id"], "partitions": 1}}
    text["sources"] = {"shop": {"type": "mysql_cdc", "connection": "embedded", "tables": tables}}
    text["connections"] = {}
    text["services"]["postgres"]["host"] = "127.0.0.1"  # nobody asks it
    path.write_text(yaml.safe_dump(text))
    config = load_config(path)
    lifecycle.up(config, Silent())
    try:
        made = Life(config, Lab(config, "shop", config.endpoints()))
        make_topics(config, made.lab.endpoints)
        made.root(
            "CREATE TABLE life (id INT PRIMARY KEY, word VARCHAR(40))",
            "CREATE TABLE other (id INT PRIMARY KEY AUTO_INCREMENT)",
            "INSERT INTO life VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        )
        made.deliver()
        yield made
    finally:
        lifecycle.down(config)


def test_an_idle_table_does_not_hold_back_the_position(life: Life) -> None:
    """Else the server would purge what the source still claims to need."""
    [[file, *_]] = life.root(
        "FLUSH BINARY LOGS", "INSERT INTO other VALUES ()", "SHOW MASTER STATUS"
    )
    source = life.source()
    wait_until(lambda: source.rest.offsets()[0]["file"] == file, "the offset moves")
    before = source.rest.offsets()[0]["pos"]
    life.root("CREATE DATABASE elsewhere", "CREATE TABLE elsewhere.t (id INT PRIMARY KEY)")
    life.root("INSERT INTO elsewhere.t VALUES (1)", "DROP DATABASE elsewhere")
    wait_until(lambda: source.rest.offsets()[0]["pos"] > before, "and for other databases")
    source.close()


def test_a_connector_is_paused_resumed_restarted_and_removed(life: Life) -> None:
    assert life.done("connector", "status")["shop"]["state"] == "RUNNING"
    assert life.done("connector", "pause", "shop")["state"] == "PAUSED"
    shown = life.command("connector", "status", "--json")
    assert shown.returncode == 3 and json.loads(shown.stdout)["shop"]["state"] == "PAUSED"
    life.root("INSERT INTO life VALUES (4, 'while paused')")
    source = life.source()
    with pytest.raises(DuckLakeError, match="is paused") as paused:
        list(source.poll({}))
    source.close()
    assert "`ducklake connector resume shop`" in paused.value.remedy
    assert life.done("connector", "resume", "shop")["state"] == "RUNNING"
    assert life.done("connector", "restart", "shop")["state"] == "RUNNING"
    life.deliver()
    before = life.lab.rows("life")
    refused = life.command("connector", "remove", "shop")
    assert refused.returncode == 1 and "Add --yes" in refused.stderr
    assert life.done("connector", "remove", "shop", "--yes")["state"] == "MISSING"
    assert life.command("connector", "pause", "shop").returncode == 1
    life.root("INSERT INTO life VALUES (5, 'while removed')")
    life.deliver()  # makes it again
    assert len(life.lab.rows("life")) == len(before) + 1, "it continued where it was"
    assert life.newest() == life.truth()


def lost(life: Life) -> BinlogLost:
    """The named error of the next poll."""
    source = life.source()
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            assert time.monotonic() < deadline, "the loss is not told"
            try:
                list(source.poll({}))
            except BinlogLost as error:
                return error
            except DuckLakeError:
                time.sleep(0.2)  # it is paused, or restarts
    finally:
        source.close()


def begin_anew(life: Life) -> None:
    """The remedy of the error."""
    assert life.done("backfill", "shop", "--reset")["state"] == "completed"
    life.root("UPDATE life SET word = CONCAT(word, '!') WHERE id < 3")
    life.deliver()
    assert {k: v for k, v in life.newest().items() if k in life.truth()} == life.truth()


def test_a_purged_log_is_named_and_the_way_out_works(life: Life) -> None:
    life.done("connector", "pause", "shop")
    [[file, *_]] = life.root(
        "INSERT INTO life VALUES (6, 'never read')", "FLUSH BINARY LOGS", "SHOW MASTER STATUS"
    )
    life.root(f"PURGE BINARY LOGS TO '{file}'")
    error = lost(life)
    assert "has purged binlogs" in error.what and "`ducklake backfill shop --reset`" in error.remedy
    begin_anew(life)


@pytest.mark.parametrize("rows", [1, 40])
def test_a_reset_log_is_named_whether_it_looks_older_or_newer(life: Life, rows: int) -> None:
    """Airbyte 85783: with enough transactions the server seems to know all that was read."""
    life.root(*["INSERT INTO other VALUES ()"] * 5)
    life.deliver()
    life.done("connector", "pause", "shop")
    life.root("RESET MASTER", *["INSERT INTO other VALUES ()"] * rows)
    life.root("REPLACE INTO life VALUES (7, 'after the reset')")
    assert "its log was reset" in lost(life).what
    begin_anew(life)


def test_a_server_that_lacks_our_transactions_is_named(life: Life) -> None:
    life.done("connector", "pause", "shop")
    other = "11111111-2222-3333-4444-555555555555"
    life.root("RESET MASTER", f"SET GLOBAL gtid_purged = '{other}:1-99'")
    life.root("REPLACE INTO life VALUES (8, 'on another server')")
    error = lost(life)
    assert "does not know transactions that source shop has read" in error.what
    begin_anew(life)
