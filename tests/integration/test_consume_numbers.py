"""Every figure of the consume models against an independent computation, by pandas.

The computation reads the lake's raw rows and uses exact decimals; nothing of dbt's SQL is in it.
It is compared after a first build and after cycles that built only what changed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from batcher.dbt_build import DbtProject
from batcher.model_build import ModelBuild
from benchmarks.shop_lake import ShopLake
from lake.storage.sql import quoted
from tests.integration.handbook import FENCE, ORDER, section_of
from tests.integration.test_incremental_models import Shop

TODAY = date(2026, 3, 31)
SEED = 15
Rows = dict[tuple[Any, ...], dict[str, Any]]
Frame = Any  # pandas' stubs know no columns of decimals


def near(value: Any, places: int, within: str = "0.000000001") -> set[Decimal] | None:
    """What a rounded value may be: DuckDB divides as floats, so a tie may go both ways."""
    if value is None:
        return None
    unit = Decimal(1).scaleb(-places)
    values = (value - Decimal(within), value, value + Decimal(within))
    return {Decimal(each).quantize(unit, ROUND_HALF_UP) for each in values}


def ratio(part: Any, whole: Any, places: int = 2) -> set[Decimal] | None:
    """A quotient; none where there is nothing to divide by."""
    return near(Decimal(part) / Decimal(whole), places) if whole and part is not None else None


def percent(part: Any, whole: Any) -> set[Decimal] | None:
    return ratio(None if part is None else 100 * Decimal(part), whole, 1)


def mean(values: Any, places: int) -> set[Decimal] | None:
    known = [Decimal(value) for value in values if not missing(value)]
    return ratio(sum(known), len(known), places)


def total(values: Any, empty: Any = Decimal(0)) -> Any:
    known = [value for value in values if not missing(value)]
    return sum(known) if known else empty


def missing(value: Any) -> bool:
    return value is None or value is pd.NaT or value != value


def month_of(day: date) -> date:
    return day.replace(day=1)


class Truth:
    """The shop's figures from the raw rows of a lake."""

    def __init__(self, lake: ShopLake) -> None:
        self._lake = lake
        self.orders = self._latest("orders", "order_id")
        self.orders["day"] = [at.date() for at in self.orders["ordered_at"]]
        self.products = self._latest("products", "product_id")
        self.customers = self._latest("customers", "customer_id")
        items = self._latest("order_items", "order_item_id")
        self.rates = self._rates()
        sold = self.orders[self.orders["status"] != "cancelled"]
        lines = items.merge(sold, on="order_id", suffixes=("", "_order"))
        lines = lines.merge(self.products, on="product_id", how="left", suffixes=("", "_product"))
        self.lines = lines.assign(
            month=[month_of(day) for day in lines["day"]],
            category=[name if not missing(name) else "unknown" for name in lines["category"]],
            gross=[q * p for q, p in zip(lines["quantity"], lines["unit_price_ars"], strict=True)],
            net=[
                (q * p * (100 - (0 if missing(d) else d)) / 100).quantize(
                    Decimal("0.01"), ROUND_HALF_UP
                )
                for q, p, d in zip(
                    lines["quantity"], lines["unit_price_ars"], lines["discount_pct"], strict=True
                )
            ],
        )
        self.lines["usd"] = self._in_dollars(self.lines["net"], self.lines["day"])
        self.lines["margin"] = [
            None if missing(c) else n - q * c
            for n, q, c in zip(
                self.lines["net"], self.lines["quantity"], self.lines["cost_ars"], strict=True
            )
        ]

    # Sources -------------------------------------------------------------------------------------

    def _raw(self, table: str) -> Frame:
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            found = database.execute(self._lake.raw(table))
            names = [column[0] for column in found.description or ()]
            return pd.DataFrame(found.fetchall(), columns=names, dtype=object)

    def _latest(self, table: str, key: str) -> Frame:
        rows = self._raw(table).sort_values("_offset")
        emptied = rows.loc[rows["_op"] == "t", "_offset"].max()
        if not missing(emptied):
            rows = rows[rows["_offset"] > emptied]
        newest = rows.drop_duplicates(key, keep="last")
        return newest[newest["_op"] != "d"].reset_index(drop=True)

    def _file(self, table: str) -> Frame:
        rows = self._raw(table)
        newest = rows.sort_values("_kafka_ts").iloc[-1]["_file_sha256"]
        return rows[rows["_file_sha256"] == newest]

    def _rates(self) -> list[tuple[date, Decimal]]:
        """Days that have a rate which is no outlier, in order."""
        rows = self._raw("dolar_blue").sort_values(["_fetched_at", "_offset"])
        days = rows.drop_duplicates("fecha", keep="last").sort_values("fecha")
        read = list(zip(days["fecha"], days["venta"], strict=True))
        good = []
        for at, (day, venta) in enumerate(read):
            middle = statistics.median(v for _, v in read[max(at - 7, 0) : at + 8])
            if middle / 2 <= venta <= 2 * middle:
                good.append((day, venta))
        return good

    def rate(self, day: date) -> Decimal | None:
        """Of the last day that has one."""
        return next((venta for at, venta in reversed(self.rates) if at <= day), None)

    def _in_dollars(self, pesos: Any, days: Any) -> list[Decimal | None]:
        found = [(amount, self.rate(day)) for amount, day in zip(pesos, days, strict=True)]
        return [None if rate is None else amount / rate for amount, rate in found]

    # Models --------------------------------------------------------------------------------------

    def daily_sales(self) -> Rows:
        found: Rows = {}
        day = self.orders["day"].min()
        while day <= max(TODAY, self.orders["day"].max()):
            of_day = self.orders[self.orders["day"] == day]
            gone = of_day[of_day["status"] == "cancelled"]
            kept = of_day[of_day["status"] != "cancelled"]
            revenue, rate = total(kept["total_ars"]), self.rate(day)
            found[(day,)] = {
                "orders": len(kept),
                "customers": kept["customer_id"].nunique(),
                "units": total(self.lines.loc[self.lines["day"] == day, "quantity"], 0),
                "revenue_ars": revenue,
                "revenue_usd": ratio(revenue, rate),
                "shipping_ars": total(kept["shipping_ars"]),
                "avg_ticket_ars": ratio(revenue, len(kept)),
                "avg_ticket_usd": ratio(revenue, len(kept) * rate) if rate else None,
                "cancelled_orders": len(gone),
                "cancelled_ars": total(gone["total_ars"]),
                "dolar_blue_venta": rate,
            }
            day += timedelta(1)
        return found

    def sales_by_category(self) -> Rows:
        months = self.lines.groupby("month")["net"].sum()
        return {
            (month, category): {
                "orders": rows["order_id"].nunique(),
                "customers": rows["customer_id"].nunique(),
                "units": rows["quantity"].sum(),
                "gross_ars": rows["gross"].sum(),
                "discount_ars": rows["gross"].sum() - rows["net"].sum(),
                "revenue_ars": rows["net"].sum(),
                "revenue_usd": near(total(rows["usd"], None), 2, "0.0001"),
                "margin_ars": total(rows["margin"], None),
                "margin_pct": percent(total(rows["margin"], None), rows["net"].sum()),
                "month_share_pct": percent(rows["net"].sum(), months[month]),
            }
            for (month, category), rows in self.lines.groupby(["month", "category"])
        }

    def product_performance(self) -> Rows:
        found: Rows = {}
        recent, before = TODAY - timedelta(30), TODAY - timedelta(60)
        sums = self.lines.groupby("product_id")["net"].sum()
        revenue = {p: sums.get(p, Decimal(0)) for p in self.products["product_id"]}
        category = dict(zip(self.products["product_id"], self.products["category"], strict=True))
        for product in self.products["product_id"]:
            rows = self.lines[self.lines["product_id"] == product]
            units = total(rows.loc[rows["day"] > recent, "quantity"], 0)
            older = (rows["day"] > before) & (rows["day"] <= recent)
            previous = total(rows.loc[older, "quantity"], 0)
            same = [p for p in revenue if category[p] == category[product]]
            found[(product,)] = {
                "orders": rows["order_id"].nunique(),
                "customers": rows["customer_id"].nunique(),
                "units": total(rows["quantity"], 0),
                "units_30d": units,
                "units_previous_30d": previous,
                "discount_ars": total(rows["gross"]) - total(rows["net"]),
                "revenue_ars": revenue[product],
                "revenue_usd": near(total(rows["usd"]), 2, "0.0001"),
                "margin_ars": total(rows["margin"]),
                "first_sold_on": rows["day"].min() if len(rows) else None,
                "last_sold_on": rows["day"].max() if len(rows) else None,
                "margin_pct": percent(total(rows["margin"]), revenue[product]),
                "units_trend_pct": percent(units - previous, previous),
                "category_rank": 1 + sum(revenue[p] > revenue[product] for p in same),
            }
        return found

    def customer_360(self) -> Rows:
        people = self.customers.assign(
            person=[
                f"customer {number}" if missing(email) else email.strip().lower()
                for number, email in zip(
                    self.customers["customer_id"], self.customers["email"], strict=True
                )
            ]
        )
        tickets = self._file("support_tickets")
        found: Rows = {}
        for person, accounts in people.groupby("person"):
            numbers = set(accounts["customer_id"])
            placed = self.orders[self.orders["customer_id"].isin(numbers)]
            kept = placed[placed["status"] != "cancelled"]
            asked = tickets[tickets["customer_id"].isin({str(number) for number in numbers})]
            marks = [int(mark.strip('"')) for mark in asked["satisfaction"] if mark]
            last = kept["day"].max() if len(kept) else None
            found[(person,)] = {
                "customer_id": min(numbers),
                "customer_ids": ",".join(str(number) for number in sorted(numbers)),
                "is_merged": len(numbers) > 1,
                "orders": len(kept),
                "cancelled_orders": len(placed) - len(kept),
                "revenue_ars": total(kept["total_ars"]),
                "revenue_usd": near(
                    total(self._in_dollars(kept["total_ars"], kept["day"])), 2, "0.0001"
                ),
                "avg_ticket_ars": ratio(total(kept["total_ars"]), len(kept)),
                "first_order_on": kept["day"].min() if len(kept) else None,
                "last_order_on": last,
                "recency_days": None if last is None else (TODAY - last).days,
                "tickets": len(asked),
                "avg_satisfaction": mean(marks, 2),
            }
        buyers = [row for row in found.values() if row["orders"]]
        marks_of = {"recency": "last_order_on", "frequency": "orders", "money": "revenue_ars"}
        for row in found.values():
            scores = {}
            for score, column in marks_of.items():
                below = sum(row["orders"] > 0 and b[column] <= row[column] for b in buyers)
                scores[score] = -(-5 * below // len(buyers)) if row["orders"] else None
                row[f"{score}_score"] = scores[score]
            row["segment"] = segment(row, **scores)
        return found

    def inventory_health(self) -> Rows:
        counted = self._file("inventory")
        suppliers = self._file("suppliers").set_index("supplier_id")
        found: Rows = {}
        for product in self.products.to_dict("records"):
            rows = counted[counted["sku"] == product["sku"]]
            quantity = sum(int(text) for text in rows["quantity"])
            reserved = sum(int(text) for text in rows["reserved"])
            costs = [Decimal(text.replace(",", ".")) for text in rows["unit_cost_ars"]]
            mine = self.lines[self.lines["product_id"] == product["product_id"]]
            days = (mine["day"] > TODAY - timedelta(30)) & (mine["day"] <= TODAY)
            sold = total(mine.loc[days, "quantity"], 0)
            speed = (Decimal(sold) / 30).quantize(Decimal("0.001"), ROUND_HALF_UP)
            known = product["supplier_id"] in suppliers.index
            lead = suppliers.loc[product["supplier_id"], "lead_time_days"] if known else 0
            available = quantity - reserved
            point = int((speed * (lead + 7)).to_integral_value(ROUND_CEILING))
            wanted = int((speed * (lead + 30)).to_integral_value(ROUND_CEILING)) - available
            reorder = bool(product["active"] and speed > 0 and available <= point)
            found[(product["product_id"],)] = {
                "warehouses": len(rows),
                "quantity": quantity,
                "reserved": reserved,
                "available": available,
                "stock_value_ars": total(
                    int(q) * cost for q, cost in zip(rows["quantity"], costs, strict=True)
                ),
                "units_sold": sold,
                "units_per_day": speed,
                "lead_time_days": lead,
                "days_of_cover": ratio(available, speed, 1),
                "reorder_point": point,
                "should_reorder": reorder,
                "reorder_units": max(wanted, 0) if reorder else 0,
            }
        return found

    def supplier_scorecard(self) -> Rows:
        found: Rows = {}
        shipments = self._file("shipments").to_dict("records")
        for supplier in self._file("suppliers")["supplier_id"]:
            sent = [row for row in shipments if int(row["supplier_id"]) == supplier]
            arrived = [row for row in sent if row["delivered_on"]]
            open_ = [row for row in sent if not row["delivered_on"]]
            delays = [days(row["promised_on"], row["delivered_on"]) for row in arrived]
            overdue = sum(date.fromisoformat(row["promised_on"]) < TODAY for row in open_)
            late = sum(delay > 0 for delay in delays) + overdue
            due = len(arrived) + overdue
            offered = self.products[self.products["supplier_id"] == supplier]
            sold = self.lines[self.lines["supplier_id"] == supplier]
            found[(supplier,)] = {
                "products": len(offered),
                "active_products": int((offered["active"] != 0).sum()),
                "revenue_ars": total(sold["net"]),
                "shipments": len(sent),
                "delivered_shipments": len(arrived),
                "late_shipments": late,
                "on_time_pct": percent(due - late, due),
                "avg_transit_days": mean(
                    [days(row["shipped_on"], row["delivered_on"]) for row in arrived], 1
                ),
                "avg_days_late": mean([delay for delay in delays if delay > 0], 1),
                "freight_ars": total(Decimal(row["cost_ars"]) for row in sent),
            }
        return found

    def sales_vs_target(self) -> Rows:
        targets = {
            (row["month_"], row["category"]): row
            for row in self._file("sales_targets").to_dict("records")
        }
        sales = self.sales_by_category()
        found: Rows = {}
        for key in targets.keys() | sales.keys():
            target = targets.get(key, {})
            sold = sales.get(key, {"revenue_ars": Decimal(0), "units": 0})
            wanted, revenue = target.get("target_ars"), sold["revenue_ars"]
            found[key] = {
                "target_ars": wanted,
                "revenue_ars": revenue,
                "target_units": target.get("target_units"),
                "units": sold["units"],
                "gap_ars": None if wanted is None else revenue - wanted,
                "attainment_pct": percent(revenue, wanted),
                "units_attainment_pct": percent(sold["units"], target.get("target_units")),
                "is_month_over": key[0].month < TODAY.month,  # today is the last of its month
            }
        return found

    def support_quality(self) -> Rows:
        groups: dict[tuple[Any, ...], list[tuple[Decimal | None, int | None]]] = {}
        for row in self._file("support_tickets").to_dict("records"):
            opened = pd.Timestamp(row["opened_at"])
            hours = None
            if row["closed_at"]:
                minutes = (pd.Timestamp(row["closed_at"]) - opened).total_seconds() / 60
                hours = (Decimal(minutes) / 60).quantize(Decimal("0.01"), ROUND_HALF_UP)
            mark = int(row["satisfaction"].strip('"')) if row["satisfaction"] else None
            key = (month_of(opened.date()), row["channel"].lower(), row["topic"].lower())
            groups.setdefault(key, []).append((hours, mark))
        found: Rows = {}
        for key, rows in groups.items():
            hours_of = [hours for hours, _ in rows if hours is not None]
            marks = [mark for _, mark in rows if mark is not None]
            middle = statistics.median(hours_of) if hours_of else None
            found[key] = {
                "tickets": len(rows),
                "open_tickets": len(rows) - len(hours_of),
                "avg_resolution_hours": mean(hours_of, 1),
                "median_resolution_hours": near(middle, 1),
                "max_resolution_hours": near(max(hours_of, default=None), 1),
                "rated_tickets": len(marks),
                "avg_satisfaction": mean(marks, 2),
                "dissatisfied_tickets": sum(mark <= 2 for mark in marks),
            }
        return found

    def payment_days(self) -> Rows:
        """The model of the package's page."""
        kept = self.orders[self.orders["status"] != "cancelled"]
        return {
            key: {"orders": len(rows), "revenue_ars": rows["total_ars"].sum()}
            for key, rows in kept.groupby(["day", "payment_method"])
        }

    def holiday_effect(self) -> Rows:
        holidays = {(r["fecha"], r["nombre"]) for r in self._raw("feriados").to_dict("records")}
        closed = {day for day, _ in holidays}
        sales = {day: row for (day,), row in self.daily_sales().items()}
        found: Rows = {}
        for day, name in holidays:
            if day not in sales or day >= TODAY:
                continue
            usual = [
                row
                for at, row in sales.items()
                if abs((at - day).days) <= 28
                and at.weekday() == day.weekday()
                and at not in closed
                and at < TODAY
            ]
            orders = Decimal(sum(row["orders"] for row in usual)) / len(usual)
            revenue = Decimal(sum(row["revenue_ars"] for row in usual)) / len(usual)
            found[day, name] = {
                "weekday": day.isoweekday(),
                "orders": sales[day]["orders"],
                "units": sales[day]["units"],
                "revenue_ars": sales[day]["revenue_ars"],
                "compared_days": len(usual),
                "usual_orders": near(orders, 1),
                "usual_units": mean([row["units"] for row in usual], 1),
                "usual_revenue_ars": near(revenue, 2),
                "orders_lift_pct": percent(sales[day]["orders"] - orders, orders),
                "revenue_lift_pct": percent(sales[day]["revenue_ars"] - revenue, revenue),
            }
        return found


def days(start: str, end: str) -> int:
    return (date.fromisoformat(end) - date.fromisoformat(start)).days


def segment(row: dict[str, Any], recency: Any, frequency: Any, money: Any) -> str:
    if not row["orders"]:
        return "no_orders"
    if min(recency, frequency, money) >= 4:
        return "champion"
    if recency >= 3 and frequency >= 4:
        return "loyal"
    if (TODAY - row["first_order_on"]).days < 60:
        return "new"
    if recency <= 2:
        return "at_risk" if max(frequency, money) >= 4 else "lost"
    return "regular"


MODELS: dict[str, Callable[[Truth], Rows]] = {
    "daily_sales": Truth.daily_sales,
    "sales_by_category": Truth.sales_by_category,
    "product_performance": Truth.product_performance,
    "customer_360": Truth.customer_360,
    "inventory_health": Truth.inventory_health,
    "supplier_scorecard": Truth.supplier_scorecard,
    "sales_vs_target": Truth.sales_vs_target,
    "support_quality": Truth.support_quality,
    "holiday_effect": Truth.holiday_effect,
    "payment_days": Truth.payment_days,
}


class Figures:
    """Cycles of the shop's lake, and what the warehouse then says."""

    def __init__(self, lake: ShopLake) -> None:
        self.lake, self.shop = lake, Shop(lake, SEED)
        self.dbt = DbtProject(lake.config)
        self.build = ModelBuild(lake.config, lake.ledger, self.dbt)

    def cycle(self) -> bool:
        """Run one; says whether some model was built only where something changed."""
        done = self.build.run(self.lake.ledger.commits.last())
        assert not done.outcome.failed, (done.outcome.held_back, done.outcome.failures)
        self.build.finish(done, {})
        return len(done.plan.full) < len(done.plan.models)

    def compare(self) -> None:
        """Every figure of every consume model."""
        truth, graph = Truth(self.lake), self.dbt.graph()
        with duckdb.connect(str(self.lake.ledger.paths.warehouse), read_only=True) as database:
            for model, compute in MODELS.items():
                key = graph.by_relation[f"consume.{model}"].primary_key
                wanted = compute(truth)
                assert wanted, model
                columns = [*key, *next(iter(wanted.values()))]
                listed = ", ".join(quoted(column) for column in columns)
                rows = database.execute(f"SELECT {listed} FROM consume.{model}").fetchall()
                found = {row[: len(key)]: row[len(key) :] for row in rows}
                assert set(found) == set(wanted), model
                for at, figures in wanted.items():
                    for (column, want), got in zip(figures.items(), found[at], strict=True):
                        same = got in want if isinstance(want, set) else got == want
                        assert same, f"{model}.{column} of {at}: {got}, wanted {want}"


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Figures]:
    lake = ShopLake(tmp_path_factory.mktemp("figures"))
    project = Path(lake.config.dbt_project) / "dbt_project.yml"
    text = project.read_text(encoding="utf-8")
    assert text.count('  today: ""\n') == 1
    project.write_text(text.replace('  today: ""\n', f'  today: "{TODAY}"\n'), encoding="utf-8")
    follow("dbt_ducklake/README.md", "Write a model", project.parents[1])
    made = Figures(lake)
    made.shop.start()
    files(made.shop)
    yield made
    lake.close()


