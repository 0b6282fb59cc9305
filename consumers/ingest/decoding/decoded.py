"""What decoding a batch comes to, and what decodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from confluent_kafka import Message

from lake.config import TableRef
from lake.records import DeadLetter
from lake.storage.schema import Schema


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded batch.

    Attributes:
        rows: Source columns, then system columns, ordered by partition and offset; None: no row.
        schema: The schema that the rows have: the old one, or one that has grown.
        dead_letters: What could not be decoded.
    """

    rows: pa.Table | None
    schema: Schema
    dead_letters: tuple[DeadLetter, ...]


class Decoder(Protocol):
    """Decodes the records of one table."""

    ref: TableRef

    def decode(self, messages: Sequence[Message], schema: Schema, epoch: int = 0) -> Decoded:
        """Decode a batch.

        Args:
            messages: Records of this table, ordered by partition and offset.
            schema: The table's schema so far.
            epoch: How often the topic had been made anew when these records were produced.
        """
