"""What producers rejected: every record is a dead letter, and its header says why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from confluent_kafka import Message

from consumers.ingest.arrow_batch import provenance_of
from consumers.ingest.decoding.dead_letters import dead_letter
from consumers.ingest.decoding.decoded import Decoded
from lake.config import TableRef
from lake.records import DeadLetter
from lake.storage.schema import Schema


class RejectsDecoder:
    """Makes dead letters of the topic of rejects.

    Args:
        ref: The rejects, as a table.
    """

    def __init__(self, ref: TableRef) -> None:
        self.ref = ref

    def decode(self, messages: Sequence[Message], schema: Schema, epoch: int = 0) -> Decoded:
        """Make each record a dead letter; there are no rows, and the schema stays as it is."""
        return Decoded(None, schema, tuple(map(self._rejected, messages)))

    def _rejected(self, message: Message) -> DeadLetter:
        about: dict[str, Any] = orjson.loads(provenance_of(message) or "{}")
        reason = str(about.get("reason", "rejected by its producer"))
        source_table = str(about.get("source_table", ""))
        return dead_letter(self.ref.topic, message, reason, source_table)
