"""What the files of the dbt project promise, read without running dbt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from batcher.catalog import ROW_GROUP_ROWS, opened, opened_warehouse

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "dbt_techstore"
PACKAGE = ROOT / "dbt_ducklake"
FOLDERS = ("staging", "intermediate", "consume")
CONSUME = {
    *("daily_sales", "sales_by_category", "product_performance", "customer_360"),
    *("inventory_health", "supplier_scorecard", "sales_vs_target", "support_quality"),
    "holiday_effect",
}


def read(path: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((PROJECT / path).read_text(encoding="utf-8"))
    return loaded


def source_tables() -> set[str]:
    config = yaml.safe_load((ROOT / "ducklake.yml").read_text(encoding="utf-8"))
    return {table for source in config["sources"].values() for table in source["tables"]}


def schema(folder: str) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = read(f"models/{folder}/_schema.yml")["models"]
    return models


def project_files() -> Iterator[Path]:
    for project in (PROJECT, PACKAGE):
        for folder in ("models", "macros", "tests"):
            yield from (path for path in (project / folder).rglob("*") if path.is_file())


MODELS = [model for folder in FOLDERS for model in schema(folder)]


def test_every_source_has_one_staging_model() -> None:
    files = {path.stem for path in (PROJECT / "models" / "staging").glob("*.sql")}
    assert files == {f"stg_{table}" for table in source_tables()}
    assert files == {model["name"] for model in schema("staging")}


def test_the_questions_of_the_shop_have_a_model_each() -> None:
    files = {path.stem for path in (PROJECT / "models" / "consume").glob("*.sql")}
    assert files >= CONSUME
    assert files == {model["name"] for model in schema("consume")}


def test_every_intermediate_model_is_declared() -> None:
    files = {path.stem for path in (PROJECT / "models" / "intermediate").glob("*.sql")}
    assert files and all(name.startswith("int_") for name in files)
    assert files == {model["name"] for model in schema("intermediate")}


def test_every_raw_table_is_declared_described_and_tested() -> None:
    [source] = read("models/sources.yml")["sources"]
    assert (source["name"], source["schema"]) == ("raw", "raw")
    assert {table["name"] for table in source["tables"]} == {*source_tables(), "dead_letters"}
    for table in source["tables"]:
        assert table["description"]
        [test] = table["data_tests"]
        columns = test["unique_combination"]["arguments"]["columns"]
        epoch = ["_kafka_ts"] if table["name"] == "dead_letters" else ["_topic_epoch"]
        assert sorted(columns) == sorted(["_topic", "_partition", "_offset", *epoch])
        assert all(column["description"] for column in table["columns"])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_every_model_is_described_and_its_key_is_tested(model: dict[str, Any]) -> None:
    assert model["description"].strip()
    assert all(column["description"].strip() for column in model["columns"])
    columns = {column["name"]: column.get("data_tests", []) for column in model["columns"]}
    assert len(columns) == len(model["columns"]), "a column stands twice"
    key = model["config"]["meta"]["primary_key"]
    assert set(key) <= set(columns)
    if len(key) == 1:
        assert {"unique", "not_null"} <= {test for test in columns[key[0]] if isinstance(test, str)}
    else:
        assert {"unique_combination": {"arguments": {"columns": key}}} in model["data_tests"]


@pytest.mark.parametrize("model", schema("consume"), ids=lambda model: model["name"])
def test_what_others_read_has_its_types_by_contract(model: dict[str, Any]) -> None:
    assert read("dbt_project.yml")["models"]["techstore"]["consume"]["+contract"] == {
        "enforced": True
    }
    assert all(re.fullmatch(r"[a-z]+(\(\d+,\d+\))?", c["data_type"]) for c in model["columns"])
    [listed] = [test for test in model["data_tests"] if "dbt_ducklake.accepted_range" in test]
    arguments = listed["dbt_ducklake.accepted_range"]["arguments"]
    assert arguments["min_value"] == 0
    assert set(arguments["columns"]) <= {column["name"] for column in model["columns"]}


def test_who_reads_the_consume_models_is_declared() -> None:
    exposures = {
        exposure["name"]: exposure for exposure in read("models/exposures.yml")["exposures"]
    }
    assert set(exposures) == {"postgres_consume", "report"}
    everything = exposures["postgres_consume"]["depends_on"]
    assert sorted(everything) == sorted(f"ref('{model['name']}')" for model in schema("consume"))
    queries = (ROOT / "ducklake" / "cli" / "report.py").read_text(encoding="utf-8")
    asked = {f"ref('{name}')" for name in re.findall(r"consume\.(\w+)", queries)}
    assert asked and set(exposures["report"]["depends_on"]) == asked


def test_own_tests_that_judge_each_row_read_changed_rows_only() -> None:
    own = {path.stem for path in (PROJECT / "tests" / "generic").glob("*.sql")}
    whole = {"every_day", "readable", "unique_combination"}  # these ask other rows too
    assert set(read("dbt_project.yml")["vars"]["row_tests"]) == own - whole
    shipped = {path.stem for path in (PACKAGE / "tests" / "generic").glob("*.sql")}
    text = (PACKAGE / "macros" / "tests.sql").read_text(encoding="utf-8")
    assert shipped and all(f"'{name}'" in text for name in shipped)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_what_may_be_dirty_at_the_source_only_warns(model: dict[str, Any]) -> None:
    for column in model["columns"]:
        for test in column.get("data_tests", []):
            if isinstance(test, dict) and "relationships" in test:
                # Two tables travel in two topics: one may be a moment ahead of the other.
                assert test["relationships"]["config"]["severity"] == "warn"


def test_every_model_has_a_unit_test() -> None:
    tests = [
        test
        for folder in FOLDERS
        for test in read(f"models/{folder}/_unit_tests.yml")["unit_tests"]
    ]
    assert {test["model"] for test in tests} == {model["name"] for model in MODELS}
    assert len({test["name"] for test in tests}) == len(tests)


def test_the_project_is_sql_and_yaml_with_one_package_that_is_beside_it() -> None:
    assert {path.suffix for path in project_files()} == {".sql", ".yml"}
    assert read("packages.yml") == {"packages": [{"local": "../dbt_ducklake"}]}
    assert not (PACKAGE / "packages.yml").exists()
    for name in ("dependencies.yml", "__init__.py"):
        assert not [p for p in PROJECT.rglob(name) if "dbt_packages" not in p.parts], name


def test_tests_read_changed_rows_by_the_macro_of_the_package() -> None:
    [dispatch] = read("dbt_project.yml")["dispatch"]
    package = yaml.safe_load((PACKAGE / "dbt_project.yml").read_text(encoding="utf-8"))
    assert dispatch["macro_namespace"] == "dbt"
    assert dispatch["search_order"] == ["techstore", package["name"], "dbt"]
    text = (PACKAGE / "macros" / "tests.sql").read_text(encoding="utf-8")
    assert "macro duckdb__get_where_subquery(relation)" in text


def test_dbt_sends_nothing_home() -> None:
    assert read("dbt_project.yml")["flags"]["send_anonymous_usage_stats"] is False


def test_there_is_one_today_and_money_never_floats() -> None:
    for path in project_files():
        if path.suffix != ".sql":
            continue
        code = re.sub(r"\{#.*?#\}|--[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.S)
        if path.name != "today.sql":
            clock = r"current_date|current_timestamp|\b(now|today)\(\)(?!\)? \}\})"
            assert not re.search(clock, code), path
        assert not re.search(r"\b(double|float|real)\b", code, flags=re.I), path
        assert " -> " not in code, f"{path}: DuckDB 2 has no arrow functions"


@pytest.mark.parametrize(
    "profile", ["dbt_techstore/profiles.yml", "ducklake/projects/template/profiles.yml"]
)
def test_a_profile_opens_the_warehouse_as_the_batch_does(profile: str, tmp_path: Path) -> None:
    """Whoever wrote it with larger row groups would merge those that are there."""
    [about] = yaml.safe_load((ROOT / profile).read_text()).values()
    [(database, target)] = about["outputs"].items()
    [attached] = target["attach"]
    assert (database, attached["alias"]) == (target["database"], "warehouse")
    assert attached["options"] == {"row_group_size": ROW_GROUP_ROWS}
    rows = 4 * ROW_GROUP_ROWS
    for text in (f"CREATE TABLE t AS FROM range({rows})", "DELETE FROM t WHERE range % 3 = 0"):
        with opened_warehouse(tmp_path / "warehouse.duckdb") as warehouse:
            warehouse.execute(text)
    with opened(tmp_path / "warehouse.duckdb", read_only=True) as warehouse:
        sizes = warehouse.execute("SELECT max(count) FROM pragma_storage_info('t')").fetchone()
    assert sizes is not None and sizes[0] <= ROW_GROUP_ROWS
