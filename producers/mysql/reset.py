"""A source that begins anew, where the server's log no longer continues what was read.

The connector forgets its offsets and Debezium its history of definitions, and all tables are read
again. The topics go on: rows that come later have greater offsets, whatever the binlog's positions
have become, so that the newest version of each key stays the newest.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException

from lake.errors import ServiceUnreachable, SourceError
from lake.kafka.topics import admin
from producers.mysql.cdc import MysqlCdcConnector

STOP_SECONDS = 60.0
PAUSE_SECONDS = 0.3
_TIMEOUT = 30.0
_HISTORY = "schema.history.internal.kafka.topic"


def reset_source(source: MysqlCdcConnector) -> None:
    """Have the connector begin with a new snapshot of all its tables.

    Safe to repeat: killed at any step, the next call begins again.

    Args:
        source: Its connector.

    Raises:
        SourceError: There is no connector, or it does not stop.
        ServiceUnreachable: Connect or Kafka does not answer.
    """
    settings = source.rest.configuration()
    if settings is None:
        raise SourceError(
            f"Source {source.name} has no connector in Kafka Connect.",
            f"`ducklake produce {source.name}` makes one: the first reads all tables; one that was"
            " removed goes on where it was, and then can begin anew with this command.",
        )
    source.rest.stop()
    _wait_for_stop(source)
    source.rest.delete_offsets()
    _delete_topic(source, settings[_HISTORY])
    source.rest.resume()


def _wait_for_stop(source: MysqlCdcConnector) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        status = source.rest.status()
        state = status.get("connector", {}).get("state")
        if state == "STOPPED" and not status.get("tasks"):
            return
        if time.monotonic() > deadline:
            raise SourceError(
                f"Debezium's connector {source.connector} does not stop.",
                "Restart Kafka Connect, and run this again.",
            )
        time.sleep(PAUSE_SECONDS)


def _delete_topic(source: MysqlCdcConnector, topic: str) -> None:
    """Delete Debezium's history of definitions; the snapshot writes a new one."""
    client = admin(source.endpoints)  # kept until its answer is there
    try:
        for future in client.delete_topics([topic]).values():
            future.result(_TIMEOUT)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise ServiceUnreachable(
                f"Kafka, topic {topic}: {error.args[0].str()}.", "Is it up?"
            ) from None
