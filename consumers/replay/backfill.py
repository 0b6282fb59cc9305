"""Compare and backfill: what Kafka holds is compared with the lake, and what is missing committed.

Offsets up to the table's positions only: what lies behind them is the live consumer's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from consumers.replay.batch_comparer import BatchComparer
from consumers.replay.comparison import Comparison
from consumers.replay.context import ReplayContext, ReplayScope
from consumers.replay.lost_files import LostFiles
from consumers.replay.offset_ranges import OffsetSpan
from consumers.replay.range_reader import KafkaReader
from consumers.replay.tables import known_table, must_be_the_same_topic, opened
from lake.config import Config, Endpoints
from lake.errors import Interrupted
from lake.ledger import LedgerReader, TableState
from lake.recovery import delete_replaced

Progress = Callable[[int, int], None]
"""Offsets compared so far, and in all."""


class Replay:
    """Compares one table with its topic, and backfills what is missing.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        scope: What is read again.
        dry: Change nothing.
        progress: Called now and then.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        scope: ReplayScope,
        dry: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._scope = scope
        self._topic = scope.ref.topic
        self._dry = dry
        self._progress = progress
        self._found = Comparison(self._topic)

    def run(self, stop: threading.Event) -> Comparison:
        """Compare and backfill.

        Raises:
            LedgerError: The lake does not know the table, or its topic was made anew.
            ServiceUnreachable: Kafka stopped answering; what was filled stays.
            Interrupted: Told to stop; what was filled stays.
        """
        scope = self._scope
        with opened(
            self._config, self._endpoints, scope.ref, scope.table, for_writing=not self._dry
        ) as context:
            ledger = context.ledger
            state = known_table(ledger, self._scope.ref)
            must_be_the_same_topic(self._endpoints, state)
            lost_files = LostFiles(context, self._found)
            # Pinned, else what a compaction deletes now looks lost.
            with context.lake.pinned():
                lost_files.repair(state, self._scope.bounds)
            if context.writing is not None:
                delete_replaced(context.writing)
            spans, gone = self._spans(context.kafka, state)
            self._note_lost(ledger, state, gone)
            self._compare_all(context, BatchComparer(context, self._found, lost_files), spans, stop)
        return self._found

    def _spans(
        self, kafka: KafkaReader, state: TableState
    ) -> tuple[list[OffsetSpan], list[OffsetSpan]]:
        """What is read of each partition, and what was asked for and is gone from Kafka."""
        spans, gone = [], []
        for number, position in sorted(state.positions.items()):
            asked = self._scope.bounds.until(number, position)
            oldest = kafka.oldest(self._topic, number)
            first = max(asked.first, oldest)
            gone.append(OffsetSpan(number, asked.first, min(asked.end, oldest)))
            spans.append(OffsetSpan(number, first, max(first, asked.end)))
        return spans, gone

    def _compare_all(
        self,
        context: ReplayContext,
        comparer: BatchComparer,
        spans: Sequence[OffsetSpan],
        stop: threading.Event,
    ) -> None:
        total, done = sum(map(len, spans)), 0
        for span in spans:
            at = span.first
            for batch in context.kafka.read(self._topic, span.partition, at, span.end):
                if stop.is_set():
                    raise Interrupted(
                        f"The replay of {self._topic} was stopped.",
                        "What was filled stays; the same command goes on.",
                    )
                end = batch[-1].offset() + 1
                comparer.compare(OffsetSpan(span.partition, at, end), batch)
                self._progress(done + end - span.first, total)
                at = end
            if at < span.end:  # markers and aborted records at the end
                comparer.compare(OffsetSpan(span.partition, at, span.end), [])
            done += len(span)
        self._progress(total, total)

    def _note_lost(
        self, ledger: LedgerReader, state: TableState, gone: Sequence[OffsetSpan]
    ) -> None:
        """Gaps where Kafka has forgotten: nobody will ever fill them."""
        if not any(map(len, gone)):
            return
        ends = ledger.offsets.ends(state.topic)
        gaps = [
            (b.topic_id, b.partition, b.before, b.first) for b in ledger.offsets.breaks(state.topic)
        ]
        for span in gone:
            end = ends.get((state.topic_id, span.partition))
            behind = [] if end is None else [(state.topic_id, span.partition, end, span.end)]
            for topic_id, partition, before, first in [*gaps, *behind]:
                if (topic_id, partition) == (state.topic_id, span.partition):
                    lost = range(max(before, span.first), min(first, span.end))
                    if lost:
                        self._found.lost.append((partition, lost.start, lost.stop - 1))
