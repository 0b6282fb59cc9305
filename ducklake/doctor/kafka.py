"""Kafka: whether it answers, how its topics are set, and whether it has what is unread."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from ducklake.doctor.findings import NOTE, Finding, well, wrong
from ducklake.supervision.freshness import can_be_read
from lake.config import FOREIGN, Config, Endpoints
from lake.kafka.refusals import refusal
from lake.kafka.topics import TopicSpec, admin, wanted_topics
from lake.ledger import LedgerReader
from lake.ledger.entries import TableState
from lake.storage.paths import LakePaths
from stack.kafka import CLIENT

SECONDS = 8.0
SOON = 0.5
"""Part of the retention after which what is unread is in danger."""


def kafka(config: Config, endpoints: Endpoints) -> Iterator[Finding]:
    """Everything about the broker and its topics."""
    try:
        yield from _asked(config, endpoints, admin(endpoints))
    except KafkaException as error:
        if (found := refusal(endpoints, error.args[0])) is not None:
            code = "DL-207" if found.is_login else "DL-208"
            yield wrong(code, "kafka", f"{endpoints.kafka}: {found.what}", found.remedy)
            return
        what = f"{endpoints.kafka} does not answer: {error.args[0].str()}"
        remedy = (
            "ducklake up"
            if "kafka" in config.settings.services.embedded()
            else ("Start the broker, or mend services.kafka in ducklake.yml")
        )
        yield wrong("DL-201", "kafka", what, remedy)


def _asked(config: Config, endpoints: Endpoints, client: AdminClient) -> Iterator[Finding]:
    about = client.list_topics(timeout=SECONDS)
    yield well("kafka", f"{len(about.brokers)} brokers at {endpoints.kafka}")
    wanted = [spec for spec in wanted_topics(config) if spec.name in about.topics]
    replicas = {
        name: min((len(p.replicas) for p in topic.partitions.values()), default=0)
        for name, topic in about.topics.items()
    }
    found = list(_settings(config, endpoints, client, wanted, replicas))
    states = _states(config)
    for ref, _ in config.tables():
        if ref.topic not in about.topics and ref.topic in states:
            what = f"topic {ref.topic} does not exist, and the lake has read from it"
            found.append(wrong("DL-202", "kafka", what, f"ducklake produce {ref.source} --once"))
    partitions = {name: len(topic.partitions) for name, topic in about.topics.items()}
    found += _unread(client, states, partitions, _retention(config))
    yield from found
    if not found:
        yield well("topics", f"{len(wanted)} of them are as they should be")


def _settings(
    config: Config,
    endpoints: Endpoints,
    client: AdminClient,
    wanted: list[TopicSpec],
    replicas: Mapping[str, int],
) -> Iterator[Finding]:
    if not wanted:
        return
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in wanted]
    answers = client.describe_configs(resources, request_timeout=SECONDS)
    current = {at.name: answer.result(SECONDS) for at, answer in answers.items()}
    for spec in wanted:
        have = {key: entry.value for key, entry in current[spec.name].items()}
        other = [
            f"{key}={have.get(key)}, and not {value}"
            for key, value in spec.settings.items()
            if have.get(key) != value
        ]
        if other:
            source = spec.name.partition(".")[0]
            known = source if source in config.settings.sources else ""
            remedy = f"ducklake produce {known} --once".replace("  ", " ")
            yield wrong("DL-204", "kafka", f"topic {spec.name} has {', '.join(other)}", remedy)
        least = int(have.get("min.insync.replicas") or 1)
        if least > replicas[spec.name]:
            what = (
                f"topic {spec.name} has min.insync.replicas={least} and {replicas[spec.name]}"
                " replicas: nothing can be written to it"
            )
            remedy = (
                f"kafka-configs.sh --bootstrap-server {endpoints.kafka} --alter"
                f" --entity-type topics --entity-name {spec.name}"
                f" --add-config min.insync.replicas=1{_login(config, endpoints)}"
            )
            yield wrong("DL-205", "kafka", what, remedy)


def _login(config: Config, endpoints: Endpoints) -> str:
    """How Kafka's own tools log in: by a file, which of one's own broker one has to have."""
    if "security.protocol" not in endpoints.kafka_options:
        return ""
    embedded = config.stack_dir / "kafka" / CLIENT
    named = str(embedded) if "kafka" in config.settings.services.embedded() else CLIENT
    return f" --command-config {shlex.quote(named)}"


def _states(config: Config) -> dict[str, TableState]:
    """What the lake knows of each table that it has read."""
    paths = LakePaths(config.data_dir)
    if not can_be_read(paths):
        return {}
    with LedgerReader(paths) as ledger:
        found = {ref.topic: ledger.tables.get(ref.topic) for ref, _ in config.tables()}
    return {topic: state for topic, state in found.items() if state is not None}


def _retention(config: Config) -> dict[str, float]:
    """Seconds for which records of each topic of ours are kept."""
    default = config.settings.topics.retention_days
    return {
        ref.topic: (table.retention_days or default) * 86_400
        for ref, table in config.tables()
        if config.settings.sources[ref.source].type != FOREIGN
    }


def _unread(
    client: AdminClient,
    states: Mapping[str, TableState],
    partitions: Mapping[str, int],
    retention: Mapping[str, float],
) -> Iterator[Finding]:
    """Whether Kafka still has, and for how long, what the slowest reader has not read."""
    places = [
        TopicPartition(topic, number)
        for topic in states
        for number in range(partitions.get(topic, 0))
    ]
    if not places:
        return
    first = _offsets(client, places, OffsetSpec.earliest())
    end = _offsets(client, places, OffsetSpec.latest())
    for topic, state in states.items():
        numbers = range(partitions.get(topic, 0))
        unread = {n: at for n, at in state.positions.items() if n in numbers}
        lost = [n for n, at in unread.items() if at < first[topic, n] and at < end[topic, n]]
        if lost:
            gone = ", ".join(f"partition {n}: {unread[n]} to {first[topic, n] - 1}" for n in lost)
            what = f"topic {topic} no longer has offsets that the lake has not read ({gone})"
            yield wrong("DL-203", "kafka", what, f"ducklake accept-loss {topic}")
        elif topic in retention:
            yield from _in_danger(client, topic, unread, end, retention[topic])


def _in_danger(
    client: AdminClient,
    topic: str,
    unread: Mapping[int, int],
    end: Mapping[tuple[str, int], int],
    kept: float,
) -> Iterator[Finding]:
    places = [TopicPartition(topic, n) for n in unread]
    moment = round((time.time() - kept * SOON) * 1000)
    young = _offsets(client, places, OffsetSpec.for_timestamp(moment))
    for number, at in unread.items():
        first_young = young[topic, number] if young[topic, number] >= 0 else end[topic, number]
        if at < first_young:
            what = (
                f"topic {topic} has unread records older than half its retention of"
                f" {kept / 86_400:g} days"
            )
            yield wrong("DL-206", "kafka", what, "ducklake consume --once", NOTE)
            return


def _offsets(
    client: AdminClient, places: list[TopicPartition], what: OffsetSpec
) -> dict[tuple[str, int], int]:
    answers = client.list_offsets(dict.fromkeys(places, what), request_timeout=SECONDS)
    return {
        (place.topic, place.partition): answer.result(SECONDS).offset
        for place, answer in answers.items()
    }
