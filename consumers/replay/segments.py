"""Rows of one partition on their way into a new generation: files by day, in segments.

A segment is what the ledger takes at once: a span of offsets, and all files that hold rows of
it. It ends when its files are large or many, so that whatever the order of the days, only a fixed
number of files is open, and memory stays bounded.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from consumers.ingest.decoding import Decoded
from lake.config import TableRef
from lake.failpoints import failpoint
from lake.formats import Footer
from lake.ledger import BuiltFile, Ledger, Segment
from lake.records import DeadLetter, OffsetRange
from lake.storage.operations import move_into_place
from lake.storage.parquet_files import ROW_GROUP_ROWS, ParquetSink, WrittenFile
from lake.storage.paths import SealedName
from lake.storage.schema import Schema

OPEN_FILES = 16
SEGMENT_ROWS = 4_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """Where a new generation is built.

    Attributes:
        session: Who builds it.
        folder: The session's staging folder.
        file_bytes: The size of a public file.
    """

    ref: TableRef
    generation: int
    topic_id: str
    session: str
    folder: Path
    file_bytes: float


class SegmentWriter:
    """Writes one partition's rows, in the order of their offsets.

    Args:
        ledger: Takes the segments.
        target: The generation that is built.
        partition: Whose rows these are.
        first: From which offset on.
    """

    def __init__(self, ledger: Ledger, target: Target, partition: int, first: int) -> None:
        self._ledger = ledger
        self._target = target
        self._partition = partition
        self._first = first
        self._waiting: list[pa.Table] = []
        self._sinks: dict[date, tuple[ParquetSink, int]] = {}
        self._schema = Schema()
        self._dead_letters: list[DeadLetter] = []
        self._rows = 0

    def add(self, decoded: Decoded, next_offset: int) -> None:
        """Take a batch.

        Args:
            decoded: Of one partition, ordered by offset.
            next_offset: The offset after the batch's last record.
        """
        self._dead_letters += decoded.dead_letters
        if decoded.rows is not None:
            if decoded.schema != self._schema and (self._waiting or self._sinks):
                self._end(_first_offset(decoded.rows))
            self._waiting.append(decoded.rows)
        self._schema = decoded.schema
        if sum(table.num_rows for table in self._waiting) >= ROW_GROUP_ROWS:
            self._write_by_day(next_offset)
        if len(self._dead_letters) >= ROW_GROUP_ROWS or self._is_large():
            self._end(next_offset)

    def finish(self, end: int) -> None:
        """Write what is left; the span ends before this offset, whatever was in it."""
        if end > self._first:
            self._end(end)

    def discard(self) -> None:
        """Give up what the ledger has not taken."""
        for sink, _ in self._sinks.values():
            sink.discard()
        self._sinks.clear()

    def _is_large(self) -> bool:
        size = sum(sink.size for sink, _ in self._sinks.values())
        return size >= self._target.file_bytes or self._rows >= SEGMENT_ROWS

    def _write_by_day(self, end: int) -> None:
        """Give the waiting rows to the files of their days."""
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting)
        self._waiting = []
        days = rows.column("_kafka_ts").cast(pa.date32())
        found = pc.unique(days).to_pylist()
        by_day = {
            day: rows if len(found) == 1 else rows.filter(pc.equal(days, day)) for day in found
        }
        if self._sinks and len(self._sinks.keys() | by_day.keys()) > OPEN_FILES:
            self._end(_first_offset(rows))
        if len(by_day) > OPEN_FILES:
            self._write_alone(by_day, end)
            return
        for day, of_day in by_day.items():
            sink, _ = self._sinks.get(day) or (self._open(rows.schema), 0)
            sink.write(of_day)
            self._sinks[day] = (sink, of_day.column("_offset")[-1].as_py())
            self._rows += of_day.num_rows

    def _write_alone(self, by_day: dict[date, pa.Table], end: int) -> None:
        """More days than files may be open: one after the other, as a segment of its own."""
        offset_range = self._range(end, sum(rows.num_rows for rows in by_day.values()))
        files = []
        for day, rows in by_day.items():
            sink = self._open(rows.schema)
            sink.write(rows)
            files.append(self._close(sink, day, rows.column("_offset")[-1].as_py(), offset_range))
        self._commit(offset_range, files)

    def _end(self, end: int) -> None:
        """The segment is over: it ends before this offset."""
        self._write_by_day(end)
        if end == self._first:
            return  # all of it was written alone
        offset_range = self._range(end, self._rows)
        files = [
            self._close(sink, day, last, offset_range) for day, (sink, last) in self._sinks.items()
        ]
        self._sinks.clear()
        self._commit(offset_range, files)

    def _open(self, schema: pa.Schema) -> ParquetSink:
        return ParquetSink(self._target.folder / f"generation-{secrets.token_hex(8)}", schema)

    def _range(self, end: int, rows: int) -> OffsetRange:
        return OffsetRange(self._target.topic_id, self._partition, self._first, end - 1, rows)

    def _close(
        self, sink: ParquetSink, day: date, last: int, offset_range: OffsetRange
    ) -> WrittenFile:
        """Give a file its name."""
        target, paths = self._target, self._ledger.paths
        newest = self._ledger.commits.newest_number()
        topic, number = target.ref.topic, target.generation
        about = Footer(topic, number, (offset_range,), newest, self._schema, building=True)
        file = sink.close(about.dump())
        name = SealedName(target.topic_id, self._partition, offset_range.first, last).name()
        final = paths.day(target.ref, day, target.generation) / name
        failpoint("replay.before_move")
        move_into_place(file.path, final)
        return WrittenFile(final, file.size, file.sha256, file.rows)

    def _commit(self, offset_range: OffsetRange, files: Sequence[WrittenFile]) -> None:
        mine = [d for d in self._dead_letters if d.offset < offset_range.next_offset]
        self._dead_letters = [d for d in self._dead_letters if d.offset >= offset_range.next_offset]
        segment = Segment(
            commits=((offset_range,),),
            files=tuple(BuiltFile("sealed", file, (0,)) for file in files),
            dead_letters=tuple((0, letter) for letter in mine),
        )
        failpoint("replay.before_segment")
        target = self._target
        self._ledger.generations.add_segment(
            target.ref.topic, target.generation, target.session, segment
        )
        failpoint("replay.after_segment")
        self._first, self._rows = offset_range.next_offset, 0


def _first_offset(rows: pa.Table) -> int:
    return int(rows.column("_offset")[0].as_py())
