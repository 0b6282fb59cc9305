"""What travels: records on their way to Kafka, offset ranges and dead letters on their way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

PROVENANCE_HEADER = "provenance"
REJECTS_TOPIC = "ducklake.rejects"
CURSORS_TOPIC = "ducklake.cursors"


def notices_topic(lake: str, source: str) -> str:
    """The topic of what a source's rows do not tell, compacted by table and kind."""
    return f"ducklake.{lake}.{source}.notices"


def kept_json(value: Any) -> bytes:
    """A value as JSON, for whoever holds on to many of them.

    What orjson hands out occupies 4 KB, however short it is; this is a copy of the right size.

    Raises:
        TypeError: JSON cannot hold it.
    """
    return bytes(memoryview(orjson.dumps(value)))


Kind = Literal["cdc", "plain", "rejects"]
"""Debezium's envelope, one JSON object a record, or what producers rejected."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row on its way from a source to its topic.

    Attributes:
        table: The table's name; the topic is `{source}.{table}`.
        key: Identity of the row: records of one key keep their order.
        value: Column name to JSON-serialisable value.
        provenance: Where the row came from; becomes columns `_{name}` of the raw table.
        encoded: The value as JSON, where whoever made the record has it already.
    """

    table: str
    key: str
    value: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    encoded: bytes | None = field(default=None, repr=False, compare=False)

    def payload(self) -> bytes:
        """The Kafka value: one JSON object."""
        return self.encoded or orjson.dumps(self.value, default=str)

    def headers(self) -> list[tuple[str, bytes]]:
        """The Kafka headers: the provenance as one JSON object."""
        return [(PROVENANCE_HEADER, orjson.dumps(self.provenance, default=str))]


@dataclass(frozen=True, slots=True)
class Reject:
    """Input that could not be parsed; travels to the topic of rejects with its bytes.

    Attributes:
        table: The table for which it was meant.
        payload: The bytes as they came, cut to what a message may hold.
        reason: Why, and where (file and row, or URL); no row contents.
        provenance: As in `Record`.
    """

    table: str
    payload: bytes
    reason: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def headers(self, source: str) -> list[tuple[str, bytes]]:
        """The Kafka headers that a dead letter is made from."""
        about = {**self.provenance, "source_table": f"{source}.{self.table}", "reason": self.reason}
        return [(PROVENANCE_HEADER, orjson.dumps(about, default=str))]


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets `first` to `last` (both included) of one partition, and the rows found in them.

    Contiguity is by position: transaction markers and aborted records have offsets but no rows.
    """

    topic_id: str
    partition: int
    first: int
    last: int
    rows: int

    @property
    def next_offset(self) -> int:
        """The position after this range."""
        return self.last + 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be decoded, whole, with its coordinates and the reason.

    Attributes:
        state: `dead`, or `dropped` where its table only counts them.
    """

    topic: str
    partition: int
    offset: int
    kafka_ts: datetime
    source_table: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: str
    state: str = "dead"


def from_millis(milliseconds: int) -> datetime:
    """A Kafka timestamp as an aware datetime in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
