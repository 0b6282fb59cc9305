"""A table built anew from its topic, beside the live consumer, and switched to at equal positions.

What Kafka still holds of the wanted stretch is decoded again, by several processes; all else is
carried over. Nobody reads the new generation before the switch, which is one transaction of the
ledger. A rebuild that was killed has changed nothing: what it left is dropped by the next one.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from consumers.ingest.flush import write_hot
from consumers.replay.build import Helpers, Plan, build_all
from consumers.replay.offset_ranges import Bounds, Stretch, outside, shares
from consumers.replay.range_reader import KafkaReader
from consumers.replay.reuse import Carrier
from consumers.replay.segments import Target
from consumers.replay.tables import decoder_of, known_table
from lake.config import Config, Endpoints, Table, TableRef
from lake.errors import (
    CommitConflict,
    Interrupted,
    LedgerError,
    TerminalError,
)
from lake.failpoints import failpoint
from lake.ledger import BuiltFile, Ledger, Segment, TableState
from lake.ledger.generations import HOLD_SECONDS
from lake.opening import open_lake
from lake.records import OffsetRange
from lake.recovery import delete_replaced, drop_abandoned
from lake.storage.files import Session
from lake.storage.schema import Schema

LARGE_STRETCH = 100_000
SWITCH_SECONDS = 120.0
RETRY_SECONDS = 0.1
LAST_BREATH_SECONDS = 2.0

Progress = Callable[[int, int], None]
"""Offsets read so far, and in all."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild came to.

    Attributes:
        generation: The one that is current now.
        read_again: Rows decoded again.
        carried: Rows taken over by reference.
        folder: Its public tree.
    """

    generation: int
    read_again: int
    carried: int
    dead_letters: int
    folder: Path


class Rebuild:
    """Builds one table anew.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        ref: The table.
        table: Its configuration: declared types.
        bounds: What to read again; the rest is carried over.
        helpers: Other processes that decode.
        least: Records from which on they take part.
        progress: Called now and then.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        ref: TableRef,
        table: Table,
        bounds: Bounds,
        helpers: Helpers | None = None,
        least: int = LARGE_STRETCH,
        progress: Progress = lambda rows, total: None,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._ref = ref
        self._table = table
        self._bounds = bounds
        self._helpers = helpers or Helpers(0)
        self._least = least
        self._progress = progress
        self._schema = Schema()
        self._first: dict[int, int] = {}
        self._built: dict[int, int] = {}
        self._carried_to = 0

    def run(self, stop: threading.Event) -> Rebuilt:
        """Build and switch.

        Raises:
            LedgerError: The table is not in the ledger, or is being rebuilt already.
            ServiceUnreachable: Kafka stopped answering; nothing has changed.
            Interrupted: Told to stop; nothing has changed.
        """
        with (
            open_lake(self._config, for_writing=True) as lake,
            KafkaReader(self._endpoints) as k,
        ):
            ledger, session = lake.ledger, lake.session
            state = known_table(ledger, self._ref)
            generation = self._begin(ledger, session)
            failpoint("replay.after_begin")
            target = Target(
                self._ref,
                generation,
                state.topic_id,
                session.id,
                session.folder,
                self._config.settings.consumer.target_file_mb * 1024 * 1024,
            )
            try:
                self._read_all(ledger, target, state, k, stop)
                kind, keep = self._config.kind(self._ref), partial(self._keep, target)
                with closing(Carrier(ledger, session, target, kind, keep)) as carrier:
                    self._switch(ledger, session, target, k, carrier, stop)
            except BaseException:
                self._give_up(ledger, target)
                raise
            rows = ledger.offsets.row_count(self._ref.topic)
            dead_letters = ledger.dead_letters.count(self._ref.topic)
            folder = lake.paths.raw(self._ref, generation)
            return Rebuilt(generation, rows - carrier.rows, carrier.rows, dead_letters, folder)

    def _begin(self, ledger: Ledger, session: Session) -> int:
        """Begin the rebuild; one that was killed a moment ago may seem to live for another."""
        deadline = time.monotonic() + LAST_BREATH_SECONDS
        while True:
            drop_abandoned(ledger)
            try:
                return ledger.generations.begin(self._ref.topic, session.id)
            except LedgerError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def _give_up(self, ledger: Ledger, target: Target) -> None:
        """Leave nothing of a rebuild that did not get to its switch."""
        for left in target.folder.glob("generation-*"):
            left.unlink(missing_ok=True)
        current = ledger.tables.get(self._ref.topic)
        if current is not None and current.generation == target.generation:
            return  # it did: the error came after it
        ledger.generations.drop(self._ref.topic, target.generation, lambda session: False)
        delete_replaced(ledger)
        shutil.rmtree(ledger.paths.raw(self._ref, target.generation), ignore_errors=True)

    def _keep(self, target: Target, span: OffsetRange) -> Sequence[OffsetRange]:
        """What of an old range is carried over: all that was not read again."""
        if span.topic_id != target.topic_id or span.partition not in self._first:
            return [span]
        first = self._first[span.partition]
        wanted = self._bounds.end.get(span.partition)
        end = span.next_offset if wanted is None else wanted
        return outside(span, Stretch(span.partition, first, max(first, end)))

    # Reading again -------------------------------------------------------------------------

    def _read_all(
        self,
        ledger: Ledger,
        target: Target,
        state: TableState,
        kafka: KafkaReader,
        stop: threading.Event,
    ) -> None:
        """Decode everything up to the table's positions of now."""
        stretches = []
        for number, position in sorted(state.positions.items()):
            asked = self._bounds.until(number, position)
            first = max(asked.first, kafka.oldest(self._ref.topic, number))
            self._first[number] = first
            stretches.append(Stretch(number, first, max(first, asked.end)))
        self._progress(0, sum(map(len, stretches)))
        self._decode(ledger, target, state, stretches, stop)
        for stretch in stretches:
            self._built[stretch.partition] = stretch.end

    def _decode(
        self,
        ledger: Ledger,
        target: Target,
        state: TableState,
        stretches: Sequence[Stretch],
        stop: threading.Event,
    ) -> None:
        """Decode stretches into files."""
        total = sum(map(len, stretches))
        helpers = self._helpers if total >= self._least else Helpers(0)
        plan = Plan(self._config.path, self._ref, target, state.epoch, self._schema)

        def look() -> None:
            if stop.is_set():
                raise Interrupted(
                    f"The rebuild of {self._ref.topic} was stopped.",
                    "Nothing has changed. The same command starts it again.",
                )
            self._progress(
                ledger.generations.built_offsets(self._ref.topic, target.generation), total
            )

        pieces = shares(stretches, helpers.count + 1, LARGE_STRETCH)
        built = build_all(pieces, plan, helpers, look)
        self._schema = _merged(self._schema, built)

    # The switch ------------------------------------------------------------------------------

    def _switch(
        self,
        ledger: Ledger,
        session: Session,
        target: Target,
        kafka: KafkaReader,
        carrier: Carrier,
        stop: threading.Event,
    ) -> None:
        """Catch up with the live consumer, which waits for the last moment of it."""
        deadline = time.monotonic() + SWITCH_SECONDS
        hold = partial(ledger.generations.hold, self._ref.topic, target.generation, session.id)
        while True:
            self._catch_up(ledger, session, target, kafka, self._state(ledger, target), stop)
            hold(HOLD_SECONDS)
            failpoint("replay.after_hold")
            state = self._state(ledger, target)
            up_to = ledger.commits.newest_number()
            self._catch_up(ledger, session, target, kafka, state, stop)
            carrier.carry(state, self._carried_to, up_to)
            self._carried_to = up_to
            schema = self._schema
            if carrier.rows:
                schema = schema.with_missing(state.schema)
            failpoint("replay.before_switch")
            try:
                ledger.generations.switch(state, target.generation, session.id, schema, up_to)
                failpoint("replay.after_switch")
                return
            except CommitConflict as error:  # a compaction, or we were too slow
                hold(0)
                if stop.wait(RETRY_SECONDS) or time.monotonic() > deadline:
                    raise TerminalError(
                        f"The rebuild of {self._ref.topic} could not switch: {error}",
                        "Nothing has changed. Start it again when there is less to do.",
                    ) from None

    def _state(self, ledger: Ledger, target: Target) -> TableState:
        state = known_table(ledger, self._ref)
        if state.topic_id != target.topic_id:
            raise LedgerError(
                f"Topic {self._ref.topic} was made anew during the rebuild.", "Start it again."
            )
        return state

    def _catch_up(
        self,
        ledger: Ledger,
        session: Session,
        target: Target,
        kafka: KafkaReader,
        state: TableState,
        stop: threading.Event,
    ) -> None:
        """Read what the live consumer has committed meanwhile."""
        behind = []
        for number, position in sorted(state.positions.items()):
            if number not in self._built:
                asked = self._bounds.first.get(number, 0)
                oldest = kafka.oldest(self._ref.topic, number)
                self._built[number] = self._first[number] = max(asked, oldest)
            end = self._bounds.until(number, position).end
            behind.append(Stretch(number, self._built[number], max(self._built[number], end)))
        if sum(map(len, behind)) > LARGE_STRETCH:
            self._decode(ledger, target, state, behind, stop)
        else:
            self._read_small(ledger, session, target, kafka, state, [s for s in behind if len(s)])
        for stretch in behind:
            self._built[stretch.partition] = stretch.end

    def _read_small(
        self,
        ledger: Ledger,
        session: Session,
        target: Target,
        kafka: KafkaReader,
        state: TableState,
        stretches: Sequence[Stretch],
    ) -> None:
        """A few records: one hot file, as a flush writes it."""
        if not stretches:
            return
        with decoder_of(self._config, self._endpoints, self._ref, self._table) as decoder:
            for s in stretches:
                messages = [
                    m for b in kafka.read(self._ref.topic, s.partition, s.first, s.end) for m in b
                ]
                decoded = decoder.decode(messages, self._schema, state.epoch)
                self._schema = decoded.schema
                rows = 0 if decoded.rows is None else decoded.rows.num_rows
                span = OffsetRange(state.topic_id, s.partition, s.first, s.end - 1, rows)
                files = []
                if decoded.rows is not None:
                    file = write_hot(
                        ledger,
                        session,
                        self._ref,
                        target.generation,
                        decoded.schema,
                        decoded.rows,
                        [span],
                        building=True,
                    )
                    files.append(BuiltFile("hot", file, (0,)))
                dead_letters = tuple((0, letter) for letter in decoded.dead_letters)
                ledger.generations.add_segment(
                    self._ref.topic,
                    target.generation,
                    session.id,
                    Segment(((span,),), tuple(files), dead_letters),
                )


def _merged(base: Schema, schemas: Iterable[Schema]) -> Schema:
    """What several decoders have found: a column with two types holds both as text."""
    for schema in schemas:
        base = base.united(schema)
    return base
