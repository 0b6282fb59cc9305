"""What a cycle builds: what changed since it was green; and what it holds back.

The shop's own project is too large for that: this one has a staging model, a model of groups that
reads it, and a plain table behind both.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batcher.cycle_result import Cycle
from batcher.dbt_build import DbtProject
from batcher.duckdb_copy import copy_published
from batcher.failures import failures, keep_failures
from batcher.model_build import BuildResult, ModelBuild
from batcher.publish import Publisher
from benchmarks.shop_lake import COLUMNS, ShopLake
from lake.errors import BatchError
from lake.storage.sql import literal

MODELS = {
    "stg_orders.sql": """
{{ config(materialized='change_tracked', meta={'primary_key': ['order_id']}) }}
select order_id, customer_id, total_ars
from ({{ dbt_ducklake.latest_version(source('raw', 'orders'), 'order_id') }}) as source
""",
    "by_customer.sql": """
{{ config(materialized='change_tracked', meta={'primary_key': ['customer_id']}) }}
{% call dbt_ducklake.touched() %}
select customer_id from {{ dbt_ducklake.changes(ref('stg_orders')) }}
{% endcall %}
select customer_id, count(*) as orders, sum(total_ars) as total
from {{ dbt_ducklake.touched_rows(ref('stg_orders'), 'customer_id') }}
group by customer_id
""",
    "summary.sql": """
{{ config(materialized='table') }}
select count(*) as customers, sum(total) as total from {{ ref('by_customer') }}
""",
    "products.sql": """
{{ config(materialized='table') }}
select product_id, price_ars from {{ source('raw', 'products') }}
""",
    "daily.sql": """
{{ config(materialized='table') }}
select current_date as today
""",
    "schema.yml": """
sources:
  - name: raw
    schema: raw
    tables: [{name: orders}, {name: products}]
models:
  - name: stg_orders
    columns:
      - name: order_id
        data_tests: [unique, not_null]
      - name: total_ars
        data_tests:
          - not_null
          - at_most:
              arguments: {most: 1000}
