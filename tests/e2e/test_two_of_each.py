"""Two MySQL servers, two SFTP servers, and tables of one name: every row where it belongs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
import requests
import yaml

from lake.config import Config, MysqlConnection, load_config
from stack import lifecycle
from stack.progress import Silent
from tests.conftest import ROOT
from tests.integration.postgres_lab import answer
from tests.integration.producers_lab import file_server, keys_of, shop_server, sql

pytestmark = pytest.mark.stack
PROGRAM = (sys.executable, "-m", "ducklake.cli")
# A stack of two servers alone: the rest is the first one's.
SECOND = """\
services:
  kafka: {bootstrap_servers: "127.0.0.1:9"}
  connect: {url: "http://127.0.0.1:9"}
  postgres: {host: 127.0.0.1}
sources:
  mysql: {type: mysql_cdc, connection: embedded, tables: {notes: {}}}
  sftp: {type: sftp, connection: embedded, tables: {stock: {file: stock.csv}}}
"""
FIRST = """\
name: two
connections:
  outlet_db: {}
sources:
  shop:
    type: mysql_cdc
    connection: embedded
    tables: {notes: {key: [id]}}
  outlet:
    type: mysql_cdc
    connection: outlet_db
    tables: {notes: {key: [id]}, tills: {key: [id]}}
  drops:
    type: sftp
    connection: embedded
    directory: /upload
    tables: {stock: {file: stock.csv, key: [sku]}}
  returns:
    type: sftp
    connection: {}
    directory: /upload
    tables: {stock: {file: stock.csv, key: [sku]}}
