"""A cycle with the same new rows on one day and on 1,000 days of history.

make bench NAME=cycle [DAYS=1000] [CYCLES=7] [CACHE=FOLDER]

Each cycle takes 1,000 new orders with four items each and 200 updates of old ones, chosen at random
from all of history, from the ledger through dbt to the published file and PostgreSQL. A lake is
written once, through the ledger's own commit, and kept in CACHE (a temporary folder by default).
"""

from __future__ import annotations

import json
import os
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from batcher.cycle import Batch
from batcher.cycle_result import Cycle
from benchmarks.broker import note
from benchmarks.postgres import postgres
from benchmarks.shop_lake import ShopLake
from lake.config import Endpoints

ORDERS, LINES, CUSTOMERS, PRODUCTS = 5_000, 4, 20_000, 200
NEW, UPDATED = 1_000, 200
TODAY = "2026-11-26"


class HistoryLake:
    """The shop with some days of history.

    Args:
        folder: Of the lake; what is there is used again.
        days: Of history.
    """

    def __init__(self, folder: Path, days: int) -> None:
        self._days = days
        self.lake = ShopLake(folder)
        self._database = duckdb.connect(config={"threads": 2})
        self._database.execute("SET TimeZone = 'UTC'")
        if not self.lake.ledger.commits.last():
            self._write_history()

    def _write_history(self) -> None:
        lake, db = self.lake, self._database
        note(f"writing {self._days} days of history ...")
        lake.commit(
            "customers",
            "SELECT i::INTEGER AS customer_id, 'p' || i || '@x.com' AS email, 'Ana' AS first_name,"
            " 'Paz' AS last_name, '1155551234' AS phone, 'Rosario' AS city, 'Santa Fe' AS province,"
            " TIMESTAMP '2023-01-01' AS created_at, TIMESTAMP '2023-01-01' AS updated_at"
            f" FROM range(1, {CUSTOMERS + 1}) t(i)",
            "r",
        )
        lake.commit(
            "products",
            "SELECT i::INTEGER AS product_id, 'SKU-' || i AS sku, 'Producto ' || i AS name,"
            " ['Audio', 'Notebooks', 'Celulares', 'Hogar'][1 + i % 4] AS category, 'M' AS brand,"
            " (1 + i % 3)::INTEGER AS supplier_id, 1000 AS price_ars, 700 AS cost_ars, 1 AS active"
            f" FROM range(1, {PRODUCTS + 1}) t(i)",
            "r",
        )
        lake.commit(
            "dolar_blue",
            "SELECT 'blue' AS casa, 980 + d % 100 AS compra, 1000 + d % 100 AS venta,"
            f" (DATE '{TODAY}' - {self._days} + d::INTEGER) AS fecha, 200 AS _status,"
            f" TIMESTAMPTZ '{TODAY} 00:00:00Z' AS _fetched_at FROM range({self._days + 1}) t(d)",
        )
        lake.commit(
            "feriados",
            "SELECT DATE '2026-03-24' AS fecha, 'Memoria' AS nombre, 'inamovible' AS tipo,"
            f" 200 AS _status, TIMESTAMPTZ '{TODAY} 00:00:00Z' AS _fetched_at",
        )
        for table, query in FILES.items():
            lake.commit(
                table,
                f"SELECT *, '{table}' AS _file, 'sha' AS _file_sha256, row_number() OVER () AS"
                f" _file_row, count(*) OVER () AS _file_rows FROM ({query})",
            )
        for day in range(self._days):
            lake.commit("orders", self._day(day), "r", database=db)
            first, last = 1 + day * ORDERS * LINES, (day + 1) * ORDERS * LINES
            lake.commit("order_items", self._items(first, last), "r", database=db)
            if day % 100 == 99:
                note(f"  {day + 1} of {self._days} days")

    def _day(self, day: int) -> str:
        first = 1 + day * ORDERS
        at = f"TIMESTAMP '{TODAY} 00:00:00' - to_days({self._days - 1 - day})"
        return (
            f"SELECT i::UBIGINT AS order_id, (1 + hash(i) % {CUSTOMERS})::INTEGER AS customer_id,"
            f" {at} + to_seconds((i % 80000)::INTEGER) AS ordered_at,"
            " ['paid', 'shipped', 'delivered', 'cancelled'][1 + (hash(i) % 20)::INTEGER // 6]"
            " AS status, 'cash' AS payment_method, 500 AS shipping_ars,"
            " 2500 + hash(i) % 100000 AS total_ars, TIMESTAMP '2026-11-26' AS updated_at"
            f" FROM range({first}, {first + ORDERS}) t(i)"
        )

    def _items(self, first: int, last: int) -> str:
        return (
            f"SELECT i::UBIGINT AS order_item_id, (1 + (i - 1) // {LINES})::UBIGINT AS order_id,"
            f" (1 + hash(i) % {PRODUCTS})::INTEGER AS product_id, 1 + i % 3 AS quantity,"
            " 1000 + hash(i) % 5000 AS unit_price_ars, 10 AS discount_pct"
            f" FROM range({first}, {last + 1}) t(i)"
        )

    def change(self) -> None:
        """New orders of today, and updates of old ones."""
        lake, db = self.lake, self._database
        first = 1_000_000_000 + lake.position("orders") * 10
        lake.commit(
            "orders",
            f"SELECT ({first} + i)::UBIGINT AS order_id, (1 + hash(i + {first}) % {CUSTOMERS})"
            f"::INTEGER AS customer_id, TIMESTAMP '{TODAY} 12:00:00' AS ordered_at,"
            " 'paid' AS status, 'cash' AS payment_method, 500 AS shipping_ars, 2500 AS total_ars"
            f" FROM range({NEW}) t(i)",
            database=db,
        )
        lake.commit(
            "order_items",
            f"SELECT ({LINES} * ({first}::BIGINT + i) + j)::UBIGINT AS order_item_id,"
            f" ({first} + i)::UBIGINT AS order_id,"
            f" (1 + hash(i * 4 + j + {first}) % {PRODUCTS})::INTEGER AS product_id, 1 AS quantity,"
            " 500 AS unit_price_ars, 0 AS discount_pct"
            f" FROM range({NEW}) t(i), range({LINES}) u(j)",
            database=db,
        )
        number = f"(hash(i + {first}) % {self._days * ORDERS})::BIGINT"
        lake.commit(
            "orders",
            f"SELECT DISTINCT ON (order_id) (1 + {number})::UBIGINT AS order_id,"
            f" (1 + hash(1 + {number}) % {CUSTOMERS})::INTEGER AS customer_id,"
            f" TIMESTAMP '{TODAY} 00:00:00' - to_days(({self._days - 1} - {number} // {ORDERS})"
            f"::INTEGER) AS ordered_at, 'shipped' AS status, 'cash' AS payment_method,"
            f" 500 AS shipping_ars, 2500 + hash(i) % 1000 AS total_ars FROM range({UPDATED}) t(i)",
            "u",
            database=db,
        )

    def close(self) -> None:
        """Close the lake."""
        self._database.close()
        self.lake.close()


