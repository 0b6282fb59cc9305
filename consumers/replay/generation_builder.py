"""What Kafka still holds of a table, read again into a new generation during live consumption."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from consumers.ingest.flush import HotRows, write_hot
from consumers.replay.build import Helpers, Plan, build_all
from consumers.replay.context import ReplayScope
from consumers.replay.offset_ranges import OffsetSpan, outside, shares
from consumers.replay.range_reader import KafkaReader
from consumers.replay.segments import Target
from consumers.replay.tables import decoder_of
from lake.config import Config, Endpoints
from lake.errors import Interrupted
from lake.ledger import BuiltFile, Ledger, Segment, TableState
from lake.records import OffsetRange
from lake.storage.schema import Schema
from lake.storage.session import Session

LARGE_SPAN = 100_000

Progress = Callable[[int, int], None]
"""Offsets read so far, and in all."""


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What is open while a generation is built.

    Attributes:
        config: The configuration.
        endpoints: Where Kafka is.
        scope: What is read again.
        ledger: The lake's.
        session: This process's.
        kafka: Reads the topic.
        target: The new generation.
        stop: Set when it must end.
    """

    config: Config
    endpoints: Endpoints
    scope: ReplayScope
    ledger: Ledger
    session: Session
    kafka: KafkaReader
    target: Target
    stop: threading.Event

    @property
    def topic(self) -> str:
        """The table's topic."""
        return self.scope.ref.topic


class GenerationBuilder:
    """Decodes a table's records into files of a new generation.

    Args:
        context: What is open.
        helpers: Other processes that decode.
        least: Records from which on they take part.
        progress: Called now and then.
    """

    def __init__(
        self, context: BuildContext, helpers: Helpers, least: int, progress: Progress
    ) -> None:
        self._context = context
        self._helpers = helpers
        self._least = least
        self._progress = progress
        self._first: dict[int, int] = {}
        self._built: dict[int, int] = {}
        self.schema = Schema()

    def not_read_again(self, offset_range: OffsetRange) -> Sequence[OffsetRange]:
        """What of an old range is reused: all that was not read again."""
        partition = offset_range.partition
        if offset_range.topic_id != self._context.target.topic_id or partition not in self._first:
            return [offset_range]
        first = self._first[partition]
        wanted = self._context.scope.bounds.end.get(partition)
        end = offset_range.next_offset if wanted is None else wanted
        return outside(offset_range, OffsetSpan(partition, first, max(first, end)))

    def read_all(self, state: TableState) -> None:
        """Decode everything up to the table's positions of now.

        Raises:
            ServiceUnreachable: Kafka stopped answering, or a process was killed.
            Interrupted: Told to stop.
        """
        spans = []
        for number, position in sorted(state.positions.items()):
            asked = self._context.scope.bounds.until(number, position)
            first = max(asked.first, self._context.kafka.oldest(self._context.topic, number))
            self._first[number] = first
            spans.append(OffsetSpan(number, first, max(first, asked.end)))
        self._progress(0, sum(map(len, spans)))
        self._decode(state, spans)
        self._note_built(spans)

    def catch_up(self, state: TableState) -> None:
        """Read what the live consumer has committed meanwhile.

        Raises:
            ServiceUnreachable: Kafka stopped answering, or a process was killed.
            Interrupted: Told to stop.
        """
        bounds, behind = self._context.scope.bounds, []
        for number, position in sorted(state.positions.items()):
            if number not in self._built:
                oldest = self._context.kafka.oldest(self._context.topic, number)
                self._first[number] = max(bounds.first.get(number, 0), oldest)
                self._built[number] = self._first[number]
            end = bounds.until(number, position).end
            behind.append(OffsetSpan(number, self._built[number], max(self._built[number], end)))
        if sum(map(len, behind)) > LARGE_SPAN:
            self._decode(state, behind)
        else:
            self._read_small(state, [s for s in behind if len(s)])
        self._note_built(behind)

    def _note_built(self, spans: Iterable[OffsetSpan]) -> None:
        self._built.update((span.partition, span.end) for span in spans)

    def _decode(self, state: TableState, spans: Sequence[OffsetSpan]) -> None:
        """Decode spans into public files, with the help of other processes where it is much."""
        context, total = self._context, sum(map(len, spans))
        helpers = self._helpers if total >= self._least else Helpers(0)
        plan = Plan(
            context.config.path, context.scope.ref, context.target, state.epoch, self.schema
        )
        generations, generation = context.ledger.generations, context.target.generation

        def look() -> None:
            if context.stop.is_set():
                raise Interrupted(
                    f"The rebuild of {context.topic} was stopped.",
                    "Nothing has changed. The same command starts it again.",
                )
            self._progress(generations.built_offsets(context.topic, generation), total)

        pieces = shares(spans, helpers.count + 1, LARGE_SPAN)
        for schema in build_all(pieces, plan, helpers, look):
            # A column to which two decoders gave two types holds both as text.
            self.schema = self.schema.united(schema)

    def _read_small(self, state: TableState, spans: Sequence[OffsetSpan]) -> None:
        """A few records of each partition: a hot file, as a flush writes it."""
        if not spans:
            return
        context = self._context
        scope = context.scope
        with decoder_of(context.config, context.endpoints, scope.ref, scope.table) as decoder:
            for span in spans:
                read = context.kafka.read(context.topic, span.partition, span.first, span.end)
                messages = [message for batch in read for message in batch]
                decoded = decoder.decode(messages, self.schema, state.epoch)
                self.schema = decoded.schema
                rows = 0 if decoded.rows is None else decoded.rows.num_rows
                built = OffsetRange(state.topic_id, span.partition, span.first, span.end - 1, rows)
                files = []
                if decoded.rows is not None:
                    generation = context.target.generation
                    hot = HotRows(
                        scope.ref, generation, decoded.schema, decoded.rows, [built], building=True
                    )
                    file = write_hot(context.ledger, context.session, hot)
                    files.append(BuiltFile("hot", file, (0,)))
                dead_letters = tuple((0, found) for found in decoded.dead_letters)
                self._add(Segment(((built,),), tuple(files), dead_letters))

    def _add(self, segment: Segment) -> None:
        context = self._context
        context.ledger.generations.add_segment(
            context.topic, context.target.generation, context.session.id, segment
        )
