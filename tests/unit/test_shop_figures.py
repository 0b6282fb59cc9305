"""The figures of the page Shop: right to the hour, and computed no more often than they cost."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pytest

from ducklake.dashboard import shop as figures
from ducklake.dashboard.shop import ShopFigures, ShopFilter, shop
from lake.storage.paths import LakePaths

ZONE = ZoneInfo("America/Argentina/Buenos_Aires")
NOW = datetime(2026, 11, 27, 15, 30)
ORDERS = (  # days ago, hour, minute, cancelled, ARS, product
    (0, 9, 5, False, "100.00", 1),
    (0, 15, 29, False, "50.00", 2),
    (0, 10, 0, True, "999.00", 1),
    (1, 9, 0, False, "40.00", 1),
    (1, 15, 31, False, "60.00", 2),  # later than it is now
    (7, 1, 0, False, "7.00", 2),
    (7, 23, 59, False, "8.00", 2),
    (2, 12, 0, False, "1.00", 1),
)


class Fixed(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: object = None) -> Fixed:
        return cls(NOW.year, NOW.month, NOW.day, NOW.hour, NOW.minute, tzinfo=ZONE)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakePaths:
    monkeypatch.setattr(figures, "datetime", Fixed)
    paths = LakePaths(tmp_path)
    with duckdb.connect(str(paths.lake_db)) as lake:
        lake.execute("CREATE SCHEMA staging; CREATE SCHEMA consume")
        lake.execute(
            "CREATE TABLE staging.stg_orders (order_id INT, ordered_at TIMESTAMP, order_date DATE,"
            " is_cancelled BOOLEAN, total_ars DECIMAL(12, 2))"
        )
        lake.execute(
            "CREATE TABLE staging.stg_order_items (order_id INT, product_id INT, quantity INT,"
            " net_ars DECIMAL(12, 2))"
        )
        for number, (days, hour, minute, cancelled, ars, product) in enumerate(ORDERS):
            at = NOW.replace(hour=hour, minute=minute) - timedelta(days=days)
            lake.execute(
                "INSERT INTO staging.stg_orders VALUES (?, ?, ?, ?, ?)",
                [number, at, at.date(), cancelled, ars],
            )
            lake.execute(
                "INSERT INTO staging.stg_order_items VALUES (?, ?, 2, ?)", [number, product, ars]
            )
        lake.execute(
            "CREATE TABLE staging.stg_products AS SELECT * FROM (VALUES (1, 'Radio', 'Audio'),"
            " (2, 'TV', 'Hogar')) t(product_id, product_name, category)"
        )
        lake.execute(
            "CREATE TABLE consume.daily_sales AS SELECT DATE '2026-11-27' AS sales_date,"
            " 2 AS orders, 150 AS revenue_ars, 1 AS revenue_usd, 1500.00 AS dolar_blue_venta"
        )
    return paths


def test_today_is_compared_with_the_same_time_of_other_days(paths: LakePaths) -> None:
    found = shop(paths, ShopFilter.of(None, None, "", ZONE), ZONE)
    assert found.now == {
        "rate": Decimal("1500.00"),
        **{"orders_today": 2, "orders_yesterday": 1, "orders_last_week": 1},
        "ars_today": Decimal("150.00"),
        "ars_yesterday": Decimal("40.00"),
        "ars_last_week": Decimal("7.00"),
    }
    hours = {row["hour"]: row for row in found.hours}
    assert len(hours) == 24
    assert (hours[9]["today"], hours[9]["yesterday"], hours[9]["last_week"]) == (1, 1, 0)
    assert (hours[15]["today"], hours[15]["yesterday"]) == (1, 1), "all of that hour"
    assert (hours[1]["last_week"], hours[23]["last_week"]) == (1, 1)
    sold = {row["name"]: (row["units"], row["revenue_ars"]) for row in found.products}
    assert sold == {"TV": (8, Decimal("125.00")), "Radio": (6, Decimal("141.00"))}
    assert [row["name"] for row in found.categories] == ["Audio", "Hogar"]


def test_a_category_counts_its_own_products_alone(paths: LakePaths) -> None:
    found = shop(paths, ShopFilter.of(None, None, "Audio", ZONE), ZONE)
    assert (found.now["orders_today"], found.now["ars_today"]) == (1, Decimal("100.00"))
    assert [row["name"] for row in found.products] == ["Radio"]


def test_another_projects_lake_has_no_figures(tmp_path: Path) -> None:
    paths = LakePaths(tmp_path)
    wanted = ShopFilter.of(None, None, "", ZONE)
    assert shop(paths, wanted, ZONE).now == {}
    duckdb.connect(str(paths.lake_db)).close()
    assert (shop(paths, wanted, ZONE).now, shop(paths, wanted, ZONE).hours) == ({}, [])


def test_what_is_published_all_the_time_is_computed_as_often_as_it_costs(
    paths: LakePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, computed = [100.0], []

    def slow(*_: object) -> figures.Shop:
        clock[0] += 2.0
        computed.append(clock[0])
        return figures.Shop()

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(figures, "shop", slow)
    every, wanted = ShopFigures(paths, ZONE), ShopFilter.of(None, None, "", ZONE)
    for number in range(1, 101):
        paths.lake_db.touch()
        stat = paths.lake_db.stat().st_mtime_ns + number  # another publication each second
        monkeypatch.setattr(ShopFigures, "_state", lambda self, stat=stat: stat)
        every.get(wanted)
        clock[0] += 1.0
    spent = clock[0] - 100.0
    assert 4 <= len(computed) <= spent / 20, "2 s of work, then 20 s of rest"
