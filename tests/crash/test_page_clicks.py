"""Dead letters by clicks, against a real broker: shown, tried, redriven, dropped; and a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests
from playwright.sync_api import Page, expect

from lake.ledger import Ledger
from tests.browser import Served, chromium, needs_browser, serious_violations, served
from tests.crash.conftest import LakeMaker
from tests.crash.oracle import LakeUnderTest
from tests.crash.test_dead_letters import declare, offsets_of_dead_letters, prices

PATIENCE = 120_000
HOSTILE = "<script>document.title='owned'</script>\x1b[31m"


@pytest.fixture
def lake(make_lake: LakeMaker) -> LakeUnderTest:
    """A row, and a record whose price is none; then another dead letter."""
    lake = make_lake({"orders": "plain"})
    declare(lake, price="DECIMAL(10,2)")
    lake.start("consume")
    [topic] = lake.topics
    for price in ("1.50", "n/a", "2.505"):
        lake.loader.send(topic, 1, 0, extra={"price": price, "note": HOSTILE})
    lake.await_caught_up()
    return lake


def clicked(page: Page, action: str, what: str) -> str:
    """Ask for a dry run; what it says."""
    page.click(f'button[data-action="{action}"][data-what="{what}"]:not([data-confirm])')
    expect(page.locator("#outcome button")).to_be_enabled(timeout=PATIENCE)
    expect(page.locator("#outcome button")).to_be_focused()
    return page.inner_text("#outcome p")


def confirmed(page: Page) -> str:
    """Do what the dry run has said; what it says."""
    page.click("#outcome button")
    expect(page.locator("#outcome button")).to_have_count(0, timeout=PATIENCE)
    expect(page.locator("#outcome")).not_to_have_text("…", timeout=PATIENCE)
    return page.inner_text("#outcome")


@needs_browser
def test_a_bad_record_is_seen_mended_tried_and_redriven_by_clicks(
    lake: LakeUnderTest, tmp_path: Path
) -> None:
    [topic] = lake.topics
    bad = f"{topic}/0/1"
    said: list[str] = []
    with served(lake.config) as page_of, chromium() as browser:
        # axe adds a script of its own, which the page's policy would refuse
        context = browser.new_context(locale="en", bypass_csp=True)
        page = page_of.signed_in(context).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{page_of.address}/dead-letters")
        page.click(f'a[href="/dead-letters/{topic}"]')
        page.click(f'a[href="/dead-letters/{topic}/{bad}"]')
        expect(page.locator("h1")).to_have_text(bad)
        shown = page.inner_text("main")
        assert "price" in shown and '"n/a"' in shown, "reason and bytes"
        assert "<script>" in shown and "\x1b" not in shown and page.title() != "owned"
        assert "0 become rows, 1 still dead letters" in clicked(page, "redrive", bad)
        assert serious_violations(page) == [], "what a dry run says can be read by everybody"

        declare(lake, price="VARCHAR")
        assert "1 become rows, 0 still dead letters" in clicked(page, "redrive", bad)
        assert offsets_of_dead_letters(lake) == [1, 2], "a dry run writes nothing"
        confirmed(page)
        assert offsets_of_dead_letters(lake) == [2]
        assert (1, "n/a") in prices(lake), "it is a row at its own offset"

        page.goto(f"{page_of.address}/dead-letters")
        expect(page.locator("tbody tr td.n").first).to_have_text("1")
        assert "1 dead letters would be dropped" in clicked(page, "drop", topic)
        assert offsets_of_dead_letters(lake) == [2]
        assert confirmed(page) == "1 dead letters dropped"
        assert offsets_of_dead_letters(lake) == []
        expect(page.locator("main")).to_contain_text("There are no dead letters.")
    assert said == [], "no console message"


@needs_browser
def test_a_file_that_is_lost_is_seen_and_written_again_by_a_replay(lake: LakeUnderTest) -> None:
    [topic] = lake.topics
    lake.stop()
    with Ledger(lake.paths) as ledger:
        [file] = list(ledger.files.live(topic))
    rows = pq.read_metadata(file.path).num_rows
    file.path.unlink()
    with served(lake.config) as page_of, chromium() as browser:
        page = page_of.signed_in(browser.new_context(locale="es")).new_page()
        page.goto(f"{page_of.address}/tables/{topic}")
        assert f"{rows} faltan en el lago, 0 recuperados: difiere" in clicked(page, "replay", topic)
        assert not file.path.exists(), "a dry run writes nothing"
        assert "exacto" in confirmed(page)
    assert lake.verify() == () and (0, "1.50") in prices(lake)


def test_nothing_is_changed_without_the_token_or_from_another_site(lake: LakeUnderTest) -> None:
    [topic] = lake.topics
    wishes: dict[str, dict[str, Any]] = {
        "dead-letters/redrive": {"what": [topic]},
        "dead-letters/drop": {"what": [topic]},
        "replay": {"table": topic},
        "backfill": {"table": topic},
    }
    with served(lake.config) as page_of:
        for path, wish in wishes.items():
            asked = {**wish, "dry_run": False}
            for status, headers, cookies in _strangers(page_of):
                answer = requests.post(
                    f"{page_of.address}/api/{path}",
                    json=asked,
                    headers=headers,
                    cookies=cookies,
                    timeout=60,
                )
                assert answer.status_code == status, (path, headers)
        assert offsets_of_dead_letters(lake) == [1, 2]


def _strangers(page_of: Served) -> list[tuple[int, dict[str, str], dict[str, str]]]:
    csrf = {"x-ducklake-csrf": page_of.access.csrf}
    return [
        (401, {}, {}),
        (401, csrf, {}),
        (403, {}, page_of.cookie),
        (403, {**csrf, "origin": "http://evil.example"}, page_of.cookie),
    ]
