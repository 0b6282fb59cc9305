"""Exact column types of MySQL tables, from the topic of schema changes that Debezium writes.

Debezium sends a change of a table before the first row that has it, so whoever asks after reading
rows whether the topic has grown knows whether these rows can have a column that is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from lake.config import Endpoints
from lake.storage.schema import Column, mysql_type, source_column

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
        self._consumer = Consumer(
            endpoints.kafka_client(
                group_id="ducklake.schema-changes",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_wait_max_ms=20,
            )
        )
        self._columns: dict[str, dict[str, Column]] = {}
        self._position = 0

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def has_grown(self) -> bool:
        """Whether there may be changes that `columns` has not seen yet."""
        try:
            return self._newest() > self._position
        except KafkaException:
            return True  # not known: let the caller look closely

    def _newest(self) -> int:
        return int(self._consumer.get_watermark_offsets(self._partition, ASK_SECONDS)[1])

    def columns(self, table: str) -> list[Column]:
        """Columns that a table has, or ever had, with the newest type of each.

        Args:
            table: The table's name, without its database.
        """
        self._read_on()
        return list(self._columns.get(table, {}).values())

    def _read_on(self) -> None:
        topic = self._partition.topic
        with suppress(KafkaException):
            self._newest()  # asked now, the client need not wait for its own look at the leader
        self._consumer.assign([TopicPartition(topic, 0, self._position)])
        while True:
            message = self._consumer.poll(READ_SECONDS)
            if message is None:
                break
            error = message.error()
            if error is None:
                self._position = message.offset() + 1
                for change in orjson.loads(message.value() or b"{}").get("tableChanges") or []:
                    self._take(change)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._position = max(self._position, message.offset())
                break
            elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                break
        self._consumer.unassign()

    def _take(self, change: Mapping[str, Any]) -> None:
        described = change.get("table")
        if not described:
            return
        table = str(change["id"]).replace('"', "").split(".")[-1]
        known = self._columns.setdefault(table, {})
        for column in described["columns"]:
            known[column["name"]] = source_column(column["name"], mysql_type(column))