""",
}
WARNED_ORDERS = (
    "{name: orders, columns: [{name: order_id, data_tests: [{accepted_values: {arguments: "
    "{values: [1], quote: false}, config: {severity: warn}}}]}]}"
)
"""The source, with a test that warns of every order but one."""
AT_MOST = """
{% test at_most(model, column_name, most) %}
select * from {{ model }} where {{ column_name }} > {{ most }}
{% endtest %}
"""
PROJECT = """
name: shop
version: "1.0.0"
profile: techstore
models: {shop: {+schema: staging}}
vars: {row_tests: [at_most]}
dispatch: [{macro_namespace: dbt, search_order: [shop, dbt_ducklake, dbt]}]
packages-install-path: "{{ env_var('DUCKLAKE_DBT_PACKAGES') }}"
"""


class SmallShop:
    """A lake with a small project, and its cycles."""

    def __init__(self, folder: Path) -> None:
        self.lake = ShopLake(folder)
        project = folder / "dbt_techstore"
        for name in ("models", "tests"):
            shutil.rmtree(project / name)
        for macro in (project / "macros").glob("*.sql"):
            if macro.name != "generate_schema_name.sql":
                macro.unlink()
        (project / "models").mkdir()
        (project / "dbt_project.yml").write_text(PROJECT)
        (project / "package-lock.yml").unlink(missing_ok=True)
        (project / "macros" / "at_most.sql").write_text(AT_MOST)
        for name, text in MODELS.items():
            (project / "models" / name).write_text(text)
        self.models = project / "models"
        self.dbt = DbtProject(self.lake.config)
        self.build = ModelBuild(self.lake.config, self.lake.ledger, self.dbt)
        self.publisher = Publisher(self.lake.config, self.lake.ledger)
        self.last: BuildResult | None = None

    def orders(self, *rows: tuple[int, int, int | None], op: str = "c") -> None:
        """Commit orders: id, customer, total."""
        values = ", ".join(f"({a}, {b}, {'NULL' if c is None else c})" for a, b, c in rows)
        self.lake.commit(
            "orders", f"SELECT * FROM (VALUES {values}) v(order_id, customer_id, total_ars)", op
        )

    def cycle(self, rebuild: tuple[str, ...] | None = ()) -> BuildResult:
        """A cycle, published."""
        commit = self.lake.ledger.commits.last()
        result = self.last = self.build.run(commit, rebuild)
        outcome, paths = result.outcome, self.lake.ledger.paths
        keep_failures(paths, outcome.failures, outcome.asked, result.tests, commit)
        published = self.publisher.publish(result.to_publish(), commit)
        self.build.finish(result, {n: s.cycle for n, s in published.items() if s.cycle >= 0})
        return result

    def built(self) -> set[str]:
        """Names of the models that a cycle builds now."""
        return {model.name for model in self.cycle().plan.models}

    def published(self, model: str) -> list[tuple[object, ...]]:
        """Rows of a published model."""
        with duckdb.connect(str(self.lake.ledger.paths.lake_db), read_only=True) as database:
            rows: list[tuple[object, ...]] = database.execute(
                f"FROM staging.{model} ORDER BY ALL"
            ).fetchall()
            return rows


@contextmanager
def restored(path: Path) -> Iterator[str]:
    """The text of a file, which is as it was afterwards."""
    text = path.read_text()
    try:
        yield text
    finally:
        path.write_text(text)


@contextmanager
def written(files: Mapping[Path, str]) -> Iterator[None]:
    """Files that are there for a while."""
    try:
        for path, text in files.items():
            path.write_text(text)
        yield
    finally:
        for path in files:
            path.unlink()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallShop]:
    shop = SmallShop(tmp_path_factory.mktemp("selection"))
    try:
        shop.orders((1, 1, 10), (2, 1, 20), (3, 2, 30))
        shop.lake.commit("products", "SELECT 1 AS product_id, 5 AS price_ars")
        result = shop.cycle()
        assert len(result.plan.models) == 5 and not result.outcome.held_back, result.outcome
        yield shop
    finally:
        shop.lake.close()


@pytest.fixture
def shop(started: SmallShop) -> SmallShop:
    assert started.built() == set()  # every test leaves a shop in which nothing is left to do
    return started


def test_new_rows_select_what_reads_them_and_what_is_behind(shop: SmallShop) -> None:
    shop.orders((4, 2, 40))
    assert shop.built() == {"stg_orders", "by_customer", "summary"}
    assert shop.published("by_customer")[1][:2] == (2, 2)
    shop.lake.commit("products", "SELECT 2 AS product_id, 6 AS price_ars")
    assert shop.built() == {"products"}


def test_a_cycle_tells_what_it_wrote_and_which_models_it_computed_as_a_whole(
    shop: SmallShop,
) -> None:
    shop.orders((80, 80, 1), (81, 80, 2))
    result = shop.cycle()
    cycle = Cycle(1, result.outcome, plan=result.plan, rows=result.rows).summary()
    assert cycle.rows_written == {"staging.stg_orders": 2, "staging.by_customer": 1}
    assert cycle.whole == ("staging.summary",)
    assert set(cycle.model_seconds) == {*cycle.rows_written, "staging.summary"}
    rebuilt = shop.cycle(("stg_orders",))
    assert rebuilt.rows["staging.stg_orders"] == len(shop.published("stg_orders"))


def test_rows_below_the_newest_offset_are_new_as_well(shop: SmallShop) -> None:
    missing = shop.lake.skip("orders")
    shop.orders((5, 3, 50))
    assert "stg_orders" in shop.built()
    shop.lake.commit(
        "orders", "SELECT 6 AS order_id, 3 AS customer_id, 60 AS total_ars", offsets=[missing]
    )
    assert shop.built() == {"stg_orders", "by_customer", "summary"}
    assert (3, 2, 110) in [(a, b, int(float(str(c)))) for a, b, c in shop.published("by_customer")]


def test_an_older_version_that_comes_late_changes_nothing(shop: SmallShop) -> None:
    early, other = shop.lake.skip("orders"), shop.lake.skip("orders")
    shop.orders((60, 6, 1), (61, 6, 2))
    shop.cycle()
    shop.orders((61, 6, 2), op="d")
    shop.orders((60, 6, 3), op="u")
    shop.cycle()
    before = shop.published("stg_orders")
    for offset, order in ((early, 60), (other, 61)):
        query = f"SELECT {order} AS order_id, 6 AS customer_id, 77 AS total_ars"
        shop.lake.commit("orders", query, offsets=[offset])
    shop.cycle()
    assert shop.published("stg_orders") == before


def test_a_row_that_moves_changes_both_groups(shop: SmallShop) -> None:
    shop.orders((70, 70, 1), (71, 71, 1))
    shop.cycle()
    assert {(70, 1), (71, 1)} <= {row[:2] for row in shop.published("by_customer")}
    shop.orders((70, 71, 1), op="u")
    shop.cycle()
    found = {row[0]: row[1] for row in shop.published("by_customer")}
    assert 70 not in found and found[71] == 2


def test_an_edited_model_is_built_once_with_what_is_behind_it(shop: SmallShop) -> None:
    path = shop.models / "by_customer.sql"
    path.write_text(
        path.read_text().replace("sum(total_ars) as total", "sum(total_ars) + 1 as total")
    )
    before = shop.published("by_customer")
    assert shop.build.is_due(shop.last)
    assert shop.built() == {"by_customer", "summary"}
    assert shop.published("by_customer") != before
    assert not shop.build.is_due(shop.last)
    assert shop.built() == set()


def test_an_edited_macro_selects_the_models_that_call_it(shop: SmallShop) -> None:
    macro = shop.models.parent / "macros" / "twice.sql"
    macro.write_text("{% macro twice(x) %}2 * {{ x }}{% endmacro %}")
    path = shop.models / "products.sql"
    path.write_text(
        path.read_text()
        .replace("price_ars\n", "{{ twice('price_ars') }} as p\n", 1)
        .replace("price_ars from", "{{ twice('price_ars') }} as p from")
    )
    assert shop.built() == {"products"}
    macro.write_text("{% macro twice(x) %}3 * {{ x }}{% endmacro %}")
    assert shop.built() == {"products"}


def test_a_new_day_selects_what_asks_for_today(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    import batcher.model_build as module

    class Tomorrow(module.datetime):  # type: ignore[name-defined, misc]
        @classmethod
        def now(cls, tz: object = None) -> object:
            from datetime import timedelta

            return super().now(tz) + timedelta(days=1)

    with monkeypatch.context() as patch:
        patch.setattr(module, "datetime", Tomorrow)
        assert shop.built() == {"daily"}
        assert shop.built() == set()
    assert shop.built() == {"daily"}


def test_a_failed_test_holds_back_until_it_is_green(shop: SmallShop) -> None:
    before = shop.published("stg_orders"), shop.published("by_customer"), shop.published("summary")
    shop.orders((20, 9, 5000))
    result = shop.cycle()
    assert set(result.outcome.held_back) >= {"staging.stg_orders", "staging.by_customer"}
    [failure] = failures(shop.lake.ledger.paths)
    assert "at_most" in failure.test and failure.models == ("staging.stg_orders",)
    assert [row[0] for row in failure.rows] == ["20"]
    # Other rows, and rows of other tables, let nothing slip through.
    shop.orders((21, 9, 1))
    shop.lake.commit("products", "SELECT 3 AS product_id, 6 AS price_ars")
    result = shop.cycle()
    assert "staging.stg_orders" in result.outcome.held_back
    assert "products" in {model.name for model in result.outcome.passed}
    after = shop.published("stg_orders"), shop.published("by_customer"), shop.published("summary")
    assert after == before
    result = shop.cycle()  # nothing new, and still not green
    assert "staging.stg_orders" in result.outcome.held_back
    shop.orders((20, 9, 500), op="u")
    result = shop.cycle()
    assert not result.outcome.held_back
    assert not failures(shop.lake.ledger.paths)
    assert (20, 9, 500) in [(a, b, int(float(str(c)))) for a, b, c in shop.published("stg_orders")]
    assert (9, 2) in [row[:2] for row in shop.published("by_customer")]


def test_an_edited_test_reads_all_rows_though_nothing_was_committed(shop: SmallShop) -> None:
    """It holds back what old rows break, and lets go as soon as it is put right."""
    about = shop.models / "schema.yml"
    assert shop.last is not None
    with restored(about) as text:
        about.write_text(text.replace("most: 1000", "most: 25"))
        assert shop.build.is_due(shop.last)
        result = shop.cycle()
        assert result.plan.why["staging.stg_orders"] == "tests changed"
        assert not result.plan.full
        assert set(result.outcome.held_back) >= {"staging.stg_orders"}
        again = shop.cycle()  # it stays so until it is green
        assert "staging.stg_orders" in again.outcome.held_back
    assert shop.cycle().outcome.held_back == {}


def test_an_edited_test_of_a_source_reads_all_of_raw(shop: SmallShop) -> None:
    about = shop.models / "schema.yml"
    with restored(about) as text:
        about.write_text(text.replace("{name: orders}", WARNED_ORDERS))
        result = shop.cycle()
        assert result.plan.why["staging.stg_orders"] == "tests changed"
        assert result.outcome.warned == 1
    assert shop.cycle().outcome.warned == 0


NAMED_LIKE_SQL = {
    "lines.sql": """
{{ config(materialized='change_tracked', meta={'primary_key': ['order', 'línea no']}) }}
select "order", "línea no", "group", "from"
from ({{ dbt_ducklake.latest_version(source('raw', 'customers'), 'order, "línea no"') }}) as source
""",
    "by_group.sql": """
{{ config(materialized='change_tracked', meta={'primary_key': ['group']}) }}
{% call dbt_ducklake.touched() %}
select "group" from {{ dbt_ducklake.changes(ref('lines')) }}
{% endcall %}
select "group", count(*) as lines
from {{ dbt_ducklake.touched_rows(ref('lines'), 'group') }}
group by "group"
""",
    "lines.yml": """
