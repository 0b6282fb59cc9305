"""Kafka Connect in distributed mode, with Debezium's MySQL connector and exactly-once sources."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import requests

from lake.config import EMBEDDED, MYSQL_CDC, MysqlConnection
from lake.errors import StackError
from lake.kafka.java_client import LOGIN_VARIABLE, java_client, rest_login_file
from lake.kafka.topics import MAX_MESSAGE_BYTES
from lake.storage.operations import write_atomically
from producers.mysql.cdc import MysqlCdcConnector
from stack.converter import REST_POLICY
from stack.java import CONNECT, java, write_properties
from stack.kafka import client_options
from stack.mysql import PASSWORD_VARIABLE
from stack.ports import LOOPBACK
from stack.service import Service, on_loopback

CONNECTOR = "io.debezium.connector.mysql.MySqlConnector"
USER = "ducklake"
"""Who logs in to REST."""
CLIENT_SETTINGS = (
    "acks",
    "batch.size",
    "buffer.memory",
    "compression.type",
    "delivery.timeout.ms",
    "linger.ms",
    "max.block.ms",
    "max.request.size",
    "request.timeout.ms",
    "retries",
)
"""What a connector may set of its own Kafka clients: no file, class or host."""
CURL = "curl.conf"
"""Curl's settings with user and password, for people."""
_JAAS = "jaas.conf"
_LOGIN = "org.apache.kafka.connect.rest.basic.auth.extension.BasicAuthSecurityRestExtension"
_ENVIRONMENT = "org.apache.kafka.common.config.provider.EnvVarConfigProvider"
_IN_ENVIRONMENT = re.compile(r"\$\{env:(\w+)\}")
_CLIENTS = ("", "producer.", "consumer.", "admin.")


class Connect(Service):
    """The worker."""

    name = "connect"
    needs: ClassVar[tuple[str, ...]] = ("kafka",)
    stops_first: ClassVar[bool] = True

    def prepare(self) -> None:
        """Write the worker's settings, and who may use its REST."""
        (self.folder / "tmp").mkdir(exist_ok=True)
        users = self.folder / "users.properties"
        write_properties(users, {USER: self.site.secrets.get("connect")})
        write_atomically(self.folder / _JAAS, rest_login_file(str(users)))
        login = f"{USER}:{self.site.secrets.get('connect')}"
        write_atomically(self.folder / CURL, f'user = "{login}"\n')
        write_properties(self.folder / "worker.properties", self.settings())

    def settings(self) -> dict[str, str | int | bool]:
        """The worker's settings."""
        services = self.site.config.settings.services
        own_broker = services.kafka.bootstrap_servers != EMBEDDED
        broker = services.kafka.bootstrap_servers
        security = java_client(self._kafka_options())
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
            "connector.client.config.override.policy": "Allowlist",
            "connector.client.config.override.allowlist": ",".join(CLIENT_SETTINGS),
            "rest.extension.classes": f"{_LOGIN},{REST_POLICY}",
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
        for prefix in _CLIENTS:
            settings |= {f"{prefix}{key}": value for key, value in security.items()}
        return settings

    def _kafka_options(self) -> dict[str, str]:
        kafka = self.site.config.settings.services.kafka
        if kafka.bootstrap_servers != EMBEDDED:
            return kafka.options
        return kafka.options | client_options(self.site.secrets)

    def command(self) -> list[str]:
        """The worker's main class."""
        return java(
            self.site.tools,
            self.folder / "tmp",
            CONNECT,
            str(self.folder / "worker.properties"),
            properties={"java.security.auth.login.config": str(self.folder / _JAAS)},
        )

    def environment(self) -> dict[str, str]:
        """The class path, and the password of each MySQL server for its connector."""
        jars = (self.site.tools.classpath, str(self.site.tools.converter))
        login = java_client(self._kafka_options()).get("sasl.jaas.config")
        kafka = {LOGIN_VARIABLE: login} if login else {}
        return {"CLASSPATH": os.pathsep.join(jars), **kafka, **self._passwords()}

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
        return {PASSWORD_VARIABLE, LOGIN_VARIABLE, *self._passwords(), *named}

    def healthy(self) -> bool:
        """Whether the worker has started (REST answers before) and knows Debezium."""
        login = (USER, self.site.secrets.get("connect"))
        if not requests.get(f"{self.address()}/health", auth=login, timeout=5).ok:
            return False
        answer = requests.get(f"{self.address()}/connector-plugins", auth=login, timeout=5)
        return answer.ok and any(plugin["class"] == CONNECTOR for plugin in answer.json())

    def endpoint(self) -> dict[str, Any]:
        """REST's address, user and password."""
        return {
            "url": self.address(),
            "user": USER,
            "password": self.site.secrets.get("connect"),
        }

    def address(self) -> str:
        """REST's address."""
        return f"http://{on_loopback(self.port)}"
