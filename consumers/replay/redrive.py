"""Dead letters of a table's own topic, decoded again: what can be decoded now becomes rows.

Each row gets its record's own offset, so that it takes its place among older and newer versions of
its key, and a rebuild makes the same row at the same place. Rows and the end of their being dead
letters are one transaction: a process that is killed anywhere repeats none and loses none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import pyarrow as pa
from confluent_kafka import Message

from consumers.ingest.decoding import Decoded
from consumers.ingest.flush import HotRows, gone_unless_taken, write_hot
from consumers.replay.context import ReplayContext
from consumers.replay.gaps import cuts_of
from consumers.replay.tables import known_table, opened
from lake.config import Config, Endpoints, Table, TableRef
from lake.errors import Interrupted
from lake.failpoints import failpoint
from lake.ledger import DeadLetterEntry, Ledger, TableState
from lake.records import PROVENANCE_HEADER, DeadLetter, OffsetRange

BATCH = 500
"""Records that are decoded and committed together; the bytes of each are at most 1 MB."""

Progress = Callable[[int, int], None]
"""Dead letters looked at so far, and in all."""


@dataclass(slots=True)
class Redriven:
    """What became of a table's dead letters.

    Attributes:
        table: Its topic.
        rows: Those that are rows now, or would be.
        still_dead: Those that cannot be decoded now either, with the present reason.
        unavailable: Those of which not all bytes are kept, and that Kafka no longer has.
    """

    table: str
    rows: int = 0
    still_dead: list[DeadLetter] = field(default_factory=list)
    unavailable: list[DeadLetterEntry] = field(default_factory=list)


class Redrive:
    """Decodes the dead letters of one table again.

    Args:
        config: The configuration, as it is now.
        endpoints: Where Kafka is.
        ref: The table.
        table: Its configuration: declared types.
        progress: Called after each batch.
        dry_run: Only say what would become of them: nothing is written.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        ref: TableRef,
        table: Table,
        progress: Progress = lambda done, total: None,
        dry_run: bool = False,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._ref = ref
        self._table = table
        self._progress = progress
        self._dry_run = dry_run

    def run(
        self, stop: threading.Event, wanted: Callable[[DeadLetterEntry], bool] = lambda entry: True
    ) -> Redriven:
        """Decode, and commit what can be decoded.

        Args:
            stop: Ends it after the present batch.
            wanted: Which dead letters are meant.

        Raises:
            LedgerError: The lake does not know the table.
            CommitConflict: The table is being rebuilt, or another process redrives it.
            ServiceUnreachable: Kafka does not answer; what was committed stays.
            Interrupted: Told to stop; what was committed stays.
        """
        found = Redriven(self._ref.topic)
        with opened(
            self._config,
            self._endpoints,
            self._ref,
            self._table,
            for_writing=not self._dry_run,
        ) as context:
            known_table(context.ledger, self._ref)
            entries = [
                entry
                for entry in context.ledger.dead_letters.of_table(self._ref.topic)
                if entry.topic == self._ref.topic and wanted(entry)
            ]
            done = 0
            for batch in _batches(entries):
                if stop.is_set():
                    raise Interrupted(
                        f"The redrive of {self._ref.topic} was stopped.",
                        "What is a row now stays one; the same command goes on.",
                    )
                self._redrive(context, batch, found)
                done += len(batch)
                self._progress(done, len(entries))
        return found

    def _redrive(
        self, context: ReplayContext, batch: Sequence[DeadLetterEntry], found: Redriven
    ) -> None:
        """Some dead letters of one partition."""
        first = batch[0]
        epochs = context.ledger.tables.epochs(self._ref.topic)
        state = replace(known_table(context.ledger, self._ref), epoch=epochs.get(first.topic_id, 0))
        messages = []
        for entry in batch:
            message = _message(context, state, entry)
            if message is None:
                found.unavailable.append(entry)
            else:
                messages.append(message)
        decoded = context.decoder.decode(messages, state.schema, state.epoch)
        found.still_dead += decoded.dead_letters
        if decoded.rows is not None:
            if context.writing is not None:
                self._commit(context, context.writing, state, first, decoded)
            found.rows += decoded.rows.num_rows

    def _commit(
        self,
        context: ReplayContext,
        ledger: Ledger,
        state: TableState,
        place: DeadLetterEntry,
        decoded: Decoded,
    ) -> None:
        rows: pa.Table = decoded.rows
        offsets = rows.column("_offset").to_pylist()
        span = OffsetRange(place.topic_id, place.partition, offsets[0], offsets[-1], 0)
        with context.lake.pinned():
            covered = ledger.offsets.within(state.topic, state.generation, span)
            gaps = cuts_of(
                covered, offsets, offsets, lambda held: context.offsets_held(state, held)
            )
        ranges = [gap.span for gap in gaps]
        hot = HotRows(self._ref, state.generation, decoded.schema, rows, ranges)
        file = write_hot(ledger, context.session, hot)
        failpoint("redrive.before_ledger")
        with gone_unless_taken(ledger, file):
            ledger.commits.redrive(state, context.session.id, gaps, file, decoded.schema, offsets)
        failpoint("redrive.after_ledger")


def _batches(entries: Sequence[DeadLetterEntry]) -> Iterator[list[DeadLetterEntry]]:
    """Dead letters of one partition of one topic id at a time, in the order of offsets."""
    for _, group in groupby(entries, lambda entry: (entry.topic_id, entry.partition)):
        mine = list(group)
        for at in range(0, len(mine), BATCH):
            yield mine[at : at + BATCH]


def _message(context: ReplayContext, state: TableState, entry: DeadLetterEntry) -> Message | None:
    """The record of a dead letter, whole; None: nobody has it any more."""
    payload = context.ledger.dead_letters.payload(entry)
    if payload is None or len(payload.value or b"") < entry.value_bytes:
        return _from_kafka(context, state, entry)
    about = [(PROVENANCE_HEADER, payload.headers.encode())] if payload.headers != "{}" else None
    stamp = (1, round(entry.kafka_ts * 1000))
    return Message(
        entry.topic,
        entry.partition,
        entry.offset,
        payload.key,
        payload.value,
        about,
        None,
        stamp,
        0.0,
        0,
    )


def _from_kafka(
    context: ReplayContext, state: TableState, entry: DeadLetterEntry
) -> Message | None:
    topic, partition, offset = entry.topic, entry.partition, entry.offset
    if entry.topic_id != state.topic_id or offset < context.kafka.oldest(topic, partition):
        return None
    for batch in context.kafka.read(topic, partition, offset, offset + 1):
        return batch[0]
    return None
