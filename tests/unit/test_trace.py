"""`ducklake trace`: each change of a row, hop by hop, as ledger, files and run history have it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.shop_lake import ShopLake
from ducklake.cli.trace import NOT_FOUND, trace
from lake.errors import ConfigError
from lake.formats import RunSummary
from lake.ledger.freshness import Arrivals, HopState
from lake.storage.json_files import replace_json

ROW = "SELECT {id}::UBIGINT AS order_id, '{status}' AS status, 'binlog.000002' AS _binlog_file"
LINEAGE = {"staging.stg_orders": ("raw.orders",), "consume.daily_sales": ("staging.stg_orders",)}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[ShopLake]:
    lake = ShopLake(tmp_path, {"        key: [month, category]\n": ""})
    replace_json(lake.ledger.paths.lineage, LINEAGE)
    yield lake
    lake.close()


def run(shop: ShopLake, held_back: dict[str, str] | None = None, exported: bool = True) -> None:
    commit = shop.ledger.commits.last()
    topic = shop.ref("orders").topic
    hops = (HopState(topic, "postgres", commit, None, None, time.time()),) if exported else ()
    summary = RunSummary(commit, 1, 1, 0, 0, held_back or {})
    shop.ledger.runs.record(time.time(), 1.0, 0, summary, Arrivals({}, hops))


def told(shop: ShopLake, capsys: pytest.CaptureFixture[str], *key: str) -> list[dict[str, Any]]:
    trace(shop.config, "orders", key, as_json=True)
    changes: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["changes"]
    return changes


def states(change: dict[str, Any]) -> dict[str, str]:
    return {hop["hop"]: hop["state"] for hop in change["hops"]}


def test_insert_update_and_delete_are_followed_to_postgres(
    shop: ShopLake, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.commit("orders", ROW.format(id=7, status="paid"), "c")
    run(shop)
    shop.commit("orders", ROW.format(id=7, status="shipped"), "u")
    shop.commit("orders", ROW.format(id=8, status="paid"), "c")
    shop.commit("orders", ROW.format(id=7, status="shipped"), "d")
    changes = told(shop, capsys, "7")
    assert [change["op"] for change in changes] == ["insert", "update", "delete"]
    assert [change["address"] for change in changes] == [f"mysql.orders/0/{n}" for n in (0, 1, 3)]
    assert set(states(changes[0]).values()) == {"arrived"}
    first = {hop["hop"]: hop for hop in changes[0]["hops"]}
    assert first["raw"]["where"].startswith("hot/") and first["raw"]["where"].endswith("commit 1")
    assert "staging.stg_orders, run 1" in first["staging"]["where"]
    assert first["raw"]["at"] <= first["staging"]["at"]
    for change in changes[1:]:
        assert states(change) == {
            **dict.fromkeys(("source", "topic", "raw"), "arrived"),
            **dict.fromkeys(("staging", "consume", "postgres"), "waiting"),
        }


def test_what_holds_a_row_back_is_told(shop: ShopLake, capsys: pytest.CaptureFixture[str]) -> None:
    shop.commit("orders", ROW.format(id=7, status="paid"), "c")
    run(shop, {"consume.daily_sales": "a test failed"}, exported=False)
    [change] = told(shop, capsys, "7")
    found = {hop["hop"]: hop for hop in change["hops"]}
    assert found["staging"]["state"] == "arrived"
    assert found["consume"]["state"] == "held_back"
    assert found["consume"]["reason"] == "consume.daily_sales: a test failed"
    assert found["postgres"]["state"] == "waiting"
    run(shop)
    [change] = told(shop, capsys, "7")
    found = {hop["hop"]: hop for hop in change["hops"]}
    assert found["consume"]["state"] == "arrived" and "run 2" in found["consume"]["where"]


def test_a_row_that_the_lake_lacks_is_told_with_an_exit_code(
    shop: ShopLake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trace(shop.config, "orders", ["7"], as_json=False) == NOT_FOUND
    shop.commit("orders", ROW.format(id=8, status="paid"), "c")
    assert trace(shop.config, "orders", ["7"], as_json=False) == NOT_FOUND
    assert "no row of mysql.orders with order_id = 7" in capsys.readouterr().out
    assert trace(shop.config, "orders", ["8"], as_json=False) == 0
    assert "insert at mysql.orders/0/0" in capsys.readouterr().out


def test_a_key_that_fits_no_row_is_refused_by_name(shop: ShopLake) -> None:
    shop.commit("orders", ROW.format(id=8, status="paid"), "c")
    with pytest.raises(ConfigError, match=r"key of mysql\.orders is order_id"):
        trace(shop.config, "orders", ["7", "8"], as_json=False)
    with pytest.raises(ConfigError, match="cannot be 'seven'"):
        trace(shop.config, "orders", ["seven"], as_json=False)
    with pytest.raises(ConfigError, match="has no key"):
        trace(shop.config, "sales_targets", ["x"], as_json=False)
