"""Where the topics end now, and where they ended a minute ago: asked once, for a few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from lake.config import Config
from lake.errors import DuckLakeError
from lake.kafka.topics import admin, identify

STALLED_SECONDS = 60.0
"""What has waited for longer is stalled."""
ASK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class TopicEnds:
    """The ends of a topic's partitions.

    Attributes:
        now: The offset after the last record that can be read.
        before: The end of what was produced more than `STALLED_SECONDS` ago.
    """

    now: Mapping[int, int]
    before: Mapping[int, int]

    def beyond(self, positions: Mapping[int, int]) -> bool:
        """Whether there is something behind some positions."""
        return _is_beyond(self.now, positions)

    def waits_for_long(self, positions: Mapping[int, int]) -> bool:
        """Whether something behind them was produced long ago."""
        return _is_beyond(self.before, positions)


def topic_ends(config: Config) -> dict[str, TopicEnds] | None:
    """The ends of all tables' topics by name; None: Kafka does not answer."""
    topics = [ref.topic for ref, _ in config.tables()]
    try:
        client = admin(config.endpoints())
        known = identify(client, topics, ASK_SECONDS)
        places = [
            TopicPartition(name, number)
            for name, topic in known.items()
            for number in range(topic.partitions)
        ]
        if not places:
            return {}
        moment = round((time.time() - STALLED_SECONDS) * 1000)
        now, at = (
            {
                (place.topic, place.partition): future.result().offset
                for place, future in client.list_offsets(
                    dict.fromkeys(places, spec),
                    isolation_level=IsolationLevel.READ_COMMITTED,
                    request_timeout=ASK_SECONDS,
                ).items()
            }
            for spec in (OffsetSpec.latest(), OffsetSpec.for_timestamp(moment))
        )
    except (DuckLakeError, KafkaException):
        return None
    found = {}
    for name, topic in known.items():
        ends = {number: now[name, number] for number in range(topic.partitions)}
        # No record is newer than that moment: all of them are older.
        before = {p: end if at[name, p] < 0 else at[name, p] for p, end in ends.items()}
        found[name] = TopicEnds(ends, before)
    return found


def _is_beyond(ends: Mapping[int, int], positions: Mapping[int, int]) -> bool:
    return any(end > positions.get(partition, 0) for partition, end in ends.items())
