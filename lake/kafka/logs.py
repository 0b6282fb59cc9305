"""Topics that are read as logs: from their beginning to their end, outside of every live group."""

from __future__ import annotations

from typing import Any

from confluent_kafka import Consumer

from lake.config import Endpoints
from lake.kafka.clients import kafka_client


def log_consumer(endpoints: Endpoints, group_id: str, **options: Any) -> Consumer:
    """A consumer that commits no offsets, reads what was committed, and tells where a log ends.

    Args:
        endpoints: Where Kafka is.
        group_id: Names it in the broker's log; partitions are assigned, never subscribed to.
        options: librdkafka's settings, with underscores; they go before the usual ones.
    """
    usual = {
        "enable_auto_commit": False,
        "enable_partition_eof": True,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
    }
    return kafka_client(Consumer, endpoints, group_id=group_id, **{**usual, **options})
