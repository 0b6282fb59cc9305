"""`ducklake plan` says which models an edit will build, and the next cycle builds just these."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from batcher.edits import read_definitions
from ducklake.projects.planning import model_steps
from tests.integration.test_model_selection import SmallShop

BEHIND_ORDERS = {"staging.by_customer", "staging.summary"}
HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallShop]:
    found = SmallShop(tmp_path_factory.mktemp("edits"))
    try:
        settings = found.models.parent / "dbt_project.yml"
        settings.write_text(settings.read_text().replace("vars: {", "vars: {most_orders: 9, "))
        found.orders((1, 1, 10), (2, 1, 20), (3, 2, 30))
        found.lake.commit("products", "SELECT 1 AS product_id, 5 AS price_ars")
        assert set(planned(found).values()) == {"is built for the first time"}
        found.cycle()
        yield found
    finally:
        found.lake.close()


def planned(shop: SmallShop) -> dict[str, str]:
    """What the plan says, by relation."""
    return {step.name: step.what for step in model_steps(shop.lake.config)}


def assert_next_cycle_does(shop: SmallShop, steps: Mapping[str, str]) -> None:
    """The next cycle builds what was said; after it nothing is left to do."""
    result = shop.cycle()
    assert {model.relation for model in result.plan.models} == set(steps)
    anew = {name for name, what in steps.items() if what.startswith("is built")}
    assert anew == set(result.plan.full)
    assert planned(shop) == {}


@contextmanager
def locked(warehouse: Path) -> Iterator[None]:
    """Another process has the warehouse open, as a cycle has."""
    words = [sys.executable, "-c", HOLD, str(warehouse)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.communicate(b"\n")


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and time of change."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that a file has once."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_nothing_is_planned_where_nothing_was_edited_beside_a_cycle(shop: SmallShop) -> None:
    shop.orders((4, 2, 40))  # new rows are no edit
    folder = shop.models.parents[1]
    before = files(folder)
    with locked(shop.lake.ledger.paths.warehouse):
        assert planned(shop) == {}
    assert files(folder) == before
    shop.cycle()


def test_edited_sql_builds_its_model_and_those_behind_it(shop: SmallShop) -> None:
    edit(shop.models / "stg_orders.sql", "total_ars\nfrom", "total_ars + 1 AS total_ars\nfrom")
    steps = planned(shop)
    assert set(steps) == {"staging.stg_orders"} | BEHIND_ORDERS
    assert steps["staging.stg_orders"] == "is built from nothing: its definition was edited"
    assert steps["staging.by_customer"] == "is computed anew: staging.stg_orders is built"
    assert_next_cycle_does(shop, steps)


def test_an_edited_macro_builds_the_models_that_call_it(shop: SmallShop) -> None:
    macro = shop.models.parent / "macros" / "price.sql"
    macro.write_text("{% macro price() %}price_ars{% endmacro %}")
    edit(shop.models / "products.sql", "price_ars", "{{ price() }} as price_ars")
    assert_next_cycle_does(shop, planned(shop))
    edit(macro, "price_ars", "price_ars * 2")
    steps = planned(shop)
    assert set(steps) == {"staging.products"}
    assert_next_cycle_does(shop, steps)


def test_an_edited_configuration_builds_its_model(shop: SmallShop) -> None:
    edit(shop.models / "summary.sql", "materialized='table'", "materialized='view'")
    steps = planned(shop)
    assert set(steps) == {"staging.summary"}
    assert_next_cycle_does(shop, steps)


def test_an_edited_variable_builds_every_model(shop: SmallShop) -> None:
    edit(shop.models.parent / "dbt_project.yml", "most_orders: 9", "most_orders: 8")
    steps = planned(shop)
    assert len(steps) == 5
    assert_next_cycle_does(shop, steps)


def test_edited_tests_and_descriptions_are_told_apart(shop: SmallShop) -> None:
    edit(shop.models / "schema.yml", "{most: 1000}", "{most: 2000}")
    steps = planned(shop)
    assert steps["staging.stg_orders"] == "is tested as a whole: its tests were edited"
    assert_next_cycle_does(shop, steps)
    edit(shop.models / "schema.yml", "- name: stg_orders", "- name: stg_orders\n    description: O")
    steps = planned(shop)
    assert steps["staging.stg_orders"] == "is published with its new description"
    assert_next_cycle_does(shop, steps)


def test_new_and_removed_models_are_named(shop: SmallShop) -> None:
    (shop.models / "late.sql").write_text("select * from {{ ref('summary') }}")
    assert planned(shop) == {"staging.late": "is built for the first time"}
    shop.cycle()
    (shop.models / "late.sql").unlink()
    assert planned(shop) == {"staging.late": "is built no longer; its last state stays published"}
    assert shop.built() == set()
    assert planned(shop) == {}


def test_a_model_that_is_held_back_is_no_edit(shop: SmallShop) -> None:
    shop.orders((9, 9, 5000))
    assert shop.cycle().outcome.held_back
    assert planned(shop) == {}
    shop.orders((9, 9, 1), op="u")
    shop.cycle()


def test_a_lake_of_an_earlier_release_is_not_said_to_stay_as_it_is(shop: SmallShop) -> None:
    paths = shop.lake.ledger.paths
    assert read_definitions(paths)
    paths.definitions.unlink()
    assert list(planned(shop)) == ["all others"]
    shop.cycle()
    assert planned(shop) == {}
