"""The pages on connectors and models are followed word for word, against the real services.

The followed project runs on somebody's own services: each address stands in its `ducklake.yml`, and
nothing else was changed for that.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import psycopg2
import pytest
import yaml

from ducklake.config import Config, Endpoints, load_config
from ducklake.local.private import Secrets
from ducklake.local.supervisor import SECRETS
from tests.conftest import copy_project

pytestmark = pytest.mark.stack

ROOT = Path(__file__).resolve().parents[2]
NAME = "handbook"
COMMAND_SECONDS = 150.0
FENCE = re.compile(r"(?P<before>.*?)^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
ORDER = re.compile(r"(Create|Append to|Add to)\s+`([^`]+)`")


@dataclass(frozen=True)
class Handbook:
    """A project on own services that follows the pages."""

    folder: Path
    environment: dict[str, str] = field(repr=False)  # it holds passwords

    def run(self, script: str) -> str:
        """Run a block of commands as a reader would paste it."""
        process = subprocess.Popen(
            ["bash", "-ec", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=COMMAND_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # bash alone would leave its command behind
            process.communicate()
            raise
        assert process.returncode == 0, f"{script}\n{out}\n{err}"
        return out + err

    def follow(self, page: str) -> list[str]:
        """Do what every block of a page says, in order; returns what the commands printed."""
        printed = []
        for block in FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
            if block["language"] == "sh":
                printed.append(self.run(block["text"]))
                continue
            orders = ORDER.findall(block["before"])
            assert orders, f"{page}: nothing says what to do with {block['text'][:80]!r}"
            verb, name = orders[-1]
            path = self.folder / name
            if verb == "Create":
                path.parent.mkdir(exist_ok=True)
                path.write_text(block["text"], encoding="utf-8")
            elif verb == "Append to":
                path.write_text(path.read_text(encoding="utf-8") + block["text"], encoding="utf-8")
            else:
                text = path.read_text(encoding="utf-8")
                path.write_text(text.replace("\nsources:\n", f"\nsources:\n{block['text']}", 1))
        return printed

    def lake(self, query: str) -> list[tuple[object, ...]]:
        """Ask what people open."""
        with duckdb.connect(str(self.folder / "data" / "lake.duckdb"), read_only=True) as lake:
            return lake.execute(query).fetchall()

    def files(self, table: str, query: str) -> list[tuple[object, ...]]:
        """Ask the public files of a table, by glob; `{raw}` in the query stands for them."""
        tree = str(self.folder / "data" / "raw" / table / "*/*/*/*.parquet")
        return duckdb.execute(query.format(raw=f"read_parquet('{tree}')")).fetchall()


def own_services(at: Endpoints) -> dict[str, object]:
    """The section `services` for services that the reader already has."""
    return {
        "kafka": {"bootstrap_servers": at.kafka},
        "connect": {"url": at.connect},
        "mysql": {
            "host": at.mysql.host,
            "port": at.mysql.port,
            "user": at.mysql.user,
            "password": "${DUCKLAKE_MYSQL_PASSWORD}",
            "database": at.mysql.database,
        },
        "postgres": {
            "host": at.postgres.host,
            "port": at.postgres.port,
            "user": at.postgres.user,
            "password": "${DUCKLAKE_POSTGRES_PASSWORD}",
            "database": NAME,
        },
        "sftp": {
            "host": at.sftp.host,
            "port": at.sftp.port,
            "user": at.sftp.user,
            "password": "${DUCKLAKE_SFTP_PASSWORD}",
            "known_hosts": str(at.sftp.known_hosts),
        },
        "api": {"use": "public", "argentinadatos": at.argentinadatos, "dolarapi": at.dolarapi},
    }


def make_database(config: Config) -> None:
    """A database of its own, so that no other test finds its tables changed."""
    at = config.endpoints().postgres
    password = Secrets(config.stack_dir / SECRETS).get("postgres_superuser")
    database = psycopg2.connect(
        host=at.host, port=at.port, user="postgres", password=password, dbname="postgres"
    )
    try:
        database.autocommit = True
        with database.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{NAME}" OWNER "{at.user}"')
    finally:
        database.close()


@pytest.fixture(scope="module")
def handbook(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Handbook:
    folder = copy_project(tmp_path_factory.mktemp("a handbook"))
    (folder / ".venv").symlink_to(sys.prefix)
    at = stack_config.endpoints()
    file = folder / "ducklake.yml"
    text = file.read_text(encoding="utf-8").replace("name: techstore", f"name: {NAME}", 1)
    services = yaml.safe_dump({"services": own_services(at)}, sort_keys=False)
    file.write_text(re.sub(r"(?ms)^services:.*?^(?=\w)", lambda _: services, text, count=1))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DUCKLAKE_")}
    environment |= {
        "DUCKLAKE_MYSQL_PASSWORD": at.mysql.password,
        "DUCKLAKE_POSTGRES_PASSWORD": at.postgres.password,
        "DUCKLAKE_SFTP_PASSWORD": at.sftp.password,
        "PYTHONPATH": str(folder),
    }
    make_database(stack_config)
    return Handbook(folder, environment)


@pytest.fixture(scope="module")
def connectors(handbook: Handbook) -> list[str]:
    return handbook.follow("docs/CONNECTORS.md")


@pytest.fixture(scope="module")
def models(handbook: Handbook, connectors: list[str], stack_config: Config) -> list[str]:
    # The page starts after the demo's first pass: its sources are in Kafka.
    handbook.run(f".venv/bin/ducklake produce --once --config '{stack_config.path}'")
    handbook.run(".venv/bin/ducklake consume --once")
    return handbook.follow("docs/MODELS.md")


def test_nothing_of_the_followed_project_is_embedded(
    handbook: Handbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in handbook.environment.items():
        monkeypatch.setenv(name, value)
    config = load_config(handbook.folder / "ducklake.yml")
    assert config.settings.services.embedded() == ()
    assert not config.state_file.exists()


def test_the_page_on_connectors_brings_a_whole_table(
    handbook: Handbook, connectors: list[str]
) -> None:
    assert "ducklake.yml is valid: 4 sources, 12 tables" in connectors[0]
    assert "dolar.dolar_casas: 7 records sent" in connectors[0]
    assert "blue" in connectors[0]
    found = handbook.files(
        "dolar/dolar_casas",
        "SELECT count(*), count(DISTINCT casa), min(typeof(venta)), count(venta),"
        ' min(typeof("fechaActualizacion")), count(_fetched_at) FROM {raw}',
    )
    assert found == [(7, 7, "DECIMAL(12,2)", 7, "TIMESTAMP WITH TIME ZONE", 7)]


def test_an_unchanged_table_is_not_sent_again(handbook: Handbook, connectors: list[str]) -> None:
    assert "records sent" not in handbook.run(".venv/bin/ducklake produce dolar --once")


def test_the_page_on_connectors_brings_what_is_new(
    handbook: Handbook, connectors: list[str]
) -> None:
    assert "counter.visits: 2 records sent" in connectors[1]
    file = handbook.folder / "visits" / "monday.jsonl"
    with file.open("a") as lines:
        lines.write('{"visit_id": 4, "entered_at": "2026-03-02T10:05:00", "people": 3}\n')
    assert "counter.visits: 1 records sent" in handbook.run(
        ".venv/bin/ducklake produce counter --once && .venv/bin/ducklake consume --once"
    )
    found = handbook.files(
        "counter/visits",
        "SELECT visit_id, people, typeof(entered_at), _file FROM {raw} ORDER BY visit_id",
    )
    assert found == [
        (1, 2, "TIMESTAMP", "monday.jsonl"),
        (2, 1, "TIMESTAMP", "monday.jsonl"),
        (4, 3, "TIMESTAMP", "monday.jsonl"),
    ]


def test_the_page_on_models_builds_publishes_and_exports(
    handbook: Handbook, models: list[str], stack_config: Config
) -> None:
    provinces = handbook.lake("SELECT count(*), sum(orders) FROM consume.sales_by_province")
    orders = handbook.lake("SELECT count(*) FROM staging.stg_orders WHERE NOT is_cancelled")
    assert provinces[0][1] == orders[0][0]
    assert handbook.lake("SELECT count(*), count(venta) FROM staging.stg_dolar_casas") == [(7, 7)]
    at = stack_config.endpoints().postgres
    with (
        psycopg2.connect(
            host=at.host, port=at.port, user=at.user, password=at.password, dbname=NAME
        ) as database,
        database.cursor() as cursor,
    ):
        cursor.execute("SELECT count(*) FROM consume.sales_by_province")
        assert cursor.fetchone() == (provinces[0][0],)
        cursor.execute("SELECT count(*) FROM staging.stg_dolar_casas")
        assert cursor.fetchone() == (7,)
    database.close()


def test_the_page_on_models_runs_its_unit_test(models: list[str]) -> None:
    assert "cancelled_orders_count_for_no_province" in models[1]
    assert "ERROR=0" in models[1]


def test_a_rejected_line_is_a_dead_letter(handbook: Handbook, models: list[str]) -> None:
    letters = handbook.lake(
        "SELECT reason, value FROM raw.dead_letters WHERE source_table = 'counter.visits'"
    )
    assert letters == [
        ("file monday.jsonl, byte 132: not a JSON object", b'{"visit_id": 3, "entered_at":\n')
    ]


def test_the_readme_opens_the_results(handbook: Handbook, models: list[str]) -> None:
    blocks = [
        block["text"]
        for block in FENCE.finditer((ROOT / "README.md").read_text(encoding="utf-8"))
        if block["language"] == "sh" and block["text"].startswith(".venv/bin/python")
    ]
    assert len(blocks) == 2
    assert "revenue_ars" in handbook.run(blocks[0])
    assert "_op" in handbook.run(blocks[1])
