"""How far the live figures are behind their topics, and whether they move."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from lake.config import Endpoints
from lake.kafka.topics import admin

ASK_SECONDS = 5.0
Place = tuple[str, int]


class Progress:
    """Compares the worker's positions with the ends of its topics, which it asks for itself.

    The consumer's own idea of the ends would be as old as its last fetch.

    Args:
        endpoints: Where Kafka is.
        partitions: The number of partitions of each topic.
    """

    def __init__(self, endpoints: Endpoints, partitions: Mapping[str, int]) -> None:
        self._admin = admin(endpoints)
        self._specs = {
            TopicPartition(topic, number): OffsetSpec.latest()
            for topic, count in partitions.items()
            for number in range(count)
        }
        self._goal: dict[Place, int] | None = None
        self._last: object = None
        self.caught_up = False
        """Whether everything has been counted that was there at the start."""

    async def moves(self, consumer: Any, counted: Mapping[Place, int]) -> bool:
        """Whether the worker has moved since the last call, or has nothing to do.

        Args:
            consumer: Faust's.
            counted: The last offset of each partition that is in the figures.
        """
        ends = await asyncio.to_thread(self._ends)
        if ends is None:
            return True  # it is not this worker that stands still
        if self._goal is None:
            self._goal = ends
        try:
            positions = await asyncio.wait_for(_positions(consumer), ASK_SECONDS)
        except TimeoutError:
            return False
        read = {(tp.topic, tp.partition): at for tp, at in consumer._read_offset.items()}
        counts_all = all(counted.get(place, -1) >= at for place, at in read.items() if at)
        if counts_all and _reached(positions, self._goal):
            self.caught_up = True
        now = (positions, dict(counted))
        has_moved, self._last = now != self._last, now
        return has_moved or (counts_all and _reached(positions, ends))

    def _ends(self) -> dict[Place, int] | None:
        try:
            found = self._admin.list_offsets(
                self._specs,
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=ASK_SECONDS,
            )
            return {(at.topic, at.partition): end.result().offset for at, end in found.items()}
        except KafkaException:
            return None


async def _positions(consumer: Any) -> dict[Place, int]:
    return {
        (tp.topic, tp.partition): await consumer.position(tp) or 0 for tp in consumer.assignment()
    }


def _reached(positions: Mapping[Place, int], ends: Mapping[Place, int]) -> bool:
    return all(positions.get(place, 0) >= end for place, end in ends.items())
