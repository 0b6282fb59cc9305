"""A connector's life: paused, removed, idle, and a server whose log no longer continues."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pymysql
import pytest
import yaml

from batcher.catalog import refresh_raw
from batcher.dbt_build import DbtProject
from batcher.outcome import outcome
from consumers.ingest.lake_writer import LakeWriter
from ducklake.supervision.condition import Problem, look
from lake.config import Config, load_config
from lake.errors import BinlogLost, DuckLakeError, SourceError
from lake.kafka.topics import make_topics
from lake.opening import open_lake
from lake.processes.heartbeat import RoleHeartbeat
from lake.storage.paths import LakePaths
from producers.mysql import reset
from producers.mysql.cdc import MysqlCdcConnector
from producers.runner import SourceRunner
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

    def shown(self, state: str) -> Problem:
        """What `ducklake status` tells of the source once `ducklake produce` has found it so."""
        heartbeat = RoleHeartbeat(LakePaths(self.config.data_dir).run, "produce")
        stop, found = threading.Event(), list[Problem]()
        runner = SourceRunner(self.config, self.lab.endpoints, heartbeat=heartbeat)
        thread = threading.Thread(target=runner.run, args=(stop,))
        thread.start()

        def told() -> bool:
            problems = (p for p in look(self.config).problems if p.subject == "source shop")
            found[:] = [problem for problem in problems if problem.state == state]
            return bool(found)

        try:
            wait_until(told, f"the source is shown as {state}", 2 * PATIENCE)
        finally:
            stop.set()
            thread.join()
            heartbeat.close()
        return found[0]

    def consume(self) -> None:
        writer = LakeWriter(self.config, self.lab.endpoints, once=True)
        try:
            writer.run(threading.Event())
        finally:
            writer.close()

    def kill(self, name: str) -> None:
        """Kill a service, and wait until its supervisor has it well again."""

        def process() -> int:
            [found] = [s for s in lifecycle.status(self.config).services if s.name == name]
            return found.pid if found.healthy and found.pid is not None else 0

        before = process()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: process() not in (0, before), f"{name} is well again", 2 * PATIENCE)

    def staged(self) -> dict[int, str]:
        """The current rows as a staging model has them, built by dbt."""
        self.consume()
        paths = LakePaths(self.config.data_dir)
        (paths.root / "work").mkdir(exist_ok=True)
        with open_lake(self.config, for_writing=False) as lake, lake.pinned() as commit:
            refresh_raw(self.config, lake.ledger, commit)
            built = outcome(DbtProject(self.config).build())
        assert built.models == 1 and not built.failed, built
        with duckdb.connect(str(paths.warehouse), read_only=True) as db:
            return dict(db.execute("SELECT id, word FROM staging.stg_life").fetchall())

    def done(self, *words: str) -> dict[str, Any]:
        ended = self.command(*words, "--json")
        assert ended.returncode == 0, ended.stderr
        said: dict[str, Any] = json.loads(ended.stdout)
        return said

    def newest(self) -> dict[int, str]:
        """The newest version of each key, as staging chooses it: the greatest offset."""
        rows = [s.row for s in self.lab.rows("life")]
        # A source that begins anew may tell that its table was emptied: that has no row.
        seen = {(r["after"] or r["before"])["id"]: r for r in rows if r["op"] != "t"}
        return {key: row["after"]["word"] for key, row in seen.items() if row["op"] != "d"}

    def truth(self) -> dict[int, str]:
        return {row[0]: row[1] for row in self.root("SELECT id, word FROM life")}


def staging_project(folder: Path) -> Path:
    """A dbt project with the demo's macros, and a staging model as the demo has them."""
    project = folder / "dbt_life"
    shutil.copytree(folder / "dbt_techstore", project, ignore=shutil.ignore_patterns("models"))
    shutil.rmtree(project / "tests")
    staging = project / "models" / "staging"
    staging.mkdir(parents=True)
    sources = {"version": 2, "sources": [{"name": "raw", "tables": [{"name": "life"}]}]}
    (project / "models" / "sources.yml").write_text(yaml.safe_dump(sources))
    model = (
        "{{ config(meta={'primary_key': ['id']}) }}"
        "select id, word from ({{ dbt_ducklake.latest_version(source('raw', 'life'), 'id') }})"
    )
    (staging / "stg_life.sql").write_text(model)
    return project


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    folder = copy_project(tmp_path_factory.mktemp("life"))
    path = folder / "ducklake.yml"
    text = yaml.safe_load(path.read_text())
    tables = {"life": {"key": ["id"], "partitions": 1}}
    text["sources"] = {"shop": {"type": "mysql_cdc", "connection": "embedded", "tables": tables}}
    text["connections"] = {}
    del text["live"]  # it counts the shop's tables
    text["services"]["postgres"]["host"] = "127.0.0.1"  # nobody asks it
    text["batch"]["dbt_project"] = str(staging_project(folder))
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
    assert "`ducklake connector resume shop`" in life.shown("paused").remedy
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


