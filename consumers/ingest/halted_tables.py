"""Halted tables: looked at now and then, whether somebody has accepted their loss meanwhile."""

from __future__ import annotations

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from consumers.ingest.assigned_tables import AssignedTables
from consumers.ingest.drift import AcceptedDrift
from consumers.ingest.losses import must_not_be_lost, opened_table
from consumers.ingest.membership import KAFKA_SECONDS, Membership
from consumers.ingest.planning import Watermarks
from lake.errors import DeadLetterLimit, SchemaDrift, ServiceUnreachable, TerminalError
from lake.kafka.topics import identify
from lake.ledger import Ledger

LOOK_SECONDS = 5.0


class HaltedTables:
    """Asks Kafka and the ledger whether a halted table can go on.

    Args:
        ledger: Says where each partition stands.
        client: Asked for the topics' identities.
        member: Asked for the ends of partitions.
        tables: Says which ones are halted.
    """

    def __init__(
        self, ledger: Ledger, client: AdminClient, member: Membership, tables: AssignedTables
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._member = member
        self._tables = tables
        self._next_look = 0.0

    def accepted(self) -> list[str]:
        """The halted tables that can go on; call it often, it looks rarely.

        Nothing of them is lost any more, or their definition is accepted.
        """
        now = time.monotonic()
        if not self._tables.halted or now < self._next_look:
            return []
        self._next_look = now + LOOK_SECONDS
        return [topic for topic in list(self._tables.halted) if self._is_accepted(topic)]

    def _is_accepted(self, topic: str) -> bool:
        halted = self._tables.halted[topic]
        if isinstance(halted, DeadLetterLimit):
            return halted.has_ended()
        if isinstance(halted, SchemaDrift):
            return AcceptedDrift(self._ledger.paths).of(topic) != halted.accepted
        try:
            found = identify(self._client, [topic], KAFKA_SECONDS).get(topic)
            state = opened_table(self._ledger, topic, found)
            for number in range(state.partitions):
                marks = Watermarks(*self._member.watermarks(topic, number))
                must_not_be_lost(state, number, marks)
        except TerminalError as error:
            self._tables.note_reason(topic, error)
            return False
        except (KafkaException, ServiceUnreachable):
            return False
        return True
