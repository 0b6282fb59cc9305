"""Hot files become sealed public ones: its own loop, beside the writers.

Write aside, announce in the ledger, rename all, flip hot to sealed in one transaction, and delete
the hot files once no pinned reader lists them. Recovery rolls forward from the announcement.
"""

from __future__ import annotations

import fcntl
import secrets
import threading
import time
from collections.abc import Sequence
from datetime import date

import duckdb
import structlog

from consumers.hot_files import footer
from consumers.planning import merge_is_due, seal_is_due
from consumers.recovery import finish_seal, recover
from ducklake.config import Config, TableRef
from ducklake.errors import TerminalError, TransientError
from ducklake.failpoints import failpoint
from ducklake.lake.files import Session, session_is_alive, write_parquet
from ducklake.lake.ledger import LakeFile, Ledger, Move, SealIntent
from ducklake.lake.paths import LakePaths, SealedName
from ducklake.lake.sql import literal, rows_query
from ducklake.records import OffsetRange

log = structlog.get_logger()
LOOK_SECONDS = 1.0


class Compactor:
    """Seals the tables of one lake; only one runs at a time (a lock says so).

    Raises:
        TerminalError: Another compactor of this lake is running.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paths = LakePaths(config.data_dir)
        self.ledger = Ledger(self.paths)
        self._lock = (self.paths.root / "compactor.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TerminalError(
                "Another compactor of this lake is running.", "One is enough; stop the other first."
            ) from None
        self.session = Session(self.paths)
        self._db = duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})
        self._db.execute("SET TimeZone = 'UTC'")
        for seal, topic, intent in self.ledger.open_seals():
            finish_seal(self.ledger, seal, topic, intent)
        recover(self.ledger)

    def close(self) -> None:
        """Let go of the lock and the ledger."""
        self._db.close()
        self.session.close()
        self.ledger.close()
        self._lock.close()

    def run(self, stop: threading.Event) -> None:
        """Seal what is due, until told to stop; a failure is logged and tried again."""
        while not stop.is_set():
            try:
                self.pass_once(force=False)
            except TransientError as error:
                log.warning("compaction will be tried again", reason=str(error))
            stop.wait(LOOK_SECONDS)

    def pass_once(self, force: bool) -> int:
        """Look at every table once.

        Args:
            force: Seal everything, due or not.

        Returns:
            The number of public files made.
        """
        made = 0
        for ref, _ in self.config.tables():
            hot = self.ledger.hot_files(ref.topic)
            while seal_is_due(hot, time.time(), self.config.settings.consumer, force):
                made += self._seal(ref, self._portion(hot))
                hot = self.ledger.hot_files(ref.topic)
            small = merge_is_due(hot)
            if small:
                self._merge(ref, small)
        self._delete_replaced()
        return made

    def _portion(self, hot: Sequence[LakeFile]) -> list[LakeFile]:
        """The oldest files up to the size of a public one, so that memory stays bounded."""
        limit = self.config.settings.consumer.seal_mb * 1024 * 1024
        portion: list[LakeFile] = []
        for file in hot:
            if portion and sum(f.bytes for f in portion) + file.bytes > limit:
                break
            portion.append(file)
        return portion

    def _seal(self, ref: TableRef, hot: Sequence[LakeFile]) -> int:
        state = self.ledger.table(ref.topic)
        assert state is not None, "a table with hot files is in the ledger"
        ranges = self.ledger.ranges_of(f.file_id for f in hot)
        source = rows_query(state.schema.relation(self.config.kind(ref)), [f.path for f in hot])
        days = self._db.execute(
            f"SELECT DISTINCT _partition, _kafka_ts::DATE FROM ({source}) ORDER BY ALL"
        ).fetchall()
        moves, commits = [], []
        for partition, day in days:
            spans = [(number, span) for number, span in ranges if span.partition == partition]
            move = self._write(ref, state.generation, source, partition, day, [s for _, s in spans])
            moves.append(move)
            commits.append(tuple(number for number, _ in spans))
        self._replace(ref, hot, moves, commits)
        return len(moves)

    def _merge(self, ref: TableRef, small: Sequence[LakeFile]) -> None:
        """Many small hot files become one, still private: readers have fewer to open."""
        state = self.ledger.table(ref.topic)
        assert state is not None, "a table with hot files is in the ledger"
        ranges = self.ledger.ranges_of(f.file_id for f in small)
        source = rows_query(state.schema.relation(self.config.kind(ref)), [f.path for f in small])
        rows = self._db.execute(
            f"SELECT * FROM ({source}) ORDER BY _partition, _offset"
        ).to_arrow_table()
        name = f"{self.session.id}-{secrets.token_hex(8)}.parquet"
        spans = [span for _, span in ranges]
        file = write_parquet(rows, self.session.folder / name, footer(ref, state.generation, spans))
        final = self.paths.hot(ref) / name
        relative = self.paths.relative
        move = (relative(file.path), relative(final), file.rows, file.size, file.sha256)
        self._replace(ref, small, [move], [tuple(sorted({number for number, _ in ranges}))])

    def _replace(
        self,
        ref: TableRef,
        old: Sequence[LakeFile],
        moves: Sequence[Move],
        commits: Sequence[tuple[int, ...]],
    ) -> None:
        """Announce, rename, flip; from the announcement on recovery rolls it forward."""
        failpoint("seal.before_intent")
        intent = SealIntent(tuple(f.file_id for f in old), tuple(moves), tuple(commits))
        seal = self.ledger.begin_seal(ref.topic, intent)
        finish_seal(self.ledger, seal, ref.topic, intent)

    def _write(
        self,
        ref: TableRef,
        generation: int,
        source: str,
        partition: int,
        day: date,
        spans: Sequence[OffsetRange],
    ) -> Move:
        rows = self._db.execute(
            f"SELECT * FROM ({source}) WHERE _partition = {partition}"
            f" AND _kafka_ts::DATE = {literal(day.isoformat())} ORDER BY _offset"
        ).to_arrow_table()
        last = rows.column("_offset")[-1].as_py()
        name = SealedName(spans[0].topic_id, partition, spans[0].first, last).name()
        staged = self.session.folder / f"{day.isoformat()}-{name}"
        file = write_parquet(rows, staged, footer(ref, generation, spans))
        final = self.paths.day(ref, day) / name
        relative = self.paths.relative
        return (relative(staged), relative(final), file.rows, file.size, file.sha256)

    def _delete_replaced(self) -> None:
        pins = [at for session, at in self.ledger.pins() if session_is_alive(self.paths, session)]
        for file in self.ledger.obsolete_files(before=min(pins, default=time.time())):
            failpoint("seal.before_delete")
            file.path.unlink(missing_ok=True)
            failpoint("seal.before_forget")
            self.ledger.forget_file(file.file_id)
