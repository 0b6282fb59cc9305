"""Records of one table to rows: the fast way first, the careful one where that does not do.

The decoder alone chooses the schema with which a part of a batch is decoded; both ways take it as
a value and keep nothing between two parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from confluent_kafka import Message

from consumers.ingest.decoding.careful import CarefulDecoder
from consumers.ingest.decoding.columns import Changes, KnownColumns
from consumers.ingest.decoding.database import connect
from consumers.ingest.decoding.dead_letters import dead_letter
from consumers.ingest.decoding.debezium import Debezium
from consumers.ingest.decoding.decoded import Decoded, Decoder
from consumers.ingest.decoding.fast import FastDecoder
from consumers.ingest.decoding.parts import parts_of
from consumers.ingest.decoding.plain import PlainJson
from consumers.ingest.decoding.record_format import RecordFormat
from consumers.ingest.decoding.rejects import RejectsDecoder
from consumers.ingest.decoding.row_sql import with_constants
from lake.config import Table, TableRef
from lake.records import Kind
from lake.storage.schema import Schema

_FORMATS: Mapping[Kind, RecordFormat] = {known.kind: known for known in (Debezium(), PlainJson())}


def make_decoder(
    ref: TableRef, table: Table, kind: Kind, changes: Changes | None = None
) -> Decoder:
    """The decoder of a table.

    Args:
        ref: The table.
        table: Its configuration: declared types.
        kind: What its records are.
        changes: For CDC: the source's own schema changes, with the exact columns.

    Raises:
        ConfigError: A declared type is none.
    """
    record_format = _FORMATS.get(kind)
    if record_format is None:
        return RejectsDecoder(ref)
    return TableDecoder(ref, table, record_format, changes)


class TableDecoder:
    """Decodes the records of one table.

    Args:
        ref: The table.
        table: Its configuration: declared types.
        record_format: How its records hold their rows.
        changes: The source's own schema changes; None where it does not announce any.
    """

    def __init__(
        self,
        ref: TableRef,
        table: Table,
        record_format: RecordFormat,
        changes: Changes | None = None,
    ) -> None:
        self.ref = ref
        self._format = record_format
        self._known = KnownColumns(ref, table, changes)
        db = connect()
        self._fast = FastDecoder(db, record_format, self._known)
        self._careful = CarefulDecoder(db, record_format, self._known)

    def decode(self, messages: Sequence[Message], schema: Schema, epoch: int = 0) -> Decoded:
        """Decode a batch.

        Args:
            messages: Records of this table, ordered by partition and offset.
            schema: The table's schema so far.
            epoch: How often the topic had been made anew when these records were produced.
        """
        if not messages:
            return Decoded(None, schema, ())
        if not schema.columns:
            schema = self._known.initial(schema)
        parts = list(parts_of(messages))
        if len(parts) == 1:
            return self._decode_part(messages, schema, epoch)
        while True:
            before, decoded = schema, []
            for part in parts:
                decoded.append(self._decode_part(part, schema, epoch))
                schema = decoded[-1].schema
            if schema == before:
                break
            # What was decoded before it grew has fewer columns, or other types: once more.
        tables = [one.rows for one in decoded if one.rows is not None]
        dead_letters = tuple(record for one in decoded for record in one.dead_letters)
        return Decoded(pa.concat_tables(tables) if tables else None, schema, dead_letters)

    def _decode_part(self, messages: Sequence[Message], schema: Schema, epoch: int) -> Decoded:
        rows = self._fast.decode(messages, schema)
        if rows is not None:
            return Decoded(self._complete(rows, epoch), schema, ())
        rows, schema, reasons = self._careful.decode(messages, schema)
        dead_letters = tuple(
            dead_letter(self.ref.topic, messages[i], reasons[i]) for i in sorted(reasons)
        )
        if not rows.num_rows:
            return Decoded(None, schema, dead_letters)
        return Decoded(self._complete(rows, epoch), schema, dead_letters)

    def _complete(self, rows: pa.Table, epoch: int) -> pa.Table:
        return with_constants(rows, self._format, self.ref.topic, epoch)
