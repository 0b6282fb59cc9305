"""Exact column types of MySQL tables, from the topic of schema changes that Debezium writes."""

from __future__ import annotations

from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, TopicPartition

from ducklake.config import Endpoints
from ducklake.lake.schema import Column, mysql_type, source_column

READ_SECONDS = 15.0


def exact_columns(endpoints: Endpoints, topic: str, table: str) -> list[Column]:
    """Columns that a table has, or ever had, with the newest type of each.

    Args:
        endpoints: Where Kafka is.
        topic: The topic of schema changes (Debezium's `topic.prefix`).
        table: The table's name, without its database.
    """
    columns: dict[str, Column] = {}
    for change in _table_changes(endpoints, topic):
        described = change.get("table")
        if described and change["id"].replace('"', "").split(".")[-1] == table:
            for column in described["columns"]:
                columns[column["name"]] = source_column(column["name"], mysql_type(column))
    return list(columns.values())


def _table_changes(endpoints: Endpoints, topic: str) -> list[dict[str, Any]]:
    """All changes in the topic's single partition, oldest first."""
    consumer = Consumer(
        endpoints.kafka_client(
            group_id="ducklake.schema-changes",
            enable_auto_commit=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
    )
    changes: list[dict[str, Any]] = []
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            message = consumer.poll(READ_SECONDS)
            if message is None:
                return changes
            error = message.error()
            if error is not None:
                if error.code() in (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART):
                    return changes
                continue
            value = message.value()
            if value:
                changes += orjson.loads(value).get("tableChanges") or []
    finally:
        consumer.close()