batch: {dbt_project: models}
"""
MODEL = """\
{{ config(materialized='table', contract={'enforced': false}) }}
select 'shop' as source, word from {{ source('raw', 'shop__notes') }} where _op <> 'd'
union all
select 'outlet', word from {{ source('raw', 'outlet__notes') }} where _op <> 'd'
"""
RELATIONS = ("drops__stock", "outlet__notes", "returns__stock", "shop__notes", "tills")
NOTES = "CREATE TABLE notes (id INT PRIMARY KEY, word VARCHAR(20))"


@dataclass(frozen=True)
class Pair:
    """A lake of sources on two stacks, and the folder of its project."""

    config: Config
    second: Config

    @property
    def servers(self) -> tuple[MysqlConnection, MysqlConnection]:
        """MySQL, the first and the second."""
        return shop_server(self.config, "shop"), shop_server(self.second)

    def drop(self, stack: Config, text: str) -> None:
        """Put a file where a stack's SFTP server shows it."""
        folder = stack.stack_dir / "sftp" / "root" / "upload"
        part = folder / "stock.part"
        part.write_text(text)
        part.replace(folder / "stock.csv")

    def run(self, *words: str) -> str:
        """A command of the project, to its end."""
        done = subprocess.run(
            [*PROGRAM, *words, "--config", str(self.config.path)],
            cwd=ROOT,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pass_once(self) -> None:
        """From the sources to PostgreSQL."""
        self.run("produce", "--once")
        self.run("consume", "--once")
        self.run("batch", "--once")

    def raw(self, relation: str) -> list[tuple[object, ...]]:
        """(operation, key, other value) of every row, the same in DuckDB and in PostgreSQL."""
        columns = "sku, amount" if relation.endswith("stock") else "id, word"
        query = f"SELECT coalesce(_op, ''), {columns} FROM raw.{relation} ORDER BY _offset, 2, 3"
        with duckdb.connect(str(self.config.data_dir / "lake.duckdb"), read_only=True) as lake:
            found: list[tuple[object, ...]] = lake.execute(query).fetchall()
        assert self.postgres(query) == found
        return found

    def postgres(self, query: str) -> list[tuple[object, ...]]:
        """Ask PostgreSQL."""
        return answer(self.config.endpoints().postgres, query)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pytest.MonkeyPatch.context() as environment, ExitStack() as started:
        folder = tmp_path_factory.mktemp("second")
        (folder / "ducklake.yml").write_text(SECOND)
        second = load_config(folder / "ducklake.yml")
        started.callback(lifecycle.down, second)
        lifecycle.up(second, Silent())
        # The passwords come from the environment: to the project, and by it to Connect.
        environment.setenv("OUTLET_PASSWORD", shop_server(second).plain_password)
        environment.setenv("RETURNS_PASSWORD", file_server(second).plain_password)
        config = load_config(write_project(tmp_path_factory.mktemp("first"), second))
        started.callback(lifecycle.down, config)
        lifecycle.up(config, Silent())
        yield Pair(config, second)


def write_project(folder: Path, second: Config) -> Path:
    """A project whose own stack has everything, and which also reads the second one's servers."""
    shutil.copytree(ROOT / "connect", folder / "connect")
    models = folder / "models"
    (models / "models").mkdir(parents=True)
    shutil.copytree(ROOT / "dbt_ducklake", folder / "dbt_ducklake")
    for name in ("dbt_project.yml", "profiles.yml", "packages.yml", "package-lock.yml"):
        shutil.copy(ROOT / "dbt_techstore" / name, models / name)
    shutil.copytree(ROOT / "dbt_techstore" / "macros", models / "macros")
    tables = [{"name": name} for name in RELATIONS]
    sources = {"version": 2, "sources": [{"name": "raw", "schema": "raw", "tables": tables}]}
    (models / "models" / "sources.yml").write_text(yaml.safe_dump(sources))
    (models / "models" / "consume").mkdir()
    (models / "models" / "consume" / "words.sql").write_text(MODEL)
    spec = yaml.safe_load(FIRST)
    shop = {**keys_of(shop_server(second)), "password": "${OUTLET_PASSWORD}"}
    files = {**keys_of(file_server(second)), "password": "${RETURNS_PASSWORD}"}
    spec["connections"]["outlet_db"] = shop
    spec["sources"]["returns"]["connection"] = files
    path = folder / "ducklake.yml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return path


def test_every_row_arrives_under_the_name_of_its_own_table(pair: Pair) -> None:
    first, second = pair.servers
    assert first.port != second.port
    said = pair.run("config", "check", "--offline")
    assert "shop.notes is raw.shop__notes: other sources have notes, too" in said
    sql(first, NOTES, "INSERT INTO notes VALUES (1, 'one'), (2, 'two')")
    sql(second, NOTES, "CREATE TABLE tills LIKE notes", "INSERT INTO tills VALUES (7, 'till')")
    sql(second, "INSERT INTO notes VALUES (1, 'uno')")
    pair.drop(pair.config, "sku,amount\na,1\nb,2\n")
    pair.drop(pair.second, "sku,amount\na,99\n")

    pair.pass_once()
    assert pair.raw("shop__notes") == [("r", 1, "one"), ("r", 2, "two")]
    assert pair.raw("outlet__notes") == [("r", 1, "uno")]
    assert pair.raw("tills") == [("r", 7, "till")]
    assert [row[1:] for row in pair.raw("drops__stock")] == [("a", "1"), ("b", "2")]
    assert [row[1:] for row in pair.raw("returns__stock")] == [("a", "99")]

    # A later change of each, in the same second.
    sql(first, "UPDATE notes SET word = 'deux' WHERE id = 2")
    sql(second, "DELETE FROM notes WHERE id = 1", "INSERT INTO notes VALUES (3, 'tres')")
    pair.drop(pair.second, "sku,amount\na,98\nc,3\n")
    pair.pass_once()
    assert pair.raw("shop__notes")[2:] == [("u", 2, "deux")]
    assert {row[:2] for row in pair.raw("outlet__notes")[1:]} == {("d", 1), ("c", 3)}
    assert len(pair.raw("drops__stock")) == 2
    assert {row[1:] for row in pair.raw("returns__stock")[1:]} == {("a", "98"), ("c", "3")}

    found = pair.postgres("SELECT tablename FROM pg_tables WHERE schemaname = 'raw'")
    assert {name for (name,) in found} == {*RELATIONS, "dead_letters"}
    words = pair.postgres("SELECT source, word FROM consume.words ORDER BY 1, 2")
    assert ("shop", "deux") in words and ("outlet", "tres") in words


def test_each_connector_knows_the_password_of_its_own_server_by_name(pair: Pair) -> None:
    first, second = (server.plain_password for server in pair.servers)
    url = f"{pair.config.endpoints().connect}/connectors"
    answer = requests.get(f"{url}?expand=info&expand=status", timeout=30)
    known = {
        name.removeprefix("two-"): about["info"]["config"]["database.password"]
        for name, about in answer.json().items()
    }
    assert known == {
        "shop": "${env:DUCKLAKE_MYSQL_PASSWORD}",
        "outlet": "${env:DUCKLAKE_OUTLET_DB_PASSWORD}",
    }
    assert first not in answer.text and second not in answer.text
