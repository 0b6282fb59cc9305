"""The dbt project on a small raw layer that holds every kind of dirty row.

One warehouse and one copy of the project serve the whole file, and one dbt process runs all builds
(importing dbt takes seconds). A break replaces one line in the copy; the build must then go red in
the named test, once with the unit tests and, where a data test guards the timer's builds too, once
without.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
TODAY = "2026-03-31"
TIMER = ("--exclude-resource-type", "unit_test")  # as the batch builds

RECORD = """
    _op VARCHAR, _source_ts TIMESTAMPTZ, _kafka_ts TIMESTAMPTZ,
    _topic VARCHAR, _partition INTEGER, _offset BIGINT, _topic_epoch INTEGER DEFAULT 0"""
CDC = f"{RECORD}, _binlog_file VARCHAR, _binlog_pos BIGINT, _binlog_row INTEGER"
FILE = f"{RECORD}, _file VARCHAR, _file_sha256 VARCHAR, _file_row BIGINT, _file_rows BIGINT"
API = f"{RECORD}, _url VARCHAR, _status INTEGER, _fetched_at TIMESTAMPTZ"

TABLES = {
    "customers": f"""customer_id INTEGER, email VARCHAR, first_name VARCHAR, last_name VARCHAR,
        phone VARCHAR, city VARCHAR, province VARCHAR, created_at TIMESTAMP,
        updated_at TIMESTAMP, {CDC}""",
    "products": f"""product_id INTEGER, sku VARCHAR, name VARCHAR, category VARCHAR,
        brand VARCHAR, supplier_id INTEGER, price_ars DECIMAL(12,2), cost_ars DECIMAL(12,2),
        active TINYINT, created_at TIMESTAMP, updated_at TIMESTAMP, {CDC}""",
    "orders": f"""order_id UBIGINT, customer_id INTEGER, ordered_at TIMESTAMP, status VARCHAR,
        payment_method VARCHAR, shipping_ars DECIMAL(12,2), total_ars DECIMAL(12,2),
        updated_at TIMESTAMP, {CDC}""",
    "order_items": f"""order_item_id UBIGINT, order_id UBIGINT, product_id INTEGER,
        quantity USMALLINT, unit_price_ars DECIMAL(12,2), discount_pct DECIMAL(5,2), {CDC}""",
    "inventory": f"""sku VARCHAR, warehouse VARCHAR, quantity VARCHAR, reserved VARCHAR,
        unit_cost_ars VARCHAR, counted_on VARCHAR, {FILE}""",
    "suppliers": f"""supplier_id INTEGER, name VARCHAR, cuit VARCHAR, country VARCHAR,
        lead_time_days INTEGER, active BOOLEAN, since DATE, contacts VARCHAR, {FILE}""",
    "shipments": f"""shipment_id VARCHAR, order_id VARCHAR, supplier_id VARCHAR, carrier VARCHAR,
        shipped_on VARCHAR, promised_on VARCHAR, delivered_on VARCHAR, cost_ars VARCHAR, {FILE}""",
    "sales_targets": f"""month_ DATE, category VARCHAR, target_ars DECIMAL(16,2),
        target_units INTEGER, {FILE}""",
    "support_tickets": f"""ticket_id VARCHAR, order_id VARCHAR, customer_id VARCHAR,
        opened_at VARCHAR, closed_at VARCHAR, channel VARCHAR, topic VARCHAR,
        satisfaction VARCHAR, comment VARCHAR, {FILE}""",
    "dolar_blue": f"""casa VARCHAR, compra DECIMAL(12,2), venta DECIMAL(12,2), fecha DATE,
        moneda VARCHAR, nombre VARCHAR, "fechaActualizacion" TIMESTAMPTZ, {API}""",
    "feriados": f"fecha DATE, tipo VARCHAR, nombre VARCHAR, {API}",
    "dead_letters": """_topic VARCHAR, _partition INTEGER, _offset BIGINT, _kafka_ts TIMESTAMPTZ,
        source_table VARCHAR, reason VARCHAR, key BLOB, value BLOB, headers VARCHAR,
        value_bytes BIGINT, state VARCHAR""",
}
MONEY_AND_COUNTS = ("DECIMAL", "BIGINT", "INTEGER", "HUGEINT", "DOUBLE", "TINYINT", "SMALLINT")


class RawLayer:
    """Fills `raw.{table}` as the lake's views would show it: one row per Kafka record."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        connection.execute("SET TimeZone = 'UTC'; CREATE SCHEMA raw")
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE raw.{table} ({columns})")

    def add(self, table: str, select: str, op: str = "r", at: str = "2026-03-30 09:00:00Z") -> None:
        """Append the rows of a SELECT, at the next offsets."""
        self._connection.execute(
            f"""
            INSERT INTO raw.{table} BY NAME
            SELECT *, '{op}' AS _op, TIMESTAMPTZ '{at}' AS _source_ts,
                TIMESTAMPTZ '{at}' AS _kafka_ts, 'topic.{table}' AS _topic, 0 AS _partition,
                (SELECT count(*) FROM raw.{table}) + row_number() OVER () AS _offset
            FROM ({select})
            """
        )

    def add_file(self, table: str, select: str, sha: str, at: str, missing: int = 0) -> None:
        """Append one version of a file, without its last `missing` rows."""
        self.add(
            table,
            f"""
            SELECT * EXCLUDE (n), '{table}' AS _file, '{sha}' AS _file_sha256, n AS _file_row,
                count(*) OVER () AS _file_rows
            FROM (SELECT *, row_number() OVER () AS n FROM ({select}))
            QUALIFY n <= _file_rows - {missing}
            """,
            at=at,
        )

    def add_answer(self, table: str, select: str, at: str) -> None:
        """Append the rows of one answer of an API."""
        self.add(
            table,
            f"""SELECT *, 'https://api/{table}' AS _url, 200 AS _status,
            TIMESTAMPTZ '{at}' AS _fetched_at FROM ({select})""",
            at=at,
        )


