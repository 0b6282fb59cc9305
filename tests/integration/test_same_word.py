"""The page, `ducklake status` and the alert say the same of the same fault, in the same word."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import uvicorn
import yaml

from ducklake.cli.dashboard import free_port
from ducklake.dashboard.access import Access
from ducklake.dashboard.app import create_app
from ducklake.supervision.roles import RoleSupervisor
from lake.config import Config, load_config
from lake.storage.paths import LakePaths
from stack import lifecycle
from tests.hook import Hook
from tests.integration.following import as_root, following, run
from tests.integration.postgres_lab import superuser
from tests.integration.producers_lab import unique, wait_until

pytestmark = pytest.mark.stack
PATIENCE = 120.0
PROJECT = """
name: shop
version: "1.0.0"
profile: techstore
models: {shop: {+schema: staging}}
dispatch: [{macro_namespace: dbt, search_order: [shop, dbt_ducklake, dbt]}]
packages-install-path: "{{ env_var('DUCKLAKE_DBT_PACKAGES') }}"
"""
MODEL = """
{{ config(materialized='change_tracked', meta={'primary_key': ['id']}) }}
select id, v from ({{ dbt_ducklake.latest_version(source('raw', 'TABLE'), 'id') }}) as source
"""
SOURCES = "sources: [{name: raw, schema: raw, tables: [{name: TABLE}]}]\n"
TEST = "select * from {{ ref('stg_things') }} where id >= 100"
CONTENTS = "juan.perez@example.com"


@dataclass
class Watched:
    """A lake that runs, and its three faces."""

    config: Config
    topic: str
    table: str
    page: str
    hook: Hook
    project: Path
    consumer: subprocess.Popen[bytes]
    stack: Config

    def status(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "ducklake.cli", "status", "--json"]
        done = subprocess.run(
            [*command, "--config", str(self.config.path)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        said: dict[str, Any] = json.loads(done.stdout)
        return {**said, "code": done.returncode}

    def state(self) -> dict[str, Any]:
        token = Access.of(LakePaths(self.config.data_dir), "127.0.0.1", None).token
        who = {"authorization": f"Bearer {token}"}
        answer = requests.get(f"{self.page}/api/state", headers=who, timeout=60)
        said: dict[str, Any] = answer.json()
        return said

    def alerts(self, event: str, subject: str) -> list[str]:
        """The words of the alerts about something."""
        return [word for e, s, word in self.hook.said() if (e, s) == (event, subject)]

    def same_word(self, subject: str, word: str) -> None:
        """All three say this of it, and the command's exit code is not that of health."""
        wait_until(lambda: self.alerts("begin", subject) == [word], f"{subject} {word}", PATIENCE)
        wait_until(lambda: word in _words(self.state(), subject), "the page", PATIENCE)
        status = self.status()
        assert word in _words(status, subject)
        assert status["code"] in (3, 5)
        assert CONTENTS not in json.dumps(self.hook.got)

    def has_ended(self, subject: str) -> None:
        wait_until(lambda: len(self.alerts("end", subject)) == 1, f"{subject} ends", PATIENCE)
        assert len(self.alerts("begin", subject)) == 1, "one cause, one alert"
        assert not _words(self.state(), subject)

    def await_well(self) -> None:
        def is_well() -> bool:
            said = self.state()
            return bool(said["healthy"]) and said["commit"] > 0

        wait_until(is_well, "all well", PATIENCE)


def _words(said: Mapping[str, Any], subject: str) -> set[str]:
    """What the page's REST, or `status --json`, says of a subject."""
    found = {p["state"] for p in said["problems"] if p["subject"] == subject}
    if subject.removeprefix("model ") in said["held_back"]:
        found.add("held back")
    return found


