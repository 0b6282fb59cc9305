"""One polled table: what is new, and what somebody wants to be read again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from lake.errors import SourceError
from lake.storage.canonical import SourceColumn
from producers.base import Batch, Cursors
from producers.mysql.polling.batches import UNIT, TableBatches, rows_at_once
from producers.mysql.polling.checks import refusal
from producers.mysql.polling.cursor import Again, PollCursor, Window, digest
from producers.mysql.polling.definition import Definition
from producers.mysql.polling.parts import TO_SEND, Part, combined
from producers.mysql.polling.reader import (
    Chunk,
    DefinitionChanged,
    PollReader,
)
from producers.mysql.polling.records import (
    CREATED,
    SNAPSHOT,
    UPDATED,
    emptied_record,
    source_block,
)
from producers.mysql.polling.requests import READ, TRUST, PollRequest

log = structlog.get_logger()
FILLED = "filled"
_TRIES = 10
"""How often a table may be altered while one poll reads it."""


class TablePoller(TableBatches):
    """Polls one table.

    Args and attributes: as of `TableBatches`.
    """

    def batches(self, reader: PollReader, cursors: Cursors) -> Iterator[Batch]:
        """Everything that is new, and all that was asked for.

        Raises:
            SourceError: The table cannot be polled.
            ServiceUnreachable: MySQL does not answer.
        """
        stored = PollCursor.load(cursors.get(f"{self._names.name}:{UNIT}", {}))
        if self.cursor.number != stored.number:
            self.cursor = stored  # what was written last is not what this process knew
        self._rows_at_once = self._rows_at_once or rows_at_once(reader.average_bytes(self._names))
        try:
            yield from self._patiently(reader, None)
        except SourceError as error:
            for request in self._asked(READ):  # nobody waits for a table that has stopped
                self._requests.refuse(request, error)
                self._requests.served(request)
            raise
        for request in self._asked(READ, TRUST):
            if request.kind == TRUST:
                yield from self._trust()
            elif self.cursor.served != request.id:
                yield from self._on_request(reader, request)
            self._requests.served(request)

    def _asked(self, *kinds: str) -> list[PollRequest]:
        return [r for r in self._requests.all(*kinds) if r.table == self._names.name]

    def _on_request(self, reader: PollReader, request: PollRequest) -> Iterator[Batch]:
        try:
            yield from self._patiently(reader, request)
            self.refused = ""
        except SourceError as error:
            # first: whoever waits learns of it even if this process is killed before it goes on
            self._requests.refuse(request, error)
            if not request.where:
                self._requests.served(request)
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
        yield from self._late_rows(reader, definition, order)
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
        fresh: dict[str, Any] = {"at": None, "seen": frozenset(), "marks": (), "parts": ()}
        self.cursor = replace(self.cursor, order=names, read_once=False, **fresh)

    def _has_begun_anew(self, reader: PollReader, definition: Definition) -> bool:
        """Whether an auto-increment key counts from below what was read."""
        read = [mark for _, mark in self.cursor.marks]
        read += [str(self.cursor.at[0])] if self.cursor.at else []
        if not read or not definition.counts(self._options.watermark):
            return False
        following = reader.next_number(self._names)
        if following is None:  # nothing is there, or this server does not tell
            return False
        return following <= max(map(int, read))

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
        kept = ("read_once", "parts")
        if not new and all(getattr(following, n) == getattr(self.cursor, n) for n in kept):
            self.cursor = replace(self.cursor, **changes)
            return
        records = self._records(definition, chunk, encoded, new, (about["op"], following))
        yield Batch(self._names.name, UNIT, following.dump(), records)
        self.cursor = following

    def _late_rows(
        self, reader: PollReader, definition: Definition, order: Sequence[SourceColumn]
    ) -> Iterator[Batch]:
        """Send the parts again that are not what was sent, once no row of them can be late."""
        now = reader.clock()
        while self.cursor.parts and now - self.cursor.parts[0].moment >= self._options.late_seconds:
            part, *others = self.cursor.parts
            if part.rows != TO_SEND and self._was_sent(reader, definition, order, part):
                self.cursor = replace(self.cursor, parts=tuple(others))
                continue
            is_last = False
            while not is_last:
                chunk = reader.chunk(
                    definition, order, part.after, self._rows_at_once, until=part.until
                )
                is_last = chunk.is_last
                if not is_last:
                    part = part.sent_up_to(self._behind(chunk, part.after))
                parts = tuple(others) if is_last else (part, *others)
                following = self.cursor.advanced(chunk.moment, parts=parts)
                encoded, every = [row.encoded() for row in chunk.rows], range(len(chunk.rows))
                records = self._records(definition, chunk, encoded, every, (SNAPSHOT, following))
                yield Batch(self._names.name, UNIT, following.dump(), records)
                self.cursor = following
                self._compare(reader, definition)

    def _was_sent(
        self,
        reader: PollReader,
        definition: Definition,
        order: Sequence[SourceColumn],
        part: Part,
    ) -> bool:
        after, rows, found = part.after, 0, 0
        while rows <= part.rows:
            chunk = reader.chunk(definition, order, after, self._rows_at_once, until=part.until)
            rows += len(chunk.rows)
            found = combined(found, (digest(row.encoded()) for row in chunk.rows))
            if chunk.is_last:
                return rows == part.rows and found == int(part.digest, 16)
            after = self._behind(chunk, after)
        return False

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
            every = range(len(chunk.rows))
            records = self._records(definition, chunk, encoded, every, (SNAPSHOT, following))
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
