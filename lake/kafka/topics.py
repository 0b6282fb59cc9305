"""Kafka's topics: made with their retention, and asked for their identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from lake.config import FOREIGN, MYSQL, MYSQL_CDC, Config, Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.kafka.refusals import unreachable
from lake.records import CURSORS_TOPIC, REJECTS_TOPIC, notices_topic

TIMEOUT = 30.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Of a topic, which is what a row of MySQL may take; other sources write smaller records."""
SIGNALS, NOTIFICATIONS = "signals", "notifications"
"""The two topics through which a Debezium connector is told to read a table again, and answers."""
KPI_TOPIC = "live.kpis"
"""The figures of `ducklake live`, compacted by window."""
_COMPACTED = {"cleanup.policy": "compact", "segment.ms": "3600000"}
_SIGNALS_KEPT = {"retention.ms": str(30 * 86_400_000), "retention.bytes": "-1"}


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it is to be made."""

    name: str
    partitions: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """What a topic is: its id as 32 hex digits, and its number of partitions."""

    name: str
    topic_id: str
    partitions: int


def wanted_topics(config: Config) -> list[TopicSpec]:
    """All topics that the project writes: of the configured tables, and its own two."""
    defaults = config.settings.topics
    specs = []
    for ref, table in config.tables():
        if config.settings.sources[ref.source].type == FOREIGN:
            continue  # not ours to make, nor to give a retention
        days = table.retention_days or defaults.retention_days
        settings = {
            "retention.ms": str(int(days * 86_400_000)),
            "retention.bytes": str(int(defaults.retention_mb * 1024 * 1024)),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }
        specs.append(TopicSpec(ref.topic, table.partitions or defaults.partitions, settings))
    for name, source in config.settings.sources.items():
        if source.type in MYSQL:
            # The schema changes: needed for as long as there are rows, so kept for ever.
            specs.append(TopicSpec(name, 1, {"retention.ms": "-1", "retention.bytes": "-1"}))
        if source.type == MYSQL_CDC:
            for what in (SIGNALS, NOTIFICATIONS):
                topic = connector_topic(config, name, what)
                specs.append(TopicSpec(topic, 1, _SIGNALS_KEPT))
            specs.append(TopicSpec(notices_topic(config.settings.name, name), 1, _COMPACTED))
    rejects = {"retention.ms": "-1", "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    specs.append(TopicSpec(REJECTS_TOPIC, 1, rejects))
    specs.append(TopicSpec(CURSORS_TOPIC, 1, _COMPACTED))
    # One that somebody made compacted would lose all versions of a row but the last.
    return [replace(s, settings={"cleanup.policy": "delete", **s.settings}) for s in specs]


def connector_topic(config: Config, source: str, what: str) -> str:
    """A topic of a source's Debezium connector, such as that of its signals."""
    return f"ducklake.{config.settings.name}.{source}.{what}"


def admin(endpoints: Endpoints) -> AdminClient:
    """An admin client for the configured broker, quiet about connection attempts.

    Raises:
        ConfigError: An option of `services.kafka` is none, or names no certificate.
    """
    return kafka_client(AdminClient, endpoints, log_connection_close=False)


def make_topics(config: Config, endpoints: Endpoints) -> None:
    """Create what is missing, and set the retention of what is there.

    Raises:
        ServiceUnreachable: The broker does not answer.
    """
    client = admin(endpoints)
    wanted = {spec.name: spec for spec in wanted_topics(config)}
    replication = config.settings.topics.replication_factor
    try:
        existing = client.list_topics(timeout=TIMEOUT).topics
        new = [
            NewTopic(s.name, s.partitions, replication, config=dict(s.settings))
            for s in wanted.values()
            if s.name not in existing
        ]
        for future in client.create_topics(new, operation_timeout=TIMEOUT).values() if new else ():
            _ignore_existing(future)
        changed = [
            ConfigResource(
                ResourceType.TOPIC,
                s.name,
                incremental_configs=[
                    ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                    for key, value in s.settings.items()
                ],
            )
            for s in wanted.values()
            if s.name in existing
        ]
        if changed:
            altered = client.incremental_alter_configs(changed, request_timeout=TIMEOUT)
            for future in altered.values():
                future.result(TIMEOUT)
    except KafkaException as error:
        raise unreachable(endpoints, error) from None


def _ignore_existing(future: object) -> None:
    try:
        future.result(TIMEOUT)  # type: ignore[attr-defined]
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def identify(
    client: AdminClient, topics: Iterable[str], seconds: float = TIMEOUT
) -> dict[str, TopicIdentity]:
    """The identity of each topic that exists.

    Args:
        client: Where to ask.
        topics: Names.
        seconds: How long to wait for an answer.

    Raises:
        ServiceUnreachable: The broker does not answer.
    """
    names = list(topics)
    found: dict[str, TopicIdentity] = {}
    try:
        described = client.describe_topics(TopicCollection(names), request_timeout=seconds)
        for name, future in described.items():
            try:
                about = future.result(seconds + 1)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    continue
                raise
            uuid = about.topic_id
            bits = (
                uuid.get_most_significant_bits() & (1 << 64) - 1
            ) << 64 | uuid.get_least_significant_bits() & (1 << 64) - 1
            found[name] = TopicIdentity(name, f"{bits:032x}", len(about.partitions))
    except KafkaException as error:
        raise ServiceUnreachable(f"Kafka: {error.args[0].str()}.", "Is it up?") from None
    return found
