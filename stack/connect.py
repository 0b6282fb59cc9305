"""Kafka Connect in distributed mode, with Debezium's MySQL connector and exactly-once sources."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import requests

from lake.config import EMBEDDED, MYSQL_CDC, MysqlConnection
from lake.errors import StackError
from lake.kafka.topics import MAX_MESSAGE_BYTES
from producers.mysql.cdc import MysqlCdcConnector
from stack.java import CONNECT, java, write_properties
from stack.mysql import PASSWORD_VARIABLE
from stack.ports import LOOPBACK
from stack.service import Service, on_loopback

CONNECTOR = "io.debezium.connector.mysql.MySqlConnector"
_ENVIRONMENT = "org.apache.kafka.common.config.provider.EnvVarConfigProvider"
_IN_ENVIRONMENT = re.compile(r"\$\{env:(\w+)\}")
_CLIENTS = ("", "producer.", "consumer.", "admin.")


class Connect(Service):
    """The worker."""

    name = "connect"
    needs: ClassVar[tuple[str, ...]] = ("kafka",)
    stops_first: ClassVar[bool] = True

    def prepare(self) -> None:
        """Write the worker's settings."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        write_properties(self.folder / "worker.properties", self.settings())

    def settings(self) -> dict[str, str | int | bool]:
        """The worker's settings."""
        services = self.site.config.settings.services
        own_broker = services.kafka.bootstrap_servers != EMBEDDED
        broker = services.kafka.bootstrap_servers
        replicas = self.site.config.settings.topics.replication_factor if own_broker else 1
        settings: dict[str, str | int | bool] = {
            "bootstrap.servers": broker if own_broker else on_loopback(self.site.ports["kafka"]),
            "group.id": "ducklake-connect",
            "listeners": f"http://{on_loopback(self.port)}",
            "rest.advertised.host.name": LOOPBACK,
            "rest.advertised.port": self.port,
            "exactly.once.source.support": "enabled",
            # no scan of every jar: 35 s less on two cores
            "plugin.discovery": "service_load",
            "connector.client.config.override.policy": "All",
            "config.storage.topic": "ducklake.connect.configs",
            "config.storage.replication.factor": replicas,
            "offset.storage.topic": "ducklake.connect.offsets",
            "offset.storage.replication.factor": replicas,
            "offset.storage.partitions": 1,
            "status.storage.topic": "ducklake.connect.status",
            "status.storage.replication.factor": replicas,
            "status.storage.partitions": 1,
            "offset.flush.interval.ms": 1000,
            "scheduled.rebalance.max.delay.ms": 0,
            "task.shutdown.graceful.timeout.ms": 1500,
            "producer.max.request.size": MAX_MESSAGE_BYTES,
            # a record is in it as a whole, beside the one before
            "producer.buffer.memory": 2 * MAX_MESSAGE_BYTES,
            # a killed worker leaves a transaction open, and the next one waits for its end
            "producer.transaction.timeout.ms": 15_000,
            # a connector says ${env:DUCKLAKE_SHOP_PASSWORD}, and REST answers just that
            "config.providers": "env",
            "config.providers.env.class": _ENVIRONMENT,
            "config.providers.env.param.allowlist.pattern": "|".join(sorted(self._variables())),
        }
        for side in ("key", "value"):
            settings |= {
                f"{side}.converter": "org.apache.kafka.connect.json.JsonConverter",
                f"{side}.converter.schemas.enable": False,
                f"{side}.converter.decimal.format": "NUMERIC",
            }
        if own_broker:
            for prefix in _CLIENTS:
                security = java_client(services.kafka.options)
                settings |= {f"{prefix}{key}": value for key, value in security.items()}
        return settings

    def command(self) -> list[str]:
        """The worker's main class."""
        return java(
            self.site.tools,
            self.folder / "tmp",
            CONNECT,
            str(self.folder / "worker.properties"),
        )

    def environment(self) -> dict[str, str]:
        """The class path, and the password of each MySQL server for its connector."""
        jars = (self.site.tools.classpath, str(self.site.tools.converter))
        return {"CLASSPATH": os.pathsep.join(jars), **self._passwords()}

    def _passwords(self) -> dict[str, str]:
        """Variable to password, for every MySQL server that Debezium follows.

        Raises:
            StackError: Two servers with different passwords name one variable.
        """
        found: dict[str, str] = {}
        for variable, password in self._variables_of_servers():
            if found.setdefault(variable, password) != password:
                raise StackError(
                    f"Two MySQL servers have different passwords, and Connect would know both as"
                    f" {variable}.",
                    "Give one of the connections another connect_password, such as"
                    " $${env:DUCKLAKE_OTHER_PASSWORD}.",
                )
        return found

    def _variables_of_servers(self) -> Iterator[tuple[str, str]]:
        config = self.site.config
        for name, source in config.settings.sources.items():
            if source.type != MYSQL_CDC:
                continue
            [use] = MysqlCdcConnector.connections_used(name, source)
            server = use.validated(config)
            if server is None:
                yield PASSWORD_VARIABLE, self.site.secrets.get("mysql")
                continue
            assert isinstance(server, MysqlConnection)
            if variable := _IN_ENVIRONMENT.fullmatch(server.connect_reference):
                yield variable[1], server.plain_password

    def _variables(self) -> set[str]:
        """What connectors may ask of this process's environment, and nothing else."""
        options = (source.options for source in self.site.config.settings.sources.values())
        named = {
            variable
            for values in options
            for value in values.values()
            for variable in _IN_ENVIRONMENT.findall(str(value))
        }
        return {PASSWORD_VARIABLE, *self._passwords(), *named}

    def healthy(self) -> bool:
        """Whether the worker has started (REST answers before) and knows Debezium."""
        if not requests.get(f"{self.address()}/health", timeout=5).ok:
            return False
        answer = requests.get(f"{self.address()}/connector-plugins", timeout=5)
        return answer.ok and any(plugin["class"] == CONNECTOR for plugin in answer.json())

    def endpoint(self) -> dict[str, Any]:
        """REST's address."""
        return {"url": self.address()}

    def address(self) -> str:
        """REST's address."""
        return f"http://{on_loopback(self.port)}"


def java_client(options: dict[str, str]) -> dict[str, str]:
    """Librdkafka's security settings as Java clients spell them (PLAIN and SCRAM; TLS by PEM)."""
    same = ("security.protocol", "ssl.endpoint.identification.algorithm")
    settings = {key: options[key] for key in same if key in options}
    if mechanism := options.get("sasl.mechanism") or options.get("sasl.mechanisms"):
        settings["sasl.mechanism"] = mechanism
        module = "plain.Plain" if mechanism == "PLAIN" else "scram.Scram"
        user, password = (
            options.get(key, "").replace("\\", "\\\\").replace('"', '\\"')
            for key in ("sasl.username", "sasl.password")
        )
        settings["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{module}LoginModule required"
            f' username="{user}" password="{password}";'
        )
    if "ssl.ca.location" in options:
        settings["ssl.truststore.type"] = "PEM"
        settings["ssl.truststore.location"] = options["ssl.ca.location"]
    return settings
