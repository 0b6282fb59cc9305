"""A topic as a list, and what reads it as if it were Kafka."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from consumers.ingest.decoding import Decoded
from lake.config import TableRef
from lake.storage.schema import Column, Schema

PARTITIONS = 2
REF = TableRef("shop", "orders")
BATCH = 3
TYPES = pa.schema(
    [
        ("id", pa.int64()),
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("_op", pa.string()),
        ("_source_ts", pa.timestamp("us", "UTC")),
        ("_kafka_ts", pa.timestamp("us", "UTC")),
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_topic_epoch", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Produced:
    """A record; `extra` names the column that only it and its like have."""

    epoch: int
    partition: int
    place: int
    number: int
    moment: int
    extra: str | None

    def offset(self) -> int:
        """Where it is, as a message of Kafka says it."""
        return self.place


@dataclass
class Topic:
    """A topic as a list."""

    epoch: int = 0
    ends: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    lows: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    records: list[Produced] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.epoch + 1:032x}"

    def held(self, partition: int, first: int) -> Iterator[Produced]:
        """What is still there from an offset on, in order."""
        first = max(first, self.lows[partition])
        return (
            r
            for r in self.records
            if (r.epoch, r.partition) == (self.epoch, partition) and r.place >= first
        )


class ListReader:
    """What `KafkaReader` is to a replay."""

    def __init__(self, topic: Callable[[], Topic]) -> None:
        self._topic = topic

    def __enter__(self) -> ListReader:
        return self

    def __exit__(self, *_: object) -> None: ...

    def oldest(self, name: str, partition: int) -> int:
        return self._topic().lows[partition]

    def read(self, name: str, partition: int, first: int, end: int) -> Iterator[list[Produced]]:
        found = [r for r in self._topic().held(partition, first) if r.place < end]
        for at in range(0, len(found), BATCH):
            yield found[at : at + BATCH]


class ListDecoder:
    """What a `Decoder` is to a replay."""

    def decode(self, records: Sequence[Produced], schema: Schema, epoch: int) -> Decoded:
        schema = schema_of(records, schema)
        return Decoded(rows_of(records, schema) if records else None, schema, ())


@contextmanager
def list_decoder(*_: object) -> Iterator[ListDecoder]:
    """In the place of `decoder_of`."""
    yield ListDecoder()


def schema_of(records: Sequence[Produced], schema: Schema) -> Schema:
    """A schema that has grown by the columns of some records."""
    wanted = {r.extra for r in records if r.extra} | ({"id"} if records else set())
    new = sorted(wanted - schema.fields())
    return schema.merged(Column(n, "BIGINT", n) for n in new)


def rows_of(records: Sequence[Produced], schema: Schema) -> pa.Table:
    """Records as a table with the columns of a schema."""
    own = {c.name for c in schema.columns}
    listed = [
        {
            "id": r.number,
            "a": r.number if r.extra == "a" else None,
            "b": r.number if r.extra == "b" else None,
            "_op": "r",
            "_source_ts": None,
            "_kafka_ts": r.moment * 1000,
            "_topic": REF.topic,
            "_partition": r.partition,
            "_offset": r.place,
            "_topic_epoch": r.epoch,
        }
        for r in records
    ]
    kept = [f for f in TYPES if f.name in own or f.name.startswith("_")]
    return pa.Table.from_pylist(listed, schema=TYPES).select([f.name for f in kept])
