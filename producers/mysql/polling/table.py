"""One polled table: what is new, and what somebody wants to be read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from lake.errors import SourceError
from lake.storage.canonical import SourceColumn
from producers.base import Batch, Cursors
from producers.mysql.polling.checks import refusal
from producers.mysql.polling.cursor import FIRST_UNSETTLED, Again, PollCursor, Window
from producers.mysql.polling.definition import Definition
from producers.mysql.polling.options import PollOptions
from producers.mysql.polling.reader import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    Chunk,
    DefinitionChanged,
    PollReader,
)
from producers.mysql.polling.records import (
    CREATED,
    SNAPSHOT,
    UPDATED,
    emptied_record,
    row_record,
    source_block,
)
from producers.mysql.polling.requests import READ, TRUST, PollRequest, PollRequests
from producers.mysql.tables import MysqlTable

log = structlog.get_logger()
UNIT = "rows"
FILLED, CONDITION = "filled", "condition"
_TRIES = 10
"""How often a table may be altered while one poll reads it."""


class TablePoller:
    """Polls one table.

    Args:
        source: The source.
        names: The table's names.
        options: How it is polled.
        requests: What others ask for.

    Attributes:
        cursor: As of the last batch that is in Kafka; newer where nothing had to be written.
        definition: As it was read last.
        refused: The request that MySQL refused, and why.
    """

    def __init__(
        self, source: str, names: MysqlTable, options: PollOptions, requests: PollRequests
    ) -> None:
        self.cursor = PollCursor()
        self.definition: Definition | None = None
        self.refused = ""
        self._source = source
        self._names = names
        self._options = options
        self._requests = requests
        self._rows_at_once = 0

    def batches(self, reader: PollReader, cursors: Cursors) -> Iterator[Batch]:
        """Everything that is new, and all that was asked for.

        Raises:
            SourceError: The table cannot be polled.
            ServiceUnreachable: MySQL does not answer.
        """
        stored = PollCursor.load(cursors.get(f"{self._names.name}:{UNIT}", {}))
        if self.cursor.number != stored.number:
            self.cursor = stored  # what was written last is not what this process knew
        self._rows_at_once = self._rows_at_once or _rows(reader.average_bytes(self._names))
        yield from self._patiently(reader, None)
        for request in self._requests.all(READ, TRUST):
            if request.table != self._names.name:
                continue
            if request.kind == TRUST:
                yield from self._trust()
            elif self.cursor.served != request.id:
                yield from self._on_request(reader, request)
            self._requests.served(request)

    def _on_request(self, reader: PollReader, request: PollRequest) -> Iterator[Batch]:
        try:
            yield from self._patiently(reader, request)
            self.refused = ""
        except SourceError as error:
            if not request.where:
                raise
            self.refused = error.what  # the condition is at fault, and not the table
            log.warning(
                "poll_request_refused",
                message="Rows could not be read again as requested.",
                table=f"{self._source}.{self._names.name}",
                reason=error.what,
            )
            yield from self._step({"again": None, "served": request.id}, self.cursor.moment)

    def _patiently(self, reader: PollReader, request: PollRequest | None) -> Iterator[Batch]:
        """Begin again where the table is altered meanwhile."""
        for _ in range(_TRIES):
            definition = self.definition = reader.definition(self._names)
            said = refusal(definition, self._options.watermark)
            if said is not None:
                raise SourceError(said.what, said.remedy)
            yield from self._announced(reader, definition)
            try:
                if request is None:
                    yield from self._new_rows(reader, definition)
                else:
                    yield from self._again(reader, definition, request)
                return
            except DefinitionChanged:
                continue
        raise DefinitionChanged(
            f"{self._names.sql} was altered {_TRIES} times while it was read.", "It is read again."
        )

    def _announced(self, reader: PollReader, definition: Definition) -> Iterator[Batch]:
        """The table's definition, in a transaction that ends before its first row is sent."""
        if self.cursor.definition == definition.digest:
            return
        known, columns = self.cursor.columns, [c.name for c in definition.table.columns]
        changes: dict[str, Any] = {"definition": definition.digest, "columns": tuple(columns)}
        if known and definition.filled(known):
            changes["doubt"] = self.cursor.doubt or FILLED
        moment = int(reader.clock() * 1000)
        following = self.cursor.advanced(moment, **changes)
        about = source_block(self._source, self._names, following.number, following.moment)
        event = definition.schema_change(about, following.moment)
        yield Batch(self._names.name, UNIT, following.dump(), definitions=[event])
        self.cursor = following

    # What is new ---------------------------------------------------------------------------

    def _new_rows(self, reader: PollReader, definition: Definition) -> Iterator[Batch]:
        watermark = definition.column(self._options.watermark)
        assert watermark is not None, "checked"
        order = [watermark, *(c for c in definition.table.key if c.name != watermark.name)]
        self._begin(reader, definition, order)
        window = Window(self.cursor, watermark, self._options.late_seconds, reader.clock())
        usual = CREATED if definition.only_adds(watermark.name) else UPDATED
        op = usual if self.cursor.read_once else SNAPSHOT
        after = self.cursor.at
        while True:
            chunk = reader.chunk(definition, order, after, self._rows_at_once)
            encoded = [row.encoded() for row in chunk.rows]
            new = window.take(chunk, encoded)
            changes = window.unfinished()
            if chunk.is_last:
                changes = window.finished(chunk.moment / 1000)
            yield from self._sent(definition, chunk, encoded, new, {"op": op, "changes": changes})
            if chunk.is_last:
                return
            after = self._behind(chunk, after)
            self._adapt(encoded)
            self._compare(reader, definition)

    def _begin(
        self, reader: PollReader, definition: Definition, order: Sequence[SourceColumn]
    ) -> None:
        """Read from the beginning where that never was, or where the table began anew."""
        names = tuple(column.name for column in order)
        is_new = self.cursor.order != names
        if not is_new and not self._has_begun_anew(reader, definition):
            return
        if not is_new:
            log.warning(
                "polled_table_emptied",
                message="A polled table was emptied or replaced, and is read again as a whole.",
                table=f"{self._source}.{self._names.name}",
            )
            self._requests.add(READ, self._names.name)
        newest = reader.newest(definition, order, FIRST_UNSETTLED)
        marks = ((0.0, newest[0]),) if newest and newest[0] is not None else ()
        self.cursor = replace(
            self.cursor, order=names, at=None, seen=frozenset(), marks=marks, read_once=False
        )

    def _has_begun_anew(self, reader: PollReader, definition: Definition) -> bool:
        """Whether an auto-increment key counts from below what was read."""
        if not self.cursor.marks or not definition.counts(self._options.watermark):
            return False
        following = reader.next_number(self._names)
        if following is None:  # nothing is there, or this server does not tell
            return False
        return following <= max(int(mark) for _, mark in self.cursor.marks)

    def _sent(
        self,
        definition: Definition,
        chunk: Chunk,
        encoded: Sequence[bytes],
        new: Sequence[int],
        about: Mapping[str, Any],
    ) -> Iterator[Batch]:
        """The batch of a chunk; none where only what need not be kept has changed."""
        changes: dict[str, Any] = about["changes"]
        following = self.cursor.advanced(chunk.moment, **changes)
        kept = ("doubt", "read_once")
        if not new and all(getattr(following, n) == getattr(self.cursor, n) for n in kept):
            self.cursor = replace(self.cursor, **changes)
            return
        records = [
            row_record(
                definition, chunk.rows[n].value, encoded[n], self._about(following, about["op"], i)
            )
            for i, n in enumerate(new)
        ]
        yield Batch(self._names.name, UNIT, following.dump(), records)
        self.cursor = following

    # On request ----------------------------------------------------------------------------

    def _again(
        self, reader: PollReader, definition: Definition, request: PollRequest
    ) -> Iterator[Batch]:
        """Rows that somebody wants, by key; after a whole table, what was not read is gone."""
        again = self.cursor.again
        if again is None or again.id != request.id:
            again = Again(request.id, self.cursor.number + 1)
            yield from self._step({"again": again}, int(reader.clock() * 1000))
        key = definition.table.key
        while True:
            chunk = reader.chunk(definition, key, again.after, self._rows_at_once, request.where)
            encoded = [row.encoded() for row in chunk.rows]
            after = chunk.rows[-1].place if chunk.rows else again.after
            again = replace(again, after=after, rows=again.rows + len(chunk.rows))
            changes: dict[str, Any] = {"again": again}
            if chunk.is_last:
                changes = {"again": None, "served": request.id}
                changes |= {} if request.where else {"doubt": ""}
            following = self.cursor.advanced(chunk.moment, **changes)
            records = [
                row_record(definition, row.value, text, self._about(following, SNAPSHOT, i))
                for i, (row, text) in enumerate(zip(chunk.rows, encoded, strict=True))
            ]
            if chunk.is_last and not request.where:
                records.append(emptied_record(self._source, self._names, again.begun))
            yield Batch(self._names.name, UNIT, following.dump(), records)
            self.cursor = following
            if chunk.is_last:
                return
            self._adapt(encoded)
            self._compare(reader, definition)

    def _trust(self) -> Iterator[Batch]:
        """Somebody has found that the lake has what MySQL has."""
        if self.cursor.doubt:
            yield from self._step({"doubt": ""}, self.cursor.moment)

    # Steps ---------------------------------------------------------------------------------

    def _step(self, changes: Mapping[str, Any], moment: int) -> Iterator[Batch]:
        following = self.cursor.advanced(moment, **changes)
        yield Batch(self._names.name, UNIT, following.dump())
        self.cursor = following

    def _about(self, cursor: PollCursor, op: str, row: int) -> dict[str, Any]:
        block = source_block(self._source, self._names, cursor.number, cursor.moment, row)
        return {"op": op, "source": block}

    def _behind(
        self, chunk: Chunk, before: tuple[str | None, ...] | None
    ) -> tuple[str | None, ...] | None:
        after = chunk.rows[-1].place
        if after == before:
            raise SourceError(
                f"Table {self._names.sql}: the rows behind a value of {self._options.watermark}"
                " cannot be told from those before.",
                "A watermark or key with partial zero dates cannot be polled; correct these rows.",
            )
        return after

    def _adapt(self, encoded: Sequence[bytes]) -> None:
        self._rows_at_once = _rows(sum(map(len, encoded)) // max(1, len(encoded)))

    def _compare(self, reader: PollReader, definition: Definition) -> None:
        """A column that was added at once is not noticed by a SELECT that names all columns."""
        if reader.definition(self._names).digest != definition.digest:
            raise DefinitionChanged(f"{self._names.sql} was altered.", "It is read again.")


def _rows(row_bytes: int) -> int:
    """How many rows of a length are read at once."""
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, row_bytes)))