sources: [{name: raw, schema: raw, tables: [{name: customers}]}]
models:
  - name: lines
    columns:
      - name: group
        quote: true
        data_tests:
          - not_null
          - relationships: {arguments: {to: ref('by_group'), field: '"group"'}}
      - name: from
        quote: true
        data_tests: [unique]
  - name: by_group
    columns: [{name: group, quote: true, data_tests: [unique]}]
""",
}


def test_columns_may_be_called_as_words_of_sql_are(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"order": "INTEGER", "línea no": "INTEGER", "group": "INTEGER", "from": "VARCHAR"}
    monkeypatch.setitem(COLUMNS, "customers", columns)

    def lines(op: str, *rows: tuple[int, int, int | str, str]) -> None:
        values = ", ".join(f"({a}, {b}, {c}, '{d}')" for a, b, c, d in rows)
        named = ", ".join(f'"{name}"' for name in columns)
        shop.lake.commit("customers", f"SELECT * FROM (VALUES {values}) v({named})", op)

    with written({shop.models / name: text for name, text in NAMED_LIKE_SQL.items()}):
        lines("c", (1, 1, 7, "a"), (1, 2, 7, "b"), (2, 1, 8, "c"))
        assert not shop.cycle().outcome.held_back
        lines("u", (1, 2, 8, "b"))
        lines("d", (2, 1, 8, "c"))
        result = shop.cycle()
        assert not result.outcome.held_back and not result.outcome.failures
        assert shop.published("by_group") == [(7, 1), (8, 1)]
        lines("u", (1, 1, "NULL", "b"))
        failed = {failure.name for failure in shop.cycle().outcome.failures}
        assert len(failed) == 2, failed  # not_null of "group", unique of "from"
        lines("u", (1, 1, 9, "a"))
        assert not shop.cycle().outcome.held_back
        assert shop.published("by_group") == [(8, 1), (9, 1)]
    shop.cycle()


REFERRED = """
{{ config(materialized='change_tracked', meta={'primary_key': ['product_id']}) }}
select product_id, price_ars
from ({{ dbt_ducklake.latest_version(source('raw', 'products'), 'product_id') }}) as source
"""
REFERRING = """
models:
  - name: by_customer
    columns:
      - name: customer_id
        data_tests:
          - relationships: {arguments: {to: "ref('clients')", field: product_id}}
