"""Servers that speak no TLS, or hang up: what is said of them, and which options Java gets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaError
from pydantic import SecretStr

from lake.certificates import context_of
from lake.config import Endpoints, MysqlConnection, PostgresEndpoint
from lake.errors import ConfigError, SourceError
from lake.kafka.java_client import java_client
from lake.kafka.refusals import refusal
from lake.kafka.topics import admin
from producers.mysql.query import ask
from tests.authority import Authority

SILENT = KafkaError(KafkaError._TRANSPORT)
NOWHERE = Endpoints("127.0.0.1:1", {}, "", PostgresEndpoint("", 1, "", "", ""))
# a greeting of MySQL 8 whose server offers TLS
GREETING = bytes.fromhex(
    "4a0000000a382e302e333500080000003a5e2b6f6f5c1a0200ffffff0200ffdf150000000000000000000074"
    "4b5a0c1d2b5e57693d4b0c006d7973716c5f6e61746976655f70617373776f726400"
)


@contextmanager
def a_server(talk: Callable[[socket.socket], object]) -> Iterator[int]:
    """The port of a server that talks so to everybody, and hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                with client, suppress(OSError):
                    talk(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def test_a_broker_that_hangs_up_may_ask_for_a_login() -> None:
    with a_server(lambda client: client.recv(100)) as port:
        found = refusal(replace(NOWHERE, kafka=f"127.0.0.1:{port}"), SILENT)
        assert found is not None and found.is_login and "sasl.mechanism" in found.remedy
        options = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}
        login = {"sasl.username": "u", "sasl.password": "hunter2"}
        secure = replace(NOWHERE, kafka=f"127.0.0.1:{port}", kafka_options=options | login)
        found = refusal(secure, SILENT)
    assert found is not None and "speaks no TLS" in found.what
    assert "hunter2" not in f"{found}"


def test_a_broker_that_is_not_there_refuses_nothing() -> None:
    assert refusal(NOWHERE, SILENT) is None
    assert refusal(NOWHERE, KafkaError(KafkaError.TOPIC_ALREADY_EXISTS)) is None


def test_a_file_that_is_no_certificate_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    options = {"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "ca.pem")}
    with pytest.raises(ConfigError, match=r"services\.kafka: .*ssl\.ca\.location"):
        admin(replace(NOWHERE, kafka_options=options))


def test_a_failed_handshake_of_mysql_is_named(tmp_path: Path) -> None:
    def talk(client: socket.socket) -> None:
        client.sendall(GREETING)
        client.settimeout(0.5)
        with suppress(TimeoutError):
            while client.recv(1000):  # the request for TLS, and the first words of TLS
                pass
        client.sendall(b"\x15\x03\x03\x00\x02\x02\x28" * 3)  # an alert: no shared cipher

    with a_server(talk) as port:
        at = MysqlConnection(
            host="127.0.0.1",
            port=port,
            user="u",
            password=SecretStr("hunter2"),
            database="d",
            ssl_mode="verify_ca",
            ssl_ca=Authority(tmp_path, "ca").file,
        ).placed("shop", "connections.shop")
        with pytest.raises(SourceError, match="TLS failed") as caught:
            ask(at, "SELECT 1")
    assert "connections.shop.ssl_mode" in caught.value.remedy
    assert "hunter2" not in str(caught.value)


def test_an_authority_that_cannot_be_read_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name, what in (("ca.pem", "no certificate"), ("none.pem", "No such file")):
        at = MysqlConnection(
            host="h",
            user="u",
            database="d",
            ssl_mode="verify_ca",
            ssl_ca=tmp_path / name,
        ).placed("shop", "connections.shop")
        with pytest.raises(SourceError, match=what) as caught:
            ask(at, "SELECT 1")
        assert "connections.shop.ssl_ca" in caught.value.remedy


def test_one_authority_alone_is_believed(tmp_path: Path) -> None:
    one = Authority(tmp_path, "one").file
    context = context_of(one, checks_name=True)
    assert len(context.get_ca_certs()) == 1 and context.check_hostname


def test_java_gets_the_same_authority_and_key() -> None:
    found = java_client(
        {
            "security.protocol": "SSL",
            "ssl.ca.location": "/ca.pem",
            "ssl.certificate.location": "/own.pem",
            "ssl.key.location": "/own.pem",
            "ssl.endpoint.identification.algorithm": "none",
        }
    )
    assert found == {
        "security.protocol": "SSL",
        "ssl.endpoint.identification.algorithm": "",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/ca.pem",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "/own.pem",
    }
