"""Kafka Connect of the embedded stack: nobody gets in without the password, and what gets in."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from batcher.postgres.database import connected
from batcher.postgres.failures import NoTls
from lake.config import Config, MysqlConnection
from lake.errors import ServiceUnreachable, SourceError
from producers.cursors import committed_cursors
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.query import ask
from producers.registry import source_connection
from stack.ports import PortBook
from stack.supervisor import PORTS
from tests.conftest import ROOT

pytestmark = pytest.mark.stack
VALIDATE = "/connector-plugins/MysqlConnector/config/validate"
BASE = {"connector.class": "ducklake.MysqlConnector", "name": "probe", "topic.prefix": "probe"}


@pytest.fixture(scope="module")
def url(stack_config: Config) -> str:
    return stack_config.endpoints().connect


def shop(config: Config) -> MysqlConnection:
    found = source_connection(config, "mysql")
    assert isinstance(found, MysqlConnection)
    return found


def test_nothing_is_answered_without_the_password(url: str) -> None:
    bare = url.replace(urlsplit(url).netloc.rpartition("@")[0] + "@", "")
    assert bare != url
    for method, path in (
        ("GET", "/"),
        ("GET", "/health"),
        ("GET", "/connectors"),
        ("GET", "/connector-plugins"),
        ("GET", "/admin/loggers"),
        ("PUT", VALIDATE),
        ("PUT", "/connectors/probe/config"),
        ("POST", "/connectors"),
    ):
        for login in (None, ("ducklake", "wrong")):
            answer = requests.request(method, bare + path, json=BASE, auth=login, timeout=30)
            assert answer.status_code == 401, path
    assert requests.get(f"{url}/connectors", timeout=30).ok


def test_a_password_is_in_no_answer_of_a_validation(stack_config: Config, url: str) -> None:
    """Connect resolves references before it validates, and says which value it refuses."""
    for key in ("snapshot.mode", "database.port", "database.hostname", "tasks.max", "no.such"):
        wished = {**BASE, key: shop(stack_config).connect_reference}
        answer = requests.put(url + VALIDATE, json=wished, timeout=30)
        assert shop(stack_config).plain_password not in answer.text, key
        assert answer.status_code == 400, key
        assert "may only be the whole value of a password" in answer.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("driver.allowLoadLocalInfile", "true"),
        ("driver.allowUrlInLocalInfile", "true"),
        ("driver.propertiesTransform", "x.Y"),
        ("database.allowLoadLocalInfile", "true"),
        ("database.allowLoadLocalInfileInPath", "/"),
        ("database.hostname", "evil:3306/?allowLoadLocalInfile=true&x="),
        ("database.hostname", "address=(host=evil)(allowLoadLocalInfile=true)"),
        ("database.port", "3306/?allowLoadLocalInfile=true&x="),
        ("database.jdbc.driver", "com.mysql.cj.jdbc.Driver"),
        ("database.jdbc.protocol", "jdbc:mysql+srv"),
        ("connector.class", "org.apache.kafka.connect.mirror.MirrorSourceConnector"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("exact.type", "x.Converter"),
        ("transforms.x.type", "io.debezium.transforms.ScriptingTransformation"),
        ("post.processors.x.type", "x.Y"),
        ("config.providers", "file"),
        ("schema.history.internal.producer.config.providers", "file"),
        ("schema.history.internal", "io.debezium.storage.file.history.FileSchemaHistory"),
        ("schema.history.internal.producer.interceptor.classes", "x.Y"),
        ("schema.history.internal.producer.bootstrap.servers", "evil:9092"),
        ("schema.history.internal.kafka.bootstrap.servers", "evil:9092"),
        ("schema.history.internal.producer.sasl.oauthbearer.token.endpoint.url", "file:///etc/x"),
        (
            "schema.history.internal.consumer.sasl.jaas.config",
            "com.sun.security.auth.module.JndiLoginModule required x=y;",
        ),
        ("signal.enabled.channels", "source,file"),
        ("signal.file", "/etc/passwd"),
        ("openlineage.integration.config.file.path", "/etc/passwd"),
        ("snapshot.query.mode.custom.name", "x"),
    ],
)
def test_a_setting_that_reads_files_or_runs_code_is_refused(url: str, key: str, value: str) -> None:
    wished = {**BASE, key: value}
    created = {"name": "probe", "config": wished}
    for method, path, body in (
        ("PUT", VALIDATE, wished),
        ("PUT", "/connectors/probe/config", wished),
        ("POST", "/connectors", created),
    ):
        answer = requests.request(method, url + path, json=body, timeout=30)
        assert answer.status_code == 400, answer.text
        assert answer.json()["message"].startswith(f"Refused by the policy of this Connect: {key}:")
        assert value not in answer.text
    assert requests.get(f"{url}/connectors/probe", timeout=30).status_code == 404


def test_an_override_of_a_client_that_names_a_file_is_refused(url: str) -> None:
    for key in ("ssl.keystore.location", "sasl.jaas.config", "interceptor.x"):
        wished = {**BASE, f"producer.override.{key}": "x"}
        answer = requests.put(url + VALIDATE, json=wished, timeout=30)
        assert answer.ok
        values = [entry["value"] or {} for entry in answer.json()["configs"]]
        refused = {value.get("name") for value in values if value.get("errors")}
        assert f"producer.override.{key}" in refused, refused


def test_what_the_project_itself_sets_passes(url: str) -> None:
    template: dict[str, Any] = json.loads((ROOT / "connect" / "mysql.json").read_text())
    kept = {key: value for key, value in template.items() if "<" not in value}
    answer = requests.put(url + VALIDATE, json={**BASE, **kept}, timeout=60)
    assert answer.ok, answer.text


def test_a_refused_option_of_a_source_is_named_with_its_remedy(url: str) -> None:
    rest = ConnectRest(url, "probe")
    with pytest.raises(SourceError, match=r"policy refuses .*probe: driver\.allowLoad") as caught:
        rest.configure({**BASE, "driver.allowLoadLocalInfile": "true"})
    assert "source's options" in caught.value.remedy
    rest.close()


def test_a_refused_login_is_named(url: str) -> None:
    user, _, host = urlsplit(url).netloc.rpartition("@")
    rest = ConnectRest(url.replace(user, "ducklake:hunter2"), "probe")
    with pytest.raises(SourceError, match="answered 401") as caught:
        rest.status()
    assert "services.connect" in caught.value.remedy and host in caught.value.what
    assert "hunter2" not in str(caught.value)
    rest.close()


def test_the_broker_and_its_controller_take_nobody_without_the_password(
    stack_config: Config,
) -> None:
    at = stack_config.endpoints()
    ports = PortBook(stack_config.stack_dir / PORTS, stack_config.stack_dir).known()
    wrong = {**at.kafka_options, "sasl.password": "wrong"}
    for port in (ports["kafka"], ports["controller"]):
        for login in ({}, wrong):
            client = {"bootstrap.servers": f"127.0.0.1:{port}", **login}
            with pytest.raises(KafkaException):
                AdminClient({**client, "log_level": 0}).list_topics(timeout=5)
    assert AdminClient(at.kafka_client()).list_topics(timeout=30).topics


def test_servers_without_tls_are_not_spoken_to_in_plain_text(stack_config: Config) -> None:
    with pytest.raises(SourceError, match="offers no TLS") as caught:
        ask(shop(stack_config).model_copy(update={"ssl_mode": "required"}), "SELECT 1")
    assert caught.value.remedy.count(".ssl_mode")
    at = stack_config.endpoints()
    with (
        pytest.raises(NoTls, match="offers no TLS"),
        connected(replace(at.postgres, sslmode="require")),
    ):
        pass
    options = {**at.kafka_options, "security.protocol": "SASL_SSL"}
    with pytest.raises(ServiceUnreachable, match="speaks no TLS"):
        committed_cursors(replace(at, kafka_options=options), "nobody")


def test_no_password_is_in_a_command_line(stack_config: Config) -> None:
    secrets = json.loads((stack_config.stack_dir / "secrets.json").read_text())
    assert {"connect", "kafka", "mysql"} <= secrets.keys()
    said = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            said.append(" ".join(process.cmdline()))
    assert any("ConnectDistributed" in line for line in said)
    assert not [name for name, secret in secrets.items() if any(secret in line for line in said)]


def test_the_files_with_the_password_are_private(stack_config: Config) -> None:
    folder: Path = stack_config.stack_dir / "connect"
    for name in ("users.properties", "curl.conf", "worker.properties"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
    others = [
        str(path)
        for path in stack_config.data_dir.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o077
    ]
    assert not others
