"""Debezium's envelope: a row before and after its change, and where the binlog has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

import orjson
from confluent_kafka import Message

from consumers.ingest.decoding.record_format import RecordFormat, RowImage
from consumers.ingest.decoding.row_sql import shape
from lake.records import Kind

_ENVELOPE = {
    "op": "VARCHAR",
    "source": {"ts_ms": "BIGINT", "file": "VARCHAR", "pos": "BIGINT", "row": "INTEGER"},
}
_HAS_ROW_AFTER = "coalesce(e.op, '') NOT IN ('d', 't')"


class Debezium(RecordFormat):
    """A change event: the row is in `after`, but that of a deletion in `before`.

    An event that empties the table (`t`) has no row: its columns are NULL.
    """

    kind: ClassVar[Kind] = "cdc"
    images = (
        RowImage("$.after", "e.after", f"(e.after IS NULL AND {_HAS_ROW_AFTER})"),
        RowImage("$.before", "e.before", "e.before IS NULL", operation="d"),
    )
    has_provenance = False
    infers_types = False  # the source announces its types
    json_shape = "VARCHAR"
    tells_zero_dates = True
    envelope = f"from_json(v, {shape(_ENVELOPE)})"
    row = "CASE e.op WHEN 'd' THEN v -> '$.before' WHEN 't' THEN '{}'::JSON ELSE v -> '$.after' END"
    no_row = "the value is not a change event with its row, or the row was too large for Kafka"
    operation = "e.op"
    source_ts = "make_timestamptz(e.source.ts_ms * 1000)"
    position = ("e.source.file", "e.source.pos", "e.source.row")

    def database_of(self, messages: Sequence[Message]) -> str:
        """What the source block of the first record that has one says."""
        for message in messages:
            with suppress(orjson.JSONDecodeError, AttributeError, TypeError):
                database = orjson.loads(message.value() or b"").get("source", {}).get("db")
                if database:
                    return str(database)
        return ""

    def parsed(self, image: RowImage, fields: Mapping[str, str]) -> str:
        """Parse envelope and row in one go."""
        return f"from_json(v, {shape({**_ENVELOPE, image.path.removeprefix('$.'): fields})}) AS e"
