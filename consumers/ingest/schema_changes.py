"""Exact column types of MySQL tables, from the topic of schema changes that Debezium writes.

Debezium sends a change of a table before the first row that has it: whoever reads the topic to its
end after reading rows knows the definition of each of these rows.
"""

from __future__ import annotations

import time

import orjson
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumers.ingest.schema_history import SourceHistory, TableHistory
from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.logs import log_consumer

READ_SECONDS = 15.0
ASK_SECONDS = 5.0


class SchemaChanges:
    """The schema changes of one source, read as far as somebody asked.

    Args:
        endpoints: Where Kafka is.
        topic: The topic of schema changes (Debezium's `topic.prefix`), of one partition.
    """

    def __init__(self, endpoints: Endpoints, topic: str) -> None:
        self._partition = TopicPartition(topic, 0)
        self._consumer = log_consumer(
            endpoints,
            group_id="ducklake.schema-changes",
            fetch_wait_max_ms=20,
        )
        self._source = SourceHistory()
        self._position = 0

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def history(self, database: str, table: str) -> TableHistory:
        """All versions of a table up to the end of the topic.

        Args:
            database: Its database, as the source block of its records names it.
            table: Its name.

        Raises:
            ServiceUnreachable: The topic cannot be read to its end.
        """
        if self._has_grown():
            self._read_on()
        return self._source.of(database, table)

    def _has_grown(self) -> bool:
        # Asked first, the client need not wait for its own look at the leader when it reads on.
        try:
            newest = self._consumer.get_watermark_offsets(self._partition, ASK_SECONDS)[1]
        except KafkaException:
            return True  # not known: the read that follows says
        return int(newest) > self._position

    def _read_on(self) -> None:
        self._consumer.assign([TopicPartition(self._partition.topic, 0, self._position)])
        try:
            self._read_to_the_end()
        finally:
            self._consumer.unassign()

    def _read_to_the_end(self) -> None:
        deadline = time.monotonic() + READ_SECONDS
        while True:
            message = self._consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                raise ServiceUnreachable(
                    f"The schema changes in topic {self._partition.topic} could not be read to"
                    f" their end within {READ_SECONDS:.0f} s.",
                    "It is retried; no row is decoded without them.",
                )
            error = message.error()
            if error is None:
                self._position = message.offset() + 1
                deadline = time.monotonic() + READ_SECONDS
                event = orjson.loads(message.value() or b"{}")
                self._source.add(event)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._position = max(self._position, message.offset())
                break
            elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                break
