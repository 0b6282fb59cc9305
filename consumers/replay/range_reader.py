"""Reading offsets of a partition again, outside of the live consumer group."""

from __future__ import annotations

import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from consumers.ingest.memory import FetchSizer
from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.logs import log_consumer
from lake.kafka.refusals import unreachable

BATCH_MESSAGES, BATCH_BYTES = 50_000, 32 * 1024 * 1024
FIRST_MESSAGES = 500
"""Of the first batch of a range."""
FETCH_BYTES = 4 * 1024 * 1024
POLL_MESSAGES = 5_000
STALL_SECONDS = 20.0
WAIT_SECONDS = 0.2
WATERMARK_SECONDS = 10.0
# Called without a lookup for each message.
_error = Message.error


class KafkaReader:
    """Reads offsets of partitions with one connection, outside of every live consumer group.

    Args:
        endpoints: Where Kafka is.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._consumer = log_consumer(
            endpoints,
            group_id="ducklake.read-again",
            queued_max_messages_kbytes=32_768,
            # One partition at a time: of the default megabyte each is a trip of its own.
            fetch_message_max_bytes=FETCH_BYTES,
            fetch_queue_backoff_ms=10,
            # Every other request waits behind a fetch that waits for more.
            fetch_wait_max_ms=20,
        )

    def __enter__(self) -> KafkaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def oldest(self, topic: str, partition: int) -> int:
        """The oldest offset that a partition still has.

        Raises:
            ServiceUnreachable: The broker does not answer.
        """
        return self._watermarks(topic, partition)[0]

    def newest(self, topic: str, partition: int) -> int:
        """The offset after the newest record, marker or aborted record of a partition.

        Raises:
            ServiceUnreachable: The broker does not answer.
        """
        return self._watermarks(topic, partition)[1]

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        # What is readable ends where an open transaction begins; this end does not.
        wanted = TopicPartition(topic, partition)
        try:
            low, high = self._consumer.get_watermark_offsets(wanted, WATERMARK_SECONDS)
        except KafkaException as error:
            raise unreachable(self._endpoints, error) from None
        return int(low), int(high)

    def at(self, topic: str, partition: int, moment: float) -> int | None:
        """The first offset whose record is not older than a moment (seconds since the epoch).

        None where all records are older.

        Raises:
            ServiceUnreachable: The broker does not answer.
        """
        wanted = TopicPartition(topic, partition, round(moment * 1000))
        try:
            [found] = self._consumer.offsets_for_times([wanted], WATERMARK_SECONDS)
        except KafkaException as error:
            raise unreachable(self._endpoints, error) from None
        return int(found.offset) if found.offset >= 0 else None

    def _gather(self, wanted: int) -> list[Message]:
        """Messages by the thousand: the client goes on fetching while we make objects of some."""
        found: list[Message] = []
        while len(found) < wanted:
            asked = min(POLL_MESSAGES, wanted - len(found))
            some = self._consumer.consume(asked, WAIT_SECONDS)
            found += some
            if len(some) < asked:
                break
        return found

    def read(self, topic: str, partition: int, first: int, end: int) -> Iterator[list[Message]]:
        """Read the committed records of a partition from one offset up to another.

        Args:
            topic: The topic.
            partition: The partition.
            first: The first offset; where it is gone, reading begins with the oldest there is.
            end: The offset before which reading ends.

        Yields:
            Batches in the order of offsets.

        Raises:
            ServiceUnreachable: The broker stopped answering before the end.
        """
        # Asked for its leader now, the client need not wait for its own look, each second.
        self._watermarks(topic, partition)
        self._consumer.assign([TopicPartition(topic, partition, first)])
        portion = FetchSizer(BATCH_MESSAGES, BATCH_BYTES)
        most = FIRST_MESSAGES  # nobody knows yet how large they are
        heard = time.monotonic()
        position = first
        while position < end:
            # No more than there can be: the client would wait for them.
            batch = self._gather(min(portion.messages(), end - position, most))
            if batch:
                heard = time.monotonic()
            if any(map(_error, batch)):
                for message in batch:
                    error = message.error()
                    if error is not None and error.code() == KafkaError._PARTITION_EOF:
                        position = max(position, message.offset())
                batch = [message for message in batch if message.error() is None]
            if batch:
                portion.observe(len(batch), sum(map(len, batch)))
                most = BATCH_MESSAGES
                position = max(position, batch[-1].offset() + 1)
                if position > end:
                    batch = [message for message in batch if message.offset() < end]
            if batch:
                yield batch
                batch = []  # not kept while the next one comes
            if time.monotonic() - heard > STALL_SECONDS:
                raise ServiceUnreachable(
                    f"Kafka at {self._endpoints.kafka}: {topic}, partition {partition} could be"
                    f" read to offset {position} of {end} only.",
                    "Is it up? An open transaction times out within 15 s.",
                )
