"""Which columns a MySQL table had before, by Debezium's topic of schema changes.

A column that is added without a value has NULL in MySQL. Where the lake knows an earlier column of
that name, its old rows have the earlier column's values there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.logs import log_consumer
from producers.mysql.notices import Notice

READ_SECONDS = 15.0
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
Definition = tuple[str, int, frozenset[str]]
"""The binlog's file, the place in it, and the names of all columns in lower case."""


def had_column_before(endpoints: Endpoints, source: str, notice: Notice) -> bool:
    """Whether a column that a statement has added is one that the table had, and then had not.

    Args:
        endpoints: Where Kafka is.
        source: The source, after which Debezium names the topic.
        notice: Where the column was added.

    Raises:
        ServiceUnreachable: The topic cannot be read to its end.
    """
    known = list(_definitions(endpoints, source, (notice.database, notice.table)))
    places = [i for i, (file, pos, _) in enumerate(known) if (file, pos) == _place(notice)]
    at = places[-1] if places else len(known) - 1
    if at < 1:
        return False
    added = known[at][2] - known[at - 1][2]
    return any(added & names for _, _, names in known[: at - 1])


def _place(notice: Notice) -> tuple[str, int]:
    return notice.file, notice.pos


def _definitions(endpoints: Endpoints, topic: str, table: tuple[str, str]) -> Iterator[Definition]:
    """All definitions of a table, oldest first."""
    consumer = log_consumer(endpoints, "ducklake.column-history", fetch_wait_max_ms=20)
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        deadline = time.monotonic() + READ_SECONDS
        while True:
            message = consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return
            if error is not None:
                raise KafkaException(error)
            yield from _of_event(orjson.loads(message.value() or b"{}"), table)
    except KafkaException as failed:
        raise ServiceUnreachable(
            f"The schema changes in topic {topic} cannot be read: {failed.args[0].str()}.",
            "It is retried.",
        ) from None
    finally:
        consumer.close()


def _of_event(event: Mapping[str, Any], table: tuple[str, str]) -> Iterator[Definition]:
    source = event.get("source") or {}
    for change in event.get("tableChanges") or []:
        names = [part.replace('""', '"') for part in _QUOTED.findall(str(change.get("id", "")))]
        described = change.get("table")
        if described and tuple(names) == table:
            columns = frozenset(str(column["name"]).lower() for column in described["columns"])
            yield str(source.get("file") or ""), int(source.get("pos") or 0), columns
