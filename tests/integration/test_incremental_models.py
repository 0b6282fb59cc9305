"""Models that are computed where something changed equal those that are computed from nothing.

Random changes of the shop's tables are committed to the ledger; after a few of them a cycle runs,
and now and then every model is compared, row by row, with a build of the same commit in an empty
warehouse. Hypothesis makes every choice. `MODEL_CHANGES` says how many changes there are in all.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import duckdb
import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from batcher.catalog import create_raw_views, opened, refresh_dead_letters
from batcher.dbt_build import DbtProject
from batcher.model_build import BuildResult, ModelBuild
from batcher.outcome import outcome
from batcher.publish import Publisher
from benchmarks.shop_lake import COLUMNS, ShopLake
from lake.storage.sql import literal, quoted

CHANGES = int(os.environ.get("MODEL_CHANGES", "40"))
STORY = 60
"""Changes of one lake, at least: hypothesis can choose only so often in one example."""
CATEGORIES = ("Audio", "Notebooks", "Celulares", "Hogar")


class Shop:
    """The shop's rows as they are now, and the records that tell of their changes."""

    def __init__(self, lake: ShopLake, seed: int) -> None:
        self.lake = lake
        self.random = random.Random(seed)
        self.orders: dict[int, dict[str, object]] = {}
        self.items: dict[int, dict[str, object]] = {}
        self.products: dict[int, dict[str, object]] = {}
        self.customers: dict[int, dict[str, object]] = {}
        self.late: list[tuple[str, int, dict[str, object]]] = []
        self.next_id = 1
        self.clock = 0

    def start(self) -> None:
        """Products, customers, rates, files, and the first orders."""
        for number in range(1, 13):
            self.customers[number] = self._customer(number)
            self.products[number] = self._product(number)
        self._commit("customers", [*self.customers.values()], "r")
        self._commit("products", [*self.products.values()], "r")
        for day in range(1, 29):
            self._rate(day, 1000 + day)
        self.lake.commit(
            "feriados",
            "SELECT DATE '2026-03-24' AS fecha, 'Memoria' AS nombre, 'inamovible' AS tipo,"
            " 200 AS _status, TIMESTAMPTZ '2026-03-01 00:00:00Z' AS _fetched_at",
        )
        self._file(
            "suppliers",
            "SELECT i::INTEGER AS supplier_id, 'P' || i AS name, 10 AS"
            " lead_time_days, true AS active FROM range(1, 4) t(i)",
        )
        self._file(
            "shipments",
            "SELECT 'S1' AS shipment_id, '1' AS order_id, '1' AS supplier_id,"
            " '2026-03-01' AS shipped_on, '2026-03-05' AS promised_on, '5' AS cost_ars",
        )
        self._file(
            "sales_targets",
            "SELECT DATE '2026-03-01' AS month, 'Audio' AS category,"
            " 1000 AS target_ars, 5 AS target_units",
        )
        self._file(
            "support_tickets",
            "SELECT 'T1' AS ticket_id, '1' AS order_id, '1' AS customer_id,"
            " '2026-03-01 10:00' AS opened_at, 'mail' AS channel, 'x' AS topic",
        )
        self.inventory()
        for _ in range(25):
            self.order()

    # Changes ------------------------------------------------------------------------------------

    def order(self) -> None:
        """A new order with one to three items."""
        number, self.next_id = self.next_id, self.next_id + 1
        self.orders[number] = self._order(number)
        lines = []
        for _ in range(self.random.randint(1, 3)):
            line, self.next_id = self.next_id, self.next_id + 1
            self.items[line] = self._item(line, number)
            lines.append(self.items[line])
        self._commit("orders", [self.orders[number]])
        self._commit("order_items", lines)

    def update_order(self) -> None:
        """Another status, customer, day or amount: it moves from one group to another."""
        number = self._any(self.orders)
        if number is not None:
            old = self.orders[number]
            new = self._order(number)
            changed = self.random.sample(["status", "customer_id", "ordered_at", "total_ars"], 2)
            self.orders[number] = old | {name: new[name] for name in changed}
            self._commit("orders", [self.orders[number]], "u")

    def delete_order(self) -> None:
        """With its items, or without them."""
        number = self._any(self.orders)
        if number is not None:
            self._commit("orders", [self.orders.pop(number)], "d")
            if self.random.random() < 0.7:
                gone = [i for i, item in self.items.items() if item["order_id"] == number]
                self._commit("order_items", [self.items.pop(i) for i in gone], "d")

    def update_item(self) -> None:
        """Another product, order, quantity or price."""
        line = self._any(self.items)
        order = self._any(self.orders)
        if line is not None and order is not None:
            self.items[line] = self._item(line, self.random.choice([order, 10**6]))
            self._commit("order_items", [self.items[line]], "u")

    def update_product(self) -> None:
        """Another price, cost or category, also for what was sold long ago."""
        number = self._any(self.products)
        if number is not None:
            self.products[number] = self._product(number)
            self._commit("products", [self.products[number]], "u")

    def delete_product(self) -> None:
        """Its lines stay; it comes back with a later update."""
        number = self._any(self.products)
        if number is not None and len(self.products) > 5:
            self._commit("products", [self.products.pop(number)], "d")

    def update_customer(self) -> None:
        """Another address; two accounts may become one person."""
        number = self._any(self.customers)
        if number is not None:
            self.customers[number] = self._customer(number)
            self._commit("customers", [self.customers[number]], "u")

    def delete_customer(self) -> None:
        """Orders stay."""
        number = self._any(self.customers)
        if number is not None and len(self.customers) > 4:
            self._commit("customers", [self.customers.pop(number)], "d")

    def rate(self) -> None:
        """A new day's rate, or a correction of an old one; some are outliers."""
        rate = self.random.choice([900, 1100, 1250, 15000])
        self._rate(self.random.randint(1, 31), rate + self.random.randint(0, 9))

    def inventory(self) -> None:
        """A new version of a file."""
        number = self.random.randint(1, 99)
        self._file(
            "inventory",
            f"SELECT 'SKU-' || i AS sku, 'CABA' AS warehouse, '{number}' AS"
            " quantity, '1' AS reserved, '10,5' AS unit_cost_ars, '30/03/2026' AS counted_on"
            " FROM range(1, 9) t(i)",
        )

    def late_version(self) -> None:
        """A record whose offset is below newer ones of its key: it must change nothing then."""
        number = self._any(self.orders)
        if number is not None:
            row = self._order(number)
            self.late.append(("orders", self.lake.skip("orders"), row))
            if self.random.random() < 0.5:
                self._commit("orders", [self.orders.pop(number)], "d")
                return
            self.orders[number] = self._order(number)
            self._commit("orders", [self.orders[number]], "u")

    def late_row(self) -> None:
        """A row whose record was missing and has no newer version."""
        number, self.next_id = self.next_id, self.next_id + 1
        self.orders[number] = self._order(number)
        self.late.append(("orders", self.lake.skip("orders"), self.orders[number]))

    def arrives(self) -> None:
        """What was late is there."""
        if self.late:
            table, offset, row = self.late.pop(self.random.randrange(len(self.late)))
            self._commit(table, [row], "u", offset)

    def repeats(self) -> None:
        """The same version twice, as after an interrupted snapshot."""
        number = self._any(self.orders)
        if number is not None:
            self._commit("orders", [self.orders[number]], "r")

    def truncate(self) -> None:
        """TRUNCATE TABLE: what came before is gone."""
        if self.random.random() < 0.2:
            self.items.clear()
            self._commit("order_items", [{}], "t")

    def rebuild(self) -> None:
        """A replay has built another generation of a table."""
        if self.random.random() < 0.3:
            table = self.random.choice(["orders", "order_items", "products"])
            self.lake.rebuild(table, [offset for name, offset, _ in self.late if name == table])

    def restart(self) -> None:
        """The topic was made anew, and the loss accepted: offsets begin again."""
        if self.random.random() < 0.2:
            table = self.random.choice(["orders", "customers", "products"])
            self.lake.restart(table)
            self.late = [late for late in self.late if late[0] != table]

    def all(self) -> list[Callable[[], None]]:
        """Every kind of change, the usual ones more often."""
        return [
            *[self.order] * 4,
            *[self.update_order] * 4,
            *[self.update_item] * 2,
            self.delete_order,
            self.update_product,
            self.delete_product,
            self.update_customer,
            self.delete_customer,
            self.rate,
            self.inventory,
            self.late_version,
            self.late_row,
            *[self.arrives] * 2,
            self.repeats,
            self.truncate,
            self.rebuild,
            self.restart,
        ]

    # Rows ---------------------------------------------------------------------------------------

    def _any(self, rows: dict[int, dict[str, object]]) -> int | None:
        return self.random.choice(list(rows)) if rows else None

    def _order(self, number: int) -> dict[str, object]:
        day = self.random.randint(1, 31)
        return {
            "order_id": number,
            "customer_id": self.random.randint(1, 14),
            "ordered_at": f"2026-03-{day:02} 10:00:00",
            "status": self.random.choice(["paid", "shipped", "delivered", "cancelled"]),
            "payment_method": "cash",
            "shipping_ars": 500,
            "total_ars": 500 + 10 * self.random.randint(1, 999),
            "updated_at": "2026-03-31 10:00:00",
        }

    def _item(self, line: int, order: int) -> dict[str, object]:
        return {
            "order_item_id": line,
            "order_id": order,
            "product_id": self.random.randint(1, 13),
            "quantity": self.random.randint(1, 5),
            "unit_price_ars": f"{self.random.randint(100, 99999) / 100:.2f}",
            "discount_pct": self.random.choice([None, 0, 10, "12.5"]),
        }

    def _product(self, number: int) -> dict[str, object]:
        return {
            "product_id": number,
            "sku": f"SKU-{number}",
            "name": f"Producto {number}",
            "category": self.random.choice([*CATEGORIES, None]),
            "supplier_id": self.random.randint(1, 4),
            "price_ars": 1000 + self.random.randint(1, 500),
            "cost_ars": 700 + self.random.randint(1, 99),
            "active": 1,
        }

    def _customer(self, number: int) -> dict[str, object]:
        return {
            "customer_id": number,
            "email": self.random.choice([f"p{number}@x.com", f"P{number % 3}@x.com", None]),
            "first_name": "Ana",
            "phone": "1155551234",
            "created_at": "2026-01-01 10:00:00",
            "updated_at": f"2026-03-{self.random.randint(1, 28):02} 10:00:00",
        }

    def _rate(self, day: int, venta: int) -> None:
        self.clock += 1
        self.lake.commit(
            "dolar_blue",
            f"SELECT 'blue' AS casa, {venta - 20} AS compra, {venta} AS venta,"
            f" DATE '2026-03-{day:02}' AS fecha, 200 AS _status,"
            f" TIMESTAMPTZ '2026-03-31 00:00:00Z' + to_seconds({self.clock}) AS _fetched_at",
        )

    def _file(self, table: str, select: str) -> None:
        self.clock += 1
        at = f"(TIMESTAMPTZ '2026-03-31 00:00:00Z' + to_seconds({self.clock}))"
        self.lake.commit(
            table,
            f"SELECT *, '{table}' AS _file, 'sha{self.clock}' AS _file_sha256,"
            f" row_number() OVER () AS _file_row, count(*) OVER () AS _file_rows,"
            f" {at} AS _kafka_ts, {at} AS _source_ts FROM ({select})",
        )

    def _commit(
        self, table: str, rows: list[dict[str, object]], op: str = "c", offset: int | None = None
    ) -> None:
        if not rows:
            return
        self.clock += 1
        at = f"(TIMESTAMPTZ '2026-03-31 00:00:00Z' + to_seconds({self.clock}))"
        selects = []
        for row in rows:
            values = [
                f"{'NULL' if row.get(name) is None else literal(str(row[name]))}::{type_}"
                f" AS {quoted(name)}"
                for name, type_ in COLUMNS[table].items()
            ]
            selects.append(f"SELECT {', '.join(values)}, {at} AS _kafka_ts, {at} AS _source_ts")
        offsets = None if offset is None else [offset]
        self.lake.commit(table, " UNION ALL ".join(selects), op, offsets=offsets)


