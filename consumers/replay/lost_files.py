"""Files that are missing or damaged: their rows are committed, so they are written again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from confluent_kafka import Message

from consumers.ingest.flush import HotRows, gone_unless_taken, write_hot
from consumers.replay.comparison import Comparison
from consumers.replay.context import ReplayContext
from consumers.replay.offset_ranges import Bounds
from lake.failpoints import failpoint
from lake.ledger import NOW, CommittedFile, Ledger, TableState
from lake.records import OffsetRange
from lake.storage.parquet_files import is_whole
from lake.storage.paths import LakePaths
from lake.storage.sql import rows_query

log = structlog.get_logger()


class LostFiles:
    """Writes lost files of one table again, from Kafka.

    Args:
        context: What is open.
        found: Takes note of them.
    """

    def __init__(self, context: ReplayContext, found: Comparison) -> None:
        self._context = context
        self._found = found
        self._not_recoverable: list[OffsetRange] = []

    def repair(self, state: TableState, bounds: Bounds) -> None:
        """Write the lost files again that hold offsets within some bounds."""
        context = self._context
        listed = context.ledger.files.contents(state.topic, state.generation, 0, NOW)
        for file in listed:
            if file.topic_id != state.topic_id or not _is_within(file, bounds):
                continue
            if is_whole(file.path, file.sha256):
                continue
            name = context.ledger.paths.relative(file.path)
            self._found.lost_files.append(name)
            ranges = [r for r in file.ranges if file.may_hold(r)]
            rows = self._rows_of(state, file, ranges, listed)
            count = 0 if rows is None else rows.num_rows
            if count != file.rows:
                self._not_recoverable += ranges
                log.error(
                    "file_not_recoverable",
                    message="Kafka no longer holds all rows of a lost file.",
                    table=state.topic,
                    file=name,
                    rows=file.rows,
                    in_kafka=count,
                )
            elif context.writing is not None:
                hot = HotRows(context.ref, state.generation, state.schema, rows, ranges, name)
                self._replace(context.writing, state, file, hot)
                self._found.repaired.append(name)

    def _replace(
        self, ledger: Ledger, state: TableState, file: CommittedFile, hot: HotRows
    ) -> None:
        written = write_hot(ledger, self._context.session, hot)
        failpoint("replay.before_replace")
        with gone_unless_taken(ledger, written):
            ledger.files.replace(state.topic, state.generation, file.file_id, written)

    def holds(self, partition: int, offset: int) -> bool:
        """Whether an offset is of a file that could not be written again.

        Its row must not be backfilled: it would be there twice once the file is put back.
        """
        return any(
            r.partition == partition and r.first <= offset <= r.last for r in self._not_recoverable
        )

    def _rows_of(
        self,
        state: TableState,
        file: CommittedFile,
        ranges: Sequence[OffsetRange],
        listed: Sequence[CommittedFile],
    ) -> pa.Table | None:
        """The rows that a file held, as far as Kafka has them.

        A public one: those of its commits with its partition and day, which no other file has. A
        hot one: those of its commits that no other file holds.
        """
        context = self._context
        day = LakePaths.day_of(file.path) if file.tier == "sealed" else None
        others = [] if day is not None else _whole_others(file, listed)
        parts = []
        for offset_range in ranges:
            query = rows_query(state.schema.relation(context.kind), others, [offset_range])
            held = {o for (o,) in context.db.execute(f"SELECT _offset FROM ({query})").fetchall()}
            for batch in self._read(state, offset_range):
                wanted = [
                    m for m in batch if m.offset() >= offset_range.first and m.offset() not in held
                ]
                decoded = context.decoder.decode(wanted, state.schema, state.epoch)
                if decoded.rows is not None and day is None:
                    parts.append(decoded.rows)
                elif decoded.rows is not None:
                    days = decoded.rows.column("_kafka_ts").cast(pa.date32())
                    parts.append(decoded.rows.filter(pc.equal(days, day)))
        if not parts:
            return None
        rows = pa.concat_tables(parts, promote_options="permissive")
        return rows.sort_by([("_partition", "ascending"), ("_offset", "ascending")])

    def _read(self, state: TableState, offset_range: OffsetRange) -> Iterator[list[Message]]:
        if offset_range.rows:
            yield from self._context.kafka.read(
                state.topic, offset_range.partition, offset_range.first, offset_range.next_offset
            )


def _is_within(file: CommittedFile, bounds: Bounds) -> bool:
    for offset_range in file.ranges:
        end = bounds.end.get(offset_range.partition)
        first = bounds.first.get(offset_range.partition, 0)
        if offset_range.first < (NOW if end is None else end) and offset_range.last >= first:
            return True
    return False


def _whole_others(file: CommittedFile, listed: Sequence[CommittedFile]) -> list[str]:
    """The undamaged files that have rows of a file's commits, too."""
    return [
        str(other.path)
        for other in listed
        if other.path != file.path
        and set(other.commits) & set(file.commits)
        and is_whole(other.path, other.sha256)
    ]