"""


def test_a_row_that_others_refer_to_is_missed_as_it_goes(shop: SmallShop) -> None:
    """Nothing of the referring model changed: its rows are as green as they were, and wrong."""
    added = {shop.models / "clients.sql": REFERRED, shop.models / "clients.yml": REFERRING}
    with written(added):
        for each in {c for c, *_ in shop.published("by_customer")} - {1}:
            shop.lake.commit("products", f"SELECT {each} AS product_id, 5 AS price_ars")
        assert shop.cycle().outcome.held_back == {}
        shop.lake.commit("products", "SELECT 1 AS product_id, 6 AS price_ars", "u")
        assert shop.cycle().outcome.held_back == {}
        shop.lake.commit("products", "SELECT 1 AS product_id, 6 AS price_ars", "d")
        result = shop.cycle()
        assert not result.tests_all
        assert set(result.outcome.held_back) == {"staging.clients", "staging.by_customer"}
        [failed] = result.outcome.failures
        assert "semi join" in failed.query  # asked for what has changed, not for the whole table
        shop.lake.commit("products", "SELECT 1 AS product_id, 7 AS price_ars")
        assert shop.cycle().outcome.held_back == {}
    assert shop.cycle().outcome.held_back == {}


BESIDE = {
    771: "{{ ref('clients') }}",
    772: "{{ source('raw', 'products') }}",
    773: "({{ dbt_ducklake.latest_version(source('raw', 'products'), 'product_id') }})",
}
PRICED = """
{{ config(materialized='change_tracked', meta={'primary_key': ['order_id']}) }}
select source.order_id, max(priced.price_ars) as price_ars
from ({{ dbt_ducklake.latest_version(source('raw', 'orders'), 'order_id') }}) as source
left join BESIDE as priced on source.customer_id = priced.product_id
group by source.order_id
"""


@pytest.mark.parametrize("customer", list(BESIDE))
def test_latest_versions_beside_something_else_miss_no_change_of_it(
    shop: SmallShop, customer: int
) -> None:
    """New records of one table do not tell which rows a change of another concerns."""
    added = {
        shop.models / "clients.sql": REFERRED,
        shop.models / "priced.sql": PRICED.replace("BESIDE", BESIDE[customer]),
    }
    with written(added):
        shop.orders((customer, customer, 1))
        for price in (5, 6):
            shop.lake.commit("products", f"SELECT {customer} AS product_id, {price} AS price_ars")
            result = shop.cycle()
            assert not result.outcome.failed
            assert (customer, price) in shop.published("priced")
        assert result.graph.by_relation["staging.priced"].is_computed_whole  # status says so
    assert not shop.cycle().outcome.failed


def test_groups_of_a_model_that_reads_a_plain_table_are_all_computed(shop: SmallShop) -> None:
    """A table does not tell what changed in it; nor does a group that went away."""
    added = {
        shop.models
        / "plain.sql": """
{{ config(materialized='table') }}
select order_id, customer_id from {{ ref('stg_orders') }}
""",
        shop.models
        / "over_plain.sql": """
{{ config(materialized='change_tracked', meta={'primary_key': ['customer_id']}) }}
{% call dbt_ducklake.touched() %}
select customer_id from {{ ref('plain') }}
{% endcall %}
select customer_id, count(*) as orders
from {{ dbt_ducklake.touched_rows(ref('plain'), 'customer_id') }}
group by customer_id
""",
    }
    with written(added):
        shop.orders((910, 88, 1))
        assert not shop.cycle().outcome.failed
        assert (88, 1) in shop.published("over_plain")
        shop.orders((910, 88, 1), op="d")
        assert not shop.cycle().outcome.failed
        assert 88 not in {customer for customer, *_ in shop.published("over_plain")}
    shop.cycle()


def test_a_failed_test_of_raw_holds_back_until_it_is_green(shop: SmallShop) -> None:
    """The row that breaks it is new in one cycle only, and holds back in each."""
    about = shop.models / "schema.yml"
    tested = "{name: orders, columns: [{name: order_id, data_tests: [{accepted_values: {arguments: "
    tested += "{values: [920], quote: false}, config: {where: order_id > 919}}}]}]}"
    with restored(about) as text:
        about.write_text(text.replace("{name: orders}", tested))
        shop.orders((920, 1, 1))
        assert shop.cycle().outcome.held_back == {}
        shop.orders((921, 1, 1))
        for order in (922, 923, 924):
            assert "staging.stg_orders" in shop.cycle().outcome.held_back
            shop.orders((order, 1, 1))
        assert (921, 1, 1) not in shop.published("stg_orders")
        about.write_text(text.replace("{name: orders}", tested.replace("[920]", "[920, 921]")))
        assert "staging.stg_orders" in shop.cycle().outcome.held_back
    assert shop.cycle().outcome.held_back == {}
    assert (921, 1, 1) in shop.published("stg_orders")


def test_a_key_is_unique_in_raw_among_old_rows_as_well(shop: SmallShop) -> None:
    about = shop.models / "schema.yml"
    tested = "{name: orders, columns: [{name: order_id, data_tests: [{unique: {config: "
    tested += "{severity: warn, where: order_id > 929}}}]}]}"
    with restored(about) as text:
        about.write_text(text.replace("{name: orders}", tested))
        shop.orders((930, 1, 1))
        assert shop.cycle().outcome.warned == 0
        shop.orders((930, 1, 2), op="u")
        assert shop.cycle().outcome.warned == 1
        shop.orders((931, 1, 2))
        assert shop.cycle().outcome.warned == 1  # a warning that is true still is told
        [found] = failures(shop.lake.ledger.paths)
        assert found.status == "warn" and found.rows == (("930", "2"),)
        shop.lake.commit("products", "SELECT 1 AS product_id, 8 AS price_ars")
        shop.cycle()  # nothing that it reads has changed: it did not run, and is not over
        assert len(failures(shop.lake.ledger.paths)) == 1
    shop.cycle()
    assert failures(shop.lake.ledger.paths) == ()


def test_a_warning_that_is_slow_to_look_for_is_told_until_the_full_tests(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is worth no whole table in each cycle, and not over because nobody has looked."""
    monkeypatch.setattr("batcher.model_tests.SLOW_SECONDS", -1.0)
    about = shop.models / "schema.yml"
    rule = "- at_most:\n              arguments: {most: 1000}"
    with restored(about) as text:
        assert rule in text
        about.write_text(text.replace(rule, rule + "\n              config: {severity: warn}"))
        assert shop.cycle().outcome.warned == 0
        shop.orders((935, 1, 1001))
        assert shop.cycle().outcome.warned == 1
        for order in (936, 937):
            shop.orders((order, 1, 1))
            assert shop.cycle().outcome.warned == 0
            assert [found.status for found in failures(shop.lake.ledger.paths)] == ["warn"]
        shop.orders((935, 1, 1), op="u")
        shop.cycle()
        assert len(failures(shop.lake.ledger.paths)) == 1
        later = time.time() + 3600 * shop.lake.config.settings.batch.full_tests_hours + 60
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda: later)
            assert shop.cycle().tests_all
        assert failures(shop.lake.ledger.paths) == ()
    shop.cycle()