def test_a_source_without_a_connector_gets_one_and_can_begin_anew(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(life.lab.rows("life"))
    assert life.done("connector", "remove", "shop", "--yes")["state"] == "MISSING"
    refused = life.command("backfill", "shop", "--reset")
    assert refused.returncode == 1 and "`ducklake produce shop` makes one" in refused.stderr
    done = life.command("produce", "shop", "--once")
    assert done.returncode == 0, done.stderr
    assert len(life.lab.rows("life")) == before, "it goes on where it was"
    monkeypatch.setattr(reset, "STOP_SECONDS", 0.0)
    source = life.source()
    with pytest.raises(SourceError, match="shop does not stop") as stuck:
        reset.reset_source(source)
    source.close()
    assert stuck.value.remedy == "Restart Kafka Connect, and run this again."
    life.kill("connect")
    begin_anew(life)


GTIDS_OFF = ("ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF")
GTIDS_ON = ("OFF_PERMISSIVE", "ON_PERMISSIVE", "ON")


def test_a_server_without_gtids_is_named_until_it_has_them(life: Life) -> None:
    life.deliver()
    life.root(*(f"SET GLOBAL gtid_mode = {mode}" for mode in GTIDS_OFF))
    try:
        for words, why in (
            (("produce", "shop", "--once"), "The server has gtid_mode=OFF, and without GTIDs"),
            (("backfill", "shop.life"), "a table can be read again only by GTIDs"),
        ):
            refused = life.command(*words)
            assert refused.returncode == 1 and why in refused.stderr, refused.stderr
        source = life.source()
        with pytest.raises(SourceError, match="end of the changes cannot be determined") as error:
            source.settled()
        source.close()
        assert "(OFF_PERMISSIVE, ON_PERMISSIVE, ON)" in error.value.remedy
    finally:
        life.root(*(f"SET GLOBAL gtid_mode = {mode}" for mode in GTIDS_ON))
    life.root("REPLACE INTO life VALUES (9, 'with a number')")
    life.deliver()
    assert life.newest() == life.truth()
    assert life.done("backfill", "shop.life")["state"] == "completed"


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
    stopped = life.shown("stopped")
    assert "has purged binlogs" in stopped.reason
    assert "`ducklake backfill shop --reset`" in stopped.remedy
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


def test_staging_has_the_newest_versions_after_a_reset(life: Life) -> None:
    """A log that begins anew counts from the start: only the offsets tell which row is newer."""
    life.root(*["UPDATE life SET word = 'long before the reset' WHERE id < 3"] * 20)
    life.deliver()
    life.done("connector", "pause", "shop")
    life.root("RESET MASTER", "UPDATE life SET word = 'behind the reset' WHERE id = 3")
    lost(life)
    begin_anew(life)
    staged = life.staged()
    assert {key: staged.get(key) for key in life.truth()} == life.truth()