def fill_shop(raw: RawLayer) -> None:
    """The four MySQL tables: 40 accounts, 20 products, 364 orders in 182 days, and the dirt."""
    raw.add(
        "customers",
        """
        SELECT i::INTEGER AS customer_id, 'persona' || i || '@mail.com.ar' AS email,
            'Ana' || i AS first_name, 'Paz' AS last_name, '+54 9 11 5555-' || (1000 + i) AS phone,
            'Rosario' AS city, 'Santa Fe' AS province,
            TIMESTAMP '2025-09-01 10:00' AS created_at, TIMESTAMP '2025-09-01 10:00' AS updated_at
        FROM range(1, 41) AS t(i)
        """,
    )
    raw.add(
        "customers",
        """
        SELECT * REPLACE (
            CASE customer_id WHEN 2 THEN '  persona2@mail.com.ar '
                WHEN 3 THEN 'PERSONA3@Mail.com.ar' WHEN 4 THEN ' Persona1@MAIL.com.ar'
                ELSE email END AS email,
            CASE customer_id WHEN 2 THEN '011 15-5555-1002' WHEN 3 THEN '(0341) 555-1003'
                ELSE phone END AS phone,
            CASE customer_id WHEN 3 THEN NULL WHEN 4 THEN '  ' ELSE city END AS city
        )
        FROM (SELECT * EXCLUDE (_op, _source_ts, _kafka_ts, _topic, _partition, _offset,
                  _topic_epoch)
              FROM raw.customers WHERE customer_id <= 4)
        """,
        op="u",
    )
    raw.add(
        "products",
        """
        SELECT i::INTEGER AS product_id, 'SKU-' || lpad(i::VARCHAR, 3, '0') AS sku,
            'Producto ' || i AS name, ['Audio', 'Notebooks', 'Celulares', 'Hogar'][1 + i % 4]
            AS category, 'Marca' AS brand, (1 + i % 3)::INTEGER AS supplier_id,
            1000 * i AS price_ars, 700 * i AS cost_ars, 1 AS active,
            TIMESTAMP '2025-09-01 10:00' AS created_at, TIMESTAMP '2025-09-01 10:00' AS updated_at
        FROM range(1, 21) AS t(i)
        """,
    )
    order = """
        SELECT i::UBIGINT AS order_id, (1 + i % 40)::INTEGER AS customer_id,
            TIMESTAMP '2025-10-01 12:30' + to_days((i // 2)::INTEGER) AS ordered_at,
            CASE WHEN i % 25 = 7 THEN 'cancelled' ELSE 'delivered' END AS status,
            'mercado_pago' AS payment_method, 500 AS shipping_ars,
            500 + 1800 * (1 + i % 19) AS total_ars,
            TIMESTAMP '2025-10-01 12:30' AS updated_at
        FROM range(0, 364) AS t(i)
        WHERE i // 2 <> 20
    """
    item = """
        SELECT i::UBIGINT AS order_item_id, i::UBIGINT AS order_id,
            (1 + i % 19)::INTEGER AS product_id, 2 AS quantity, 1000 * (1 + i % 19)
            AS unit_price_ars, 10 AS discount_pct
        FROM range(0, 364) AS t(i)
        WHERE i // 2 <> 20
    """
    raw.add("orders", order)
    raw.add("order_items", item)
    # The snapshot was interrupted and began again; then an order moved on, and one was deleted.
    raw.add("orders", f"FROM ({order}) WHERE order_id < 50")
    raw.add("orders", f"SELECT * REPLACE ('paid' AS status) FROM ({order}) WHERE order_id = 363")
    raw.add("orders", f"SELECT * REPLACE ('shipped' AS status) FROM ({order}) WHERE order_id = 363")
    raw.add("orders", f"FROM ({order}) WHERE order_id = 100", op="d")
    raw.add("order_items", f"FROM ({item}) WHERE order_id = 100", op="d")