def start_consumer(config: Config) -> subprocess.Popen[bytes]:
    """A consumer that nobody supervises, as in a container: once killed it stays down."""
    command = [sys.executable, "-m", "ducklake.cli", "consume", "--config", str(config.path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def small_project(folder: Path, table: str, stack: Config) -> Path:
    """One model with one test, in place of the shop's."""
    for name in ("dbt_techstore", "dbt_ducklake"):
        ignored = shutil.ignore_patterns("target", "logs", "dbt_packages", "package-lock.yml")
        shutil.copytree(stack.root / name, folder / name, ignore=ignored)
    project = folder / "dbt_techstore"
    for name in ("models", "tests"):
        shutil.rmtree(project / name)
        (project / name).mkdir()
    for macro in (project / "macros").glob("*.sql"):
        if macro.name != "generate_schema_name.sql":
            macro.unlink()
    (project / "dbt_project.yml").write_text(PROJECT)
    (project / "models" / "stg_things.sql").write_text(MODEL.replace("TABLE", table))
    (project / "models" / "sources.yml").write_text(SOURCES.replace("TABLE", table))
    (project / "tests" / "small.sql").write_text(TEST)
    return project


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Watched]:
    folder, table = tmp_path_factory.mktemp("watched"), unique("things_")
    with ExitStack() as opened:
        cursor = opened.enter_context(as_root(stack_config))
        cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(40))")
        opened.callback(cursor.execute, f"DROP TABLE {table}")
        cursor.execute(f"INSERT INTO {table} VALUES (1, '{CONTENTS}')")
        tables = {table: {"key": ["id"], "drift": "freeze"}}
        made = opened.enter_context(following(folder, stack_config, tables))
        hook = Hook()
        opened.callback(hook.close)
        config = with_alerts(made.lab.config, stack_config, hook.address)
        project = small_project(folder, table, stack_config)
        names = ("produce", "batch", "monitor")
        supervisor = RoleSupervisor(config, {name: (name,) for name in names})
        stop = threading.Event()
        keeper = threading.Thread(target=supervisor.keep, args=(stop,))
        keeper.start()
        opened.callback(keeper.join)
        opened.callback(stop.set)
        page = opened.enter_context(served(config))
        topic = f"{made.lab.source}.{table}"
        consumer = start_consumer(config)
        found = Watched(config, topic, table, page, hook, project, consumer, stack_config)
        opened.callback(lambda: end(found.consumer))
        wait_until(lambda: found.status()["last_cycle"] is not None, "a cycle", PATIENCE)
        found.await_well()
        yield found


def with_alerts(made: Config, stack: Config, address: str) -> Config:
    """The same lake, which tells its alerts, and exports to a database of its own."""
    database, password = unique("d"), stack.endpoints().postgres.password
    with superuser(stack) as cursor:
        cursor.execute(f'CREATE DATABASE {database} OWNER "{stack.endpoints().postgres.user}"')
    said = yaml.safe_load(made.path.read_text())
    said["services"]["postgres"] |= {"password": password, "database": database}
    said |= {"alerts": {"to": [address]}, "metrics": {"port": "off"}}
    made.path.write_text(yaml.safe_dump(said))
    return load_config(made.path)


class served(ExitStack):  # noqa: N801 - used like a function
    """The page of a lake, on a port of its own; gives its address."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config

    def __enter__(self) -> str:  # type: ignore[override]
        super().__enter__()
        port = free_port()
        access = Access.of(LakePaths(self._config.data_dir), "127.0.0.1", None)
        options = uvicorn.Config(create_app(self._config, access), port=port, log_level="critical")
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run)
        thread.start()
        self.callback(thread.join)
        self.callback(setattr, server, "should_exit", True)
        wait_until(lambda: server.started, "the page")
        return f"http://127.0.0.1:{port}"


def test_a_broken_test(watched: Watched) -> None:
    with as_root(watched.stack) as cursor:
        cursor.execute(f"INSERT INTO {watched.table} VALUES (100, '{CONTENTS}')")
        watched.same_word("model staging.stg_things", "held back")
        cursor.execute(f"DELETE FROM {watched.table} WHERE id = 100")
    watched.has_ended("model staging.stg_things")
    watched.await_well()


def test_a_consumer_that_is_killed_and_stays_down(watched: Watched) -> None:
    end(watched.consumer)
    watched.same_word("consume", "gone")
    watched.consumer = start_consumer(watched.config)
    watched.has_ended("consume")
    watched.await_well()


def test_a_broker_that_does_not_answer(watched: Watched) -> None:
    service = next(s for s in lifecycle.status(watched.stack).services if s.name == "kafka")
    assert service.pid is not None
    broker = psutil.Process(service.pid)
    broker.suspend()
    try:
        watched.same_word("service kafka", "unreachable")
    finally:
        broker.resume()
    watched.has_ended("service kafka")
    watched.await_well()


def test_a_column_that_nobody_has_accepted(watched: Watched) -> None:
    with as_root(watched.stack) as cursor:
        run(
            cursor,
            [
                f"ALTER TABLE {watched.table} ADD w INT",
                f"INSERT INTO {watched.table} VALUES (2, '{CONTENTS}', 5)",
            ],
        )
    watched.same_word(f"table {watched.topic}", "stopped")
    command = [sys.executable, "-m", "ducklake.cli", "schema", watched.topic, "--accept"]
    accepted = subprocess.run(
        [*command, "--config", str(watched.config.path)], capture_output=True, timeout=120
    )
    assert accepted.returncode == 0, accepted.stderr
    watched.has_ended(f"table {watched.topic}")
