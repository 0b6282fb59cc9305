"""`ducklake doctor`: each fault of a real service has its own code, and its line repairs it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import pytest
import yaml
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ducklake.doctor.clocks import clock
from ducklake.doctor.findings import CODES
from lake.config import Config
from producers.registry import source_connection
from stack.java import java
from stack.tools import Tools
from tests.integration.postgres_lab import superuser
from tests.integration.producers_lab import Lab, file_server, keys_of, make_lab, shop_server, unique
from tests.integration.test_mysql_types import mysql_root

pytestmark = pytest.mark.stack
PASSWORD = "hunter2hunter2"
CLOSED = 9
RUN = re.compile(r"Run `([^`]+)`")


@dataclass
class Patient:
    """A lake with a source of each kind, all of them well; faults are changes of its file."""

    lab: Lab
    stack: Config
    user: str
    database: str
    codes: set[str] = field(default_factory=set)

    @property
    def config(self) -> Config:
        return self.lab.config

    def examined(self, code: int | None = None) -> dict[str, dict[str, Any]]:
        """What is wrong, by code."""
        done = subprocess.run(
            [*self.command("doctor"), "--json"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode in ((0, 3) if code is None else (code,)), done.stdout
        said = json.loads(done.stdout)
        assert said["ok"] == (done.returncode == 0)
        assert PASSWORD not in done.stdout + done.stderr
        assert shop_server(self.stack).plain_password not in done.stdout + done.stderr
        assert "kafka ..." in done.stderr, "it says what it looks at"
        return {one["code"]: one for one in said["findings"] if one["code"]}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.config.path)]

    @contextmanager
    def changed(self, change: Callable[[dict[str, Any]], Any]) -> Iterator[None]:
        """Another configuration for a moment."""
        before = self.config.path.read_text()
        said = yaml.safe_load(before)
        change(said)
        self.config.path.write_text(yaml.safe_dump(said))
        try:
            yield
        finally:
            self.config.path.write_text(before)

    def has(self, code: str, *others: str) -> dict[str, Any]:
        """It says just this."""
        found = self.examined(3)
        errors = {name for name, one in found.items() if one["level"] == "error"}
        assert errors == {code, *others}, found
        self.codes |= errors
        return found[code]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Patient]:
    folder, user, database = tmp_path_factory.mktemp("patient"), unique("u"), unique("d")
    with mysql_root(stack_config) as root:
        root.execute(f"CREATE DATABASE {database}")
        root.execute(f"CREATE TABLE {database}.orders (id INT PRIMARY KEY)")
        root.execute(
            f"CREATE USER {user}@'%' IDENTIFIED WITH mysql_native_password BY '{PASSWORD}'"
        )
        root.execute(
            "GRANT SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT ON *.*"
            f" TO {user}@'%'"
        )
        postgres = stack_config.endpoints().postgres
        with superuser(stack_config) as cursor:
            cursor.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
            cursor.execute(f"CREATE DATABASE {database} OWNER {user}")
        known = folder / "known_hosts"
        shutil.copy(str(file_server(stack_config).known_hosts), known)
        servers = {
            "mysql": {"database": database, "user": user, "password": PASSWORD},
            "postgres": {"password": PASSWORD, "user": user, "database": database},
            "sftp": {"known_hosts": str(known)},
        }
        drops, rates = unique("drops"), unique("rates")
        api = keys_of_api(stack_config)
        lab = make_lab(
            folder,
            stack_config,
            {"type": "mysql_cdc", "tables": {"orders": {"key": ["id"]}}},
            servers,
            more={
                drops: {"type": "sftp", "directory": "/upload", "tables": {"s": {"file": "s.csv"}}},
                rates: {
                    "type": "rest",
                    "connection": api,
                    "tables": {"r": {"options": {"url": "/r"}}},
                },
            },
        )
        lab.config.data_dir.mkdir(mode=0o700, exist_ok=True)
        lab.config.data_dir.chmod(0o700)
        assert postgres.host
        yield Patient(lab, stack_config, user, database)
        root.execute(f"DROP DATABASE {database}")
        root.execute(f"DROP USER {user}@'%'")


def keys_of_api(stack: Config) -> dict[str, Any]:
    return keys_of(source_connection(stack, "api"))


def test_nothing_is_wrong_and_every_service_is_named(patient: Patient) -> None:
    assert not {c: f for c, f in patient.examined(0).items() if f["level"] == "error"}
    shown = subprocess.run(patient.command("doctor"), capture_output=True, text=True, timeout=300)
    assert shown.returncode == 0 and "nothing is wrong" in shown.stdout
    for name in ("disk", "kafka", "connect", "postgres", "MySQL 8", "SFTP", "answers"):
        assert name in shown.stdout, shown.stdout


# Services that are not there, or refuse ----------------------------------------------------------


def closed(*keys: str, to: Any = CLOSED) -> Callable[[dict[str, Any]], Any]:
    """A change: the value at some keys."""

    def change(said: dict[str, Any]) -> None:
        *path, last = keys
        for key in path:
            said = said[key]
        said[last] = to

    return change


def kind_of(patient: Patient, type_: str) -> str:
    return next(n for n, s in patient.config.settings.sources.items() if s.type == type_)


@pytest.mark.parametrize(
    ("code", "keys", "to"),
    [
        ("DL-201", ("services", "kafka", "bootstrap_servers"), f"127.0.0.1:{CLOSED}"),
        ("DL-301", ("services", "connect", "url"), f"http://127.0.0.1:{CLOSED}"),
        ("DL-401", ("connections", "mysql", "port"), CLOSED),
        ("DL-402", ("connections", "mysql", "password"), "wrong" + PASSWORD),
        ("DL-501", ("services", "postgres", "port"), CLOSED),
        ("DL-502", ("services", "postgres", "password"), "wrong" + PASSWORD),
        ("DL-601", ("connections", "sftp", "port"), CLOSED),
        ("DL-603", ("connections", "sftp", "password"), "wrong" + PASSWORD),
    ],
)
def test_a_service_that_is_away_or_refuses(
    patient: Patient, code: str, keys: tuple[str, ...], to: Any
) -> None:
    with patient.changed(closed(*keys, to=to)):
        assert patient.has(code)["remedy"]


def test_a_login_that_connect_refuses(patient: Patient) -> None:
    bare = patient.lab.endpoints.connect.rpartition("@")[2]
    login = {"url": f"http://{bare}", "user": "ducklake", "password": "wrong" + PASSWORD}
    with patient.changed(closed("services", "connect", to=login)):
        assert "services.connect" in patient.has("DL-305")["remedy"]


def test_an_api_and_a_folder_that_are_not_there(patient: Patient) -> None:
    def change(said: dict[str, Any]) -> None:
        rest = said["sources"][kind_of(patient, "rest")]
        rest["connection"] = {"base_url": f"http://127.0.0.1:{CLOSED}"}
        said["sources"][kind_of(patient, "sftp")]["directory"] = "/nowhere"

    with patient.changed(change):
        patient.has("DL-701", "DL-605")


# Settings, rights, keys and files, each repaired by its own line ---------------------------------


def test_settings_and_rights_of_mysql(patient: Patient) -> None:
    with mysql_root(patient.stack) as root:
        root.execute("SELECT @@GLOBAL.binlog_expire_logs_seconds")
        [(kept,)] = root.fetchall()
        root.execute("SET GLOBAL binlog_row_image = 'MINIMAL'")
        root.execute("SET GLOBAL binlog_format = 'MIXED'")
        root.execute("SET GLOBAL binlog_expire_logs_seconds = 3600")
        root.execute(f"REVOKE REPLICATION CLIENT ON *.* FROM {patient.user}@'%'")
        root.execute(f"ALTER TABLE {patient.database}.orders RENAME {patient.database}.ordres")
        try:
            patient.has("DL-404", "DL-403", "DL-407", "DL-408")
            found = patient.examined()
            patient.codes.add("DL-413")
            for code in ("DL-403", "DL-404", "DL-407", "DL-413"):
                [statement] = RUN.findall(found[code]["remedy"])
                root.execute(statement)
            root.execute(f"ALTER TABLE {patient.database}.ordres RENAME {patient.database}.orders")
            assert not patient.examined(0).keys() & {"DL-403", "DL-404", "DL-407", "DL-413"}
        finally:
            for name in ("binlog_row_image", "binlog_format", "binlog_expire_logs_seconds"):
                root.execute(f"RESET PERSIST IF EXISTS {name}")
            root.execute(f"SET GLOBAL binlog_expire_logs_seconds = {kept}")
            root.execute("SET GLOBAL binlog_row_image = 'FULL'")
            root.execute("SET GLOBAL binlog_format = 'ROW'")


def test_rights_of_postgresql(patient: Patient) -> None:
    with superuser(patient.stack) as cursor:
        cursor.execute(f"ALTER DATABASE {patient.database} OWNER TO postgres")
        cursor.execute(f"ALTER DATABASE {patient.database} SET default_transaction_read_only = on")
        patient.has("DL-504", "DL-505")
        found = patient.examined()
        for code in ("DL-504", "DL-505"):
            cursor.execute(RUN.findall(found[code]["remedy"])[0])
        patient.examined(0)


def test_a_host_key_that_is_unknown_or_another_one(patient: Patient) -> None:
    known = patient.config.root / "known_hosts"
    before = known.read_text()
    known.write_text("")
    assert "ssh-keyscan" in patient.has("DL-602")["remedy"]
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()
    known.write_text(f"{before.split()[0]} {other}")
    try:
        remedy = patient.has("DL-602")["remedy"]
        if shutil.which("ssh-keyscan") and shutil.which("ssh-keygen"):
            subprocess.run(["sh", "-c", remedy], check=True, capture_output=True, timeout=60)
        else:
            known.write_text(before)
        patient.examined(0)
    finally:
        known.write_text(before)


def test_files_that_others_can_read(patient: Patient) -> None:
    data = patient.config.data_dir
    secret = data / "work" / "dashboard.json"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("{}")
    secret.chmod(0o644)
    data.chmod(0o777)
    patient.has("DL-103", "DL-104")
    found = patient.examined()
    for code in ("DL-103", "DL-104"):
        subprocess.run(["sh", "-c", found[code]["remedy"]], check=True, timeout=60)
    patient.examined(0)


def test_topics_that_cannot_be_written_or_lose_rows(patient: Patient) -> None:
    admin = AdminClient(patient.lab.endpoints.kafka_client())
    source = kind_of(patient, "sftp")
    topic = f"{source}.s"

    def alter(**settings: str) -> None:
        entries = [
            ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
            for key, value in settings.items()
        ]
        at = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for answer in admin.incremental_alter_configs([at]).values():
            answer.result(30)

    alter(cleanup_policy="compact", min_insync_replicas="2")
    patient.has("DL-204", "DL-205")
    found = patient.examined()
    words = found["DL-205"]["remedy"].split()
    assert words[0] == "kafka-configs.sh" and words[-1] == "client.properties"
    words[-1] = str(patient.stack.stack_dir / "kafka" / "client.properties")
    tools = Tools.locate()
    main = java(tools, patient.config.root, "kafka.admin.ConfigCommand", *words[1:])
    done = subprocess.run(
        main, env={"CLASSPATH": tools.classpath}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    again = found["DL-204"]["remedy"].split()[1:]
    subprocess.run(patient.command(*again), capture_output=True, timeout=120)
    patient.examined(0)


def test_records_that_are_gone_before_they_were_read(patient: Patient) -> None:
    source = kind_of(patient, "sftp")
    topic = f"{source}.s"
    producer = Producer(patient.lab.endpoints.kafka_client())

    def fill(count: int) -> None:
        for number in range(count):
            producer.produce(topic, json.dumps({"n": number}).encode(), partition=0)
        assert producer.flush(30) == 0

    fill(5)
    read = subprocess.run(patient.command("consume", "--once"), capture_output=True, timeout=120)
    assert read.returncode == 0, read.stderr
    fill(15)
    admin = AdminClient(patient.lab.endpoints.kafka_client())
    for answer in admin.delete_records([TopicPartition(topic, 0, 10)]).values():
        answer.result(30)
    remedy = patient.has("DL-203")["remedy"].split()
    assert remedy[:2] == ["ducklake", "accept-loss"]
    subprocess.run(patient.command(*remedy[1:], "--yes"), check=True, timeout=120)
    patient.examined(0)
    admin.delete_topics([topic])[topic].result(30)
    patient.has("DL-202")
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30)


def test_a_clock_that_is_wrong_is_told_and_a_slow_answer_is_not() -> None:
    now = time.time()
    assert clock("mysql", now, now) is None
    assert clock("mysql", now - 20, now - 30) is None
    ahead, behind = clock("mysql", now + 60, now), clock("mysql", now - 60, now)
    assert ahead is not None and "ahead of" in ahead.what
    assert behind is not None and "behind" in behind.what


def test_at_least_twelve_faults_gave_twelve_codes(patient: Patient) -> None:
    if len(patient.codes) < 12:
        pytest.skip("not all tests of this module ran")
    assert patient.codes <= CODES.keys()
