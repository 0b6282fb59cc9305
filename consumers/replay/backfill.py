"""Verify and fill: what Kafka holds is compared with the lake, and what is missing is committed.

Offsets up to the table's positions only: what lies behind them is the live consumer's. A row that
differs is named and left as it is: to replace rows is what a rebuild is for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import structlog
from confluent_kafka import Message

from consumers.ingest.decoding import Decoder
from consumers.ingest.flush import gone_unless_taken, write_hot
from consumers.replay.offset_ranges import Bounds, Stretch, runs, uncovered_ranges
from consumers.replay.range_reader import KafkaReader
from consumers.replay.row_diff import RowDiff
from consumers.replay.tables import decoder_of, known_table
from lake.config import Config, Endpoints, Table, TableRef
from lake.errors import Interrupted, LedgerError
from lake.failpoints import failpoint
from lake.kafka.topics import admin, identify
from lake.ledger import NOW, CommittedFile, Gap, Ledger, LedgerReader, TableState
from lake.opening import WritableLake, open_lake
from lake.records import DeadLetter, OffsetRange
from lake.recovery import delete_replaced
from lake.storage.files import Session, is_whole
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema
from lake.storage.sql import rows_query, spilling

log = structlog.get_logger()
SHOWN = 20
Progress = Callable[[int, int], None]
"""Offsets compared so far, and in all."""


@dataclass(slots=True)
class Comparison:
    """What a replay found, and did.

    Attributes:
        compared: Records read from Kafka.
        missing: Rows and dead letters that Kafka has and the lake had not.
        filled: Those that are in the lake now.
        differing: Places of rows with other values: (partition, offset).
        extra: Rows of the lake that Kafka does not have at offsets that it still holds.
        lost_files: Files that are missing or damaged, relative to the lake. The rows of one that
            Kafka no longer holds whole stay missing: it may be put back from a backup.
        repaired: Those that were written again.
        lost: Offsets that are in no file and gone from Kafka: (partition, first, last).
        checksum: Of all rows read from Kafka, as decoded now.
        lake_checksum: Of the lake's rows at the same offsets, before anything was filled.
    """

    table: str
    compared: int = 0
    missing: int = 0
    filled: int = 0
    differing: list[tuple[int, int]] = field(default_factory=list)
    extra: list[tuple[int, int]] = field(default_factory=list)
    lost_files: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    lost: list[tuple[int, int, int]] = field(default_factory=list)
    checksum: int = 0
    lake_checksum: int = 0

    @property
    def exact(self) -> bool:
        """Whether the lake now holds what Kafka holds."""
        return (
            self.missing == self.filled
            and len(self.lost_files) == len(self.repaired)
            and not self.differing
            and not self.extra
            and not self.lost
        )


class Replay:
    """Compares one table with its topic, and fills what is missing.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        ref: The table.
        table: Its configuration.
        bounds: What to read again.
        dry: Change nothing.
        progress: Called now and then.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        ref: TableRef,
        table: Table,
        bounds: Bounds,
        dry: bool = False,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._ref = ref
        self._table = table
        self._bounds = bounds
        self._dry = dry
        self._progress = progress
        self._kind = config.kind(ref)
        self._db: duckdb.DuckDBPyConnection
        self._sides: RowDiff
        self._writing: Ledger | None = None
        self._pinned: Callable[[], AbstractContextManager[int]]
        self._found = Comparison(ref.topic)
        self._still_lost: list[OffsetRange] = []

    def run(self, stop: threading.Event) -> Comparison:
        """Compare and fill.

        Raises:
            LedgerError: The lake does not know the table, or its topic was made anew.
            ServiceUnreachable: Kafka stopped answering; what was filled stays.
            Interrupted: Told to stop; what was filled stays.
        """
        with ExitStack() as stack:
            # A killed rebuild is dropped: while a table is being rebuilt, nothing is filled.
            lake = stack.enter_context(open_lake(self._config, for_writing=not self._dry))
            self._writing = lake.ledger if isinstance(lake, WritableLake) else None
            self._pinned = lake.pinned
            ledger, session = lake.ledger, lake.session
            kafka = stack.enter_context(KafkaReader(self._endpoints))
            decoder = stack.enter_context(
                decoder_of(self._config, self._endpoints, self._ref, self._table)
            )
            self._db = stack.enter_context(spilling(session, 400))
            self._sides = RowDiff(self._db)
            state = known_table(ledger, self._ref)
            self._must_be_the_same(state)
            with lake.pinned():  # else what a compaction deletes now looks lost
                self._repair(ledger, session, kafka, decoder, state)
            if self._writing is not None:
                delete_replaced(self._writing)
            stretches, gone = [], []
            for number, position in sorted(state.positions.items()):
                asked = self._bounds.until(number, position)
                oldest = kafka.oldest(self._ref.topic, number)
                first = max(asked.first, oldest)
                gone.append(Stretch(number, asked.first, min(asked.end, oldest)))
                stretches.append(Stretch(number, first, max(first, asked.end)))
            self._note_lost(ledger, state, gone)
            total, done = sum(map(len, stretches)), 0
            for stretch in stretches:
                at = stretch.first
                reader = kafka.read(self._ref.topic, stretch.partition, at, stretch.end)
                for batch in reader:
                    if stop.is_set():
                        raise Interrupted(
                            f"The replay of {self._ref.topic} was stopped.",
                            "What was filled stays; the same command goes on.",
                        )
                    end = batch[-1].offset() + 1
                    part = Stretch(stretch.partition, at, end)
                    self._compare(ledger, session, decoder, part, batch)
                    self._progress(done + end - stretch.first, total)
                    at = end
                if at < stretch.end:  # markers and aborted records at the end
                    self._compare(
                        ledger, session, decoder, Stretch(stretch.partition, at, stretch.end), []
                    )
                done += len(stretch)
            self._progress(total, total)
        return self._found

    def _note_lost(self, ledger: LedgerReader, state: TableState, gone: Sequence[Stretch]) -> None:
        """Gaps where Kafka has forgotten: nobody will ever fill them."""
        if not any(map(len, gone)):
            return
        ends = ledger.offsets.ends(state.topic)
        open_ = [
            (b.topic_id, b.partition, b.before, b.first) for b in ledger.offsets.breaks(state.topic)
        ]
        for part in gone:
            end = ends.get((state.topic_id, part.partition))
            behind = [] if end is None else [(state.topic_id, part.partition, end, part.end)]
            for topic_id, partition, before, first in [*open_, *behind]:
                if (topic_id, partition) == (state.topic_id, part.partition):
                    lost = range(max(before, part.first), min(first, part.end))
                    if lost:
                        self._found.lost.append((partition, lost.start, lost.stop - 1))

    def _must_be_the_same(self, state: TableState) -> None:
        found = identify(admin(self._endpoints), [self._ref.topic]).get(self._ref.topic)
        if found is None or found.topic_id != state.topic_id:
            raise LedgerError(
                f"Topic {self._ref.topic} is not the one that the lake has read.",
                f"`ducklake accept-loss {self._ref.topic}` goes on with the new one; the old one's"
                " records are gone from Kafka.",
            )

    # Files that are lost ---------------------------------------------------------------------

    def _repair(
        self,
        ledger: LedgerReader,
        session: Session,
        kafka: KafkaReader,
        decoder: Decoder,
        state: TableState,
    ) -> None:
        """Write lost and damaged files again, from Kafka: their rows are committed already."""
        listed = ledger.files.contents(state.topic, state.generation, 0, NOW)
        for file in listed:
            if file.topic_id != state.topic_id or not self._is_asked_for(file):
                continue
            if is_whole(file.path, file.sha256):
                continue
            name = ledger.paths.relative(file.path)
            self._found.lost_files.append(name)
            rows, spans = self._rows_of(kafka, decoder, state, file, listed)
            count = 0 if rows is None else rows.num_rows
            if count != file.rows:
                self._still_lost += spans
                log.error(
                    "file_not_recoverable",
                    message="Kafka no longer holds all rows of a lost file.",
                    table=state.topic,
                    file=name,
                    rows=file.rows,
                    in_kafka=count,
                )
            elif self._writing is not None:
                made = write_hot(
                    ledger, session, self._ref, state.generation, state.schema, rows, spans, name
                )
                failpoint("replay.before_replace")
                with gone_unless_taken(ledger, made):
                    self._writing.files.replace(state.topic, state.generation, file.file_id, made)
                self._found.repaired.append(name)

    def _is_asked_for(self, file: CommittedFile) -> bool:
        return any(
            span.first < (end if (end := self._bounds.end.get(span.partition)) is not None else NOW)
            and span.last >= self._bounds.first.get(span.partition, 0)
            for span in file.ranges
        )

    def _rows_of(
        self,
        kafka: KafkaReader,
        decoder: Decoder,
        state: TableState,
        file: CommittedFile,
        listed: Sequence[CommittedFile],
    ) -> tuple[pa.Table | None, list[OffsetRange]]:
        """The rows that a file held.

        A public one: those of its commits with its partition and day, which no other file has. A
        hot one: those of its commits that no other file holds.
        """
        spans = [s for s in file.ranges if file.may_hold(s)]
        day = LakePaths.day_of(file.path) if file.tier == "sealed" else None
        others = [
            other.path
            for other in listed
            if day is None
            and other.path != file.path
            and set(other.commits) & set(file.commits)
            and is_whole(other.path, other.sha256)
        ]
        parts = []
        for span in spans:
            query = rows_query(state.schema.relation(self._kind), others, [span])
            held = {o for (o,) in self._db.execute(f"SELECT _offset FROM ({query})").fetchall()}
            for batch in (
                kafka.read(state.topic, span.partition, span.first, span.next_offset)
                if span.rows
                else ()
            ):
                wanted = [m for m in batch if m.offset() >= span.first and m.offset() not in held]
                decoded = decoder.decode(wanted, state.schema, state.epoch)
                if decoded.rows is not None and day is None:
                    parts.append(decoded.rows)
                elif decoded.rows is not None:
                    days = decoded.rows.column("_kafka_ts").cast(pa.date32())
                    parts.append(decoded.rows.filter(pc.equal(days, day)))
        if not parts:
            return None, spans
        rows = pa.concat_tables(parts, promote_options="permissive")
        return rows.sort_by([("_partition", "ascending"), ("_offset", "ascending")]), spans

    # Rows ------------------------------------------------------------------------------------

    def _compare(
        self,
        ledger: LedgerReader,
        session: Session,
        decoder: Decoder,
        part: Stretch,
        batch: Sequence[Message],
    ) -> None:
        """One batch against the lake: first the sums, and the rows only where these differ."""
        state = known_table(ledger, self._ref)
        decoded = decoder.decode(batch, state.schema, state.epoch)
        span = OffsetRange(state.topic_id, part.partition, part.first, part.end - 1, 0)
        dead_letters = ledger.dead_letters.offsets(state.topic, span)
        with self._pinned():
            covered = ledger.offsets.within(state.topic, state.generation, span)
            self._sides.load(
                decoded.rows,
                decoded.schema.relation(self._kind),
                dead_letters,
                self._held(ledger, state, span),
                state.schema.relation(self._kind),
            )
        found = self._found
        found.compared += len(batch)
        in_kafka, in_lake = self._sides.checksums()
        found.checksum = (found.checksum + in_kafka[1]) % (1 << 64)
        found.lake_checksum = (found.lake_checksum + in_lake[1]) % (1 << 64)
        known = set(dead_letters)
        fresh = [d for d in decoded.dead_letters if d.offset not in known]
        open_ = uncovered_ranges(covered, part)
        if in_kafka == in_lake and not fresh and not open_:
            return
        missing = self._sides.missing()
        found.missing += len(missing) + len(fresh)
        found.extra += [(part.partition, o) for o in self._sides.extra()][:SHOWN]
        found.differing += [(part.partition, o) for o in self._sides.differing()][:SHOWN]
        # What belongs to a lost file would be there twice once that is put back.
        missing = [o for o in missing if not self._is_of_a_lost_file(part.partition, o)]
        if self._writing is None or not (missing or fresh or open_):
            return
        self._fill(self._writing, session, state, decoded.schema, part, covered, missing, fresh)

    def _is_of_a_lost_file(self, partition: int, offset: int) -> bool:
        return any(
            span.partition == partition and span.first <= offset <= span.last
            for span in self._still_lost
        )

    def _fill(
        self,
        ledger: Ledger,
        session: Session,
        state: TableState,
        schema: Schema,
        part: Stretch,
        covered: Sequence[OffsetRange],
        missing: Sequence[int],
        fresh: Sequence[DeadLetter],
    ) -> None:
        """Commit what is missing, as new rows below the positions."""
        gaps = self._gaps_of(ledger, state, part, covered, missing, fresh)
        rows = self._sides.from_kafka(missing)
        spans = [gap.span for gap in gaps]
        file = None
        if rows.num_rows:
            file = write_hot(ledger, session, self._ref, state.generation, schema, rows, spans)
        failpoint("replay.before_fill")
        with gone_unless_taken(ledger, file):
            ledger.commits.backfill(state, session.id, gaps, file, schema, fresh)
        failpoint("replay.after_fill")
        self._found.filled += len(missing) + len(fresh)

    def _gaps_of(
        self,
        ledger: LedgerReader,
        state: TableState,
        part: Stretch,
        covered: Sequence[OffsetRange],
        missing: Sequence[int],
        fresh: Sequence[DeadLetter],
    ) -> list[Gap]:
        """The offsets to commit: what no range covers, and within ranges the missing records."""
        gaps = []
        uncovered = uncovered_ranges(covered, part)
        for gap in uncovered:
            rows = sum(gap.first <= offset < gap.end for offset in missing)
            span = OffsetRange(state.topic_id, part.partition, gap.first, gap.end - 1, rows)
            gaps.append(Gap(span))
        inside = sorted(
            o
            for o in {*missing, *(d.offset for d in fresh)}
            if not any(g.first <= o < g.end for g in uncovered)
        )
        for span in covered:
            lost = [o for o in inside if span.first <= o <= span.last]
            if not lost:
                continue
            present = self._present(ledger, state, span)
            mine = [
                OffsetRange(
                    span.topic_id,
                    span.partition,
                    first,
                    last,
                    sum(first <= o <= last for o in missing),
                )
                for first, last in runs(lost, present)
            ]
            left = uncovered_ranges(mine, Stretch(span.partition, span.first, span.next_offset))
            kept = tuple(
                OffsetRange(
                    span.topic_id,
                    span.partition,
                    s.first,
                    s.end - 1,
                    sum(s.first <= o < s.end for o in present),
                )
                for s in left
            )
            gaps += [
                Gap(one, (span,) if place == 0 else (), kept if place == 0 else ())
                for place, one in enumerate(mine)
            ]
        return gaps

    def _present(self, ledger: LedgerReader, state: TableState, span: OffsetRange) -> list[int]:
        """The offsets of a range that the lake has rows of."""
        query = self._held(ledger, state, span)
        found = self._db.execute(f"SELECT _offset FROM ({query}) ORDER BY 1")
        return [offset for (offset,) in found.fetchall()]

    def _held(self, ledger: LedgerReader, state: TableState, span: OffsetRange) -> str:
        """A query of the rows that the lake has of a range; lost files have none."""
        files = [
            f.path
            for f in ledger.files.within(state.topic, state.generation, span)
            if f.path.exists()
        ]
        query = rows_query(state.schema.relation(self._kind), files, [span])
        return f"SELECT * FROM ({query}) WHERE _topic_epoch = {state.epoch}"