def follow(page: str, section: str, folder: Path) -> None:
    """Create and append to files as a section says."""
    for block in FENCE.finditer(section_of(page, section)):
        if block["language"] != "text":
            [*_, (verb, name)] = ORDER.findall(block["before"])
            before = "" if verb == "Create" else (folder / name).read_text(encoding="utf-8")
            (folder / name).write_text(before + block["text"], encoding="utf-8")


def files(shop: Shop) -> None:
    """Files with something in every figure."""
    shop._file(
        "support_tickets",
        "SELECT 'T' || i AS ticket_id, i::VARCHAR AS order_id, (1 + i % 6)::VARCHAR AS customer_id,"
        " '2026-0' || (2 + i % 2) || '-10 10:00' AS opened_at, CASE WHEN i % 4 > 0 THEN '2026-03-1'"
        " || (i % 9) || ' 1' || (i % 7) || ':2' || (i % 6) END AS closed_at,"
        " ['Email', 'chat'][1 + i % 2] AS channel, ['Pago', 'Envío'][1 + i % 2] AS topic,"
        " ['5', '\"4\"', '', '2', '1'][1 + i % 5] AS satisfaction FROM range(1, 30) t(i)",
    )
    shop._file(
        "shipments",
        "SELECT 'S' || i AS shipment_id, i::VARCHAR AS order_id, (1 + i % 3)::VARCHAR AS"
        " supplier_id, '2026-03-01' AS shipped_on, '2026-03-' || (27 + i % 5) AS promised_on,"
        " CASE WHEN i % 3 > 0 THEN '2026-03-' || (20 + i % 11) END AS delivered_on,"
        " (i || '.25') AS cost_ars FROM range(1, 40) t(i)",
    )
    shop._file(
        "sales_targets",
        "SELECT DATE '2026-02-01' + to_months(m::INTEGER)::INTERVAL AS month, c AS category,"
        " 100000 + 7 AS target_ars, 33 AS target_units FROM range(0, 2) t(m),"
        " (VALUES ('Audio'), ('Hogar')) v(c)",
    )


