"""Services that demand TLS, client certificates and SCRAM: the product speaks them end to end.

Nothing falls back to plain text, and what does not fit is named with its setting.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from ducklake.doctor import kafka as kafka_doctor
from ducklake.doctor.findings import CODES, Finding
from ducklake.doctor.kafka import kafka
from ducklake.doctor.mysql import mysql
from ducklake.doctor.postgres import postgres
from lake.config import Config, Endpoints, MysqlConnection, load_config
from lake.errors import ConfigError, SourceError
from lake.kafka.topics import KPI_TOPIC
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.encryption import connected
from producers.mysql.query import ask
from producers.registry import source_connection
from stack import lifecycle
from stack.supervisor import SECRETS
from tests.authority import Authority
from tests.integration.producers_lab import committed, wait_until
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
        cursor.executemany("INSERT INTO orders (id, v, f) VALUES (%s, %s, 1.5)", rows)


def runs(status: dict[str, Any]) -> bool:
    return [task["state"] for task in status["tasks"]] == ["RUNNING"]


def test_rows_come_from_mysql_to_postgresql_and_every_hop_is_encrypted(lab: Secured) -> None:
    """Debezium, its schema history and signals, producers, consumers and the export."""
    insert(lab, (1, "snapshot"))
    done = lab.run("produce", "--once")
    assert done.returncode == 0, done.stderr + done.stdout
    insert(lab, (2, "binlog"))
    steps = [(role, "--once") for role in ("produce", "consume", "batch")]
    for words in (*steps, ("catalog", "iceberg")):
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
    asked = lab.run("backfill", "shop.orders", "--no-wait")
    assert asked.returncode == 0, asked.stderr + asked.stdout
    done = lab.run("produce", "--once")
    assert done.returncode == 0, done.stderr


def test_the_doctor_finds_nothing(lab: Secured) -> None:
    endpoints = lab.project.endpoints()
    for examined in EXAMINED.values():
        found = [f for f in examined(lab.project, endpoints) if f.level == "error"]
        assert not found


def test_either_mechanism_of_scram_logs_in(lab: Secured) -> None:
    change = kafka_change(lab, {"options": {"sasl.mechanism": "SCRAM-SHA-256"}})
    config = load_config(lab.changed(kafka=change))
    assert not [f for f in kafka(config, config.endpoints()) if f.level == "error"]


def test_the_live_figures_come_over_tls(lab: Secured) -> None:
    insert(lab, (100, "live"))
    done = lab.run("produce", "--once")
    assert done.returncode == 0, done.stderr
    words = [sys.executable, "-m", "ducklake.cli", "live", "--config", str(lab.project.path)]
    log = lab.project.root / "live.log"
    with log.open("wb") as told, subprocess.Popen(words, stdout=told, stderr=told) as live:
        try:
            endpoints = lab.project.endpoints()
            wait_until(lambda: bool(committed(endpoints, KPI_TOPIC)), "a figure", 120)
        finally:
            live.send_signal(signal.SIGTERM)
    assert live.returncode == 0, log.read_text()


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
    (
        {"kafka": {"options": {"ssl.certificate.location": None, "ssl.key.location": None}}},
        "DL-208",
        "client certificate",
        "ssl.certificate.location",
    ),
    (
        {
            "kafka": {
                "options": {
                    "ssl.certificate.location": "../certificates/forged.pem",
                    "ssl.key.location": "../certificates/forged.pem",
                }
            }
        },
        "DL-208",
        "client certificate",
        "ssl.certificate.location",
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
        {"shop": {"ssl_cert": "../certificates/forged.pem", "ssl_key": None}},
        "DL-415",
        "client certificate",
        "connections.shop.ssl_cert",
    ),
    (
        {
            "shop": {
                "user": "plain",
                "ssl_mode": "disabled",
                **dict.fromkeys(("ssl_ca", "ssl_cert", "ssl_key")),
            }
        },
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
        {"postgres": {"sslcert": None, "sslkey": None}},
        "DL-506",
        "client certificate",
        "services.postgres.sslcert",
    ),
    (
        {
            "postgres": {
                "sslcert": "../certificates/forged.pem",
                "sslkey": "../certificates/forged.key",
            }
        },
        "DL-506",
        "client certificate",
        "services.postgres.sslcert",
    ),
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
    "kafka": ("plan",),
    "shop": ("config", "check"),
    "postgres": ("export",),
}


@pytest.mark.parametrize(("wrong", "code", "what", "setting"), WRONG)
def test_what_does_not_fit_is_named_with_its_setting_and_nothing_falls_back(
    lab: Secured,
    wrong: dict[str, dict[str, object]],
    code: str,
    what: str,
    setting: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_doctor, "SECONDS", 1.0)  # a client tries as long as it may
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
    changed = {**kafka["options"], **options}
    return {"options": {key: value for key, value in changed.items() if value is not None}}


def test_a_file_that_is_not_there_is_named_before_anything_is_tried(lab: Secured) -> None:
    change = kafka_change(lab, {"options": {"ssl.ca.location": "no.pem"}})
    done = lab.run("consume", "--once", config=lab.changed(kafka=change))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ssl.ca.location" in done.stderr and "there is no file" in done.stderr
    for key in ("sslrootcert", "sslcert", "sslkey"):
        config = load_config(lab.changed(postgres={key: "no.pem"}))
        with pytest.raises(ConfigError, match=f"services.postgres.{key}.+there is no file"):
            config.check_files()
    for key in ("ssl_ca", "ssl_cert", "ssl_key"):
        changed = load_config(lab.changed(shop={key: "no.pem"}))
        found = source_connection(changed, "shop")
        assert isinstance(found, MysqlConnection)
        with pytest.raises(SourceError, match=r"no\.pem") as caught:
            ask(found, "SELECT 1")
        assert f"connections.shop.{key}" in caught.value.remedy


def test_passwords_and_the_authority_are_changed(
    lab: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/OPERATIONS.md, step by step, both in one restart; nothing of before is left after it."""
    successor, company = Authority(tmp_path, "successor"), lab.files.authority
    company.write_text(company.read_text() + successor.file.read_text())
    before = dict(lab.environment)
    new = lab.change_passwords()
    refused = lab.run("export")
    assert refused.returncode == 1 and "password authentication failed" in refused.stderr
    for name, value in new.items():
        monkeypatch.setenv(name, value)
    lab.environment.update(new)
    secrets = lab.project.stack_dir / SECRETS
    known = json.loads(secrets.read_text())
    lifecycle.down(lab.project)
    secrets.write_text(json.dumps({k: v for k, v in known.items() if k != "connect"}))
    project = load_config(lab.project.path)
    lifecycle.up(project)
    assert json.loads(secrets.read_text())["connect"] != known["connect"]
    lab.mysql.ask("ALTER USER techstore@'%' DISCARD OLD PASSWORD")
    with pytest.raises(SourceError, match="Access denied"):
        ask(shop(lab), "SELECT 1")
    done = lab.run("produce", "--once")
    assert done.returncode == 0, done.stderr
    lab.change_certificates(successor)
    for examined in EXAMINED.values():
        assert not [f for f in examined(project, project.endpoints()) if f.level == "error"]
    company.write_text(successor.file.read_text())
    insert(replace(lab, project=project), (200, "after"))
    for words in (("produce", "--once"), ("consume", "--once"), ("batch", "--once")):
        done = lab.run(*words)
        assert done.returncode == 0, (words, done.stderr, done.stdout)
        assert not [secret for secret in (*before.values(), *new.values()) if secret in done.stdout]
    login = project.endpoints().postgres.login()
    with psycopg2.connect(**login) as database, database.cursor() as cursor:
        cursor.execute("SELECT v FROM raw.orders WHERE id = 200")
        assert cursor.fetchall() == [("after",)]
