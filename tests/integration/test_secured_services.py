"""Services that demand TLS: the product speaks it end to end, and falls back to nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg2
import pytest

from ducklake.doctor.findings import CODES, Finding
from ducklake.doctor.kafka import kafka
from ducklake.doctor.mysql import mysql
from ducklake.doctor.postgres import postgres
from lake.config import Config, Endpoints, MysqlConnection, load_config
from lake.errors import SourceError
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.encryption import connected
from producers.mysql.query import ask
from producers.registry import source_connection
from tests.integration.producers_lab import wait_until
from tests.integration.secured_lab import Secured, secured

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("secured")) as made:
        yield made


def shop(lab: Secured) -> MysqlConnection:
    found = source_connection(lab.project, "shop")
    assert isinstance(found, MysqlConnection)
    return found


def insert(lab: Secured, *rows: tuple[int, str]) -> None:
    made = connected(shop(lab), database="techstore", autocommit=True)
    with made as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO orders VALUES (%s, %s, 1.5)", rows)


def runs(status: dict[str, Any]) -> bool:
    return [task["state"] for task in status["tasks"]] == ["RUNNING"]


def test_rows_come_from_mysql_to_postgresql_and_every_hop_is_encrypted(lab: Secured) -> None:
    """Debezium, its schema history and signals, producers, consumers and the export."""
    insert(lab, (1, "snapshot"))
    done = lab.run("produce", "--once")
    assert done.returncode == 0, done.stderr + done.stdout
    insert(lab, (2, "binlog"))
    for words in (("produce", "--once"), ("consume", "--once"), ("batch", "--once")):
        done = lab.run(*words)
        assert done.returncode == 0, (words, done.stderr, done.stdout)
    at = lab.project.endpoints().postgres
    assert at.sslmode == "verify-full"
    with psycopg2.connect(**at.login()) as database, database.cursor() as cursor:
        cursor.execute("SELECT id, v FROM raw.orders ORDER BY id")
        assert cursor.fetchall() == [(1, "snapshot"), (2, "binlog")]
        cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert cursor.fetchall() == [(True,)]
    assert ask(shop(lab), "SHOW STATUS LIKE 'Ssl_cipher'")[1]
    rest = ConnectRest(lab.project.endpoints().connect, "secured-shop")
    wait_until(lambda: runs(rest.status()), "the connector runs")
    told = json.dumps(rest.configuration())
    rest.close()
    for secret in lab.environment.values():
        assert secret not in told


def test_a_table_is_read_again_over_the_signals_of_the_broker(lab: Secured) -> None:
    done = lab.run("produce", "--once")
    assert done.returncode == 0, done.stderr
    asked = lab.run("backfill", "shop.orders", "--no-wait")
    assert asked.returncode == 0, asked.stderr + asked.stdout
    done = lab.run("produce", "--once")
    assert done.returncode == 0, done.stderr


def test_the_doctor_finds_nothing(lab: Secured) -> None:
    endpoints = lab.project.endpoints()
    for examined in EXAMINED.values():
        found = [f for f in examined(lab.project, endpoints) if f.level == "error"]
        assert not found


WRONG: list[tuple[dict[str, dict[str, object]], str, str, str]] = [
    (
        {"kafka": {"options": {"ssl.ca.location": "../certificates/stranger.pem"}}},
        "DL-208",
        "the broker's certificate is not trusted",
        "ssl.ca.location",
    ),
    ({"kafka": {"host": "127.0.0.1"}}, "DL-208", "for another host name", "bootstrap_servers"),
    (
        {"kafka": {"options": {"sasl.password": "battery staple"}}},
        "DL-207",
        "refuses the login",
        "sasl.password",
    ),
    ({"kafka": {"plain": True}}, "DL-208", "the broker speaks TLS", "security.protocol"),
    (
        {"kafka": {"options": {"security.protocol": "SASL_PLAINTEXT"}}},
        "DL-208",
        "the broker speaks TLS",
        "security.protocol",
    ),
    (
        {"shop": {"ssl_ca": "../certificates/stranger.pem"}},
        "DL-415",
        "its certificate is not trusted",
        "connections.shop.ssl_ca",
    ),
    ({"shop": {"host": "127.0.0.1"}}, "DL-415", "another host name", "connections.shop.host"),
    (
        {"shop": {"ssl_mode": "disabled", "ssl_ca": None}},
        "DL-415",
        "takes connections with TLS only",
        "connections.shop.ssl_mode",
    ),
    (
        {"postgres": {"sslrootcert": "../certificates/stranger.pem"}},
        "DL-506",
        "its certificate is not trusted",
        "sslrootcert",
    ),
    ({"postgres": {"host": "127.0.0.1"}}, "DL-506", "another host name", "services.postgres.host"),
    (
        {"postgres": {"sslmode": "disable", "sslrootcert": None}},
        "DL-506",
        "takes connections with TLS only",
        "services.postgres.sslmode",
    ),
]
EXAMINED: dict[str, Callable[[Config, Endpoints], Iterator[Finding]]] = {
    "kafka": kafka,
    "shop": partial(mysql, name="shop"),
    "postgres": postgres,
}
COMMANDS = {
    "kafka": ("consume", "--once"),
    "shop": ("config", "check"),
    "postgres": ("batch", "--once"),
}


@pytest.mark.parametrize(("wrong", "code", "what", "setting"), WRONG)
def test_what_does_not_fit_is_named_with_its_setting_and_nothing_falls_back(
    lab: Secured, wrong: dict[str, dict[str, object]], code: str, what: str, setting: str
) -> None:
    [(name, change)] = wrong.items()
    if name == "kafka":
        change = kafka_change(lab, change)
    config = load_config(lab.changed(**{name: change}))
    [found] = [f for f in EXAMINED[name](config, config.endpoints()) if f.level == "error"]
    assert found.code == code and code in CODES, found
    assert what in found.what and setting in found.remedy, found
    assert not [secret for secret in lab.environment.values() if secret in f"{found}"]
    assert "battery staple" not in f"{found}"


@pytest.mark.parametrize("name", ["kafka", "shop", "postgres"])
def test_a_command_says_it_in_one_sentence(lab: Secured, name: str) -> None:
    wrong, _, what, setting = next(row for row in WRONG if name in row[0])
    change = wrong[name]
    if name == "kafka":
        change = kafka_change(lab, change)
    done = lab.run(*COMMANDS[name], config=lab.changed(**{name: change}))
    said = re.sub(r"\s+", " ", done.stderr + done.stdout)
    assert done.returncode != 0 or name == "shop", said
    assert what in said and setting in said, said
    assert "Traceback" not in said
    assert not [secret for secret in lab.environment.values() if secret in said]


def kafka_change(lab: Secured, change: dict[str, object]) -> dict[str, object]:
    kafka = lab.keys["services"]["kafka"]
    if "host" in change:
        return {"bootstrap_servers": kafka["bootstrap_servers"].replace("localhost", "127.0.0.1")}
    if "plain" in change:
        return {"options": {}}
    options = change["options"]
    assert isinstance(options, dict)
    return {"options": {**kafka["options"], **options}}


def test_a_file_that_is_not_there_is_named_before_anything_is_tried(lab: Secured) -> None:
    for name, change, at in (
        ("kafka", kafka_change(lab, {"options": {"ssl.ca.location": "no.pem"}}), "ssl.ca.location"),
        ("postgres", {"sslrootcert": "no.pem"}, "services.postgres.sslrootcert"),
    ):
        done = lab.run("consume", "--once", config=lab.changed(**{name: change}))
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert at in done.stderr and "there is no file" in done.stderr
    changed = load_config(lab.changed(shop={"ssl_ca": "no.pem"}))
    found = source_connection(changed, "shop")
    assert isinstance(found, MysqlConnection)
    with pytest.raises(SourceError, match=r"no\.pem") as caught:
        ask(found, "SELECT 1")
    assert "connections.shop.ssl_ca" in caught.value.remedy
