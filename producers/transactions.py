"""Rows and their cursor in one Kafka transaction: kill it anywhere, nothing repeats or is missing.

Records are gathered before a transaction begins: an open one stalls every reader of its topics.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from lake.config import Config, Endpoints
from lake.errors import CursorMissing, ProducerFenced, ServiceUnreachable
from lake.failpoints import failpoint
from lake.kafka.clients import kafka_client
from lake.kafka.logs import log_consumer
from lake.kafka.refusals import refusal
from lake.processes.instruments import PRODUCED
from lake.records import CURSORS_TOPIC, REJECTS_TOPIC, Record, Reject
from producers.base import REJECT_BYTES, Batch, Cursors

INIT_SECONDS = 30.0
COMMIT_SECONDS = 30.0
READ_SECONDS = 30.0  # a hanging transaction is ended by the broker after 15 s, which looks every 10
AGAIN_SECONDS = 0.1
MESSAGE_BYTES = 16 * 1024 * 1024
RECORD_BYTES = MESSAGE_BYTES - 64 * 1024  # the rest is for the key and the headers
_FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}


class TransactionalWriter:
    """Writes the batches of one source, each with its cursor.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        source: The source's name; the transactional id belongs to it alone.

    Attributes:
        usable: False once a failure has left the producer in a state that only a new one mends.

    Raises:
        ServiceUnreachable: The broker does not answer.
        CursorMissing: A topic has rows and no cursor.
        ConfigError: An option of `services.kafka` is none.
    """

    def __init__(self, config: Config, endpoints: Endpoints, source: str) -> None:
        self.source = source
        self.usable = True
        self._endpoints = endpoints
        # As the topics and the cursors are named: who writes to them fences all others.
        self._producer = kafka_client(
            Producer,
            endpoints,
            transactional_id=f"ducklake.{source}",
            transaction_timeout_ms=15_000,
            compression_type="lz4",
            partitioner="murmur2_random",
            message_max_bytes=MESSAGE_BYTES - 1024,
            linger_ms=5,
        )
        try:
            # First: it ends what a predecessor left open, so that its cursor is decided.
            self._call(lambda: self._producer.init_transactions(INIT_SECONDS))
            self.cursors: dict[str, dict[str, Any]] = self._read_cursors()
            self._check_cursors(list(config.settings.sources[source].tables))
        except KafkaException as error:
            raise self._named(error) from None

    def write(self, batch: Batch) -> None:
        """Commit a batch and its cursor, or nothing of it.

        A record that no message can hold becomes a reject: it must not stop those after it.

        Raises:
            ProducerFenced: Another producer of this source is running.
            ServiceUnreachable: The broker did not take it; nothing of it is visible, unless the
                commit's outcome is unknown: then this writer is no longer usable, and the next
                one finds in Kafka's cursors how it ended.
        """
        try:
            self._call(self._producer.begin_transaction)
            failpoint("producer.after_begin")
            for record in batch.records:
                self._send_record(record)
            for reject in batch.rejects:
                self._send_reject(reject)
            for definition in batch.definitions:
                self._send(self.source, batch.table.encode(), orjson.dumps(definition), [])
            key = f"{self.source}:{batch.key}".encode()
            self._send(CURSORS_TOPIC, key, orjson.dumps(batch.cursor, default=str), [])
            failpoint("producer.after_rows")
            self._producer.flush(COMMIT_SECONDS)
            failpoint("producer.after_flush")
            self._call(lambda: self._producer.commit_transaction(COMMIT_SECONDS))
        except BaseException as error:
            self._abort()
            if isinstance(error, KafkaException):
                raise self._named(error) from None
            raise
        failpoint("producer.after_commit")
        PRODUCED.labels(f"{self.source}.{batch.table}").inc(len(batch.records))
        self.cursors[batch.key] = dict(batch.cursor)

    def view(self) -> Cursors:
        """The cursors as they are in Kafka now."""
        return self.cursors

    # Sending -------------------------------------------------------------------------------

    def _send_record(self, record: Record) -> None:
        try:
            payload = record.payload()
        except TypeError:  # such as an integer beyond 64 bits, or half a surrogate pair
            self._send_reject(_reject(record, repr(dict(record.value)), "JSON cannot hold it"))
            return
        if len(payload) > RECORD_BYTES:
            reason = f"it has {len(payload):,} bytes, and a message holds {RECORD_BYTES:,}"
            self._send_reject(_reject(record, payload.decode(), reason))
            return
        topic = f"{self.source}.{record.table}"
        self._send(topic, record.key.encode(), payload, record.headers())

    def _send_reject(self, reject: Reject) -> None:
        headers = reject.headers(self.source)
        self._send(REJECTS_TOPIC, reject.table.encode(), reject.payload[:REJECT_BYTES], headers)

    def _send(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        while True:
            try:
                # No delivery callback: a message that fails fails the commit, and a callback that
                # is run after a fatal error would turn that error into a SystemError.
                self._producer.produce(topic, key=key, value=value, headers=headers)
                self._producer.poll(0)
                return
            except BufferError:
                # The client's queue is full: wait for the broker to take some. That ends: a
                # message that it does not take fails when the transaction times out.
                self._producer.poll(0.5)

    def _abort(self) -> None:
        try:
            self._producer.abort_transaction(COMMIT_SECONDS)
        except KafkaException:
            # A fenced or dead producer cannot abort; the broker does after the timeout.
            self.usable = False

    def _call(self, step: Callable[[], object]) -> None:
        deadline = time.monotonic() + COMMIT_SECONDS
        while True:
            try:
                step()
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise
                self._producer.poll(AGAIN_SECONDS)

    def _named(self, error: KafkaException) -> ProducerFenced | ServiceUnreachable:
        cause = error.args[0]
        if cause.code() in _FENCED:
            return ProducerFenced(
                f"Another producer of the source {self.source!r} has taken over.",
                "Run one `ducklake produce` for each source.",
            )
        if (found := refusal(self._endpoints, cause)) is not None:
            at = self._endpoints.kafka
            return ServiceUnreachable(f"Kafka at {at}: {found.what}.", found.remedy)
        return ServiceUnreachable(
            f"Kafka at {self._endpoints.kafka}, source {self.source}: {cause.str()}.",
            "Nothing of that batch is visible; it is sent again.",
        )

    # Cursors -------------------------------------------------------------------------------

    def _check_cursors(self, tables: list[str]) -> None:
        for table in tables:
            known = any(key.startswith(f"{table}:") for key in self.cursors)
            if not known and self._has_rows(f"{self.source}.{table}"):
                raise CursorMissing(
                    f"Topic {self.source}.{table} has rows, but {CURSORS_TOPIC} has no cursor for"
                    " it: reading the source again would repeat them.",
                    f"Restore {CURSORS_TOPIC} (`ducklake restore` has it from a backup), or start"
                    " over with `ducklake reset`, and in a broker of your own delete topic"
                    f" {self.source}.{table}, too.",
                )

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
                        " a transaction is still open.",
                        "It times out within 15 s; then start again.",
                    )
                if message is None:
                    continue
                if message.error() is not None:
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        position = max(position, message.offset())
                    continue
                position = message.offset() + 1
                key = (message.key() or b"").decode()
                if not key.startswith(prefix):
                    continue
                if message.value() is None:  # a tombstone
                    cursors.pop(key.removeprefix(prefix), None)
                else:
                    cursors[key.removeprefix(prefix)] = orjson.loads(message.value())
        finally:
            reader.close()
        return cursors

    def _has_rows(self, topic: str) -> bool:
        """Whether a topic holds a committed record; markers alone do not count."""
        reader = self._reader("read_committed")
        try:
            partitions = reader.list_topics(topic, READ_SECONDS).topics[topic].partitions
            reader.assign([TopicPartition(topic, number, 0) for number in partitions])
            ends: set[int] = set()
            deadline = time.monotonic() + READ_SECONDS
            while len(ends) < len(partitions):
                message = reader.poll(1.0)
                if message is not None and message.error() is None:
                    return True
                if message is not None and message.error().code() == KafkaError._PARTITION_EOF:
                    ends.add(message.partition())
                elif time.monotonic() > deadline:
                    # "No" would mean that everything is read again.
                    raise ServiceUnreachable(
                        f"{topic} could not be read to its end.", "It is retried."
                    )
            return False
        finally:
            reader.close()

    def _reader(self, isolation: str) -> Consumer:
        return log_consumer(
            self._endpoints,
            group_id=f"ducklake.cursors.{self.source}",
            isolation_level=isolation,
        )


def _reject(record: Record, text: str, reason: str) -> Reject:
    payload = text.encode(errors="replace")
    return Reject(record.table, payload, f"a row of {record.table}: {reason}", record.provenance)
