"""Writing a few records that have to be there: each is confirmed, or an error says it is not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Producer

SEND_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record.

    Attributes:
        topic: Its topic.
        value: None deletes what a compacted topic has under the key.
        key: None has Kafka choose the partition.
        partition: By default that of the key.
    """

    topic: str
    value: bytes | None
    key: bytes | str | None = None
    partition: int = -1


def send(producer: Producer, records: Iterable[Outgoing], seconds: float = SEND_SECONDS) -> None:
    """Write records and wait until the broker has all of them.

    An empty queue alone does not say so: a record that the broker refuses leaves it, too.

    Raises:
        KafkaException: It refused one, or did not answer in time.
    """
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, message: object) -> None:
        if error is not None:
            failed.append(error)

    for record in records:
        producer.produce(
            record.topic,
            record.value,
            record.key,
            partition=record.partition,
            on_delivery=delivered,
        )
    left = producer.flush(seconds)
    if failed or left:
        raise KafkaException(failed[0] if failed else KafkaError(KafkaError._TIMED_OUT))
