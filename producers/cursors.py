"""The cursors of a source as they are committed in Kafka, for whoever only looks at them."""

from __future__ import annotations

import time
from typing import Any

import orjson
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.logs import log_consumer
from lake.kafka.refusals import unreachable
from lake.records import CURSORS_TOPIC

READ_SECONDS = 10.0


def committed_cursors(endpoints: Endpoints, source: str) -> dict[str, dict[str, Any]]:
    """The cursors of a source by `{table}:{unit}`.

    Raises:
        ServiceUnreachable: The broker does not answer.
    """
    reader = log_consumer(
        endpoints,
        group_id=f"ducklake.look.{source}",
    )
    found: dict[str, dict[str, Any]] = {}
    prefix = f"{source}:"
    try:
        known = reader.list_topics(CURSORS_TOPIC, READ_SECONDS).topics.get(CURSORS_TOPIC)
        if known is None or known.error is not None:
            return {}  # nothing was ever committed
        reader.assign([TopicPartition(CURSORS_TOPIC, 0, 0)])
        deadline = time.monotonic() + READ_SECONDS
        while True:
            message = reader.poll(1.0)
            if message is None and time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"{CURSORS_TOPIC} could not be read within {READ_SECONDS:.0f} s.",
                    "Is Kafka up?",
                )
            if message is None:
                continue
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return found
            if error is not None:
                raise ServiceUnreachable(f"Kafka: {error.str()}.", "Is it up?")
            key = (message.key() or b"").decode()
            if not key.startswith(prefix):
                continue
            if message.value() is None:
                found.pop(key.removeprefix(prefix), None)
            else:
                found[key.removeprefix(prefix)] = orjson.loads(message.value())
    except KafkaException as error:
        raise unreachable(endpoints, error) from None
    finally:
        reader.close()
