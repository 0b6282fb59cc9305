"""Rows and their cursor in one Kafka transaction: kill it anywhere, nothing repeats or is missing.

Records are gathered before a transaction begins: an open one stalls every reader of its topics.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from ducklake.config import Config, Endpoints
from ducklake.errors import CursorMissing, ProducerFenced, ServiceUnreachable
from ducklake.records import CURSORS_TOPIC, REJECTS_TOPIC
from ducklake.topics import MAX_MESSAGE_BYTES
from producers.base import Batch, Cursors

INIT_SECONDS = 30.0
COMMIT_SECONDS = 30.0
READ_SECONDS = 20.0
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


class TransactionalWriter:
    """Writes the batches of one source, each with its cursor.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        source: The source's name; the transactional id belongs to it alone.

    Raises:
        ServiceUnreachable: The broker does not answer.
        CursorMissing: A topic has rows and no cursor.
    """

    def __init__(self, config: Config, endpoints: Endpoints, source: str) -> None:
        self.source = source
        self._endpoints = endpoints
        self._delivery: list[KafkaError] = []
        self._producer = Producer(
            endpoints.kafka_client(
                transactional_id=f"ducklake.{config.settings.name}.{source}",
                transaction_timeout_ms=15_000,
                compression_type="lz4",
                partitioner="murmur2_random",
                message_max_bytes=MAX_MESSAGE_BYTES - 1024,
                linger_ms=5,
            )
        )
        # First: it ends what a predecessor left open, so that its cursor is decided.
        self._call(lambda: self._producer.init_transactions(INIT_SECONDS))
        self.cursors: dict[str, dict[str, Any]] = self._read_cursors()
        for table in config.settings.sources[source].tables:
            known = any(key.startswith(f"{table}:") for key in self.cursors)
            if not known and self._has_rows(f"{source}.{table}"):
                raise CursorMissing(
                    f"Topic {source}.{table} has rows, but {CURSORS_TOPIC} has no cursor for it:"
                    " reading the source again would repeat them.",
                    f"Restore {CURSORS_TOPIC}, or start over with `ducklake reset`.",
                )

    def write(self, batch: Batch) -> None:
        """Commit a batch and its cursor, or nothing of it.

        Raises:
            ProducerFenced: Another producer of this source is running.
            ServiceUnreachable: The broker did not take it; nothing of it is visible.
        """
        self._delivery.clear()
        self._call(self._producer.begin_transaction)
        try:
            for record in batch.records:
                self._send(
                    f"{self.source}.{record.table}",
                    record.key.encode(),
                    record.payload(),
                    record.headers(),
                )
            for reject in batch.rejects:
                headers = reject.headers(self.source)
                self._send(REJECTS_TOPIC, reject.table.encode(), reject.payload, headers)
            key = f"{self.source}:{batch.key}".encode()
            self._send(CURSORS_TOPIC, key, orjson.dumps(batch.cursor, default=str), [])
            self._producer.flush(COMMIT_SECONDS)
            if self._delivery:
                raise KafkaException(self._delivery[0])
            self._call(lambda: self._producer.commit_transaction(COMMIT_SECONDS))
        except BaseException as error:
            self._abort()
            if isinstance(error, KafkaException):
                raise self._named(error) from None
            raise
        self.cursors[batch.key] = dict(batch.cursor)

    def _send(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, key=key, value=value, headers=headers, on_delivery=self._delivered
                )
                self._producer.poll(0)
                return
            except BufferError:  # the client's queue is full: wait for the broker to take some
                self._producer.poll(0.5)

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        if error is not None:
            self._delivery.append(error)

    def _abort(self) -> None:
        try:
            self._producer.abort_transaction(COMMIT_SECONDS)
        except KafkaException:
            # A fenced or dead producer cannot abort; the broker does after the timeout.
            return

    def _call(self, step: Callable[[], object]) -> None:
        deadline = time.monotonic() + COMMIT_SECONDS
        while True:
            try:
                step()
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise self._named(error) from None

    def _named(self, error: KafkaException) -> ProducerFenced | ServiceUnreachable:
        cause = error.args[0]
        if cause.code() in _FENCED:
            return ProducerFenced(
                f"Another producer of the source {self.source!r} has taken over.",
                "Run one `ducklake produce` for each source.",
            )
        return ServiceUnreachable(
            f"Kafka at {self._endpoints.kafka}, source {self.source}: {cause.str()}.",
            "Nothing of that batch is visible; it is sent again.",
        )

    # Cursors -------------------------------------------------------------------------------

    def _read_cursors(self) -> dict[str, dict[str, Any]]:
        """All cursors of this source, read to the uncommitted end of the topic.

        The last stable offset alone is not enough: another producer's open transaction holds it
        back, and an older cursor would be taken for the newest.
        """
        end = self._reader("read_uncommitted")
        try:
            high = end.get_watermark_offsets(TopicPartition(CURSORS_TOPIC, 0), READ_SECONDS)[1]
        finally:
            end.close()
        cursors: dict[str, dict[str, Any]] = {}
        prefix = f"{self.source}:"
        reader = self._reader("read_committed")
        try:
            reader.assign([TopicPartition(CURSORS_TOPIC, 0, 0)])
            deadline = time.monotonic() + READ_SECONDS
            position = 0
            while position < high:
                message = reader.poll(1.0)
                if time.monotonic() > deadline:
                    raise ServiceUnreachable(
                        f"{CURSORS_TOPIC} could be read to offset {position} of {high} only:"
                        " a transaction hangs.",
                        "It ends by itself within 15 s; then start again.",
                    )
                if message is None:
                    continue
                if message.error() is not None:
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        position = max(position, message.offset())
                    continue
                position = message.offset() + 1
                key = (message.key() or b"").decode()
                if key.startswith(prefix):
                    cursors[key.removeprefix(prefix)] = orjson.loads(message.value() or b"{}")
        finally:
            reader.close()
        return cursors

    def _has_rows(self, topic: str) -> bool:
        """Whether a topic holds a committed record; markers alone do not count."""
        reader = self._reader("read_committed")
        try:
            partitions = reader.list_topics(topic, READ_SECONDS).topics[topic].partitions
            reader.assign([TopicPartition(topic, number, 0) for number in partitions])
            ends = 0
            deadline = time.monotonic() + READ_SECONDS
            while ends < len(partitions) and time.monotonic() < deadline:
                message = reader.poll(1.0)
                if message is None:
                    continue
                if message.error() is None:
                    return True
                ends += message.error().code() == KafkaError._PARTITION_EOF
            return False
        finally:
            reader.close()

    def _reader(self, isolation: str) -> Consumer:
        return Consumer(
            self._endpoints.kafka_client(
                group_id=f"ducklake.cursors.{self.source}",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                isolation_level=isolation,
            )
        )

    def view(self) -> Cursors:
        """The cursors as they are in Kafka now."""
        return self.cursors
