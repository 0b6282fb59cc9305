"""What is in Kafka at one moment: where a run that ends by itself ends."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from consumers.ingest.membership import Membership
from consumers.ingest.planning import all_read
from lake.errors import ServiceUnreachable
from lake.kafka.topics import identify
from lake.ledger import Ledger

Goals = Mapping[str, Mapping[int, int]]
"""Topic and partition to the offset before which a run ends."""


def ends_now(client: AdminClient, member: Membership, topics: Iterable[str]) -> Goals:
    """The ends of all partitions.

    Raises:
        ServiceUnreachable: Kafka does not answer.
    """
    try:
        return {
            name: {number: member.watermarks(name, number)[1] for number in range(topic.partitions)}
            for name, topic in identify(client, topics).items()
        }
    except KafkaException as error:
        raise ServiceUnreachable(f"Kafka: {error.args[0].str()}.", "Is it up?") from None


def are_reached(goals: Goals, ledger: Ledger, without: Container[str]) -> bool:
    """Whether the lake, with the help of other workers, holds everything up to the goals.

    Args:
        goals: From `ends_now`.
        ledger: Says where each table stands.
        without: Topics that are not waited for.
    """
    for topic, ends in goals.items():
        if topic in without:
            continue
        state = ledger.tables.get(topic)
        wanted = {partition: end for partition, end in ends.items() if end > 0}
        if not all_read(state.positions if state else {}, wanted):
            return False
    return True
