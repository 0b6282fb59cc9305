"""The page, `ducklake status` and the alert say the same of the same fault, in the same word."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml
from playwright.sync_api import expect

from ducklake.supervision.roles import RoleSupervisor
from lake.config import Config, load_config
from lake.ledger import LedgerReader
from lake.storage.paths import LakePaths
from stack import lifecycle
from tests.browser import Served, chromium, needs_browser, served
from tests.hook import Hook
from tests.integration.following import as_root, following, run
from tests.integration.postgres_lab import superuser
from tests.integration.producers_lab import unique, wait_until

pytestmark = pytest.mark.stack
PATIENCE = 120.0
SHOWN_WITHIN = 3.0
"""Seconds after an INSERT within which a page that is open shows the row."""
WITHIN = 10.0
"""Seconds after a fault within which whoever looks, or is told, learns of it."""
STATUS_SECONDS = 3.0
"""Of one `ducklake status` on two cores that do little else; where it takes longer, all does."""
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
    page: Served
    hook: Hook
    project: Path
    consumer: subprocess.Popen[bytes]
    stack: Config
    status_seconds: float = 0.0

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

    @property
    def slower(self) -> float:
        """How many times slower than two idle cores the machine is."""
        return max(1.0, self.status_seconds / STATUS_SECONDS)

    def state(self) -> dict[str, Any]:
        at = f"{self.page.address}/api/state"
        answer = requests.get(at, headers=self.page.bearer, timeout=60)
        said: dict[str, Any] = answer.json()
        return said

    def alerts(self, event: str, subject: str) -> list[str]:
        """The words of the alerts about something."""
        return [word for e, s, word in self.hook.said() if (e, s) == (event, subject)]

    def same_word(self, subject: str, word: str, broken: float) -> None:
        """All three say this of it in time, and the command's exit code is not that of health.

        Args:
            subject: What is broken.
            word: What all say of it.
            broken: When it was broken, by the monotonic clock.
        """
        faces = {
            "the alert": lambda: self.alerts("begin", subject) == [word],
            "the page": lambda: word in _words(self.state(), subject),
            "status": lambda: word in _words(self.status(), subject),
        }
        with ThreadPoolExecutor(len(faces)) as threads:
            waits = {
                face: threads.submit(wait_until, says, f"{face}: {subject} {word}", PATIENCE)
                for face, says in faces.items()
            }
            for wait in waits.values():
                wait.result()
        took = time.monotonic() - broken
        print(f"{subject} {word}: all three said so after {took:.1f} s")
        assert took < WITHIN * self.slower, f"{took:.1f} s, {self.slower:.1f} times slower"
        assert self.alerts("begin", subject) == [word] and word in _words(self.state(), subject)
        assert self.status()["code"] in (3, 5)
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
        began = time.monotonic()
        found.status()
        found.status_seconds = time.monotonic() - began
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


def test_a_row_is_traced_through_insert_update_and_delete(watched: Watched) -> None:
    row = f"{watched.table} VALUES (7, 'new')"
    with as_root(watched.stack) as cursor:
        run(cursor, [f"INSERT INTO {row}", f"UPDATE {watched.table} SET v = 'old' WHERE id = 7"])
        cursor.execute(f"DELETE FROM {watched.table} WHERE id = 7")
    command = [sys.executable, "-m", "ducklake.cli", "trace", watched.topic, "7", "--json"]
    found: dict[str, Any] = {}

    def is_everywhere() -> bool:
        done = subprocess.run(
            [*command, "--config", str(watched.config.path)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        found.update(json.loads(done.stdout or "{}"))
        hops = [hop for change in found.get("changes", ()) for hop in change["hops"]]
        known = [hop["state"] for hop in hops if hop["hop"] != "consume"]
        return len(known) == 15 and set(known) == {"arrived"}

    wait_until(is_everywhere, "all three changes at every hop", PATIENCE)
    assert [change["op"] for change in found["changes"]] == ["insert", "update", "delete"]
    for change in found["changes"]:
        hops = {hop["hop"]: hop for hop in change["hops"]}
        assert hops["source"]["where"].startswith("binlog."), "its place in the binlog"
        assert hops["topic"]["where"].startswith(f"{watched.topic}/")
        assert "run" in hops["staging"]["where"] and hops["consume"]["state"] == "waiting"
        moments = [hops[name]["at"] for name in ("source", "topic", "raw", "staging")]
        assert moments == sorted(moments), "hop after hop"


@needs_browser
def test_a_table_is_read_again_by_clicks_after_a_dry_run(watched: Watched) -> None:
    with chromium() as browser:
        page = watched.page.signed_in(browser.new_context(locale="en")).new_page()
        page.goto(f"{watched.page.address}/tables/{watched.topic}")
        shown = page.inner_text("main")
        assert "binlog." in shown and "CREATE TABLE" in shown, "the history of its definition"
        before = rows_of(watched)
        page.fill("#where", "id = 1")
        page.click('button[data-action="backfill"]')
        expect(page.locator("#outcome")).to_contain_text("1 rows would be read", timeout=120_000)
        assert rows_of(watched) == before, "a dry run asks for nothing"
        page.click("#outcome button")
        expect(page.locator("#outcome")).to_contain_text("asked for", timeout=120_000)
        wait_until(lambda: rows_of(watched) == before + 1, "the row once more", PATIENCE)
        page.fill("#where", "id = ")
        page.click('button[data-action="backfill"]')
        expect(page.locator("#outcome")).to_contain_text("refuses", timeout=120_000)


@needs_browser
def test_an_open_page_shows_a_row_seconds_after_it_was_inserted(watched: Watched) -> None:
    with chromium() as browser:
        page = watched.page.signed_in(browser.new_context(locale="en")).new_page()
        page.goto(f"{watched.page.address}/tables/{watched.topic}")
        rows = page.locator("dt", has_text=re.compile("^Rows$")).locator("+ dd")
        shown = int(rows.inner_text())
        with as_root(watched.stack) as cursor:
            began = time.monotonic()
            cursor.execute(f"INSERT INTO {watched.table} VALUES (3, 'sold')")
        expect(rows).to_have_text(str(shown + 1))
        took = time.monotonic() - began
    print(f"on an open page after {took:.1f} s")
    assert took < SHOWN_WITHIN * watched.slower, f"{took:.1f} s, {watched.slower:.1f} times slower"


def rows_of(watched: Watched) -> int:
    with LedgerReader(LakePaths(watched.config.data_dir)) as ledger:
        return ledger.offsets.row_count(watched.topic)


def test_a_broken_test(watched: Watched) -> None:
    with as_root(watched.stack) as cursor:
        broken = time.monotonic()
        cursor.execute(f"INSERT INTO {watched.table} VALUES (100, '{CONTENTS}')")
        watched.same_word("model staging.stg_things", "held back", broken)
        cursor.execute(f"DELETE FROM {watched.table} WHERE id = 100")
    watched.has_ended("model staging.stg_things")
    watched.await_well()


def test_a_consumer_that_is_killed_and_stays_down(watched: Watched) -> None:
    broken = time.monotonic()
    end(watched.consumer)
    watched.same_word("consume", "gone", broken)
    watched.consumer = start_consumer(watched.config)
    watched.has_ended("consume")
    watched.await_well()


def test_a_broker_that_does_not_answer(watched: Watched) -> None:
    service = next(s for s in lifecycle.status(watched.stack).services if s.name == "kafka")
    assert service.pid is not None
    broker = psutil.Process(service.pid)
    broken = time.monotonic()
    broker.suspend()
    try:
        watched.same_word("service kafka", "unreachable", broken)
    finally:
        broker.resume()
    watched.has_ended("service kafka")
    watched.await_well()


def test_a_column_that_nobody_has_accepted(watched: Watched) -> None:
    with as_root(watched.stack) as cursor:
        broken = time.monotonic()
        run(
            cursor,
            [
                f"ALTER TABLE {watched.table} ADD w INT",
                f"INSERT INTO {watched.table} VALUES (2, '{CONTENTS}', 5)",
            ],
        )
    watched.same_word(f"table {watched.topic}", "stopped", broken)
    command = [sys.executable, "-m", "ducklake.cli", "schema", watched.topic, "--accept"]
    accepted = subprocess.run(
        [*command, "--config", str(watched.config.path)], capture_output=True, timeout=120
    )
    assert accepted.returncode == 0, accepted.stderr
    watched.has_ended(f"table {watched.topic}")
