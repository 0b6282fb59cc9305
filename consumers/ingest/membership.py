"""A worker's place in its consumer groups: through it the worker reads its share of all topics.

Tables and rejects have a group each. Kafka spreads partitions by their number, whatever comes in
them: the one of the rejects, in which next to nothing comes, would count like one of a table, and
of two workers the one would read three partitions of four.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from lake.config import Config, Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.kafka.topics import identify
from lake.records import REJECTS_TOPIC

log = structlog.get_logger()
RETRY_SECONDS = 2.0
REJOINS, REJOIN_WINDOW_SECONDS = 5, 60.0
ANSWER_SECONDS = 120.0
KAFKA_SECONDS = 10.0
LEAVE_SECONDS = 3.0
"""How long leaving waits for what Kafka still has to answer."""

Answer = TypeVar("Answer")
Rebalanced = Callable[[Consumer, list[TopicPartition]], None]
"""Told which partitions come or go; it assigns or unassigns them itself."""


@dataclass(frozen=True, slots=True)
class RebalanceCallbacks:
    """Who is told when partitions move.

    Attributes:
        assigned: Partitions come.
        revoked: Partitions go, and can still be committed.
        lost: Partitions are gone.
    """

    assigned: Rebalanced
    revoked: Rebalanced
    lost: Rebalanced


class Membership:
    """A member of the group of the tables and of that of the rejects.

    Args:
        config: The configuration; its name is part of the groups' names.
        endpoints: Where Kafka is.
        client: Asked for the topics' numbers of partitions.
        topics: All that is read.
        slot: The worker's number, which makes it a static member; None: a passing one.
        callbacks: Told when partitions move.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        client: AdminClient,
        topics: Sequence[str],
        slot: int | None,
        callbacks: RebalanceCallbacks,
    ) -> None:
        self._name = f"ducklake.{config.settings.name}"
        self._endpoints = endpoints
        self._client = client
        self._topics = topics
        self._slot = slot
        self._callbacks = {
            "on_assign": callbacks.assigned,
            "on_revoke": callbacks.revoked,
            "on_lost": callbacks.lost,
        }
        self._rejoined_at: deque[float] = deque(maxlen=REJOINS)
        self._make()

    def _make(self) -> None:
        self._unanswered_commits = 0
        member = {} if self._slot is None else {"group_instance_id": self._static_name(self._slot)}
        self._tables = self._consumer("lake", member)
        self._rejects = self._consumer("rejects", member)

    def _consumer(self, group: str, member: Mapping[str, str]) -> Consumer:
        return kafka_client(
            Consumer,
            self._endpoints,
            group_id=f"{self._name}.{group}",
            enable_auto_commit=False,
            enable_partition_eof=True,
            isolation_level="read_committed",
            auto_offset_reset="error",
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=10_000,
            # With a heartbeat a member hears that partitions move; they do in two rounds.
            heartbeat_interval_ms=1_000,
            queued_max_messages_kbytes=16_384,
            # The default of a second would let the queue run dry while we write.
            fetch_queue_backoff_ms=10,
            on_commit=self._committed,
            **member,
        )

    def _static_name(self, slot: int) -> str:
        """The name under which a successor takes over this worker's partitions at once.

        The partitions are part of it: a returning member gets its old assignment, in which a table
        or a partition that was added since would be missing.
        """
        found = retry_until_available(lambda: identify(self._client, self._topics)).values()
        topics = zlib.crc32(" ".join(sorted(f"{t.name}/{t.partitions}" for t in found)).encode())
        return f"{self._name}.{slot}.{topics:08x}"

    def join(self) -> None:
        """Subscribe; partitions are assigned in one of the next calls of `consume`."""
        self._tables.subscribe([t for t in self._topics if t != REJECTS_TOPIC], **self._callbacks)
        self._rejects.subscribe([REJECTS_TOPIC], **self._callbacks)

    def rejoin(self, reason: str, stop: threading.Event) -> None:
        """Leave and join as a new member: after a fatal error the client does not recover.

        Another member has this one's name, or a broker that was away takes it for another one.

        Raises:
            ServiceUnreachable: It happened too often within a minute.
        """
        now = time.monotonic()
        if len(self._rejoined_at) == REJOINS and now - self._rejoined_at[0] < REJOIN_WINDOW_SECONDS:
            raise ServiceUnreachable(
                f"Kafka has removed this worker from its group {REJOINS} times within"
                f" {REJOIN_WINDOW_SECONDS:.0f} s: {reason}.",
                "If another worker runs under the same name, stop it; then start this one again.",
            )
        self._rejoined_at.append(now)
        log.warning(
            "rejoining_group", message="The worker rejoins its consumer group.", reason=reason
        )
        self.begin_anew(lambda: stop.wait(RETRY_SECONDS))

    def begin_anew(self, pause: Callable[[], object] = lambda: None) -> None:
        """Leave the groups and join them again: all partitions are assigned anew."""
        self.close()
        pause()
        self._make()
        self.join()

    def consume(self, most: int, seconds: float) -> Sequence[Message]:
        """What has come: records, errors and ends of partitions.

        Args:
            most: At most so many of each group.
            seconds: How long to wait for the first one.
        """
        rejected: list[Message] = self._rejects.consume(most, 0)
        read: list[Message] = self._tables.consume(most, 0 if rejected else seconds)
        return [*rejected, *read] if rejected else read

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """The oldest offset of a partition, and the next one to be written.

        Raises:
            KafkaException: The broker does not answer.
        """
        wanted = TopicPartition(topic, partition)
        low, high = self._tables.get_watermark_offsets(wanted, KAFKA_SECONDS)
        return int(low), int(high)

    def seek(self, topic: str, position: Callable[[int], int | None]) -> None:
        """Go on elsewhere in those partitions of a topic that are this worker's.

        Args:
            topic: The topic.
            position: The next offset of a partition; None where it stays as it is.
        """
        consumer = self._of(topic)
        for assigned in consumer.assignment():
            if assigned.topic == topic and (offset := position(assigned.partition)) is not None:
                consumer.seek(TopicPartition(topic, assigned.partition, offset))

    def commit_advisory(self, topic: str, positions: Mapping[int, int]) -> None:
        """Commit offsets to Kafka: for tools that show lag, nothing here reads them."""
        offsets = [TopicPartition(topic, number, offset) for number, offset in positions.items()]
        try:
            self._of(topic).commit(offsets=offsets, asynchronous=True)
            self._unanswered_commits += 1
        except KafkaException:
            log.debug(
                "advisory_offsets_not_committed",
                message="Kafka rejected the advisory offsets.",
                table=topic,
            )

    def _committed(self, *_: object) -> None:
        self._unanswered_commits -= 1

    def close(self) -> None:
        """Leave the groups; a static member's partitions wait for its successor.

        librdkafka may abort the process when it is closed while it commits or while partitions
        move (librdkafka 4792): what it still does is waited for, and a passing member gives its
        partitions back first. A static one that did so would leave its group.
        """
        consumers = (self._tables, self._rejects)
        if self._slot is None:
            for consumer in consumers:
                with suppress(KafkaException):  # after a fatal error
                    consumer.unsubscribe()
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._is_busy(consumers) and time.monotonic() < deadline:
            for consumer in consumers:
                consumer.poll(0.01)
        for consumer in consumers:
            consumer.close()

    def _is_busy(self, consumers: Sequence[Consumer]) -> bool:
        moves = self._slot is None and any(consumer.assignment() for consumer in consumers)
        return self._unanswered_commits > 0 or moves

    def _of(self, topic: str) -> Consumer:
        return self._rejects if topic == REJECTS_TOPIC else self._tables


def retry_until_available(ask: Callable[[], Answer]) -> Answer:
    """Ask Kafka until it answers: nothing may be read before it is known from where.

    Raises:
        ServiceUnreachable: It did not, for long; the successor of this process asks again.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            return ask()
        except (KafkaException, ServiceUnreachable) as error:
            if time.monotonic() > deadline:
                raise ServiceUnreachable(f"Kafka: {error}.", "Is it up?") from None
            log.warning(
                "assignment_waiting_for_kafka",
                message="An assignment waits for Kafka.",
                reason=str(error),
            )
            time.sleep(RETRY_SECONDS)
