"""The embedded stack, for real: what it promises when it starts, runs, is hurt and stops."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import psutil
import psycopg2
import pymysql
import pytest
import requests
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ducklake.cli import stack_commands as commands
from lake.config import Config, Endpoints, load_config
from lake.errors import StackError
from lake.processes.status_file import Report
from producers.http.connection import RestConnection
from producers.mysql.settings import kafka_logins
from producers.registry import source_connection
from stack import lifecycle
from stack.connection_hints import connection_hints
from stack.jars import PROJECT
from stack.progress import Silent
from tests.conftest import copy_project
from tests.integration.producers_lab import file_server, shop_server

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """A stack of this module's own, in a folder whose path is long and has a blank."""
    folder = tmp_path_factory.mktemp("a long way")
    folder = folder / ("x" * max(1, 150 - len(str(folder)) - len("/data") - 1))
    folder.mkdir()
    config = load_config(copy_project(folder) / "ducklake.yml")
    assert len(str(config.data_dir)) >= 150
    lifecycle.up(config, Silent())
    try:
        yield config
    finally:
        lifecycle.down(config)


@pytest.fixture
def endpoints(config: Config) -> Endpoints:
    """The addresses as they are now; a test before may have started the stack anew."""
    lifecycle.up(config, Silent())
    return config.endpoints()


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait for a condition, and give back what made it true."""
    deadline = time.monotonic() + seconds
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def children(config: Config) -> list[psutil.Process]:
    """The processes of the services."""
    report = Report.read(config.stack_dir / "supervisor.json")
    assert report is not None
    return [psutil.Process(entry.pid) for entry in report.processes.values() if entry.pid]


def runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def mysql(config: Config) -> pymysql.Connection[Any]:
    there = shop_server(config)
    return pymysql.connect(
        host=there.host,
        port=there.port,
        user=there.user,
        password=there.plain_password,
        database=there.database,
        autocommit=True,
    )


def one(connection: pymysql.Connection[Any], statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        return row[0] if row else None


def test_every_service_answers_a_client(config: Config, endpoints: Endpoints) -> None:
    with mysql(config) as connection:
        assert one(connection, "SELECT COUNT(*) FROM orders") >= 6000
        assert one(connection, "SELECT @@gtid_mode") == "ON"
    there = endpoints.postgres
    target = psycopg2.connect(
        host=there.host,
        port=there.port,
        user=there.user,
        password=there.password,
        dbname=there.database,
    )
    with target, target.cursor() as rows:
        rows.execute("CREATE TABLE t AS SELECT 1 AS x")
        rows.execute("DROP TABLE t")
    target.close()
    api = source_connection(config, "api")
    assert isinstance(api, RestConnection)
    assert requests.get(f"{api.base_url}/v1/dolares/blue", timeout=5).ok
    assert AdminClient(endpoints.kafka_client()).list_topics(timeout=10).brokers


def test_the_sftp_server_shows_its_folder_and_nothing_above(
    config: Config, endpoints: Endpoints
) -> None:
    there = file_server(config)
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(there.known_hosts))
        with pytest.raises(paramiko.AuthenticationException):
            client.connect(there.host, there.port, there.user, "wrong", look_for_keys=False)
        client.connect(
            there.host, there.port, there.user, there.plain_password, look_for_keys=False
        )
        files = client.open_sftp()
        assert "inventory.csv" in files.listdir("/upload")
        assert files.listdir("/upload/../../..") == ["upload"]
        files.close()


def test_a_second_up_is_harmless(config: Config, endpoints: Endpoints) -> None:
    before = children(config)
    lifecycle.up(config, Silent())
    assert children(config) == before
    assert config.endpoints() == endpoints


def test_the_lines_of_status_open_each_part(config: Config, endpoints: Endpoints) -> None:
    lines = {opening.part: opening.line for opening in connection_hints(config)}
    psql = subprocess.run(
        f"{lines['psql']} -Atc 'SELECT current_user'", shell=True, capture_output=True, text=True
    )
    assert psql.stdout.strip() == endpoints.postgres.user
    if "SHOW TABLES" in lines["mysql"]:  # no `mysql` program here
        asked = subprocess.run(lines["mysql"], shell=True, capture_output=True, text=True)
        assert "order_items" in asked.stdout
    known = shlex.split(lines["sftp"])[4]
    assert known == f'UserKnownHostsFile="{file_server(config).known_hosts}"'


def test_no_password_is_shown(
    config: Config, endpoints: Endpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.status(config.path)
    commands.status(config.path, as_json=True)
    shown = capsys.readouterr().out
    for process in children(config):
        shown += " ".join(process.cmdline())
    logs = [path for path in (config.stack_dir / "logs").iterdir() if path.is_file()]
    shown += "".join(path.read_text(errors="replace") for path in logs)
    secrets = json.loads((config.stack_dir / "secrets.json").read_text())
    assert {"mysql", "mysql_root", "postgres", "postgres_superuser", "sftp"} <= set(secrets)
    assert not [name for name, secret in secrets.items() if secret in shown]


def test_files_with_passwords_are_private(config: Config, endpoints: Endpoints) -> None:
    secrets = json.loads((config.stack_dir / "secrets.json").read_text()).values()
    assert config.stack_dir.stat().st_mode & 0o077 == 0
    for path in config.stack_dir.rglob("*"):
        if path.is_file() and path.stat().st_size < 100_000 and "data" not in path.parts[-4:]:
            text = path.read_bytes().decode(errors="replace")
            if any(secret in text for secret in secrets):
                assert path.stat().st_mode & 0o077 == 0, path


def test_a_service_that_dies_is_started_again(config: Config, endpoints: Endpoints) -> None:
    pid = {service.name: service.pid for service in lifecycle.status(config).services}["sftp"]
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    def again() -> bool:
        sftp = next(s for s in lifecycle.status(config).services if s.name == "sftp")
        return sftp.healthy and sftp.pid != pid and sftp.restarts == 1

    until(again)


@pytest.fixture
def connector(config: Config, endpoints: Endpoints) -> Iterator[dict[str, str]]:
    """Debezium on a database of its own, with the settings that the project ships."""
    settings: dict[str, str] = json.loads((PROJECT / "connect" / "mysql.json").read_text())
    there = shop_server(config)
    values = {
        "host": there.host,
        "port": str(there.port),
        "user": there.user,
        "password": there.connect_reference,
        "database": there.database,
        "tables": f"{there.database}.words",
        "kafka": endpoints.kafka,
        "name": "stack",
        "source": "probe",
        "server_id": "5799",
        "replication_factor": "1",
    }
    for key, value in settings.items():
        for name, text in values.items():
            value = value.replace(f"<{name}>", text)
        settings[key] = value
    settings |= kafka_logins(endpoints)
    with mysql(config) as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE words (id BIGINT UNSIGNED PRIMARY KEY, text VARCHAR(40),"
            " old VARCHAR(40) CHARACTER SET latin1, kind ENUM('señal', 'b'),"
            " price DECIMAL(12,2), at DATETIME(6)) CHARACTER SET utf8mb4"
        )
        cursor.execute(
            "INSERT INTO words VALUES (18446744073709551615, 'ñandú €😀', 'Córdoba', 'señal',"
            " 1234567890.10, '2026-02-03 04:05:06.000007')"
        )
    admin = AdminClient(endpoints.kafka_client())
    for done in admin.create_topics([NewTopic("probe.words", 1, 1)]).values():
        done.result()
    url = f"{endpoints.connect}/connectors/probe"
    answer = requests.put(f"{url}/config", json=settings, timeout=30)
    assert answer.status_code == 201, answer.text
    yield settings
    requests.delete(url, timeout=30)
    with mysql(config) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE words")


def read(endpoints: Endpoints, topic: str, count: int) -> list[dict[str, Any]]:
    """The first committed values of a topic of one partition."""
    settings = endpoints.kafka_client(group_id="test", isolation_level="read_committed")
    consumer = Consumer({**settings, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        values: list[dict[str, Any]] = []

        def enough() -> bool:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                values.append(json.loads(message.value() or b"null"))
            return len(values) >= count

        until(enough, 60)
        return values
    finally:
        consumer.close()


def gtids(endpoints: Endpoints) -> str:
    url = f"{endpoints.connect}/connectors/probe/offsets"
    offsets = requests.get(url, timeout=10).json().get("offsets", [])
    return str(offsets[0]["offset"].get("gtids")) if offsets else ""


def test_debezium_brings_exact_values_once_and_says_how_far_it_is(
    config: Config, endpoints: Endpoints, connector: dict[str, str]
) -> None:
    with mysql(config) as connection:
        read(endpoints, "probe.words", 1)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE words SET price = price + 0.01")
            cursor.execute("DELETE FROM words")
        snapshot, update, delete = read(endpoints, "probe.words", 3)
        # idle from here on: the heartbeats of the server let the offsets catch up
        executed = one(connection, "SELECT @@gtid_executed")
        until(lambda: gtids(endpoints) == executed, 10)
    assert (snapshot["op"], update["op"], delete["op"]) == ("r", "u", "d")
    exact = {
        "id": 18446744073709551615,
        "text": "ñandú €😀",
        "old": "Córdoba",
        "kind": "señal",
        "price": "1234567890.10",
        "at": "2026-02-03 04:05:06.000007",
    }
    assert snapshot["after"] == update["before"] == exact
    assert delete["before"] == {**exact, "price": "1234567890.11"}
    url = f"{endpoints.connect}/connectors/probe"
    assert shop_server(config).plain_password not in requests.get(f"{url}/config", timeout=10).text
    log = config.stack_dir / "logs" / "connect.log"
    assert shop_server(config).plain_password not in log.read_text(errors="replace")


def test_killing_the_supervisor_ends_its_children(config: Config, endpoints: Endpoints) -> None:
    processes = children(config)
    pid = lifecycle.status(config).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not any(runs(process) for process in processes), 5)
    until(lambda: not lifecycle.is_up(config), 5)
    with mysql_after_restart(config) as connection:
        assert one(connection, "SELECT COUNT(*) FROM orders") >= 6000


def mysql_after_restart(config: Config) -> pymysql.Connection[Any]:
    lifecycle.up(config, Silent())
    return mysql(config)


def test_down_leaves_nothing(config: Config, endpoints: Endpoints) -> None:
    processes = children(config)
    assert lifecycle.down(config)
    assert not any(runs(process) for process in processes)
    assert not config.state_file.exists()
    assert not lifecycle.down(config)
    with pytest.raises(StackError, match="ducklake up"):
        config.endpoints()


def test_two_ups_at_once_share_one_supervisor(config: Config) -> None:
    lifecycle.down(config)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            lifecycle.up(config, Silent())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "stack.supervisor" in (process.info["cmdline"] or ())
        and str(config.path) in process.info["cmdline"]
    ]
    assert len(found) == 1


def test_reset_without_a_terminal_wants_to_be_confirmed(config: Config) -> None:
    command = "from ducklake.cli.stack_commands import reset; reset()"
    done = subprocess.run(
        [sys.executable, "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "DUCKLAKE_CONFIG": str(config.path)},
    )
    assert "confirm it with --yes" in done.stderr
    assert config.stack_dir.exists()


def test_reset_deletes_what_is_ours_alone(config: Config) -> None:
    theirs = config.data_dir / "notes.txt"
    theirs.write_text("mine")
    (config.data_dir / "raw").mkdir(exist_ok=True)
    assert lifecycle.reset(config) == [theirs]
    assert list(config.data_dir.iterdir()) == [theirs]


def test_an_interrupted_first_load_starts_again(config: Config) -> None:
    """The data directory without the mark of a complete load counts for nothing."""
    half = config.stack_dir / "mysql" / "data"
    half.mkdir(parents=True)
    Path(half, "ibdata1").write_bytes(b"half")
    with mysql_after_restart(config) as connection:
        assert one(connection, "SELECT COUNT(*) FROM orders") >= 6000
