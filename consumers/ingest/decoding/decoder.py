"""Records of one table to rows: the fast way first, the careful one where that does not do.

The decoder alone chooses the schema with which a part of a batch is decoded; both ways take it as
a value and keep nothing between two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from confluent_kafka import Message

from consumers.ingest.decoding.careful import CarefulDecoder
from consumers.ingest.decoding.columns import Changes, KnownColumns
from consumers.ingest.decoding.database import connect
from consumers.ingest.decoding.dead_letters import dead_letter, dropped
from consumers.ingest.decoding.debezium import Debezium
from consumers.ingest.decoding.decoded import Decoded, Decoder
from consumers.ingest.decoding.fast import FastDecoder
from consumers.ingest.decoding.parts import parts_of
from consumers.ingest.decoding.plain import PlainJson
from consumers.ingest.decoding.record_format import RecordFormat
from consumers.ingest.decoding.rejects import RejectsDecoder
from consumers.ingest.decoding.row_sql import with_constants
from consumers.ingest.decoding.versions import VersionedSchema, by_version, places
from consumers.ingest.drift import FREEZE, DriftGate
from consumers.ingest.schema_history import TableHistory, TableVersion
from lake.config import Table, TableRef
from lake.dead_letter_limits import DROP
from lake.records import DeadLetter, Kind
from lake.storage.schema import Schema

Announced = Callable[[str, TableHistory], None]

_FORMATS: Mapping[Kind, RecordFormat] = {known.kind: known for known in (Debezium(), PlainJson())}


def make_decoder(
    ref: TableRef,
    table: Table,
    kind: Kind,
    changes: Changes | None = None,
    gate: DriftGate | None = None,
    announced: Announced = lambda topic, history: None,
) -> Decoder:
    """The decoder of a table.

    Args:
        ref: The table.
        table: Its configuration: declared types.
        kind: What its records are.
        changes: For CDC: the source's own schema changes, with the exact columns.
        gate: For CDC: the table's drift policy.
        announced: For CDC: told what is known of the table's definition, for every batch.

    Raises:
        ConfigError: A declared type is none.
    """
    record_format = _FORMATS.get(kind)
    if record_format is None:
        return RejectsDecoder(ref)
    return TableDecoder(ref, table, record_format, changes, gate, announced)


class TableDecoder:
    """Decodes the records of one table.

    Args:
        ref: The table.
        table: Its configuration: declared types.
        record_format: How its records hold their rows.
        changes: The source's own schema changes; None where it does not announce any.
        gate: Its drift policy; without one, every definition is taken.
        announced: Told what is known of the table's definition, for every batch.
    """

    def __init__(
        self,
        ref: TableRef,
        table: Table,
        record_format: RecordFormat,
        changes: Changes | None = None,
        gate: DriftGate | None = None,
        announced: Announced = lambda topic, history: None,
    ) -> None:
        self.ref = ref
        self._gate = gate
        self._drops = table.dead_letters.policy == DROP
        self._announced = announced
        self._format = record_format
        self._known = KnownColumns(ref, table, changes)
        self._db = connect()
        self._fast = FastDecoder(self._db, record_format, self._known)
        self._careful = CarefulDecoder(self._db, record_format, self._known)

    def decode(self, messages: Sequence[Message], schema: Schema, epoch: int = 0) -> Decoded:
        """Decode a batch; where the table only counts its dead letters, they are dropped.

        Args:
            messages: Records of this table, ordered by partition and offset.
            schema: The table's schema so far.
            epoch: How often the topic had been made anew when these records were produced.
        """
        decoded = self._decode(messages, schema, epoch)
        if self._drops and decoded.dead_letters:
            return replace(decoded, dead_letters=tuple(map(dropped, decoded.dead_letters)))
        return decoded

    def _decode(self, messages: Sequence[Message], schema: Schema, epoch: int) -> Decoded:
        if not messages:
            return Decoded(None, schema, ())
        # Asked after the records were read: what defines them has been announced by now.
        history = self._known.history(self._format.database_of(messages))
        self._announced(self.ref.topic, history)
        unaccepted = self._gate.unaccepted(history) if self._gate is not None else ()
        if not unaccepted:
            return self._decode_all(messages, schema, history, epoch)
        taken, held = self._by_acceptance(messages, history, unaccepted)
        decoded = Decoded(None, schema, ())
        if taken:
            decoded = self._decode_all(taken, schema, history.without(unaccepted), epoch)
        return replace(decoded, dead_letters=in_order((*decoded.dead_letters, *held)))

    def _by_acceptance(
        self,
        messages: Sequence[Message],
        history: TableHistory,
        unaccepted: Sequence[TableVersion],
    ) -> tuple[list[Message], list[DeadLetter]]:
        """The records of accepted definitions, and dead letters of all others.

        Raises:
            SchemaDrift: There is one of another definition, and the table is to stop.
        """
        assert self._gate is not None, "without a gate every definition is accepted"
        beyond = {id(version) for version in unaccepted}
        taken, held = [], []
        for message, (place, moment) in zip(messages, places(self._db, messages), strict=True):
            version = history.at(place, moment)
            if id(version) not in beyond:
                taken.append(message)
            elif self._gate.policy == FREEZE:
                raise self._gate.frozen(version)
            else:
                held.append(dead_letter(self.ref.topic, message, _quarantined(version)))
        return taken, held

    def _decode_all(
        self, messages: Sequence[Message], schema: Schema, history: TableHistory, epoch: int
    ) -> Decoded:
        schema = self._known.complete(schema, history)
        parts = list(parts_of(messages))
        while True:
            before, decoded = schema, []
            for part in parts:
                decoded += self._decode_part(part, schema, history, epoch)
                schema = decoded[-1].schema
            if schema == before or len(decoded) == 1:
                break
            # What was decoded before it grew has fewer columns, or other types: once more.
        return _joined(decoded, schema)

    def _decode_part(
        self, messages: Sequence[Message], schema: Schema, history: TableHistory, epoch: int
    ) -> list[Decoded]:
        """A part of a batch, in groups of records of one version of the table."""
        decoded = []
        for group, inactive in by_version(self._db, messages, schema, history):
            decoded.append(self._decode_group(group, VersionedSchema(schema, inactive), epoch))
            schema = decoded[-1].schema
        return decoded

    def _decode_group(
        self, messages: Sequence[Message], versioned: VersionedSchema, epoch: int
    ) -> Decoded:
        rows = self._fast.decode(messages, versioned)
        if rows is not None:
            return Decoded(self._complete(rows, epoch), versioned.schema, ())
        rows, schema, reasons = self._careful.decode(messages, versioned)
        dead_letters = tuple(
            dead_letter(self.ref.topic, messages[i], reasons[i]) for i in sorted(reasons)
        )
        if not rows.num_rows:
            return Decoded(None, schema, dead_letters)
        return Decoded(self._complete(rows, epoch), schema, dead_letters)

    def _complete(self, rows: pa.Table, epoch: int) -> pa.Table:
        return with_constants(rows, self._format, self.ref.topic, epoch)


def _joined(decoded: Sequence[Decoded], schema: Schema) -> Decoded:
    """Decoded parts as one, ordered by partition and offset."""
    tables = [one.rows for one in decoded if one.rows is not None]
    if len(decoded) == 1:
        return decoded[0]
    dead_letters = in_order(record for one in decoded for record in one.dead_letters)
    if not tables:
        return Decoded(None, schema, dead_letters)
    rows = pa.concat_tables(tables)
    if not _is_ordered(rows):
        rows = rows.sort_by([("_partition", "ascending"), ("_offset", "ascending")])
    return Decoded(rows, schema, dead_letters)


def in_order(dead_letters: Iterable[DeadLetter]) -> tuple[DeadLetter, ...]:
    """Dead letters by partition and offset."""
    return tuple(sorted(dead_letters, key=lambda record: (record.partition, record.offset)))


def _quarantined(version: TableVersion) -> str:
    return (
        f"its table's definition of {version.start.file}:{version.start.position} is not accepted"
        " (drift: quarantine)"
    )


def _is_ordered(rows: pa.Table) -> bool:
    """Whether groups of records came one after the other, as parts of a batch do."""
    partitions, offsets = (rows.column(n).to_numpy() for n in ("_partition", "_offset"))
    ahead = np.diff(partitions.astype(np.int64))
    return bool(((ahead > 0) | ((ahead == 0) & (np.diff(offsets) > 0))).all())