def test_what_no_test_has_read_is_not_published(shop: SmallShop) -> None:
    """A test that also reads a model which could not be built has not passed."""
    added = {shop.models / "clients.sql": REFERRED, shop.models / "clients.yml": REFERRING}
    broken = REFERRED.replace("price_ars\n", "price_ars / cast('no' as int) as price_ars\n")
    assert broken != REFERRED
    with written(added):
        for each in {c for c, *_ in shop.published("by_customer")}:
            shop.lake.commit("products", f"SELECT {each} AS product_id, 5 AS price_ars")
        assert shop.cycle().outcome.held_back == {}
        (shop.models / "clients.sql").write_text(broken)
        shop.orders((940, 999_999, 1))
        held = shop.cycle().outcome.held_back
        assert "did not run: clients was not built" in held["staging.by_customer"]
        assert 999_999 not in {c for c, *_ in shop.published("by_customer")}
        (shop.models / "clients.sql").write_text(REFERRED)
        assert "staging.by_customer" in shop.cycle().outcome.held_back  # it has no such client
        shop.lake.commit("products", "SELECT 999999 AS product_id, 5 AS price_ars")
        assert shop.cycle().outcome.held_back == {}
    shop.cycle()


def test_an_edited_seed_and_what_is_inlined_are_noticed(shop: SmallShop) -> None:
    project = shop.models.parent
    added = {
        project / "seeds" / "rates.csv": "customer_id,rate\n1,2\n2,3\n",
        shop.models
        / "inlined.sql": """
{{ config(materialized='ephemeral') }}
select customer_id, orders from {{ ref('by_customer') }}
""",
        shop.models
        / "rated.sql": """
{{ config(materialized='change_tracked', meta={'primary_key': ['customer_id']}) }}
select rates.customer_id, rates.rate, inlined.orders
from {{ ref('rates') }} as rates
left join {{ ref('inlined') }} as inlined on inlined.customer_id = rates.customer_id
""",
    }
    (project / "seeds").mkdir(exist_ok=True)
    with written(added):
        assert not shop.cycle().outcome.failed
        before = {row[0]: row[1:] for row in shop.published("rated")}
        assert {key: row[0] for key, row in before.items()} == {1: 2, 2: 3}
        assert shop.built() == set()  # an inlined model is nothing to be built again and again
        shop.orders((950, 2, 1))
        shop.cycle()
        assert {r[0]: r[2] for r in shop.published("rated")}[2] == int(str(before[2][1])) + 1
        (project / "seeds" / "rates.csv").write_text("customer_id,rate,note\n1,4,x\n2,5,y\n")
        assert shop.last is not None and shop.build.is_due(shop.last)
        assert not shop.cycle().outcome.failed
        assert {r[0]: r[1] for r in shop.published("rated")} == {1: 4, 2: 5}
    shop.cycle()


@pytest.mark.parametrize(
    "config", ["untracked=['products']", "sql_header='select 1;'", "own_key='x'"]
)
def test_any_edited_configuration_builds_a_model_anew(shop: SmallShop, config: str) -> None:
    model = shop.models / "by_customer.sql"
    text = model.read_text()
    try:
        model.write_text(text.replace("'change_tracked',", f"'change_tracked', {config},", 1))
        assert shop.cycle().plan.why["staging.by_customer"] == "definition changed"
    finally:
        model.write_text(text)
    assert shop.cycle().plan.why["staging.by_customer"] == "definition changed"


def test_an_edited_description_is_published_without_a_change_of_rows(shop: SmallShop) -> None:
    about = shop.models / "schema.yml"
    with restored(about) as text:
        about.write_text(
            text.replace("- name: stg_orders", "- name: stg_orders\n    description: Of a shop.")
        )
        result = shop.cycle()
        assert result.plan.why == {
            "staging.stg_orders": "description changed",
            "staging.by_customer": "staging.stg_orders is built",
            "staging.summary": "staging.by_customer is built",
        }
        assert result.rows["staging.stg_orders"] == 0
        snapshot = shop.publisher.current()["staging.stg_orders"]
        assert snapshot.description.text == "Of a shop."
    shop.cycle()