def test_every_figure_is_that_of_the_sources(figures: Figures) -> None:
    for _ in range(60):
        figures.shop.order()
    figures.cycle()
    figures.compare()


def test_every_figure_stays_that_of_the_sources_through_cycles(figures: Figures) -> None:
    shop = figures.shop
    for _ in range(3):
        for _ in range(12):
            shop.random.choice(shop.all())()
        assert figures.cycle()
    figures.compare()


def test_the_model_of_the_packages_page_is_computed_by_the_day(figures: Figures) -> None:
    log = 'ducklake."changes.consume.payment_days"'
    query = f"SELECT DISTINCT order_date FROM {log} WHERE _cycle = (SELECT max(_cycle) FROM {log})"
    order = figures.shop.orders[min(figures.shop.orders)]
    computed = []
    for day in (3, 4):
        order |= {"ordered_at": f"2026-03-{day:02} 10:00:00", "status": "paid"}
        figures.shop._commit("orders", [order], "u")
        done = figures.build.run(figures.lake.ledger.commits.last())
        with duckdb.connect(str(figures.lake.ledger.paths.warehouse), read_only=True) as database:
            computed.append({day.day for (day,) in database.execute(query).fetchall()})
        figures.build.finish(done, {})
    assert computed[1] == {3, 4}, "the day that it left, the day that it came to, and no other"
    figures.compare()


def test_the_comparison_covers_every_consume_model_and_notices_a_cent(figures: Figures) -> None:
    models = figures.dbt.graph().by_relation
    assert {f"consume.{name}" for name in MODELS} == {n for n in models if n.startswith("consume.")}
    with duckdb.connect(str(figures.lake.ledger.paths.warehouse)) as database:
        database.execute(
            "UPDATE consume.customer_360 SET revenue_ars = revenue_ars + 0.01 WHERE orders > 0"
        )
    with pytest.raises(AssertionError, match=r"customer_360\.revenue_ars"):
        figures.compare()
