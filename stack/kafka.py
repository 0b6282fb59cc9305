"""One Kafka broker that is its own controller (KRaft)."""

from __future__ import annotations

import base64
import shutil
import uuid
from typing import Any

from lake.kafka.java_client import java_client, login_line
from lake.kafka.topics import MAX_MESSAGE_BYTES
from stack.java import java, write_properties
from stack.secrets import Secrets
from stack.service import Service, on_loopback

USER = "ducklake"
"""Who logs in to the broker; it is itself that user, too."""
SECRET = "kafka"
CLIENT = "client.properties"
"""The settings with which Kafka's own tools log in (`--command-config`)."""
_MB = 1024 * 1024


class Kafka(Service):
    """The broker."""

    name = "kafka"

    def prepare(self) -> None:
        """Write the settings and format the storage once."""
        settings, temporary = self.folder / "server.properties", self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        write_properties(settings, self.settings())
        client = java_client(client_options(self.site.secrets))
        write_properties(self.folder / CLIENT, client)
        data = self.folder / "data"
        # written last by the format, so an interrupted one starts again
        if (data / "meta.properties").exists():
            return
        shutil.rmtree(data, ignore_errors=True)
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = java(
            self.site.tools,
            temporary,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={identity}",
            "--config",
            str(settings),
        )
        self.run(command, "Formatting Kafka's storage", **self.environment())

    def settings(self) -> dict[str, str | int | bool]:
        """The broker's settings."""
        broker, controller = on_loopback(self.port), on_loopback(self.site.ports["controller"])
        users = {f"user_{USER}": self.site.secrets.get(SECRET)}
        login = login_line("PLAIN", USER, users[f"user_{USER}"], users)
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            # other users of this machine reach both, too
            "listeners": f"CLIENT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{broker}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "CLIENT",
            "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "sasl.mechanism.controller.protocol": "PLAIN",
            "listener.name.client.plain.sasl.jaas.config": login,
            "listener.name.controller.plain.sasl.jaas.config": login,
            "log.dirs": str(self.folder / "data"),
            # a topic that somebody misspells must be an error
            "auto.create.topics.enable": False,
            # after a crash the controller waits so long for the broker it remembers
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "num.partitions": 1,
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 8,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "transaction.max.timeout.ms": 300_000,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
            "log.segment.bytes": 64 * _MB,
            "log.retention.bytes": 1024 * _MB,
            "log.retention.check.interval.ms": 60_000,
            "metadata.max.retention.bytes": 64 * _MB,
            "metadata.log.segment.bytes": 16 * _MB,
            "log.cleaner.threads": 1,
            "log.cleaner.dedupe.buffer.size": 16 * _MB,
            "num.network.threads": 2,
            "num.io.threads": 4,
        }

    def command(self) -> list[str]:
        """The broker's main class."""
        settings = str(self.folder / "server.properties")
        return java(self.site.tools, self.folder / "tmp", "kafka.Kafka", settings)

    def environment(self) -> dict[str, str]:
        """The class path, too long for a command line that people read."""
        return {"CLASSPATH": self.site.tools.classpath}

    def healthy(self) -> bool:
        """Whether it tells a client its brokers."""
        from confluent_kafka.admin import AdminClient

        quiet = {"log_level": 0, "error_cb": lambda _error: None}
        login = client_options(self.site.secrets)
        admin = AdminClient({"bootstrap.servers": on_loopback(self.port), **login, **quiet})
        return bool(admin.list_topics(timeout=3).brokers)

    def endpoint(self) -> dict[str, Any]:
        """The bootstrap address, and how clients log in."""
        own = self.site.config.settings.services.kafka.options
        return {
            "bootstrap_servers": on_loopback(self.port),
            "options": own | client_options(self.site.secrets),
        }

    def address(self) -> str:
        """The bootstrap address."""
        return on_loopback(self.port)


def client_options(secrets: Secrets) -> dict[str, str]:
    """Librdkafka's settings for a login."""
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": secrets.get(SECRET),
    }