def fill_files(raw: RawLayer) -> None:
    """The five files, each in three versions: an old one, the current one and half a new one."""
    versions = [("a1", "2026-03-28 09:00:00Z", 0), ("b2", "2026-03-30 09:00:00Z", 0)]
    for sha, at, missing in [*versions, ("c3", "2026-03-31 09:00:00Z", 1)]:
        quantity = {"a1": 10, "b2": 20, "c3": 30}[sha]
        raw.add_file(
            "inventory",
            f"""
            SELECT 'SKU-' || lpad(i::VARCHAR, 3, '0') AS sku, w AS warehouse,
                '{quantity}' AS quantity, '3' AS reserved, '1.234,56' AS unit_cost_ars,
                '30/03/2026' AS counted_on
            FROM range(1, 21) AS t(i), (VALUES ('CABA'), ('Córdoba')) AS v(w)
            """,
            sha,
            at,
            missing,
        )
        raw.add_file(
            "suppliers",
            """
            SELECT i::INTEGER AS supplier_id, 'Proveedor ' || i AS name,
                '30-12345678-' || i AS cuit, 'Argentina' AS country, 10 AS lead_time_days,
                true AS active, DATE '2020-01-01' AS since,
                '[{"name": "Eva", "email": "Eva@P.com", "phone": "1", "role": "billing"},
                  {"name": "Leo", "email": "LEO@p.com", "phone": "2", "role": "sales"}]' AS contacts
            FROM range(1, 4) AS t(i)
            """,
            sha,
            at,
            missing,
        )
        raw.add_file(
            "shipments",
            """
            SELECT 'S' || i AS shipment_id, i::VARCHAR AS order_id, (1 + i % 3)::VARCHAR
                AS supplier_id, 'Andreani' AS carrier, '2026-02-01' AS shipped_on,
                '2026-02-08' AS promised_on, CASE WHEN i % 10 = 0 THEN NULL
                WHEN i % 4 = 0 THEN '2026-02-11' ELSE '2026-02-06' END AS delivered_on,
                '1500.50' AS cost_ars
            FROM range(1, 30) AS t(i)
            """,
            sha,
            at,
            missing,
        )
        raw.add_file(
            "sales_targets",
            """
            SELECT (DATE '2025-10-01' + to_months(m::INTEGER))::DATE AS month_, c AS category,
                1000000 AS target_ars, 100 AS target_units
            FROM range(0, 6) AS t(m),
                (VALUES ('Audio'), ('Notebooks'), ('Celulares'), ('Hogar')) AS v(c)
            """,
            sha,
            at,
            missing,
        )
        raw.add_file(
            "support_tickets",
            """
            SELECT 'T' || i AS ticket_id, CASE WHEN i % 5 = 0 THEN '' ELSE i::VARCHAR END
                AS order_id, (1 + i % 40)::VARCHAR AS customer_id, '2026-02-01 10:00' AS opened_at,
                CASE WHEN i % 7 = 0 THEN '' ELSE '2026-02-02 11:30' END AS closed_at,
                'Email' AS channel, 'Envío' AS topic, ['5', '"4"', '', '2'][1 + i % 4]
                AS satisfaction, 'Dijo "bien" | gracias' AS comment
            FROM range(1, 30) AS t(i)
            """,
            sha,
            at,
            missing,
        )


def fill_apis(raw: RawLayer) -> None:
    """A history with a missing day, a null rate and an outlier; current values; holidays."""
    raw.add_answer(
        "dolar_blue",
        """
        SELECT 'blue' AS casa, 980 + d AS compra,
            CASE d WHEN 60 THEN NULL WHEN 80 THEN 10800 ELSE 1000 + d END AS venta,
            (DATE '2025-09-25' + d::INTEGER)::DATE AS fecha
        FROM range(0, 186) AS t(d)
        WHERE d <> 40
        """,
        at="2026-03-30 12:00:00Z",
    )
    for moment, venta in [("2026-03-31 15:00:00Z", 1300), ("2026-04-01 02:30:00Z", 1310)]:
        raw.add_answer(
            "dolar_blue",
            f"""SELECT 'blue' AS casa, 1290 AS compra, {venta} AS venta, 'USD' AS moneda,
            'Blue' AS nombre, TIMESTAMPTZ '{moment}' AS "fechaActualizacion" """,
            at=moment,
        )
    for moment in ("2026-03-30 12:00:00Z", "2026-03-31 12:00:00Z"):
        raw.add_answer(
            "feriados",
            """
            SELECT fecha::DATE AS fecha, tipo, nombre FROM (VALUES
                ('2025-12-25', 'inamovible', 'Navidad'), ('2026-01-01', 'inamovible', 'Año nuevo'),
                ('2026-02-16', 'inamovible', 'Carnaval'), ('2026-02-17', 'inamovible', 'Carnaval'),
                ('2026-05-25', 'inamovible', 'Revolución de Mayo')) AS v(fecha, tipo, nombre)
            """,
            at=moment,
        )


# dbt speaks on standard output, so the answers get a descriptor of their own.
DBT_PROCESS = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner
for line in sys.stdin:
    done = dbtRunner().invoke(json.loads(line))
    DuckDBConnectionManager.close_all_connections()  # else the file stays locked
    results = {r.node.name: [str(r.status), r.message] for r in getattr(done.result, "results", [])}
    json.dump({"success": done.success, "error": str(done.exception or ""), "results": results},
              answers)
    answers.write("\\n")
    answers.flush()
