"""How many rows of a snapshot have arrived in a table's topic."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client

_SNAPSHOT_ROW = b'"op":"r"'  # quotes within a row's texts are escaped
_TIMEOUT = 20.0
_AT_ONCE = 5000


class SnapshotArrivals:
    """Counts the committed snapshot rows of a topic from a moment on.

    Args:
        endpoints: Where Kafka is.
        topic: The table's topic.
        since: The moment, in seconds of the epoch.

    Raises:
        ServiceUnreachable: Kafka does not answer.
    """

    def __init__(self, endpoints: Endpoints, topic: str, since: float) -> None:
        self.rows = 0
        self._topic = topic
        self._consumer = kafka_client(
            Consumer,
            endpoints,
            group_id=f"ducklake.{topic}.arrivals",
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="latest",
        )
        try:
            known = self._consumer.list_topics(topic, _TIMEOUT).topics[topic].partitions
            moment = int(since * 1000)
            starts = [TopicPartition(topic, number, moment) for number in known]
            self._consumer.assign(self._consumer.offsets_for_times(starts, _TIMEOUT))
        except KafkaException as error:
            raise self._unreachable(error) from None

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def read(self, seconds: float) -> int:
        """Count what arrives within some seconds; all rows so far.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                for message in self._consumer.consume(_AT_ONCE, min(left, 0.2)):
                    value = None if message.error() else message.value()
                    self.rows += value is not None and _SNAPSHOT_ROW in value
            except KafkaException as error:
                raise self._unreachable(error) from None
        return self.rows

    def _unreachable(self, error: KafkaException) -> ServiceUnreachable:
        return ServiceUnreachable(f"Kafka, {self._topic}: {error.args[0].str()}.", "Is it up?")
