"""Partitions come and go: where reading begins, and whether anything was lost before that."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.ingest.assigned_tables import AssignedTables
from consumers.ingest.losses import must_not_be_lost, opened_table
from consumers.ingest.membership import KAFKA_SECONDS, retry_until_available
from consumers.ingest.planning import Watermarks
from lake.errors import ServiceUnreachable, TerminalError
from lake.kafka.topics import TopicIdentity, identify
from lake.ledger import Ledger
from lake.recovery import recover

log = structlog.get_logger()


class Assignment:
    """Told by Kafka's client which partitions are this worker's.

    Args:
        ledger: Says where each partition stands.
        client: Asked for the topics' identities.
        tables: What this worker reads.
        flush: Commits what is held of a table.
        beat: Told what is done next.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: AdminClient,
        tables: AssignedTables,
        flush: Callable[[str], None],
        beat: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._tables = tables
        self._flush = flush
        self._beat = beat

    def assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin to read partitions at the ledger's positions; a table with a loss is halted."""
        recover(self._ledger)
        identities = retry_until_available(
            lambda: identify(self._client, {p.topic for p in partitions})
        )
        assigned, halted = [], []
        for wanted in partitions:
            self._beat("taking over partitions")
            ask = partial(consumer.get_watermark_offsets, wanted, KAFKA_SECONDS)
            marks = Watermarks(*retry_until_available(ask))
            try:
                offset = self._first_offset(wanted, identities.get(wanted.topic), marks)
            except TerminalError as error:
                self._tables.halt(wanted.topic, error)
                offset = marks.high
                halted.append(TopicPartition(wanted.topic, wanted.partition))
            assigned.append(TopicPartition(wanted.topic, wanted.partition, offset))
        consumer.incremental_assign(assigned)
        if halted:
            consumer.pause(halted)

    def _first_offset(
        self, wanted: TopicPartition, found: TopicIdentity | None, marks: Watermarks
    ) -> int | None:
        """Where a partition is read from.

        Raises:
            TerminalError: Its records are gone, or its topic is another one.
        """
        topic, number = wanted.topic, wanted.partition
        state = opened_table(self._ledger, topic, found)
        must_not_be_lost(state, number, marks)
        # The partition may come back from another worker: its position is the ledger's.
        self._flush(topic)
        buffer = self._tables.reload(topic)
        buffer.start_at(number, marks.low)
        return buffer.position(number)

    def revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Commit what is held of partitions that another worker gets."""
        for topic in sorted({p.topic for p in partitions}):
            self._flush(topic)
        consumer.incremental_unassign(partitions)

    def lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop what is held of partitions that another worker has already."""
        self._tables.drop({p.topic for p in partitions})
        consumer.incremental_unassign(partitions)

    def is_same_topic(self, topic: str) -> bool:
        """Whether what was read comes from the topic that the ledger knows; else it is halted.

        Asked after reading and before each commit: a topic that was deleted and made again counts
        its offsets anew, and Kafka goes on delivering as if nothing had happened. False, too, where
        Kafka does not say.
        """
        try:
            found = identify(self._client, [topic], KAFKA_SECONDS).get(topic)
            opened_table(self._ledger, topic, found)
        except ServiceUnreachable as error:
            log_waiting(topic, error)
            return False
        except TerminalError as error:
            self._tables.halt(topic, error)
            return False
        return True


def log_waiting(topic: str, error: ServiceUnreachable) -> None:
    """Say that what is held of a table waits for Kafka."""
    log.warning(
        "commit_waiting_for_kafka",
        message="A commit waits for Kafka.",
        table=topic,
        reason=str(error),
    )
