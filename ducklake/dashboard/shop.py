"""The shop's figures, from the published DuckDB file: what its tests let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from batcher.catalog import opened
from ducklake.dashboard.answers import SharedAnswers
from lake.storage.paths import LakePaths
from lake.storage.sql import literal

DAYS = 30
MOST_DAYS = 1_000
CATEGORIES, PRODUCTS = 12, 10
"""How many of the best are shown."""
_SOLD = (
    "FROM staging.stg_orders o JOIN staging.stg_order_items i USING (order_id)"
    " JOIN staging.stg_products p USING (product_id) WHERE NOT o.is_cancelled"
)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ShopFilter:
    """What is shown.

    Attributes:
        first: The first day.
        last: The last day.
        category: Only products of this one; empty for all.
    """

    first: date
    last: date
    category: str = ""

    @classmethod
    def of(cls, first: date | None, last: date | None, category: str, zone: ZoneInfo) -> ShopFilter:
        """What somebody asked for; the last 30 days where nothing was said."""
        end = last or datetime.now(zone).date()
        begin = first or end - timedelta(days=DAYS - 1)
        begin = max(min(begin, end), end - timedelta(days=MOST_DAYS))
        return cls(begin, end, category)


@dataclass(frozen=True, slots=True)
class Shop:
    """The figures; what another project's models do not have is empty.

    Attributes:
        days: Sales per day.
        hours: Orders per hour of the day: today, yesterday and a week ago.
        now: Orders and revenue today, and of yesterday and a week ago until the same hour.
        categories: Revenue per category.
        products: The best ones.
        segments: Customers by segment.
        stock: Products to reorder.
        targets: Targets of the last months.
        tickets: Support by topic.
        holidays: The next ones.
        all_categories: Names to filter by.
    """

    days: Sequence[Row] = ()
    hours: Sequence[Row] = ()
    now: Row = field(default_factory=dict)
    categories: Sequence[Row] = ()
    products: Sequence[Row] = ()
    segments: Sequence[Row] = ()
    stock: Sequence[Row] = ()
    targets: Sequence[Row] = ()
    tickets: Sequence[Row] = ()
    holidays: Sequence[Row] = ()
    all_categories: Sequence[str] = ()


def shop(paths: LakePaths, wanted: ShopFilter, zone: ZoneInfo) -> Shop:
    """Ask the published file.

    Args:
        paths: The lake.
        wanted: Days and category.
        zone: In which the shop counts its days.
    """
    if not paths.lake_db.exists():
        return Shop()
    now = datetime.now(zone).replace(tzinfo=None)
    with opened(paths.lake_db, read_only=True) as lake:
        ask = _Asker(lake)
        names = ask.rows("SELECT DISTINCT category FROM staging.stg_products ORDER BY 1")
        current = ask.rows(_now(now, wanted.category))
        best = ask.rows(_best(wanted))
        return Shop(
            ask.rows(_days(wanted)),
            ask.rows(_hours(now, wanted.category)),
            current[0] if current else {},
            [row for row in best if row["kind"] == "category"],
            [row for row in best if row["kind"] == "product_name"],
            ask.rows(
                "SELECT segment, count(*) AS customers, sum(revenue_ars) AS revenue_ars"
                " FROM consume.customer_360 GROUP BY 1 ORDER BY 2 DESC"
            ),
            ask.rows(
                "SELECT product_name, category, available, days_of_cover, reorder_units"
                " FROM consume.inventory_health WHERE should_reorder AND is_active"
                f"{_and('category', wanted.category)}"
                " ORDER BY days_of_cover NULLS LAST, reorder_units DESC LIMIT 10"
            ),
            ask.rows(
                "SELECT month, category, target_ars, revenue_ars,"
                " round(100 * revenue_ars / nullif(target_ars, 0), 1) AS reached"
                " FROM consume.sales_vs_target WHERE month = date_trunc('month',"
                f" {literal(wanted.last.isoformat())}::DATE){_and('category', wanted.category)}"
                " ORDER BY target_ars DESC LIMIT 12"
            ),
            ask.rows(
                "SELECT topic, count(*) AS tickets, count(*) FILTER (NOT is_closed) AS open,"
                " round(avg(satisfaction), 2) AS satisfaction FROM staging.stg_support_tickets"
                f" WHERE opened_at::DATE BETWEEN {_span(wanted)} GROUP BY 1 ORDER BY 2 DESC LIMIT 8"
            ),
            ask.rows(
                "SELECT fecha, nombre FROM staging.stg_feriados"
                f" WHERE fecha >= {literal(now.date().isoformat())}::DATE ORDER BY 1 LIMIT 5"
            ),
            [row["category"] for row in names],
        )


class ShopFigures:
    """The figures for all open pages: each is computed once for a publication and a minute.

    Args:
        paths: The lake.
        zone: In which the shop counts its days.
    """

    def __init__(self, paths: LakePaths, zone: ZoneInfo) -> None:
        self._paths = paths
        self._zone = zone
        self._answers: SharedAnswers[ShopFilter, Shop] = SharedAnswers()

    def get(self, wanted: ShopFilter) -> Shop:
        """The figures for a filter."""
        return self._answers.get(
            wanted, self._state(), lambda: shop(self._paths, wanted, self._zone)
        )

    def _state(self) -> object:
        try:
            file = self._paths.lake_db.stat()
        except FileNotFoundError:
            return None
        minute = datetime.now(self._zone).replace(second=0, microsecond=0)
        return file.st_ino, file.st_mtime_ns, minute


class _Asker:
    """Asks; a relation that is not there, as in another project, has no rows."""

    def __init__(self, lake: duckdb.DuckDBPyConnection) -> None:
        self._lake = lake

    def rows(self, query: str) -> list[Row]:
        try:
            result = self._lake.execute(query)
        except (duckdb.CatalogException, duckdb.BinderException, duckdb.IOException):
            return []
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _and(column: str, category: str) -> str:
    return f" AND {column} = {literal(category)}" if category else ""


def _span(wanted: ShopFilter) -> str:
    return f"{literal(wanted.first.isoformat())}::DATE AND {literal(wanted.last.isoformat())}::DATE"


def _days(wanted: ShopFilter) -> str:
    if not wanted.category:
        return (
            "SELECT sales_date AS day, orders, revenue_ars, revenue_usd FROM consume.daily_sales"
            f" WHERE sales_date BETWEEN {_span(wanted)} ORDER BY 1"
        )
    return (
        "SELECT d.sales_date AS day, coalesce(s.orders, 0) AS orders,"
        " coalesce(s.revenue, 0) AS revenue_ars, coalesce(s.revenue, 0) / d.dolar_blue_venta"
        " AS revenue_usd FROM consume.daily_sales d LEFT JOIN (SELECT o.order_date AS day,"
        f" count(DISTINCT o.order_id) AS orders, sum(i.net_ars) AS revenue {_SOLD}"
        f" AND o.order_date BETWEEN {_span(wanted)}"
        f"{_and('p.category', wanted.category)} GROUP BY 1) s ON s.day = d.sales_date"
        f" WHERE d.sales_date BETWEEN {_span(wanted)} ORDER BY 1"
    )


def _of_last_days(now: datetime, category: str) -> str:
    """Orders since a week ago: all of history would be read otherwise, each time."""
    first = f"{literal((now.date() - timedelta(days=7)).isoformat())}::TIMESTAMP"
    if not category:
        return (
            "SELECT order_id, ordered_at, total_ars AS ars FROM staging.stg_orders"
            f" WHERE NOT is_cancelled AND ordered_at >= {first}"
        )
    return (
        f"SELECT o.order_id, o.ordered_at, sum(i.net_ars) AS ars {_SOLD}"
        f" AND o.ordered_at >= {first}{_and('p.category', category)} GROUP BY ALL"
    )


def _hours(now: datetime, category: str) -> str:
    today = literal(now.date().isoformat())
    return (
        f"SELECT h AS hour, count(*) FILTER (ordered_at::DATE = {today}::DATE) AS today,"
        f" count(*) FILTER (ordered_at::DATE = {today}::DATE - 1) AS yesterday,"
        f" count(*) FILTER (ordered_at::DATE = {today}::DATE - 7) AS last_week"
        f" FROM range(24) t(h) LEFT JOIN ({_of_last_days(now, category)}) ON hour(ordered_at) = h"
        " GROUP BY 1 ORDER BY 1"
    )


def _now(now: datetime, category: str) -> str:
    moment = literal(now.isoformat(" ", "seconds"))

    def until(days: int) -> str:
        return (
            f"(ordered_at BETWEEN date_trunc('day', {moment}::TIMESTAMP) - INTERVAL {days} DAY"
            f" AND {moment}::TIMESTAMP - INTERVAL {days} DAY)"
        )

    return (
        "SELECT "
        + ", ".join(
            f"count(*) FILTER ({until(days)}) AS orders_{name},"
            f" coalesce(sum(ars) FILTER ({until(days)}), 0) AS ars_{name}"
            for name, days in (("today", 0), ("yesterday", 1), ("last_week", 7))
        )
        + (
            ", (SELECT last(dolar_blue_venta ORDER BY sales_date) FROM consume.daily_sales) AS rate"
            f" FROM ({_of_last_days(now, category)})"
        )
    )


def _best(wanted: ShopFilter) -> str:
    """Categories and products, of one reading of what was sold."""
    best = " UNION ALL ".join(
        f"(SELECT '{column}' AS kind, {column} AS name, sum(units) AS units, sum(ars)"
        f" AS revenue_ars FROM sold GROUP BY 2 ORDER BY 4 DESC LIMIT {limit})"
        for column, limit in (("category", CATEGORIES), ("product_name", PRODUCTS))
    )
    return (
        "WITH sold AS MATERIALIZED (SELECT p.category, p.product_name, sum(i.quantity) AS units,"
        f" sum(i.net_ars) AS ars {_SOLD} AND o.order_date BETWEEN {_span(wanted)}"
        f"{_and('p.category', wanted.category)} GROUP BY 1, 2)"
        f" SELECT * FROM ({best}) ORDER BY kind, revenue_ars DESC"
    )
