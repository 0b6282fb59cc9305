"""The page over a real lake, in a real browser: shown as text, live, and safe from other sites."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import given, settings
from playwright.sync_api import Browser, BrowserContext
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    response_schema_conformance,
    status_code_conformance,
)

from batcher.description import ModelDescription
from batcher.failures import Failure
from batcher.project_docs import Exposure, ProjectDocs, keep_docs
from consumers.ingest.flush import Flush, commit_flush
from ducklake.cli.dashboard import free_port
from ducklake.dashboard.access import Access
from ducklake.dashboard.app import create_app
from ducklake.dashboard.sql_box import QueryRefused, query
from lake.config import Config, TableRef, load_config
from lake.errors import ConfigError
from lake.formats import RunSummary
from lake.ledger import Ledger
from lake.records import DeadLetter, OffsetRange
from lake.storage.json_files import write_json
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session
from tests.browser import chromium, needs_browser, serious_violations

MODEL = "staging.stg_orders"
REF, ID = TableRef("shop", "orders"), "ab" * 16
SETTINGS = """\
name: page
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources: {shop: {type: plain, tables: {orders: {}}}}
"""
HOSTILE = "<script>document.title='owned'</script>=1+1\x1b[31mred"
PAGES = (
    "trust",
    "flow",
    "shop",
    "tables",
    "tables/shop.orders",
    "models/staging.stg_orders",
    "runs",
    "dead-letters",
    "login",
)


@dataclass(frozen=True)
class Served:
    config: Config
    access: Access
    address: str

    @property
    def cookie(self) -> dict[str, str]:
        """That of a reader who has signed in."""
        return {"ducklake_session": self.access.cookie}

    def signed_in(self, context: BrowserContext) -> BrowserContext:
        context.add_cookies(
            [{"name": n, "value": v, "url": self.address} for n, v in self.cookie.items()]
        )
        return context

    def flush(self, letters: tuple[DeadLetter, ...] = ()) -> None:
        """One more row, and some dead letters behind it."""
        with Ledger(LakePaths(self.config.data_dir)) as ledger, Session(ledger.paths) as session:
            state = ledger.tables.open(REF.topic, ID, 1)
            at = state.positions.get(0, 0)
            stamp = pa.array([round(time.time() * 1e6)], pa.timestamp("us", "UTC"))
            rows = pa.table(
                {
                    "order_id": [at],
                    "_op": ["r"],
                    "_source_ts": stamp,
                    "_kafka_ts": stamp,
                    "_topic": [REF.topic],
                    "_partition": pa.array([0], pa.int32()),
                    "_offset": pa.array([at], pa.int64()),
                    "_topic_epoch": pa.array([0], pa.int32()),
                }
            )
            schema = Schema((source_column("order_id", "BIGINT"),))
            span = OffsetRange(ID, 0, at, at + len(letters), 1)
            flush = Flush(state, {0: state.positions.get(0)}, [span], rows, schema, letters)
            commit_flush(ledger, session, REF, flush)
            spent = {"dbt": 0.5, "publish": 0.2}
            summary = RunSummary(
                ledger.commits.last(),
                1,
                1,
                1,
                0,
                {MODEL: HOSTILE},
                spent,
                model_seconds={MODEL: 0.4},
            )
            ledger.runs.record(time.time(), 1.0, 0, summary)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("the page")
    (folder / "ducklake.yml").write_text(SETTINGS)
    config = load_config(folder / "ducklake.yml")
    paths = LakePaths(config.data_dir)
    access = Access.of(paths, "127.0.0.1", None)
    port = free_port()
    one = Served(config, access, f"http://127.0.0.1:{port}")
    letter = DeadLetter(
        REF.topic, 0, 1, datetime.now(UTC), REF.topic, HOSTILE, b"1", HOSTILE.encode(), "{}"
    )
    one.flush((letter,))
    columns, rows = ("name",), ((HOSTILE,),)
    failing = Failure(
        "unique", ("stg_orders",), "fail", HOSTILE, "SELECT 1", columns, rows, 0, 0, 1
    )
    write_json(paths.root / "failures.json", {"unique": asdict(failing)})
    write_json(paths.lineage, {"staging.stg_orders": ["raw.orders"]})
    described = ModelDescription(("order_id",), HOSTILE, {"order_id": HOSTILE})
    reader = Exposure(
        "sheet", HOSTILE, "dashboard", HOSTILE, "Ana", "javascript:alert(1)", (MODEL,)
    )
    keep_docs(paths, ProjectDocs({MODEL: described}, (reader,)))
    server = uvicorn.Server(
        uvicorn.Config(create_app(config, access), port=port, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(requests.ConnectionError):
            if requests.get(f"{one.address}/health", timeout=5).ok:
                break
        time.sleep(0.1)
    yield one
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@needs_browser
def test_every_page_is_drawn_accessible_and_shows_hostile_values_as_text(
    served: Served, browser: Browser, tmp_path: Path
) -> None:
    said: list[str] = []
    for language, scheme, width in (("en", "light", 1280), ("es", "dark", 390)):
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, locale=language  # type: ignore[arg-type]
        )
        page = served.signed_in(context).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        for name in (
            *PAGES,
            "dead-letters/shop.orders",
            "dead-letters/shop.orders/shop.orders/0/1",
        ):
            answer = page.goto(f"{served.address}/{name}")
            assert answer is not None and answer.ok, name
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert page.title() != "owned"
            page.screenshot(path=tmp_path / f"{name.replace('/', '-')}-{width}.png")
            if name in ("trust", "runs", "tables", f"models/{MODEL}", "dead-letters/shop.orders"):
                assert "<script>document.title" in page.inner_text("main"), "shown as text"
            assert "\x1b" not in page.inner_text("main"), name
        context.close()
        audited = browser.new_context(color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
        page = served.signed_in(audited).new_page()
        for name in PAGES:
            page.goto(f"{served.address}/{name}")
            assert serious_violations(page) == [], name
        audited.close()
    assert said == [], "no console message"


def test_lineage_docs_and_exposures_are_those_of_the_project(served: Served) -> None:
    bearer = {"authorization": f"Bearer {served.access.token}"}

    def ask(path: str) -> Any:
        return requests.get(f"{served.address}/{path}", headers=bearer, timeout=30)

    [model] = ask("api/models").json()
    assert (model["model"], model["reads"]) == (MODEL, ["raw.orders"])
    assert model["docs"]["columns"] == {"order_id": HOSTILE} and model["exposures"] == [HOSTILE]
    [reader] = ask("api/exposures").json()
    assert reader["reads"] == [MODEL]
    page = ask("tables").text
    assert f'href="/models/{MODEL}"' in page and "javascript:" not in page, "no link to a script"
    assert 'href="/tables/shop.orders"' in ask(f"models/{MODEL}").text
    assert ask("models/consume.none").status_code == 404


def test_cycles_are_drawn_by_step_and_a_failed_one_is_marked(served: Served) -> None:
    page = requests.get(f"{served.address}/runs", cookies=served.cookie, timeout=30).text
    assert "1 models, 1 tests, 1 failed" in page
    assert 'class="step0"' in page and 'class="mark"' in page and f"<li>{MODEL} " in page


@needs_browser
def test_a_page_changes_when_a_row_arrives(served: Served, browser: Browser) -> None:
    context = served.signed_in(browser.new_context())
    page = context.new_page()
    page.goto(f"{served.address}/flow")
    page.wait_for_selector("#live:not(:empty)")
    rows = page.locator("#tables tbody tr td.n").first
    before = int(rows.inner_text())
    served.flush()
    page.wait_for_function(
        "n => Number(document.querySelector('#tables tbody tr td.n').textContent) > n", arg=before
    )
    context.close()


@needs_browser
def test_redriving_asks_for_the_token_and_then_says_what_happened(
    served: Served, browser: Browser
) -> None:
    page = browser.new_page()
    page.goto(f"{served.address}/dead-letters?lang=en")
    page.wait_for_url("**/login")
    page.fill("#token", served.access.token)
    page.click("#login button")
    page.wait_for_url("**/trust")
    page.goto(f"{served.address}/dead-letters?lang=en")
    page.click('button[data-action="redrive"]')
    page.wait_for_function(
        "() => document.getElementById('outcome').textContent.length > 2", timeout=120_000
    )
    said = page.inner_text("#outcome")
    assert "is not running" in said and "ducklake up" in said, "the command's own words"
    page.close()


def test_nobody_changes_something_without_the_token_or_from_another_site(served: Served) -> None:
    path, wish = f"{served.address}/api/dead-letters/redrive", {"what": ["shop.orders"]}
    cookie = served.cookie
    assert requests.post(path, json=wish, timeout=30).status_code == 401
    assert requests.post(path, json=wish, cookies=cookie, timeout=30).status_code == 403
    other = {"origin": "http://evil.example", "x-ducklake-csrf": served.access.csrf}
    assert (
        requests.post(path, json=wish, cookies=cookie, headers=other, timeout=30).status_code == 403
    )
    rebound = requests.get(
        f"{served.address}/trust", headers={"host": "evil.example"}, cookies=cookie, timeout=30
    )
    assert rebound.status_code == 403
    wrong = requests.post(f"{served.address}/api/login", json={"token": "x" * 30}, timeout=30)
    assert wrong.status_code == 401 and "set-cookie" not in wrong.headers


def test_nobody_reads_anything_without_the_token(served: Served) -> None:
    for name in (*PAGES, "shop/live", "api/state", "api/events", "api/openapi.json", "api/live"):
        answer = requests.get(f"{served.address}/{name}", allow_redirects=False, timeout=30)
        expected = 200 if name == "login" else 401 if name.startswith("api/") else 303
        assert answer.status_code == expected, name
    bearer = {"authorization": f"Bearer {served.access.token}"}
    assert requests.get(f"{served.address}/api/state", headers=bearer, timeout=30).ok


def test_another_address_needs_a_token_of_ones_own(tmp_path: Path) -> None:
    paths = LakePaths(tmp_path)
    with pytest.raises(ConfigError, match="DUCKLAKE_DASHBOARD_TOKEN"):
        Access.of(paths, "0.0.0.0", None)
    with pytest.raises(ConfigError, match="fewer than"):
        Access.of(paths, "127.0.0.1", "short")
    assert not Access.of(paths, "0.0.0.0", "t" * 32).local
    kept = Access.of(paths, "::1", None).token
    assert Access.of(paths, "localhost", None).token == kept
    assert (tmp_path / "work" / "dashboard.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("COPY (SELECT 1) TO 'x.csv'", "Only SELECT"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled by configuration"),
        ("SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')", "disabled by configuration"),
        ("ATTACH 'other.db'", "Only SELECT"),
        ("SET memory_limit = '9GB'", "Only SELECT"),
        ("SELECT string_agg(repeat('x', 1000), '') FROM range(9000000)", "Memory"),
        ("SELECT count(*) FROM range(1000000000000)", "longer than"),
    ],
)
def test_the_sql_box_stays_within_its_limits(tmp_path: Path, sql: str, said: str) -> None:
    duckdb.connect(str(tmp_path / "lake.duckdb")).close()
    with pytest.raises(QueryRefused, match=said):
        query(tmp_path, sql, "json", seconds=3 if "longer" in said else 60)


def test_the_sql_box_shows_values_as_text_and_guards_spreadsheets(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / "lake.duckdb")).close()
    sql = "SELECT '=1+1' AS formula, -1 AS number, NULL AS nothing"
    assert json.loads(query(tmp_path, sql, "json"))["rows"] == [["=1+1", "-1", None]]
    assert query(tmp_path, sql, "csv").splitlines()[1] == b"'=1+1,-1,"
    assert query(tmp_path, sql, "parquet")[:4] == b"PAR1"


def test_the_api_answers_as_its_description_says(served: Served) -> None:
    bearer = {"authorization": f"Bearer {served.access.token}"}
    address = f"{served.address}/api/openapi.json"
    schema = schemathesis.openapi.from_url(address, headers=bearer)
    checks = [not_a_server_error, status_code_conformance, response_schema_conformance]
    asked = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        if operation.method.upper() != "GET":
            continue
        asked += 1

        @settings(max_examples=8, deadline=None, database=None)
        @given(operation.as_strategy())
        def agrees(case: Any) -> None:
            case.call_and_validate(checks=checks, headers=bearer)

        agrees()
    assert asked >= 9
