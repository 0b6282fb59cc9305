"""What producers rejected: every record is a dead letter, and its header says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from confluent_kafka import Message

from consumers.ingest.arrow_batch import provenance_of
from consumers.ingest.decoding.dead_letters import dead_letter, dropped
from consumers.ingest.decoding.decoded import Decoded
from lake.config import Config, TableRef
from lake.dead_letter_limits import DROP
from lake.records import REJECTS_TOPIC, DeadLetter
from lake.storage.schema import Schema


class RejectsDecoder:
    """Makes dead letters of the topic of rejects.

    Args:
        ref: The rejects, as a table.
        dropping: The topics of tables that only count them.
    """

    def __init__(self, ref: TableRef, dropping: frozenset[str] = frozenset()) -> None:
        self.ref = ref
        self._dropping = dropping

    @classmethod
    def of(cls, config: Config) -> RejectsDecoder:
        """The decoder of a configuration."""
        dropping = (r.topic for r, table in config.tables() if table.dead_letters.policy == DROP)
        return cls(TableRef(*REJECTS_TOPIC.split(".")), frozenset(dropping))

    def decode(self, messages: Sequence[Message], schema: Schema, epoch: int = 0) -> Decoded:
        """Make each record a dead letter; there are no rows, and the schema stays as it is."""
        return Decoded(None, schema, tuple(map(self._rejected, messages)))

    def _rejected(self, message: Message) -> DeadLetter:
        about: dict[str, Any] = orjson.loads(provenance_of(message) or "{}")
        reason = str(about.get("reason", "rejected by its producer"))
        source_table = str(about.get("source_table", ""))
        letter = dead_letter(self.ref.topic, message, reason, source_table)
        return dropped(letter) if source_table in self._dropping else letter
