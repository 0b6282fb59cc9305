"""Hot files become sealed public ones: its own loop, while writers run.

Write in staging, record the intent in the ledger, rename all, flip hot to sealed in one
transaction, and delete the hot files once no pinned reader lists them. Recovery rolls forward from
the intent.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import structlog

from consumers.compaction.damaged_files import DamagedFiles
from consumers.compaction.housekeeping import Housekeeping
from consumers.compaction.only_compactor import only_compactor
from consumers.compaction.planning import DatePart, merge_is_due, seal_is_due
from consumers.compaction.range_joins import RangeJoins
from lake.config import Config, TableRef
from lake.errors import (
    CommitConflict,
    DuckLakeError,
    ServiceUnreachable,
    TransientError,
)
from lake.failpoints import failpoint
from lake.formats import CompactionIntent, Footer, PlannedFile
from lake.ledger import LakeFile, TableState
from lake.opening import open_lake
from lake.processes.heartbeat import RETRYING, SILENT, Heartbeat, Part
from lake.processes.instruments import SEAL_SECONDS, SEALED_FILES
from lake.records import OffsetRange
from lake.recovery import (
    delete_replaced,
    drop_abandoned,
    finish_compactions,
    finish_date_rewrites,
)
from lake.storage.operations import remove_file, sync_folder
from lake.storage.parquet_files import ROW_GROUP_ROWS, ParquetSink, WrittenFile
from lake.storage.paths import LakePaths, SealedName
from lake.storage.sql import literal, rows_query, spilling

log = structlog.get_logger()
LOOK_SECONDS = 1.0
MOVES_WITHIN = 1800.0
"""Seconds within which the loop moves: a public file is read, sorted and written in one go."""


class Compactor:
    """Seals the tables of one lake; only one runs at a time (a lock says so).

    Args:
        config: The configuration.
        heartbeat: Told that the loop moves.

    Raises:
        TerminalError: Another compactor of this lake is running.
    """

    def __init__(self, config: Config, heartbeat: Heartbeat = SILENT) -> None:
        self.config = config
        self._heartbeat = heartbeat
        self.paths = LakePaths(config.data_dir)
        with ExitStack() as opening:
            lake = opening.enter_context(open_lake(config, for_writing=True))
            self.ledger, self.session = lake.ledger, lake.session
            self._housekeeping = Housekeeping(config, lake)
            self._lock = opening.enter_context(only_compactor(self.paths))
            self._db = opening.enter_context(spilling(self.session, 1024))
            self._finish_open()
            self._opened = opening.pop_all()
        self.damaged = DamagedFiles(self.ledger)
        self._joins = RangeJoins(self.ledger)

    @property
    def public_bytes(self) -> float:
        """The size of a public file."""
        return self.config.settings.consumer.target_file_mb * 1024 * 1024

    def write(self, query: str, path: Path, about: Footer) -> WrittenFile:
        """Write the rows of a query, as they come: they need not fit into memory.

        Args:
            query: Over the lake's files; it gives at least one row.
            path: Where, in staging.
            about: Goes into the footer.

        Raises:
            DiskFull: There is no room; nothing is left behind.
        """
        reader = self._db.execute(query).to_arrow_reader(ROW_GROUP_ROWS)
        sink = ParquetSink(path, reader.schema)
        try:
            for batch in reader:
                sink.write(batch)
        except BaseException:
            sink.discard()
            raise
        return sink.close(about.dump())

    def close(self) -> None:
        """Let go of the lock and the ledger."""
        self._opened.close()

    def run(self, stop: threading.Event) -> None:
        """Seal what is due, until told to stop; a failure is logged and tried again."""
        while not stop.is_set():
            try:
                self.pass_once(force=False)
                self._housekeeping.look()
                self._heartbeat.forget("compaction")
            except TransientError as error:
                log.warning(
                    "compaction_failed",
                    message="A compaction failed and is retried.",
                    reason=str(error),
                )
                part = Part("step", RETRYING, reason=error.what, remedy=error.remedy)
                self._heartbeat.part("compaction", part)
            stop.wait(LOOK_SECONDS)

    def pass_once(self, force: bool) -> int:
        """Look at every table once.

        Args:
            force: Seal everything, due or not.

        Returns:
            The number of public files made.
        """
        # One that a full disk stopped half-way: its inputs must not be sealed a second time.
        self._finish_open()
        made = 0
        for ref, _ in self.config.tables():
            self._heartbeat.beat(f"looking at {ref.topic}", MOVES_WITHIN)
            hot = self._hot(ref)
            with suppress(CommitConflict):  # rebuilt meanwhile: at the next look
                while seal_is_due(hot, time.time(), self.config.settings.consumer, force):
                    self._heartbeat.beat(f"sealing {ref.topic}", MOVES_WITHIN)
                    oldest = self.damaged.sound(ref, self._oldest(hot))
                    made += self._timed_seal(ref, oldest) if oldest else 0
                    hot = self._hot(ref)
                small = self.damaged.sound(ref, merge_is_due(self._of_one_topic(hot)))
                if small:
                    self._merge(ref, small)
            self._joins.look_at(ref.topic)
        self._joins.give_room_back()
        drop_abandoned(self.ledger)
        delete_replaced(self.ledger)
        return made

    def _hot(self, ref: TableRef) -> tuple[LakeFile, ...]:
        return self.damaged.left_out(self.ledger.files.hot(ref.topic))

    def _finish_open(self) -> None:
        finish_compactions(self.ledger)
        with suppress(ServiceUnreachable):  # while somebody reads: at the next look
            finish_date_rewrites(self.ledger, self.session)

    def _of_one_topic(self, hot: Sequence[LakeFile]) -> list[LakeFile]:
        """The files whose rows come from the oldest file's topic.

        A topic that was made anew counts its offsets from 0 again: its rows get their own files.
        """
        topics = self.ledger.files.topic_ids(f.file_id for f in hot)
        return [f for f in hot if topics[f.file_id] == topics[hot[0].file_id]]

    def _oldest(self, hot: Sequence[LakeFile]) -> list[LakeFile]:
        """The oldest files up to the size of a public one, so that memory stays bounded."""
        limit = self.public_bytes
        oldest: list[LakeFile] = []
        size = 0
        for file in self._of_one_topic(hot):
            size += file.bytes
            if oldest and size > limit:
                break
            oldest.append(file)
        return oldest

    def _table_of(
        self, ref: TableRef, hot: Sequence[LakeFile]
    ) -> tuple[TableState, list[tuple[int, OffsetRange]], str]:
        """The table of some hot files, the ranges of their commits, a query of their rows."""
        state = self.ledger.tables.get(ref.topic)
        assert state is not None, "a table with hot files is in the ledger"
        columns = state.schema.relation(self.config.kind(ref))
        ranges = self.ledger.offsets.of_files(f.file_id for f in hot)
        return state, ranges, rows_query(columns, [f.path for f in hot])

    def _timed_seal(self, ref: TableRef, hot: Sequence[LakeFile]) -> int:
        with SEAL_SECONDS.time():
            made = self._seal(ref, hot)
        SEALED_FILES.labels(ref.topic).inc(made)
        return made

    def _seal(self, ref: TableRef, hot: Sequence[LakeFile]) -> int:
        state, ranges, source = self._table_of(ref, hot)
        days = self._db.execute(
            f"SELECT _partition, _kafka_ts::DATE, max(_offset) FROM ({source})"
            " GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        outputs: list[PlannedFile] = []
        with self._gone_without_intent(outputs):
            for partition, day, last in days:
                own = [(number, span) for number, span in ranges if span.partition == partition]
                spans = [span for _, span in own]
                spans += self._without_rows(state, spans, ranges, partition)
                part = DatePart(partition, day, last, tuple(spans))
                file, final = self._write(ref, state, source, part)
                outputs.append(self.planned(file, final, tuple(number for number, _ in own)))
            self._record_intent(ref, state.generation, hot, outputs)
        self._finish_open()
        return len(outputs)

    def _without_rows(
        self,
        state: TableState,
        own: Sequence[OffsetRange],
        ranges: Sequence[tuple[int, OffsetRange]],
        partition: int,
    ) -> list[OffsetRange]:
        """Ranges that no file has a row of: they stand in a neighbour's footer, or nowhere."""
        found = [s for _, s in ranges if s.partition != partition and not s.rows]
        return found + self.ledger.offsets.without_rows(state.topic, state.generation, own)

    @contextmanager
    def _gone_without_intent(self, outputs: Sequence[PlannedFile]) -> Iterator[None]:
        """Files that no intent names in the end go at once: each try would leave some more."""
        try:
            yield
        except DuckLakeError:
            intended = {o for open_ in self.ledger.compactions.open() for o in open_.intent.outputs}
            for output in set(outputs) - intended:
                remove_file(self.paths.root / output.staged)
            raise

    def _merge(self, ref: TableRef, small: Sequence[LakeFile]) -> None:
        """Many small hot files become one, still private: readers have fewer to open."""
        state, ranges, source = self._table_of(ref, small)
        query = f"SELECT * FROM ({source}) ORDER BY _partition, _offset"
        name = f"{self.session.id}-{secrets.token_hex(8)}.parquet"
        spans = [span for _, span in ranges]
        about = self.footer(ref, state, spans)
        file = self.write(query, self.session.folder / name, about)
        final = self.paths.hot(ref) / name
        output = self.planned(file, final, tuple(sorted({number for number, _ in ranges})))
        with self._gone_without_intent([output]):
            self._record_intent(ref, state.generation, small, [output])
        self._finish_open()

    def planned(self, file: WrittenFile, final: Path, commits: tuple[int, ...]) -> PlannedFile:
        """A staged file with its place, as an intent names it."""
        staged, place = self.paths.relative(file.path), self.paths.relative(final)
        return PlannedFile(staged, place, file.rows, file.size, file.sha256, commits)

    def _record_intent(
        self,
        ref: TableRef,
        generation: int,
        old: Sequence[LakeFile],
        outputs: Sequence[PlannedFile],
    ) -> None:
        """Record what will be renamed and flipped; from here on recovery rolls it forward."""
        sync_folder(self.session.folder)  # the names must be there after a power cut, too
        failpoint("seal.before_intent")
        intent = CompactionIntent(tuple(f.file_id for f in old), tuple(outputs))
        self.ledger.compactions.record_intent(ref.topic, generation, intent)
        failpoint("seal.after_intent")

    def _write(
        self,
        ref: TableRef,
        state: TableState,
        source: str,
        part: DatePart,
    ) -> tuple[WrittenFile, Path]:
        """A public file in staging, and its place."""
        day, spans = part.day, part.offset_ranges
        query = (
            f"SELECT * FROM ({source}) WHERE _partition = {part.partition}"
            f" AND _kafka_ts::DATE = {literal(day.isoformat())} ORDER BY _offset"
        )
        name = SealedName(spans[0].topic_id, part.partition, spans[0].first, part.last).name()
        staged = self.session.folder / f"{day.isoformat()}-{name}"
        file = self.write(query, staged, self.footer(ref, state, spans))
        return file, self.paths.day(ref, day, state.generation) / name

    def footer(self, ref: TableRef, state: TableState, spans: Sequence[OffsetRange]) -> Footer:
        """What a file of these ranges says of itself."""
        newest = self.ledger.commits.newest_number()
        return Footer(ref.topic, state.generation, tuple(spans), newest, state.schema)