def test_full_tests_are_due_though_nothing_arrives(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.last is not None and not shop.build.is_due(shop.last)
    tested_at = shop.last.state.full_tests_at
    later = tested_at + 3600 * shop.lake.config.settings.batch.full_tests_hours + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert shop.build.is_due(shop.last)


def test_what_the_full_tests_find_in_old_rows_holds_back_until_it_is_green(
    shop: SmallShop,
) -> None:
    warehouse = shop.lake.ledger.paths.warehouse
    change = "UPDATE staging.stg_orders SET total_ars = {} WHERE order_id = 1"
    with duckdb.connect(str(warehouse)) as database:  # behind everybody's back: nothing is new
        database.execute(change.format(5000))
    assert not shop.cycle().plan.models
    assert shop.last is not None
    state = replace(shop.last.state, full_tests_at=0.0)
    shop.build.finish(replace(shop.last, state=state), {})
    assert shop.cycle().outcome.failed == 1
    for _ in range(2):  # the row does not change, and does not slip through
        assert "at_most" in shop.cycle().outcome.held_back["staging.stg_orders"]
    with duckdb.connect(str(warehouse)) as database:
        database.execute(change.format(10))
    assert not shop.cycle().outcome.held_back


def test_a_held_back_model_that_is_mended_is_noticed_though_nothing_is_committed(
    shop: SmallShop,
) -> None:
    path = shop.models / "products.sql"
    text = path.read_text()
    path.write_text(text.replace("select", "select nothing_like_it,", 1))
    assert "staging.products" in shop.cycle().outcome.held_back
    assert not shop.build.is_due(shop.last)
    path.write_text(text)
    assert shop.build.is_due(shop.last)
    assert not shop.cycle().outcome.held_back


def test_uniqueness_is_tested_against_the_whole_table(shop: SmallShop) -> None:
    path = shop.models / "stg_orders.sql"
    text = path.read_text()
    shop.orders((30, 4, 1))
    shop.cycle()
    path.write_text(text.replace("as source", "as source union all select 30, 4, 1"))
    result = shop.cycle()  # built from nothing: every test reads the whole table
    assert "unique" in result.outcome.held_back["staging.stg_orders"]
    path.write_text(text)
    assert not shop.cycle().outcome.held_back


def test_a_full_refresh_builds_what_is_named_and_what_is_behind(shop: SmallShop) -> None:
    result = shop.cycle(("by_customer",))
    assert {m.name for m in result.plan.models} == {"by_customer", "summary"}
    assert result.plan.full == {"staging.by_customer"}
    assert len(shop.cycle(None).plan.full) == 5
    with pytest.raises(BatchError, match="no model nobody"):
        shop.cycle(("nobody",))


def test_a_model_must_say_what_every_model_it_reads_touches(shop: SmallShop) -> None:
    """By its log: that its name is part of another word says nothing."""
    clients, path = shop.models / "clients.sql", shop.models / "by_customer.sql"
    text = path.read_text()
    clients.write_text(REFERRED)
    unsaid = text.replace("select customer_id from", "select customer_id as clients from", 1)
    unsaid += "having count(*) > (select 0 * count(*) from {{ ref('clients') }})"
    path.write_text(unsaid)
    shop.cycle()
    shop.orders((40, 4, 1))
    result = shop.cycle()
    assert "Compilation Error" in result.outcome.held_back["staging.by_customer"]
    path.write_text(unsaid.replace("'change_tracked',", "'change_tracked', untracked=['clients'],"))
    shop.orders((41, 4, 1))
    assert not shop.cycle().outcome.held_back
    path.write_text(text)
    clients.unlink()
    assert not shop.cycle().outcome.held_back


def test_a_cycle_that_was_killed_before_its_end_is_done_again(shop: SmallShop) -> None:
    shop.orders((50, 5, 1), (51, 5, 2))
    shop.build.run(shop.lake.ledger.commits.last())  # built; nothing published, nothing kept
    shop.orders((50, 5, 3), op="u")
    assert shop.built() == {"stg_orders", "by_customer", "summary"}
    assert (5, 2, 6) in [(a, b, int(float(str(c)))) for a, b, c in shop.published("by_customer")]


def test_a_row_that_changes_before_and_after_a_kill_is_published_once(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the killed cycle has logged is not what the next one logs of the same row."""

    def of_customer(number: int) -> tuple[list[object], list[object]]:
        orders = [row for row in shop.published("stg_orders") if row[1] == number]
        return list(orders), [r[:2] for r in shop.published("by_customer") if r[0] == number]

    monkeypatch.setattr("batcher.snapshot_writer.LAYERED_ROWS", 1)
    monkeypatch.setattr("batcher.snapshot_writer.LAYERED_PART", 10**6)
    shop.orders((960, 96, 1), (961, 96, 1))
    shop.cycle()
    for total in (2, 3):
        shop.orders((960, 96, total), op="u")
        shop.build.run(shop.lake.ledger.commits.last())  # killed before it publishes
    shop.orders((960, 96, 4), op="u")
    shop.cycle()
    assert of_customer(96) == ([(960, 96, 4), (961, 96, 1)], [(96, 2)])
    assert shop.build.run(shop.lake.ledger.commits.last()).plan.models == ()
    shop.orders((961, 96, 7), op="u")
    shop.build.run(shop.lake.ledger.commits.last())  # killed, and nothing comes after it
    assert shop.built() == {"stg_orders", "by_customer", "summary"}
    assert of_customer(96) == ([(960, 96, 4), (961, 96, 7)], [(96, 2)])


def by_dbt(shop: SmallShop, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that dbt is asked to build from now on."""
    asked: list[str] = []
    build = shop.dbt.build

    def told(select: Sequence[str] = (), full: bool = False) -> list[Any]:
        asked.extend(select or ["all"])
        return build(select, full)

    monkeypatch.setattr(shop.dbt, "build", told)
    return asked


def test_dbt_builds_only_what_cannot_be_changed_row_by_row(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = by_dbt(shop, monkeypatch)
    shop.orders((9500, 950, 1), (9501, 950, 2))
    result = shop.cycle()
    assert asked == ["summary"]
    assert result.rows == {"staging.stg_orders": 2, "staging.by_customer": 1}
    assert (950, 2) in [row[:2] for row in shop.published("by_customer")]


def test_models_behind_one_that_stays_as_it_was_are_left_alone(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = shop.lake.skip("orders")
    shop.orders((9510, 951, 1))
    shop.cycle()
    asked = by_dbt(shop, monkeypatch)
    shop.lake.commit(
        "orders", "SELECT 9510 AS order_id, 951 AS customer_id, 9 AS total_ars", offsets=[late]
    )
    result = shop.cycle()
    assert result.outcome.unchanged == {"staging.by_customer", "staging.summary"}
    assert (result.outcome.models, asked) == (1, [])
    assert set(result.outcome.seconds) == {"staging.stg_orders"}
    # They have read everything, and their turn comes with the next row that changes.
    shop.orders((9511, 951, 2))
    assert not shop.cycle().outcome.unchanged and asked == ["summary"]
    assert (951, 2) in [row[:2] for row in shop.published("by_customer")]


ASKS_BACK = """
{{ config(materialized='change_tracked', meta={'primary_key': ['largest']}) }}
{%- set found = run_query('select max(order_id) from ' ~ ref('stg_orders')) -%}
select {{ found.columns[0].values()[0] if execute else 0 }} as largest
from {{ ref('stg_orders') }}
limit 1
"""


def test_a_model_whose_text_depends_on_data_is_rendered_in_each_cycle(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shop.models / "largest.sql"
    model.write_text(ASKS_BACK)
    try:
        assert shop.built() == {"largest"}
        asked = by_dbt(shop, monkeypatch)
        for number in (9520, 9521):
            shop.orders((number, 52, 1))
            shop.cycle()
            assert shop.published("largest") == [(number,)]
        assert asked.count("largest") == 2
    finally:
        model.unlink()
        shop.cycle()


def test_a_plain_table_over_macros_of_tracked_models_reads_everything(shop: SmallShop) -> None:
    models = {name: shop.models / f"{name}.sql" for name in ("plain_orders", "plain_customers")}
    models["plain_orders"].write_text(MODELS["stg_orders.sql"].replace("change_tracked", "table"))
    models["plain_customers"].write_text(
        MODELS["by_customer.sql"].replace("change_tracked", "table")
    )
    try:
        for number in (9540, 9541):
            shop.orders((number, 954, 1))
            assert not shop.cycle().outcome.held_back
            assert shop.published("plain_orders") == shop.published("stg_orders")
            assert (954, number - 9539) in [r[:2] for r in shop.published("plain_customers")]
    finally:
        for model in models.values():
            model.unlink()
        shop.cycle()


def test_a_statement_that_fails_holds_back_its_model_and_what_is_behind_it(
    shop: SmallShop,
) -> None:
    model = shop.models / "by_customer.sql"
    good = model.read_text()
    try:
        model.write_text(
            good.replace("count(*)", "count(*) + sum(if(order_id = 9531, 'none', '0')::int)")
        )
        shop.orders((9530, 953, 1))
        assert not shop.cycle().outcome.held_back
        before = shop.published("by_customer")
        shop.orders((9531, 953, 1))
        held = shop.cycle().outcome.held_back
        assert set(held) == {"staging.by_customer", "staging.summary"}
        assert "none" in held["staging.by_customer"]
        assert shop.published("by_customer") == before
        assert (9531, 953, 1) in [row[:3] for row in shop.published("stg_orders")]
        shop.orders((9531, 953, 1), op="d")
        shop.orders((9532, 953, 4))
        assert not shop.cycle().outcome.held_back
        assert (953, 2) in [row[:2] for row in shop.published("by_customer")]
    finally:
        model.write_text(good)
        shop.cycle()


def test_an_edited_package_is_noticed_where_it_is_a_link(shop: SmallShop) -> None:
    """dbt links a package of this machine; its YAML counts as its SQL does."""
    package = shop.lake.config.dbt_project.parent / "dbt_ducklake"
    assert shop.last is not None and not shop.build.is_due(shop.last)
    for name in ("macros/notes.yml", "macros/notes.sql"):
        path = package / name
        path.write_text("version: 2\n" if name.endswith("yml") else "{# nothing #}\n")
        try:
            assert shop.build.is_due(shop.last), name
        finally:
            path.unlink()
        shop.cycle()


def test_variables_of_packages_and_of_the_environment_are_part_of_a_model(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read as the batch starts; of a package, at once."""
    package = shop.lake.config.dbt_project.parent / "dbt_ducklake" / "dbt_project.yml"
    with restored(package) as text:
        package.write_text(text + "vars: {most: 7}\n")
        assert {"stg_orders", "by_customer"} <= shop.built()
    assert {"stg_orders", "by_customer"} <= shop.built()
    model = shop.models / "told.sql"
    sql = (
        "{{ config(materialized='table') }} select '{{ env_var('SHOP_REGION', 'sur') }}' as region"
    )
    with written({model: sql}):
        assert shop.built() == {"told"}
        monkeypatch.setenv("SHOP_REGION", "norte")
        started, shop.dbt = shop.build, DbtProject(shop.lake.config)
        try:
            shop.build = ModelBuild(shop.lake.config, shop.lake.ledger, shop.dbt)
            assert shop.built() == {"told"}
            assert shop.published("told")[0][0] == "norte"
            assert shop.built() == set()
        finally:
            shop.build = started
    monkeypatch.delenv("SHOP_REGION")
    shop.cycle()


def test_a_failing_test_that_is_removed_is_forgotten(shop: SmallShop) -> None:
    about = shop.models / "schema.yml"
    with restored(about) as text:
        about.write_text(text.replace("{name: orders}", WARNED_ORDERS))
        assert shop.cycle().state.failing
    assert not shop.cycle().state.failing


def test_a_package_of_an_earlier_release_is_installed_anew(shop: SmallShop) -> None:
    installed = shop.lake.ledger.paths.root / "work" / "dbt_packages" / "dbt_ducklake"
    package = installed.resolve()
    installed.unlink()
    shutil.copytree(package, installed)  # as a lake has it that came from elsewhere
    macro = installed / "macros" / "change_tracked.sql"
    macro.write_text("-- of an earlier release")
    DbtProject(shop.lake.config).load()
    assert macro.read_text() == (package / "macros" / "change_tracked.sql").read_text()


def test_commits_that_the_ledger_has_joined_build_a_model_from_nothing(shop: SmallShop) -> None:
    assert shop.last is not None
    state = shop.last.state
    relation = "staging.stg_orders"
    known = state.models[relation]
    gone = {name: replace(i, generation=-1) for name, i in known.inputs.items()}
    models = {**state.models, relation: replace(known, inputs=gone)}
    shop.build.finish(replace(shop.last, state=replace(state, models=models)), {})
    result = shop.cycle()
    assert relation in result.plan.full
    assert shop.built() == set()


def test_a_large_model_is_published_in_layers(
    shop: SmallShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    import batcher.snapshot_writer as module

    monkeypatch.setattr(module, "LAYERED_ROWS", 5)
    monkeypatch.setattr(module, "LAYERED_PART", 10.0)
    shop.orders(*((n, n % 7, n) for n in range(100, 200)))
    shop.cycle()
    base = shop.publisher.current()["staging.stg_orders"]
    assert base.cycle >= 0 and not base.layers
    seen = [base.state]
    for number in range(6):
        if number == 4:
            monkeypatch.setattr(module, "LAYERED_PART", 0.0)  # they are too many now
        shop.orders((100 + number, 1, 900 + number), (300 + number, 2, 1), op="u")
        if number % 2:
            shop.orders((150 + number, 0, 0), op="d")
        shop.cycle()
        snapshot = shop.publisher.current()["staging.stg_orders"]
        has_new_base = number >= 4
        assert (snapshot.path != base.path) == has_new_base
        assert len(snapshot.layers) == 0 if has_new_base else 0 < len(snapshot.layers) < 5
        warehouse = literal(str(shop.lake.ledger.paths.warehouse))
        with duckdb.connect() as database:
            database.execute(f"ATTACH {warehouse} AS w (READ_ONLY)")
            wanted = database.execute("FROM w.staging.stg_orders ORDER BY ALL").fetchall()
            assert database.execute(f"FROM ({snapshot.whole()}) ORDER BY ALL").fetchall() == wanted
            assert shop.published("stg_orders") == wanted
            # Whoever shows any earlier state comes to the same rows by the changes since then.
            changes = snapshot.changes(seen[0])
            assert changes is not None
            gone = {row[0] for row in database.execute(changes.deleted).fetchall()}
            new = {row[0]: row for row in database.execute(changes.upserted).fetchall()}
            by_key = {row[0]: row for row in wanted}
            assert all(by_key[key] == row for key, row in new.items())
            assert gone - new.keys() == gone - by_key.keys()
        seen.append(snapshot.state)
    assert len(set(seen)) == len(seen)
    assert snapshot.changes("0" * 16 + ".1") is None


def test_a_whole_build_writes_rows_in_the_order_of_their_groups(shop: SmallShop) -> None:
    """Row groups whose keys cannot match are skipped in later cycles, in published files too."""
    shop.orders((9620, 3, 1), (9610, 1, 1), (9630, 2, 1), (9625, 9, 1))
    shop.cycle()
    text = (shop.models / "by_customer.sql").read_text()
    clustered = text.replace("}) }}", "}, cluster_by='orders') }}", 1)
    with written({shop.models / "clustered.sql": clustered}):
        shop.cycle(("stg_orders", "by_customer", "clustered"))
        orders = {"stg_orders": "order_id", "by_customer": "customer_id", "clustered": "orders"}
        with duckdb.connect(str(shop.lake.ledger.paths.warehouse), read_only=True) as warehouse:
            for model, column in orders.items():
                [*stored] = warehouse.execute(f"SELECT {column} FROM staging.{model}").fetchall()
                assert len(stored) > 3 and stored == sorted(stored), model
    shop.cycle()


def test_a_copy_of_the_published_file_needs_no_other_file(shop: SmallShop, tmp_path: Path) -> None:
    paths, target = shop.lake.ledger.paths, tmp_path / "copy.duckdb"
    told: list[str] = []
    rows = copy_published(paths, target, lambda at, count, relation: told.append(relation))
    assert "staging.stg_orders" in told and told == list(rows)
    with duckdb.connect(str(target), read_only=True) as database:
        for relation, count in rows.items():
            assert database.execute(f"SELECT count(*) FROM {relation}").fetchall() == [(count,)]
        found = database.execute("FROM staging.stg_orders ORDER BY ALL").fetchall()
        assert database.execute(
            "SELECT count(*) FROM duckdb_views() WHERE NOT internal"
        ).fetchall() == [(0,)]
    assert found == shop.published("stg_orders")
    before = target.read_bytes()
    with pytest.raises(BatchError, match="never replaces"):
        copy_published(paths, target)
    assert target.read_bytes() == before
    with pytest.raises(BatchError, match="no folder"):
        copy_published(paths, tmp_path / "nowhere" / "copy.duckdb")