"""


@dataclass(frozen=True, slots=True)
class Build:
    """What one dbt command did: node name → (status, message)."""

    success: bool
    error: str
    results: dict[str, tuple[str, str]]

    def having(self, *statuses: str) -> set[str]:
        """Names of the nodes that ended so."""
        return {name for name, (status, _) in self.results.items() if status in statuses}

    @property
    def red(self) -> set[str]:
        """Names of the nodes that failed or broke."""
        return self.having("fail", "error", "runtime error")


class Dbt:
    """A dbt process working on a copy of the project."""

    def __init__(self, project: Path, warehouse: Path) -> None:
        self.project = project
        self._process = subprocess.Popen(
            [sys.executable, "-c", DBT_PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ
            | {
                "DUCKLAKE_WAREHOUSE": str(warehouse),
                "DBT_TARGET_PATH": str(project / "target"),
                "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
            },
        )

    def run(self, *arguments: str) -> Build:
        """Run one command and wait for its end."""
        assert self._process.stdin and self._process.stdout
        command = [
            *("--quiet", *arguments, "--project-dir", str(self.project)),
            *("--profiles-dir", str(self.project)),
            *("--vars", json.dumps({"today": TODAY})),
        ]
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Build(**answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The DuckDB file that dbt builds in, and the state to which a test finds it restored."""

    path: Path
    good: Path

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one query; opens read-write, so a lock left by dbt is an error here."""
        with duckdb.connect(str(self.path)) as connection:
            rows: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
            return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a folder with blanks")


@pytest.fixture(scope="module")
def dbt(folder: Path) -> Iterator[Dbt]:
    for name in ("dbt_techstore", "dbt_ducklake"):
        ignored = shutil.ignore_patterns("target", "logs", "dbt_packages")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    process = Dbt(folder / "dbt_techstore", folder / "warehouse.duckdb")
    try:
        installed = process.run("deps")
        assert installed.success, installed.error
        yield process
    finally:
        process.close()


@pytest.fixture(scope="module")
def built(folder: Path, dbt: Dbt) -> tuple[Warehouse, Build]:
    warehouse = Warehouse(folder / "warehouse.duckdb", folder / "good.duckdb")
    with duckdb.connect(str(warehouse.path)) as connection:
        raw = RawLayer(connection)
        fill_shop(raw)
        fill_files(raw)
        fill_apis(raw)
    build = dbt.run("build")
    shutil.copy(warehouse.path, warehouse.good)
    return warehouse, build


@pytest.fixture
def warehouse(built: tuple[Warehouse, Build]) -> Iterator[Warehouse]:
    yield built[0]
    shutil.copy(built[0].good, built[0].path)


@pytest.fixture(scope="module")
def models(built: tuple[Warehouse, Build], dbt: Dbt) -> list[dict[str, Any]]:
    manifest = json.loads((dbt.project / "target" / "manifest.json").read_text())
    return [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]


def test_everything_builds_and_no_test_even_warns(built: tuple[Warehouse, Build]) -> None:
    build = built[1]
    assert build.success, (build.error, {n: build.results[n] for n in build.red})
    exposures = build.having("no-op")  # nothing to run: they say who reads
    assert exposures == {"postgres_consume", "report"}
    assert build.having("success", "pass") == set(build.results) - exposures


def test_relations_are_named_by_layer_and_model(
    warehouse: Warehouse, models: list[dict[str, Any]]
) -> None:
    relations = warehouse.query(
        """
        SELECT table_schema, table_name FROM information_schema.tables
        WHERE table_schema NOT IN ('raw', 'ducklake')
        """
    )
    assert sorted(relations) == sorted((model["schema"], model["name"]) for model in models)
    assert {name for schema, name in relations if schema == "staging"} == {
        f"stg_{table}" for table in TABLES if table != "dead_letters"
    }
    assert {name[:4] for schema, name in relations if schema == "intermediate"} == {"int_"}
    assert sum(schema == "consume" for schema, _ in relations) >= 9


def test_no_model_is_empty_and_no_measure_is_all_null(
    warehouse: Warehouse, models: list[dict[str, Any]]
) -> None:
    for model in models:
        relation = f"{model['schema']}.{model['name']}"
        assert warehouse.query(f"SELECT count(*) FROM {relation}") > [(0,)], relation
        for column, values, kind in warehouse.query(
            f"""
            SELECT column_name, count, column_type FROM (SUMMARIZE {relation})
            WHERE null_percentage = 100
            """
        ):
            assert not kind.startswith(MONEY_AND_COUNTS), f"{relation}.{column} of {values} rows"


def test_every_column_is_described_and_money_is_decimal(
    warehouse: Warehouse, models: list[dict[str, Any]]
) -> None:
    for model in models:
        relation = f"{model['schema']}.{model['name']}"
        columns = dict(
            warehouse.query(f"SELECT column_name, column_type FROM (DESCRIBE {relation})")
        )
        assert set(model["columns"]) == set(columns), relation
        for column, kind in columns.items():
            # Neither has an exact counterpart in PostgreSQL.
            assert kind not in ("DOUBLE", "FLOAT", "HUGEINT"), f"{relation}.{column}"
            if column.endswith(("_ars", "_usd", "compra", "venta")):
                assert kind.startswith("DECIMAL"), f"{relation}.{column} is {kind}"


def test_the_primary_keys_for_postgresql_are_keys(
    warehouse: Warehouse, models: list[dict[str, Any]]
) -> None:
    for model in models:
        relation = f"{model['schema']}.{model['name']}"
        key = ", ".join(model["config"]["meta"]["primary_key"])
        [(rows, keys)] = warehouse.query(
            f"""
            SELECT (SELECT count(*) FROM {relation}), count(*) FROM
            (SELECT DISTINCT {key} FROM {relation} WHERE ({key}) IS NOT NULL)
            """
        )
        assert rows == keys, f"{relation} ({key})"


def test_mysql_tables_have_as_many_rows_as_mysql(warehouse: Warehouse) -> None:
    assert (
        warehouse.query(
            """
        SELECT (SELECT count(*) FROM staging.stg_customers),
            (SELECT count(*) FROM staging.stg_products),
            (SELECT count(*) FROM staging.stg_orders),
            (SELECT count(*) FROM staging.stg_order_items)
        """
        )
        == [(40, 20, 361, 361)]
    )
    assert warehouse.query("SELECT status FROM staging.stg_orders WHERE order_id = 363") == [
        ("shipped",)
    ]


def test_customers_are_cleaned_and_the_person_entered_twice_is_one(warehouse: Warehouse) -> None:
    assert (
        warehouse.query(
            """
        SELECT email, phone, city, has_city FROM staging.stg_customers
        WHERE customer_id <= 4 ORDER BY customer_id
        """
        )
        == [
            ("persona1@mail.com.ar", "+5491155551001", "Rosario", True),
            ("persona2@mail.com.ar", "+5491155551002", "Rosario", True),
            ("persona3@mail.com.ar", "+5493415551003", None, False),
            ("persona1@mail.com.ar", "+5491155551004", None, False),
        ]
    )
    assert (
        warehouse.query(
            """
        SELECT person_key, customer_ids, city FROM consume.customer_360
        WHERE is_merged OR city = 'unknown' ORDER BY customer_id
        """
        )
        == [
            ("persona1@mail.com.ar", "1,4", "Rosario"),
            ("persona3@mail.com.ar", "3", "unknown"),
        ]
    )


def test_a_file_is_current_as_of_its_newest_complete_version(warehouse: Warehouse) -> None:
    assert (
        warehouse.query(
            """
        SELECT count(*), min(quantity), max(quantity), any_value(unit_cost_ars),
            max(counted_on)::VARCHAR
        FROM staging.stg_inventory
        """
        )
        == [(40, 20, 20, Decimal("1234.56"), "2026-03-30")]
    )
    for table, rows in [("suppliers", 3), ("shipments", 29), ("sales_targets", 24)]:
        assert warehouse.query(f"SELECT count(*) FROM staging.stg_{table}") == [(rows,)]


def test_money_adds_up_from_orders_to_days_categories_and_customers(warehouse: Warehouse) -> None:
    [(orders,)] = warehouse.query(
        "SELECT sum(total_ars) FROM staging.stg_orders WHERE status <> 'cancelled'"
    )
    assert warehouse.query("SELECT sum(revenue_ars) FROM consume.daily_sales") == [(orders,)]
    assert warehouse.query("SELECT sum(revenue_ars) FROM consume.customer_360") == [(orders,)]
    for model in ("sales_by_category", "product_performance", "sales_vs_target"):
        assert (
            warehouse.query(
                f"""
            SELECT sum(revenue_ars) + (SELECT sum(shipping_ars) FROM consume.daily_sales)
            FROM consume.{model}
            """
            )
            == [(orders,)]
        ), model
    assert (
        warehouse.query(
            """
        SELECT count(*), max(sales_date)::VARCHAR, count(*) FILTER (orders = 0),
            bool_and(revenue_usd = round(revenue_ars / dolar_blue_venta, 2))
        FROM consume.daily_sales
        """
        )
        == [(182, TODAY, 1, True)]
    )


def test_a_day_without_a_rate_or_with_a_wrong_one_takes_the_last_before_it(
    warehouse: Warehouse,
) -> None:
    assert (
        warehouse.query(
            """
        SELECT fecha::VARCHAR, venta, is_filled, is_outlier FROM staging.stg_dolar_blue
        WHERE is_filled OR is_outlier OR fecha = '2026-03-31' ORDER BY fecha
        """
        )
        == [
            ("2025-11-04", Decimal(1039), True, False),
            ("2025-11-24", Decimal(1059), True, False),
            ("2025-12-14", Decimal(10800), False, True),
            ("2026-03-30", Decimal(1185), True, False),
            ("2026-03-31", Decimal(1310), False, False),
        ]
    )
    assert (
        warehouse.query(
            """
        SELECT dolar_blue_venta FROM consume.daily_sales WHERE sales_date = '2025-12-14'
        """
        )
        == [(Decimal(1079),)]
    )


@dataclass(frozen=True, slots=True)
class Break:
    """One cleaning line, what is left without it, and the tests that notice.

    `unit` fails in `make test`; `data` fails in the timer's builds, which leave unit tests out.
    """

    name: str
    model: str
    file: str
    line: str
    instead: str
    unit: str = ""
    data: str = ""


def staging(
    name: str, table: str, line: str, instead: str, unit: str = "", data: str = ""
) -> Break:
    return Break(name, f"stg_{table}", f"models/staging/stg_{table}.sql", line, instead, unit, data)


def macro(name: str, model: str, file: str, line: str, instead: str, unit: str) -> Break:
    return Break(name, model, f"macros/{file}.sql", line, instead, unit)


def package(name: str, model: str, file: str, line: str, instead: str, unit: str) -> Break:
    return Break(name, model, f"../dbt_ducklake/macros/{file}.sql", line, instead, unit)


def intermediate(
    name: str, model: str, line: str, instead: str, unit: str = "", data: str = ""
) -> Break:
    return Break(name, model, f"models/intermediate/{model}.sql", line, instead, unit, data)


def consume(
    name: str, model: str, line: str, instead: str, unit: str = "", data: str = ""
) -> Break:
    return Break(name, model, f"models/consume/{model}.sql", line, instead, unit, data)


def versions(table: str, key: str) -> Break:
    return staging(
        f"versions of {table}",
        table,
        f"{{{{ dbt_ducklake.latest_version(source('raw', '{table}'), '{key}') }}}}",
        f"select * from {{{{ source('raw', '{table}') }}}}",
        unit=f"{table}_keep_their_latest_version",
        data=f"unique_stg_{table}_{key}" if table in ("customers", "orders") else "",
    )


def newest(table: str, test: str) -> Break:
    return staging(
        f"older versions of {table}",
        table,
        f"{{{{ newest_file(source('raw', '{table}')) }}}}",
        f"select * from {{{{ source('raw', '{table}') }}}}",
        data=test,
    )


NEWEST_FILE = "only_the_newest_complete_file_counts"
PHONES = "phones_take_one_format"
COMMAS = "decimal_commas_and_day_first_dates_are_read"
READABLE = "readable_stg_inventory_quantity__unit_cost_ars__counted_on"
CUSTOMERS = "customers_keep_their_latest_version"
EMPTIED = "a_truncated_table_keeps_what_came_later"
PERSON = "a_person_entered_twice_is_one_customer"

FILE_VERSIONS = """_source_ts,
                    count(distinct _file_row) filter (where _file_row > 0) as good_rows,
                    max(_file_rows) as file_rows,
                    max(_kafka_ts) as arrived_at,
                    max(_offset) as last_offset
                from {{ relation }}
                group by _file_sha256, _source_ts"""
BREAKS = [
    versions("customers", "customer_id"),
    versions("products", "product_id"),
    versions("orders", "order_id"),
    versions("order_items", "order_item_id"),
    package(
        "a delete is applied",
        "stg_customers",
        "latest_version",
        "coalesce(_op = 'd', false)",
        "false",
        CUSTOMERS,
    ),
    package(
        "a deleted row is hidden",
        "stg_customers",
        "latest_version",
        "as newest\n    where not _is_deleted",
        "as newest",
        CUSTOMERS,
    ),
    package(
        "a truncation is applied",
        "stg_customers",
        "latest_version",
        "emptied._op = 't'",
        "false",
        EMPTIED,
    ),
    package(
        "what comes after a truncation stays",
        "stg_customers",
        "latest_version",
        "or {{ dbt_ducklake.binlog_order('emptied') }}",
        "or true or {{ dbt_ducklake.binlog_order('emptied') }}",
        EMPTIED,
    ),
    package(
        "an older version is hidden",
        "stg_customers",
        "latest_version",
        "order by _topic_epoch desc, _offset desc",
        "order by _topic_epoch, _offset",
        CUSTOMERS,
    ),
    package(
        "a repeated snapshot row is hidden",
        "stg_orders",
        "latest_version",
        "qualify row_number() over (partition by {{ key }}"
        " order by _topic_epoch desc, _offset desc) = 1",
        "",
        "orders_keep_their_latest_version",
    ),
    staging(
        "blanks around an e-mail",
        "customers",
        "lower({{ trimmed('email') }})",
        "lower(email)",
        unit="emails_lose_their_blanks",
        data="matches_stg_customers_email___sA_Z_",
    ),
    staging(
        "upper case in an e-mail",
        "customers",
        "lower({{ trimmed('email') }})",
        "{{ trimmed('email') }}",
        unit="emails_lose_their_upper_case",
        data="matches_stg_customers_email___sA_Z_",
    ),
    staging(
        "phones as entered",
        "customers",
        "{{ argentine_phone('phone') }} as phone",
        "phone as phone",
        unit=PHONES,
        data="matches_stg_customers_phone___549_1_3_d_9_",
    ),
    macro(
        "a phone with dashes and blanks",
        "stg_customers",
        "text",
        "replace_matches(text, '\\\\D', '')",
        "text",
        PHONES,
    ),
    macro(
        "a phone with +54 9 or 0",
        "stg_customers",
        "text",
        "^(00)?(54)?9?0?(",
        "^()()(",
        PHONES,
    ),
    macro("a phone with 15", "stg_customers", "text", "2,3})15(", "2,3})(", PHONES),
    macro(
        "no phone at all",
        "stg_customers",
        "text",
        "{{ full_match(national_phone(text), '(11|[23]\\\\d)\\\\d{8}') }}",
        "true",
        PHONES,
    ),
    staging(
        "a blank city",
        "customers",
        "{{ trimmed('city') }} as city",
        "city as city",
        unit="a_blank_city_is_no_city",
        data="matches_stg_customers_city___S_S_",
    ),
    consume(
        "the person entered twice",
        "customer_360",
        "coalesce(email, 'customer ' || customer_id) as person_key",
        "'customer ' || customer_id as person_key",
        unit=PERSON,
    ),
    consume(
        "an account without e-mail",
        "customer_360",
        "coalesce(email, 'customer ' || customer_id) as person_key",
        "email as person_key",
        unit=PERSON,
    ),
    consume(
        "a NULL city",
        "customer_360",
        "coalesce({{ last_known('city', 'updated_at, customer_id') }}, 'unknown')",
        "{{ last_known('city', 'updated_at, customer_id') }}",
        PERSON,
    ),
    newest("inventory", "unique_combination_stg_inventory_sku__warehouse"),
    newest("suppliers", "unique_stg_suppliers_supplier_id"),
    newest("shipments", "unique_stg_shipments_shipment_id"),
    newest("sales_targets", "unique_combination_stg_sales_targets_month__category"),
    newest("support_tickets", "unique_stg_support_tickets_ticket_id"),
    macro(
        "half a file",
        "stg_inventory",
        "newest_file",
        "where counted.good_rows + coalesce(dead.dead_rows, 0) = counted.file_rows",
        "",
        NEWEST_FILE,
    ),
    macro(
        "a file put back as it was",
        "stg_inventory",
        "newest_file",
        FILE_VERSIONS,
        FILE_VERSIONS.replace("_source_ts,", "max(_source_ts) as _source_ts,", 1).replace(
            "group by _file_sha256, _source_ts", "group by _file_sha256"
        ),
        NEWEST_FILE,
    ),
    macro(
        "a repeated row of a whole file",
        "stg_inventory",
        "newest_file",
        "count(distinct _file_row)",
        "count(*)",
        NEWEST_FILE,
    ),
    macro(
        "an older file",
        "stg_inventory",
        "newest_file",
        "counted.arrived_at desc, counted._source_ts desc",
        "1",
        NEWEST_FILE,
    ),
    macro(
        "a repeated row of a file",
        "stg_inventory",
        "newest_file",
        "where _ducklake_age = 1",
        "",
        NEWEST_FILE,
    ),
    staging(
        "a decimal comma",
        "inventory",
        "{{ decimal_comma('unit_cost_ars', 'decimal(12, 2)') }}",
        "try_cast(unit_cost_ars as decimal(12, 2))",
        unit=COMMAS,
        data=READABLE,
    ),
    macro(
        "points between thousands",
        "stg_inventory",
        "text",
        "replace({{ text }}, '.', '')",
        "{{ text }}",
        COMMAS,
    ),
    staging(
        "a date dd/mm/yyyy",
        "inventory",
        "{{ day_first_date('counted_on') }}",
        "try_cast(counted_on as date)",
        unit=COMMAS,
        data=READABLE,
    ),
    staging(
        "blanks around a SKU", "inventory", "upper({{ trimmed('sku') }})", "upper(sku)", COMMAS
    ),
    staging(
        "contacts that are no JSON",
        "suppliers",
        "{{ contacts_of('contacts') }}",
        "{{ contacts_of('contacts').replace('json_valid(contacts)', 'true') }}",
        unit="the_contact_for_sales_is_taken",
    ),
    staging(
        "the contact for sales",
        "suppliers",
        "{{ chosen_contact('contact_list', 'sales|ventas|comercial') }}",
        "null",
        unit="the_contact_for_sales_is_taken",
    ),
    staging(
        "a blank date of delivery",
        "shipments",
        "try_cast({{ trimmed('delivered_on') }} as date)",
        "cast(delivered_on as date)",
        unit="a_shipment_without_delivery_is_not_late_yet",
    ),
    staging(
        "a category with blanks",
        "sales_targets",
        "{{ trimmed('category') }}",
        "category",
        unit="targets_are_per_month_and_clean_category",
    ),
    staging(
        "a mark in quotes",
        "support_tickets",
        "{{ trimmed(\"replace(satisfaction, '\\\"', '')\") }}",
        "satisfaction",
        unit="satisfaction_may_be_quoted_or_empty",
    ),
    staging(
        "an empty mark",
        "support_tickets",
        'try_cast({{ trimmed("replace',
        'cast({{ trimmed("replace',
        unit="satisfaction_may_be_quoted_or_empty",
    ),
    staging(
        "an empty time of closing",
        "support_tickets",
        "{{ try_timestamp(trimmed('closed_at'), '%Y-%m-%d %H:%M') }}",
        "strptime(closed_at, '%Y-%m-%d %H:%M')",
        unit="satisfaction_may_be_quoted_or_empty",
    ),
    staging(
        "a day without a rate",
        "dolar_blue",
        "{{ each_day('min(fecha)', 'max(fecha)') }} as fecha",
        "fecha",
        unit="a_day_without_a_rate_takes_the_last_before_it",
        data="every_day_stg_dolar_blue_fecha",
    ),
    staging(
        "a null rate",
        "dolar_blue",
        "and venta is not null",
        "",
        unit="a_null_rate_is_no_rate",
        data="not_null_stg_dolar_blue_venta",
    ),
    staging(
        "several readings of a day",
        "dolar_blue",
        "partition by fecha order by read_at desc, _fetched_at desc, _offset desc",
        "order by fecha",
        unit="the_latest_reading_of_an_argentine_day_wins",
    ),
    staging(
        "a reading late in the evening",
        "dolar_blue",
        "{{ in_argentina('fechaActualizacion') }}",
        "timezone('UTC', fechaActualizacion)",
        unit="the_latest_reading_of_an_argentine_day_wins",
    ),
    staging(
        "another dollar",
        "dolar_blue",
        "where casa = 'blue'",
        "where true",
        unit="the_latest_reading_of_an_argentine_day_wins",
    ),
    staging(
        "a slip of the rate",
        "dolar_blue",
        "venta not between 0.5 * {{ median_over('venta', 'around') }}\n"
        "        and 2 * {{ median_over('venta', 'around') }}",
        "false",
        unit="a_slip_of_the_rate_is_flagged_and_a_devaluation_is_not",
    ),
    macro(
        "dollars at a slip of the rate",
        "daily_sales",
        "rates",
        "where not is_outlier",
        "",
        "dollars_pass_over_an_outlier",
    ),
    consume(
        "a day without sales",
        "daily_sales",
        "from calendar\n    left join sold",
        "from calendar\n    inner join sold",
        unit="every_day_to_today_has_its_sales",
        data="every_day_daily_sales_sales_date",
    ),
    consume(
        "a figure that cannot be negative",
        "daily_sales",
        "coalesce(sold.orders, 0) as orders",
        "coalesce(sold.orders, 0) - 1 as orders",
        data="figures_of_daily_sales_are_not_negative",
    ),
    intermediate(
        "cancelled orders",
        "int_daily_orders",
        "sum(orders.total_ars) filter (where not orders.is_cancelled)",
        "sum(orders.total_ars)",
        unit="cancelled_orders_are_no_revenue",
    ),
    intermediate(
        "items of cancelled orders",
        "int_order_lines",
        "where not orders.is_cancelled",
        "where true",
        unit="cancelled_orders_sell_nothing",
    ),
    macro(
        "a slip of the rate in the rates of days",
        "int_daily_rates",
        "rates",
        "where not is_outlier",
        "",
        "rates_pass_over_outliers_and_reach_the_newest_order",
    ),
    intermediate(
        "an order after the newest rate",
        "int_daily_rates",
        "greatest(",
        "least(",
        unit="rates_pass_over_outliers_and_reach_the_newest_order",
    ),
    intermediate(
        "two lines of a product",
        "int_product_days",
        "count(distinct lines.order_id)",
        "count(*)",
        unit="two_lines_of_a_product_are_one_order",
    ),
    intermediate(
        "a customer who bought twice",
        "int_product_customers",
        "group by lines.product_id, lines.customer_id",
        "group by lines.product_id, lines.customer_id, lines.order_item_id",
        unit="a_customer_of_a_product_stands_once",
    ),
    intermediate(
        "two products of a category",
        "int_category_customers",
        "count(distinct lines.order_id)",
        "count(*)",
        unit="products_of_a_category_in_one_order_are_one_order",
    ),
    intermediate(
        "cancelled orders of a customer",
        "int_customer_orders",
        "sum(orders.total_ars) filter (where not orders.is_cancelled)",
        "sum(orders.total_ars)",
        unit="each_order_counts_at_its_days_rate",
    ),
    intermediate(
        "the rate of an order's day",
        "int_customer_orders",
        "on orders.order_date = rates.rate_date\ngroup by",
        "on rates.rate_date = '2026-03-01'\ngroup by",
        unit="each_order_counts_at_its_days_rate",
    ),
    staging(
        "a holiday fetched again",
        "feriados",
        "row_number() over (",
        "1 = 1 or row_number() over (",
        unit="a_holiday_fetched_again_stands_once",
        data="unique_combination_stg_feriados_fecha__nombre",
    ),
]


@pytest.fixture(scope="module")
def unit_tests(built: tuple[Warehouse, Build], dbt: Dbt) -> dict[str, list[str]]:
    """The names of each model's unit tests."""
    manifest = json.loads((dbt.project / "target" / "manifest.json").read_text())
    tests: dict[str, list[str]] = {}
    for test in manifest["unit_tests"].values():
        tests.setdefault(test["model"], []).append(test["name"])
    return tests


