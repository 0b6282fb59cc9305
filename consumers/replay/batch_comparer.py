"""One batch of a topic against the lake: the sums first, the rows only where these differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Message

from consumers.ingest.flush import HotRows, gone_unless_taken, write_hot
from consumers.replay.comparison import Comparison
from consumers.replay.context import ReplayContext
from consumers.replay.gaps import gaps_of
from consumers.replay.lost_files import LostFiles
from consumers.replay.offset_ranges import OffsetSpan, uncovered
from consumers.replay.row_diff import RowDiff
from consumers.replay.tables import known_table
from lake.failpoints import failpoint
from lake.ledger import Ledger, TableState
from lake.records import DeadLetter, OffsetRange
from lake.storage.schema import Schema

SHOWN = 20


@dataclass(frozen=True, slots=True)
class _Missing:
    """What the lake lacks of a span.

    Attributes:
        span: The offsets that were compared.
        covered: The committed ranges in it.
        schema: With which the records were decoded.
        rows: Offsets of rows.
        dead_letters: Dead letters.
    """

    span: OffsetSpan
    covered: Sequence[OffsetRange]
    schema: Schema
    rows: Sequence[int]
    dead_letters: Sequence[DeadLetter]


class BatchComparer:
    """Compares batches of one table, and backfills what is missing.

    A row that differs is named and left as it is: to replace rows is what a rebuild is for.

    Args:
        context: What is open.
        found: Takes note of what was found.
        lost_files: The files that could not be written again.
    """

    def __init__(self, context: ReplayContext, found: Comparison, lost_files: LostFiles) -> None:
        self._context = context
        self._found = found
        self._lost_files = lost_files
        self._diff = RowDiff(context.db)

    def compare(self, span: OffsetSpan, batch: Sequence[Message]) -> None:
        """Compare the records of a span with what the lake holds of it."""
        context, ledger = self._context, self._context.ledger
        state = known_table(ledger, context.ref)
        decoded = context.decoder.decode(batch, state.schema, state.epoch)
        compared = OffsetRange(state.topic_id, span.partition, span.first, span.end - 1, 0)
        known = ledger.dead_letters.offsets(state.topic, compared)
        with context.lake.pinned():
            covered = ledger.offsets.within(state.topic, state.generation, compared)
            self._diff.former = decoded.schema.former_types()
            self._diff.load(
                decoded.rows,
                decoded.schema.relation(context.kind),
                known,
                context.rows_held(state, compared),
                state.schema.relation(context.kind),
            )
        is_equal = self._note_checksums(len(batch))
        fresh = [d for d in decoded.dead_letters if d.offset not in set(known)]
        is_covered = not uncovered(covered, span)
        if is_equal and not fresh and is_covered:
            return
        rows = self._note_differences(span.partition, len(fresh))
        if context.writing is None or not (rows or fresh or not is_covered):
            return
        self._backfill(context.writing, state, _Missing(span, covered, decoded.schema, rows, fresh))

    def _note_checksums(self, records: int) -> bool:
        """Add up the checksums; whether those of Kafka and the lake are equal."""
        found = self._found
        found.compared += records
        in_kafka, in_lake = self._diff.checksums()
        found.checksum = (found.checksum + in_kafka[1]) % (1 << 64)
        found.lake_checksum = (found.lake_checksum + in_lake[1]) % (1 << 64)
        return in_kafka == in_lake

    def _note_differences(self, partition: int, dead_letters: int) -> list[int]:
        """Take note of what differs; gives the offsets of the rows to be backfilled."""
        found = self._found
        missing = self._diff.missing()
        found.missing += len(missing) + dead_letters
        found.extra += [(partition, o) for o in self._diff.extra()][:SHOWN]
        found.differing += [(partition, o) for o in self._diff.differing()][:SHOWN]
        return [o for o in missing if not self._lost_files.holds(partition, o)]

    def _backfill(self, ledger: Ledger, state: TableState, missing: _Missing) -> None:
        """Commit what is missing, as new rows below the positions."""
        context = self._context
        gaps = gaps_of(
            missing.span,
            state.topic_id,
            missing.covered,
            missing.rows,
            [d.offset for d in missing.dead_letters],
            lambda committed: context.offsets_held(state, committed),
        )
        rows = self._diff.from_kafka(missing.rows)
        file = None
        if rows.num_rows:
            ranges = [gap.span for gap in gaps]
            hot = HotRows(context.ref, state.generation, missing.schema, rows, ranges)
            file = write_hot(ledger, context.session, hot)
        failpoint("replay.before_fill")
        with gone_unless_taken(ledger, file):
            ledger.commits.backfill(
                state, context.session.id, gaps, file, missing.schema, missing.dead_letters
            )
        failpoint("replay.after_fill")
        self._found.filled += len(missing.rows) + len(missing.dead_letters)