class WholeProject(DbtProject):
    """Builds everything from nothing, beside the lake's own warehouse."""

    warehouse = Path()

    def _environment(self) -> None:
        super()._environment()
        os.environ["DUCKLAKE_WAREHOUSE"] = str(self.warehouse)


class Batch:
    """Cycles of one lake, and builds of the same commit from nothing."""

    def __init__(self, lake: ShopLake) -> None:
        self.lake = lake
        self.dbt = DbtProject(lake.config)
        self.whole = WholeProject(lake.config)
        self.whole.load()
        self.build = ModelBuild(lake.config, lake.ledger, self.dbt)
        self.publisher = Publisher(lake.config, lake.ledger)

    def cycle(self, finish: bool = True, fails: bool = False) -> BuildResult:
        """One cycle; without its end it is as if it had been killed before."""
        commit = self.lake.ledger.commits.last()
        result = self.build.run(commit)
        told = (result.outcome.held_back, result.outcome.failures)
        assert bool(result.outcome.failed) == fails, told
        if finish:
            published = self.publisher.publish(result.to_publish(), commit)
            self.build.finish(result, {n: s.cycle for n, s in published.items() if s.cycle >= 0})
        return result

    def edited(self, path: Path) -> None:
        """A model is edited; it means the same."""
        path.write_text(path.read_text(encoding="utf-8") + "-- edited\n", encoding="utf-8")

    def broken(self, path: Path, between: Callable[[], None]) -> None:
        """A model that DuckDB refuses, for two cycles with changes between them."""
        text = path.read_text(encoding="utf-8")
        try:
            path.write_text(
                f"select * from (\n{text}\n) cross join no_such_table", encoding="utf-8"
            )
            self.cycle(fails=True)
            between()
            self.cycle(fails=True)
        finally:
            path.write_text(text, encoding="utf-8")

    def compare(self) -> None:
        """Every model, and what is published of it, against a build from nothing."""
        warehouse = self.lake.ledger.paths.warehouse
        other = warehouse.with_name("other.duckdb")
        other.unlink(missing_ok=True)
        commit = self.lake.ledger.commits.last()
        with opened(other) as database:
            create_raw_views(self.lake.config, self.lake.ledger, commit, database)
            refresh_dead_letters(database, self.lake.ledger, commit)
        self.whole.warehouse = other
        built = outcome(self.whole.build(["resource_type:model"]))
        assert built.failed == 0, built
        with duckdb.connect() as database:
            database.execute(f"ATTACH {literal(str(warehouse))} AS now (READ_ONLY)")
            database.execute(f"ATTACH {literal(str(other))} AS whole (READ_ONLY)")
            lake_db = self.lake.ledger.paths.lake_db
            database.execute(f"ATTACH {literal(str(lake_db))} AS published (READ_ONLY)")
            for model in self.dbt.graph().models:
                pairs = [("now", "whole"), ("whole", "now")]
                if model.is_published:
                    pairs += [("published", "now"), ("now", "published")]
                for one, two in pairs:
                    surplus = database.execute(
                        f"FROM {one}.{model.relation} EXCEPT ALL FROM {two}.{model.relation}"
                    ).fetchall()
                    assert not surplus, f"{model.relation}: only in {one}: {surplus[:5]}"