FILES = {
    "inventory": "SELECT 'SKU-' || i AS sku, 'CABA' AS warehouse, '20' AS quantity,"
    f" '3' AS reserved, '10,5' AS unit_cost_ars, '30/03/2026' AS counted_on"
    f" FROM range(1, {PRODUCTS + 1}) t(i)",
    "suppliers": "SELECT i::INTEGER AS supplier_id, 'P' || i AS name, 10 AS lead_time_days,"
    " true AS active FROM range(1, 4) t(i)",
    "shipments": "SELECT 'S1' AS shipment_id, '1' AS order_id, '1' AS supplier_id,"
    " '2026-03-01' AS shipped_on, '2026-03-05' AS promised_on, '5' AS cost_ars",
    "sales_targets": "SELECT DATE '2026-03-01' AS month, 'Audio' AS category, 1000 AS target_ars,"
    " 5 AS target_units",
    "support_tickets": "SELECT 'T1' AS ticket_id, '1' AS order_id, '1' AS customer_id,"
    " '2026-03-01 10:00' AS opened_at, 'mail' AS channel, 'x' AS topic",
}


def cycles(folder: Path, days: int, count: int, endpoints: Endpoints) -> list[Cycle]:
    """Bring a lake up to date, then run cycles; gives those."""
    folder.mkdir(parents=True, exist_ok=True)
    history = HistoryLake(folder, days)
    batch = Batch(history.lake.config, endpoints)
    try:
        note(f"{days} days: bringing everything up to date ...")
        for _ in range(2):
            history.change()
            first = batch.cycle()
        assert first.outcome.failed == 0 and first.export_error is None, first
        found = []
        for number in range(count):
            history.change()
            cycle = batch.cycle()
            assert cycle.outcome.failed == 0 and cycle.export_error is None, cycle
            found.append(cycle)
            steps = ", ".join(f"{name} {value:.2f}" for name, value in cycle.seconds.items())
            note(f"{days} days: cycle {number + 1} of {count}: {steps}")
        return found
    finally:
        batch.close()
        history.close()


def main() -> None:
    """Measure, and print one JSON object."""
    days, count = int(os.environ.get("DAYS", 1000)), int(os.environ.get("CYCLES", 7))
    with ExitStack() as stack:
        cache = os.environ.get("CACHE") or stack.enter_context(TemporaryDirectory())
        endpoints = stack.enter_context(postgres()).endpoints()
        began = time.monotonic()
        found = {
            each: cycles(Path(cache) / f"shop-{each}", each, count, endpoints) for each in (1, days)
        }
    seconds = {
        each: statistics.median(sum(cycle.seconds.values()) for cycle in ran)
        for each, ran in found.items()
    }
    steps = {
        each: {
            name: round(statistics.median(cycle.seconds[name] for cycle in ran), 3)
            for name in ran[0].seconds
        }
        for each, ran in found.items()
    }
    result = {
        "benchmark": "cycle",
        "ratio": round(seconds[days] / seconds[1], 3),
        "seconds_1_day": round(seconds[1], 3),
        f"seconds_{days}_days": round(seconds[days], 3),
        "steps": {str(each): step for each, step in steps.items()},
        "models": found[days][-1].outcome.models,
        "tests": found[days][-1].outcome.tests,
        "items": days * ORDERS * LINES,
        "took_s": round(time.monotonic() - began),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
