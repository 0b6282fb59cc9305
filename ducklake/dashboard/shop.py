"""The shop's figures, from the published DuckDB file: what its tests let through."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import duckdb

from batcher.catalog import opened
from ducklake.dashboard.answers import SharedAnswers
from lake.storage.paths import LakePaths
from lake.storage.sql import literal

DAYS = 30
MOST_DAYS = 1_000
_DAYS: Mapping[str, int] = {"today": 0, "yesterday": 1, "last_week": 7}
REST = 10.0
"""After a computation it rests for so many times as long, whatever is published meanwhile."""
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
        recent = ask.rows(_recent(now, wanted.category))
        best = ask.rows(_best(wanted))
        return Shop(
            ask.rows(_days(wanted)),
            _hours(recent),
            _now(recent, ask.rows(_RATE)),
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

    Where many publications follow each other on much history, it takes a tenth of the time at most.

    Args:
        paths: The lake.
        zone: In which the shop counts its days.
    """

    def __init__(self, paths: LakePaths, zone: ZoneInfo) -> None:
        self._paths = paths
        self._zone = zone
        self._answers: SharedAnswers[ShopFilter, Shop] = SharedAnswers()
        self._rests: dict[ShopFilter, tuple[object, float]] = {}

    def get(self, wanted: ShopFilter) -> Shop:
        """The figures for a filter."""
        state, until = self._rests.get(wanted, (None, 0.0))
        if time.monotonic() >= until:
            state = self._state()
        return self._answers.get(wanted, state, lambda: self._computed(wanted, state))

    def _computed(self, wanted: ShopFilter, state: object) -> Shop:
        began = time.monotonic()
        found = shop(self._paths, wanted, self._zone)
        ended = time.monotonic()
        rests = {w: rest for w, rest in list(self._rests.items()) if rest[1] > ended}
        self._rests = {**rests, wanted: (state, ended + REST * (ended - began))}
        return found

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


def _recent(now: datetime, category: str) -> str:
    """Orders and revenue by hour, of one reading: today, yesterday and a week ago.

    `orders_until` and `ars_until` count what came until the same time of the day.
    """
    moment = f"{literal(now.isoformat(' ', 'seconds'))}::TIMESTAMP"
    return (
        "SELECT days, hour, count(*) AS orders, count(*) FILTER (is_until) AS orders_until,"
        " coalesce(sum(ars) FILTER (is_until), 0) AS ars_until FROM (SELECT ars,"
        f" date_diff('day', ordered_at::DATE, {moment}::DATE) AS days, hour(ordered_at) AS hour,"
        f" ordered_at::TIME <= {moment}::TIME AS is_until"
        f" FROM ({_of_last_days(now, category)})) WHERE days IN (0, 1, 7) GROUP BY 1, 2"
    )


_RATE = "SELECT last(dolar_blue_venta ORDER BY sales_date) AS rate FROM consume.daily_sales"


def _hours(recent: Sequence[Row]) -> list[Row]:
    orders = {(row["days"], row["hour"]): row["orders"] for row in recent}
    return [
        {"hour": hour, **{name: orders.get((days, hour), 0) for name, days in _DAYS.items()}}
        for hour in range(24 if recent else 0)
    ]


def _now(recent: Sequence[Row], rates: Sequence[Row]) -> Row:
    """Sums until now, and of the days to compare with until the same time."""
    if not rates:
        return {}
    found = {"rate": rates[0]["rate"]}
    for name, days in _DAYS.items():
        rows = [row for row in recent if row["days"] == days]
        found[f"orders_{name}"] = sum(row["orders_until"] for row in rows)
        found[f"ars_{name}"] = sum((row["ars_until"] for row in rows), Decimal(0))
    return found


def _best(wanted: ShopFilter) -> str:
    """Categories and products, of one reading of what was sold."""
    best = " UNION ALL ".join(
        f"(SELECT '{column}' AS kind, {column} AS name, sum(units) AS units, sum(ars)"
        f" AS revenue_ars FROM sold GROUP BY 2 ORDER BY 4 DESC LIMIT {limit})"
        for column, limit in (("category", CATEGORIES), ("product_name", PRODUCTS))
    )
    return (
        "WITH by_product AS (SELECT i.product_id, sum(i.quantity) AS units, sum(i.net_ars) AS ars"
        " FROM staging.stg_orders o JOIN staging.stg_order_items i USING (order_id)"
        f" WHERE NOT o.is_cancelled AND o.order_date BETWEEN {_span(wanted)} GROUP BY 1),"
        " sold AS MATERIALIZED (SELECT p.category, p.product_name, units, ars FROM by_product"
        f" JOIN staging.stg_products p USING (product_id) WHERE true"
        f"{_and('p.category', wanted.category)})"
        f" SELECT * FROM ({best}) ORDER BY kind, revenue_ars DESC"
    )
