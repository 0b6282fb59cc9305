"""Tables of any name and of several databases, from `ducklake.yml` to PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import psycopg2
import pytest
import requests
from psycopg2.extensions import quote_ident

from lake.config import Config
from lake.storage.paths import LakePaths
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.tables import quoted
from tests.integration.producers_lab import Lab, make_lab, shop_server, sql, unique, wait_until
from tests.integration.test_mysql_types import mysql_root

pytestmark = pytest.mark.stack
COLUMNS = "id INT PRIMARY KEY, v VARCHAR(64), f FLOAT, d DATETIME"
PLAIN = "id INT PRIMARY KEY, v VARCHAR(64), f DOUBLE, d DATE"
# Names in MySQL, and the ones in the lake where the configuration says them.
NAMES = {
    "orders": "orders",
    "Orders": "orders_2",
    "ORDERS": "orders_3",
    "a-b": None,
    "a_b": "a_b_2",
    "2020_sales": None,
    "2020": None,
    "ñandú": None,
    "with blank": None,
    "do.t": None,
    'quo"te': None,
    "apos'trophe": None,
    "back`tick": None,
    "dol$lar": None,
    "sla/sh": None,
    "back\\slash": None,
    "(br[ack]et)*+?|^{}": None,
    "per%cent": None,
    "<tables>": None,
    "select": None,
    "表": None,
    "com,ma": None,
    "L" + "o" * 62 + "g": None,
    "l" + "o" * 62 + "g": "long_2",
}
BYSTANDERS = ("A-B", "axb", "dolXlar", "orders_")
"""Tables that nobody configured, and that a careless pattern would match."""


@dataclass
class Named:
    """A database of tables with names of all kinds, one in another database, and their lake."""

    lab: Lab
    databases: tuple[str, str]
    tables: dict[str, str]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.lab.config.path)],
            env={**os.environ, **self.lab.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def take(self) -> None:
        source = self.lab.connector()
        assert isinstance(source, MysqlCdcConnector)

        def settled() -> bool:
            list(source.poll({}))
            return source.settled()

        wait_until(settled, "everything is in Kafka")
        source.close()
        done = self.command("consume", "--once")
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Named]:
    at = shop_server(stack_config)
    first, second = unique("First-"), unique("second.")
    with mysql_root(stack_config) as root:
        for database in (first, second):
            root.execute(f"CREATE DATABASE {quoted(database)}")
            root.execute(f"GRANT ALL ON {quoted(database)}.* TO {at.user}@'%'")
        for table in (*NAMES, *BYSTANDERS):
            columns = COLUMNS if "," not in table else PLAIN
            root.execute(f"CREATE TABLE {quoted(first)}.{quoted(table)} ({columns})")
        root.execute(f"CREATE TABLE {quoted(second)}.orders ({COLUMNS})")
    tables: dict[str, Any] = {
        lake or table: {"key": ["id"], **({"table": table} if lake else {})}
        for table, lake in NAMES.items()
    }
    tables["others"] = {"table": "orders", "database": second, "key": ["id"]}
    folder = tmp_path_factory.mktemp("names")
    lab = make_lab(
        folder,
        stack_config,
        {"type": "mysql_cdc", "tables": tables},
        servers={
            "mysql": {"database": first},
            "postgres": {"password": stack_config.endpoints().postgres.password},
        },
    )
    found = {
        spec.table or ref.table: ref.table
        for ref, spec in lab.config.tables()
        if spec.database is None
    }
    made = Named(lab, (first, second), found)
    yield made
    name = f"{lab.config.settings.name}-{lab.source}"
    requests.delete(f"{lab.endpoints.connect}/connectors/{name}", timeout=30)
    with mysql_root(stack_config) as root:
        for database in (first, second):
            root.execute(f"DROP DATABASE {quoted(database)}")


def _insert(named: Named, stack: Config, number: int) -> None:
    """A row in every table, with the table's own name in it."""
    at = shop_server(stack)
    first, second = (quoted(name) for name in named.databases)
    for table in (*NAMES, *BYSTANDERS):
        sql(
            at,
            f"INSERT INTO {first}.{quoted(table)} VALUES ({number}, '"
            + table.replace("\\", "\\\\").replace("'", "''")
            + "', 16777216, '1582-10-10 01:02:03')",
        )
    sql(at, f"INSERT INTO {second}.orders VALUES ({number}, 'second', 0.1, NULL)")