def tell(folder: Path, chance: random.Random, changes: int) -> int:
    """A lake's story: changes, cycles between them, and comparisons; gives how many changes."""
    lake = ShopLake(folder)
    try:
        shop, batch = Shop(lake, 1), Batch(lake)
        shop.start()
        assert batch.cycle().plan.full
        batch.compare()
        shop.random = chance
        done = 0
        while done < changes:
            done += _chapter(shop, batch)
        while shop.late:
            shop.arrives()
        batch.cycle()
        batch.compare()
        return done
    finally:
        lake.close()


def _chapter(shop: Shop, batch: Batch) -> int:
    """Three cycles, some of which never end, and one more beside an edit; then all is compared."""
    done = 0
    for _ in range(3):
        for _ in range(shop.random.randint(1, 6)):
            shop.random.choice(shop.all())()
            done += 1
        batch.cycle(finish=shop.random.random() < 0.8)
    models = sorted((shop.lake.config.dbt_project / "models").glob("*/*.sql"))
    edit = shop.random.choice(["none", "edited", "broken"])
    if edit == "broken":
        batch.broken(shop.random.choice(models), shop.order)
    elif edit == "edited":
        batch.edited(shop.random.choice(models))
    batch.cycle()
    batch.compare()
    return done


@pytest.mark.timeout(600 + 15 * CHANGES)
def test_models_equal_those_computed_from_nothing(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebuilds, new epochs, kills, edited and broken models included."""
    monkeypatch.setattr("batcher.snapshot_writer.LAYERED_ROWS", 20)
    seed = int(os.environ.get("DUCKLAKE_SEED", random.randrange(2**32)))
    print(f"DUCKLAKE_SEED={seed}  {__name__}")
    told: list[int] = []

    @settings(
        max_examples=math.ceil(CHANGES / STORY),
        phases=(Phase.generate,),  # a shorter story takes longer to find than to read this one
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False), st.integers(0, 99))
    def story(chance: random.Random, number: int) -> None:
        assume(number)  # the simplest example, which comes first, makes every choice alike
        for name in ("DUCKLAKE_WAREHOUSE", "DUCKLAKE_DBT_PACKAGES", "DUCKLAKE_DBT_TARGET"):
            monkeypatch.setenv(name, "")  # dbt's settings are the process's: each lake has its own
        told.append(tell(tmp_path_factory.mktemp("models"), chance, min(STORY, CHANGES)))

    hypothesis.seed(seed)(story)()
    assert sum(told) >= CHANGES, told
    print(f"{len(told)} lakes, {sum(told)} changes")
