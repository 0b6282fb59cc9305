"""What stops a table: records that are gone from Kafka before the lake has read them."""

from __future__ import annotations

from consumers.ingest.planning import Watermarks, lost_offsets
from lake.errors import DataLoss
from lake.kafka.topics import TopicIdentity
from lake.ledger import Ledger, TableState


def opened_table(ledger: Ledger, topic: str, found: TopicIdentity | None) -> TableState:
    """The state of a table whose topic is the one that the ledger knows.

    Args:
        ledger: Registers it at first sight.
        topic: The topic's name.
        found: What Kafka says of it; None: it does not exist.

    Raises:
        DataLoss: The topic was deleted.
        TopicRecreated: It is another one of the same name.
        PartitionsChanged: It has another number of partitions.
    """
    if found is None:
        raise topic_deleted(topic)
    return ledger.tables.open(topic, found.topic_id, found.partitions)


def must_not_be_lost(state: TableState, partition: int, marks: Watermarks) -> None:
    """See that Kafka still has all records from a partition's position on.

    Raises:
        DataLoss: It has not.
    """
    lost = lost_offsets(state.positions.get(partition), marks)
    if lost is not None:
        raise offsets_removed(state.topic, partition, lost)


def topic_deleted(topic: str) -> DataLoss:
    """The topic is not there any more."""
    return DataLoss(
        f"Topic {topic} was deleted.",
        f"Start its producer, which recreates it, then `ducklake accept-loss {topic}`.",
    )


def offsets_removed(topic: str, partition: int, lost: range) -> DataLoss:
    """Retention was faster than the lake."""
    return DataLoss(
        f"Topic {topic}, partition {partition}: offsets {lost.start} to {lost.stop - 1}"
        " were removed by retention before the lake read them.",
        f"`ducklake accept-loss {topic}` continues with what is left; `ducklake verify` names it.",
    )


def position_removed(topic: str, partition: int) -> DataLoss:
    """Kafka has no record at the position from which it was asked to go on."""
    return DataLoss(
        f"Topic {topic}, partition {partition}: the records at the lake's position are gone from"
        " Kafka.",
        f"`ducklake accept-loss {topic}` continues with what is left.",
    )