def test_tables_of_any_name_are_in_the_lake_and_in_postgresql(
    named: Named, stack_config: Config
) -> None:
    _insert(named, stack_config, 1)  # for the snapshot
    named.take()
    _insert(named, stack_config, 2)  # for the binlog
    sql(
        shop_server(stack_config),
        f"ALTER TABLE {quoted(named.databases[0])}.{quoted('a-b')} ADD x INT",
        f"UPDATE {quoted(named.databases[0])}.{quoted('a-b')} SET x = 5 WHERE id = 2",
    )
    named.take()
    models = named.lab.config.root / "models"
    (models / "models").mkdir(parents=True)
    (models / "dbt_project.yml").write_text("name: names\nprofile: names\nversion: '1.0.0'\n")
    (models / "profiles.yml").write_text(
        "names: {target: lake, outputs: {lake: {type: duckdb,"
        " path: \"{{ env_var('DUCKLAKE_WAREHOUSE') }}\"}}}\n"
    )
    relations = {ref.table: named.lab.config.relation(ref) for ref, _ in named.lab.config.tables()}
    (models / "models" / "sources.yml").write_text(
        "version: 2\nsources: [{name: raw, tables: ["
        + ", ".join(f"{{name: {name}}}" for name in relations.values())
        + "]}]\n"
    )
    (models / "models" / "everything.sql").write_text(
        " union all ".join(
            f"select '{name}' as relation, id, v from {{{{ source('raw', '{name}') }}}}"
            for name in relations.values()
        )
    )
    with named.lab.config.path.open("a") as file:
        file.write("batch: {dbt_project: models}\n")
    done = named.command("batch", "--once")
    assert done.returncode == 0, done.stderr + done.stdout
    wanted = {
        relations[lake]: [(1, table, 16777216.0), (2, table, 16777216.0)]
        for table, lake in named.tables.items()
    }
    wanted[relations["others"]] = [(1, "second", 0.1), (2, "second", 0.1)]
    at = named.lab.endpoints.postgres
    with (
        duckdb.connect(str(LakePaths(named.lab.config.data_dir).warehouse)) as warehouse,
        psycopg2.connect(
            host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
        ) as postgres,
        postgres.cursor() as cursor,
    ):
        for relation, rows in wanted.items():
            query = "SELECT id, v, f FROM raw.{} WHERE _op <> 'u' ORDER BY id"
            assert warehouse.execute(query.format(f'"{relation}"')).fetchall() == rows
            cursor.execute(query.format(quote_ident(relation, cursor)))
            assert cursor.fetchall() == rows
        found = warehouse.execute("SELECT relation, id, v FROM main.everything").fetchall()
        assert len(found) == 2 * len(wanted) + 1
        assert warehouse.execute("SELECT x FROM raw.a_b WHERE _op = 'u'").fetchall() == [(5,)]
    assert json.loads(named.command("verify", "--json").stdout)["exact"]
    checked = named.command("config", "check").stdout
    assert "`a-b`" in checked


AGAIN = ("Orders", "(br[ack]et)*+?|^{}")
COMPARED = ("Orders", "do.t", "back`tick", "com,ma")


def test_tables_of_any_name_are_compared_with_mysql_and_read_again(
    named: Named, stack_config: Config
) -> None:
    source = named.lab.source
    topics = [f"{source}.{named.tables[table]}" for table in COMPARED]
    compared = named.command("verify", "--against-source", "--json", *topics)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    for table in AGAIN:
        words = ("backfill", f"{source}.{named.tables[table]}", "--json")
        done = named.command(*words)
        assert done.returncode == 0, f"{table}: {done.stderr}{done.stdout}"
    named.take()
    assert json.loads(named.command("verify", "--json").stdout)["exact"]
    again = named.lab.rows(named.tables["Orders"])
    assert [seen.row["op"] for seen in again].count("r") == 3  # one of the snapshot, two again
    assert {seen.row["source"]["table"] for seen in again} == {"Orders"}
