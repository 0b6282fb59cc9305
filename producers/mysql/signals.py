"""The two topics between this project and a Debezium connector: signals, and notifications.

Both are logs of one partition. The first holds what was asked for (`REQUEST`, which Debezium passes
over) and each signal that was sent for it; the second holds Debezium's answers. Together they are
the whole state of a backfill: any process can read it, and nothing else has to be kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from lake.config import Config, Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.kafka.logs import log_consumer
from lake.kafka.sending import Outgoing, send
from lake.kafka.topics import NOTIFICATIONS, SIGNALS, connector_topic

REQUEST = "request"
"""The key of a request; that of a signal is the source's name, as Debezium wants it."""
SETTLED = "settled"
"""The key of what says that a backfill has had its last effect."""
GIVEN_UP = "given up"
"""The key of what says that Debezium did not take a request, however often it was told."""
READ_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the two topics.

    Attributes:
        kind: `signals` or `notifications`.
        offset: Its place in its topic.
        key: Its key.
        value: What it says.
        moment: When it was written, in seconds of the epoch.
    """

    kind: str
    offset: int
    key: str
    value: dict[str, Any]
    moment: float


class SignalLog:
    """Writes signals and requests, and reads everything that was said.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        source: The source of the connector.
    """

    def __init__(self, config: Config, endpoints: Endpoints, source: str) -> None:
        self.source = source
        self._endpoints = endpoints
        self._kinds = {connector_topic(config, source, kind): kind for kind in _KINDS}
        self._next = dict.fromkeys(self._kinds, 0)
        self._entries: list[Entry] = []
        self._consumer: Consumer | None = None
        self._producer: Producer | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = self._producer = None

    def read(self) -> list[Entry]:
        """Everything that was written until now, each topic in its order.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        try:
            self._read_new()
        except KafkaException as error:
            raise self._unreachable(error.args[0]) from None
        return self._entries

    def write(self, key: str, value: dict[str, Any]) -> None:
        """Append to the topic of signals, durably.

        Raises:
            ServiceUnreachable: Kafka has not taken it.
        """
        if self._producer is None:
            self._producer = kafka_client(
                Producer, self._endpoints, enable_idempotence=True, message_timeout_ms=20_000
            )
        topic = next(topic for topic, kind in self._kinds.items() if kind == SIGNALS)
        try:
            send(self._producer, [Outgoing(topic, orjson.dumps(value), key, partition=0)])
        except KafkaException as error:
            raise self._unreachable(error.args[0]) from None

    def _read_new(self) -> None:
        if self._consumer is None:
            self._consumer = log_consumer(
                self._endpoints, f"ducklake.{self.source}.signal-log", fetch_wait_max_ms=50
            )
        # anew each time: the end of a partition is told once after each assignment
        self._consumer.assign([TopicPartition(t, 0, o) for t, o in self._next.items()])
        ended: set[str] = set()
        deadline = time.monotonic() + READ_SECONDS
        while len(ended) < len(self._kinds):
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            message = self._consumer.poll(1.0)
            if message is None:
                continue
            topic, error = message.topic() or "", message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                ended.add(topic)
                self._next[topic] = max(self._next[topic], message.offset() or 0)
                continue
            self._next[topic] = (message.offset() or 0) + 1
            entry = _entry(self._kinds[topic], message)
            if entry is not None:
                self._entries.append(entry)

    def _unreachable(self, error: KafkaError) -> ServiceUnreachable:
        return ServiceUnreachable(
            f"Kafka at {self._endpoints.kafka}, topics of the signals of {self.source}:"
            f" {error.str()}.",
            "Is it up? `ducklake status` shows the embedded one.",
        )


_KINDS = (SIGNALS, NOTIFICATIONS)


def _entry(kind: str, message: Any) -> Entry | None:
    """What a record says; None of one that somebody else has put there."""
    try:
        value = orjson.loads(message.value() or b"null")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    key = (message.key() or b"").decode(errors="replace")
    return Entry(kind, message.offset(), key, value, message.timestamp()[1] / 1000)