@pytest.fixture
def broken(request: pytest.FixtureRequest, dbt: Dbt) -> Iterator[Break]:
    """The project with one line broken, for one test."""
    case: Break = request.param
    path = dbt.project / case.file
    whole = path.read_text()
    assert whole.count(case.line) >= 1, f"{case.file} no longer has: {case.line}"
    path.write_text(whole.replace(case.line, case.instead))
    yield case
    path.write_text(whole)


def assert_noticed(build: Build, test: str) -> None:
    """The test failed on the rows: a break that is no SQL any more would prove nothing."""
    status, message = build.results[test]
    assert status == "fail" or "Conversion Error" in message or "Invalid Input" in message, message


@pytest.mark.parametrize("broken", BREAKS, indirect=True, ids=lambda case: case.name)
def test_a_cleaning_line_cannot_be_removed_unnoticed(
    broken: Break, warehouse: Warehouse, dbt: Dbt, unit_tests: dict[str, list[str]]
) -> None:
    assert broken.unit or broken.data
    if broken.unit:
        # Alone: the first of a model's unit tests to fail would have the others skipped.
        others = [name for name in unit_tests[broken.model] if name != broken.unit]
        without = ("--exclude", *others) if others else ()
        build = dbt.run("build", "--no-write-json", "--select", broken.model, *without)
        assert not build.success
        assert_noticed(build, broken.unit)
    if broken.data:
        build = dbt.run("build", "--no-write-json", "--select", broken.model, *TIMER)
        assert not build.success
        assert_noticed(build, broken.data)


