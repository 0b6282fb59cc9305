"""For how long the oldest record that nobody has read has waited, by when each offset was seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ducklake.supervision.kafka_ends import STALLED_SECONDS, TopicEnds

SAMPLES = 720
"""An hour of one every five seconds."""


class LagClock:
    """Remembers when a partition's end was first seen beyond an offset.

    Kafka tells the time of a record only to who reads it. Who has looked at the ends now and then
    knows it within the pause between two looks.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], deque[tuple[int, float]]] = {}

    def add(self, ends: Mapping[str, TopicEnds], at: float) -> None:
        """Take note of where the topics end at a moment, in seconds of the epoch."""
        for topic, found in ends.items():
            for partition, end in found.now.items():
                samples = self._seen.setdefault((topic, partition), deque(maxlen=SAMPLES))
                if not samples or samples[-1][0] != end:
                    samples.append((end, at))

    def seconds(
        self, topic: str, ends: TopicEnds, positions: Mapping[int, int], now: float
    ) -> float:
        """For how long the oldest unread record of a topic has waited; 0 where none is unread.

        Args:
            topic: The topic.
            ends: Where its partitions end.
            positions: Partition to the next offset to read.
            now: Seconds of the epoch.
        """
        waited = STALLED_SECONDS if ends.waits_for_long(positions) else 0.0
        for partition, end in ends.now.items():
            position = positions.get(partition, 0)
            if end <= position:
                continue
            beyond = [at for seen, at in self._seen.get((topic, partition), ()) if seen > position]
            waited = max(waited, now - min(beyond, default=now))
        return waited