def test_a_model_that_leaves_its_contract_is_not_built(warehouse: Warehouse, dbt: Dbt) -> None:
    path = dbt.project / "models" / "consume" / "daily_sales.sql"
    whole = path.read_text()
    before = warehouse.query("SELECT count(*), sum(orders) FROM consume.daily_sales")
    try:
        for column in (
            "cast(sold.orders as integer) as orders",
            "sold.orders as orders, 1 as more",
        ):
            path.write_text(whole.replace("coalesce(sold.orders, 0) as orders", column))
            build = dbt.run("build", "--no-write-json", "--select", "daily_sales", *TIMER)
            status, message = build.results["daily_sales"]
            assert status == "error" and "enforced contract" in message, message
    finally:
        path.write_text(whole)
    assert warehouse.query("SELECT count(*), sum(orders) FROM consume.daily_sales") == before


def test_a_repeated_record_holds_back_its_table_and_nothing_else(
    warehouse: Warehouse, dbt: Dbt
) -> None:
    warehouse.query("INSERT INTO raw.support_tickets FROM raw.support_tickets LIMIT 1")
    build = dbt.run("build", "--no-write-json", *TIMER)
    assert len(build.red) == 1
    held_back = {"stg_support_tickets", "support_quality", "customer_360"}
    assert held_back <= build.having("skipped")
    assert {"stg_orders", "daily_sales", "sales_by_category"} <= build.having("success")


def test_an_empty_raw_layer_builds(warehouse: Warehouse, dbt: Dbt) -> None:
    for table in TABLES:
        warehouse.query(f"DELETE FROM raw.{table}")
    build = dbt.run("build", "--no-write-json", *TIMER)
    assert build.success, (build.error, {name: build.results[name] for name in build.red})
