"""Ledger, commit, compaction, rebuild and recovery against a list as model: any order, any crash.

Without Kafka: a topic is a list. Workers take partitions without asking each other, so every one
may be a zombie. A crash is an exception at a failpoint, after which the object is abandoned as a
killed process is: its lock free, its files where they are.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consumers.compaction import planning
from consumers.compaction.compactor import Compactor
from consumers.ingest.flush import Flush, commit_flush
from consumers.maintenance.ledger_rebuild import restore_ledger
from consumers.replay import build, generation_builder, generation_switch, rebuild, tables
from consumers.replay.backfill import Replay
from consumers.replay.comparison import Comparison
from consumers.replay.context import ReplayScope
from consumers.replay.offset_ranges import Bounds
from consumers.replay.rebuild import Rebuild
from consumers.replay.segments import SegmentWriter
from lake import failpoints
from lake.config import load_config
from lake.errors import CommitConflict, DiskFull, ServiceUnreachable, TableHeld, TerminalError
from lake.kafka.topics import TopicIdentity
from lake.ledger import Ledger, TableState
from lake.ledger import core as ledger_module
from lake.records import OffsetRange
from lake.recovery import delete_replaced, recover
from lake.storage.paths import LakePaths
from lake.storage.session import Session, session_is_alive
from lake.storage.sql import rows_query
from tests.crash.listed_topic import (
    PARTITIONS,
    REF,
    ListReader,
    Produced,
    Topic,
    list_decoder,
    rows_of,
    schema_of,
)
from tests.crash.test_failpoints import points

# An abandoned object's files are closed when Python finds out.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
EXAMPLES = int(os.environ.get("DUCKLAKE_EXAMPLES", "30"))
# `make sabotage` asks only whether it fails, not for the shortest way to it.
PHASES = (Phase.generate,) if "DUCKLAKE_NO_SHRINKING" in os.environ else tuple(Phase)
DAY_MS = 86_400_000
SETTINGS = """\
services:
  kafka: {bootstrap_servers: "127.0.0.1:9"}
  connect: {url: "http://127.0.0.1:9"}
  postgres: {host: 127.0.0.1}
sources: {shop: {type: plain, tables: {orders: {}}}}
consumer: {seal_max_age_seconds: 3600}
"""
WHERE_DISKS_FILL_UP = frozenset(
    step
    for step in points()
    if step.startswith(("file.before", "move.before", "folder.", "ledger.before", "seal.in_flip"))
    or step in ("commit.in_ledger", "seal.before_move", "seal.before_intent")
)
CRASHES = st.one_of(st.none(), st.tuples(st.sampled_from(points()), st.integers(1, 3)))
WORKERS = st.integers(0, 1)
DURING = st.sampled_from(
    [
        None,
        None,
        "replay.after_begin",
        "replay.before_segment",
        "replay.before_reuse",
        "replay.after_hold",
        "replay.before_switch",
    ]
)
SHARES = st.lists(st.integers(0, PARTITIONS - 1), min_size=1, unique=True)


STOP = threading.Event()


class Crash(BaseException):
    """The process is dead from here on."""


class Worker:
    """What a lake writer is to the ledger."""

    def __init__(self, paths: LakePaths, topic: Topic) -> None:
        self.ledger = Ledger(paths)
        self.session = Session(paths)
        recover(self.ledger)
        self.state: TableState = self.ledger.tables.open(REF.topic, topic.id, PARTITIONS)
        self.next: dict[int, int] = {}
        self.firsts: dict[int, int] = {}
        self.buffer: list[Produced] = []
        for partition in range(PARTITIONS):  # each thinks that all are its own
            self.take(topic, partition)

    def take(self, topic: Topic, partition: int) -> None:
        """Be assigned a partition: from the ledger's position; what is held is flushed or lost."""
        self.resume()
        position = self.state.positions.get(partition)
        self.firsts[partition] = self.next[partition] = (
            topic.lows[partition] if position is None else position
        )

    def resume(self) -> None:
        """Drop what was read, and go on from the ledger's positions."""
        state = self.ledger.tables.get(REF.topic)
        assert state is not None
        self.state, self.buffer = state, []
        for partition in self.next:
            at = state.positions.get(partition, self.firsts[partition])
            self.next[partition] = self.firsts[partition] = at

    def read(self, topic: Topic, partition: int, count: int) -> None:
        at = self.next[partition]
        for record in islice(topic.held(partition, at), count):
            self.buffer.append(record)
            at, count = record.place + 1, count - 1
        self.next[partition] = at if count == 0 else max(at, topic.ends[partition])

    def flush(self, topic: Topic) -> None:
        moved = {p: n for p, n in self.next.items() if n > self.firsts[p]}
        if not moved:
            return
        found = Counter(r.partition for r in self.buffer)
        ranges = [
            OffsetRange(self.state.topic_id, p, self.firsts[p], n - 1, found[p])
            for p, n in moved.items()
        ]
        starts = {p: self.state.positions.get(p) for p in moved}
        schema = self.state.schema
        schema = schema_of(self.buffer, schema)
        rows = rows_of(self.buffer, schema) if self.buffer else None
        with suppress(CommitConflict, TableHeld):
            flush = Flush(self.state, starts, ranges, rows, schema)
            commit_flush(self.ledger, self.session, REF, flush)
        self.resume()

    def abandon(self) -> None:
        self.session._lock.close()
        self.ledger.close()


class Lake(RuleBasedStateMachine):
    """Any order of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lake-"))
        (self.folder / "ducklake.yml").write_text(SETTINGS)
        self.config = load_config(self.folder / "ducklake.yml")
        self.paths = LakePaths(self.config.data_dir)
        self.topic = Topic()
        self.seen: dict[Path, tuple[int, int]] = {}
        self.held: set[Path] = set()
        self.lost: set[tuple[int, int, int]] = set()
        self.forgotten: set[str] = set()
        self.during: Callable[[], None] | None = None
        self.rebuild_died = False
        self.number = 0
        self.disk_is_full = False
        self.clock = 1_790_000_000.0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(
            ledger_module, "time", SimpleNamespace(time=self._tick, monotonic=time.monotonic)
        )
        self.patch.setattr(planning, "MERGED_FILES", 3)
        self.patch.setattr(failpoints, "_die", self._die)
        self._let_replays_read_the_list()
        self.ledger = Ledger(self.paths)
        self.reader = Session(self.paths)
        self.workers = [Worker(self.paths, self.topic) for _ in range(2)]
        self.compactor = Compactor(self.config)

    def _let_replays_read_the_list(self) -> None:
        for module in (rebuild, build, tables):
            self.patch.setattr(module, "KafkaReader", lambda _: ListReader(lambda: self.topic))
        for module in (generation_builder, build, tables):
            self.patch.setattr(module, "decoder_of", list_decoder)
        self.patch.setattr(tables, "admin", lambda _: None)
        self.patch.setattr(tables, "identify", lambda *_: {REF.topic: self._identity()})
        self.patch.setattr(rebuild, "RETRY_SECONDS", 0.0)
        self.patch.setattr(generation_switch, "RETRY_SECONDS", 0.0)
        self.patch.setattr(generation_switch, "SWITCH_SECONDS", 0.05)
        # The dead tidy up nothing.
        for kind, name in ((Rebuild, "_give_up"), (SegmentWriter, "discard")):
            method = getattr(kind, name)

            def unless_dead(*given: Any, method: Any = method) -> None:
                if not isinstance(sys.exc_info()[1], Crash):
                    method(*given)

            self.patch.setattr(kind, name, unless_dead)

    def _identity(self) -> TopicIdentity:
        return TopicIdentity(REF.topic, self.topic.id, PARTITIONS)

    def teardown(self) -> None:
        for worker in self.workers:
            worker.abandon()
        self._abandon_compactor()
        self.reader._lock.close()
        self.ledger.close()
        self.patch.undo()
        shutil.rmtree(self.folder)

    def _tick(self) -> float:
        self.clock += 0.001
        return self.clock

    def _die(self) -> None:
        if self.during is not None:
            self.during()
            return
        if not self.disk_is_full:
            raise Crash
        if failpoints._wanted.startswith(("file.", "move.", "folder.")):
            raise OSError(errno.ENOSPC, "no room")
        raise DiskFull("no room")

    def _survives(
        self, action: Callable[[], object], crash: tuple[str, int] | None, full: bool = False
    ) -> bool:
        """Do something, with a crash (or a full disk) at a failpoint if it comes along."""
        failpoints.arm("" if crash is None else f"{crash[0]}:{crash[1]}")
        self.disk_is_full = full and crash is not None and crash[0] in WHERE_DISKS_FILL_UP
        try:
            with suppress(DiskFull):
                action()
            return True
        except Crash:
            return False
        finally:
            failpoints.arm("")

    def _abandon_compactor(self) -> None:
        self.compactor._db.close()
        self.compactor.session._lock.close()
        self.compactor.ledger.close()
        self.compactor._lock.close()

    # Steps ---------------------------------------------------------------------------------

    @rule(
        partition=st.integers(0, PARTITIONS - 1),
        count=st.integers(1, 4),
        gap=st.integers(0, 2),
        hours=st.integers(-30, 30),
        extra=st.sampled_from([None, None, "a", "b"]),
    )
    def produce(self, partition: int, count: int, gap: int, hours: int, extra: str | None) -> None:
        """Records, then markers or an aborted transaction: offsets without a record."""
        for _ in range(count):
            self.number += 1
            moment = 20_000 * DAY_MS + hours * 3_600_000
            offset = self.topic.ends[partition]
            self.topic.records.append(
                Produced(self.topic.epoch, partition, offset, self.number, moment, extra)
            )
            self.topic.ends[partition] += 1
        self.topic.ends[partition] += gap

    @rule(worker=WORKERS, partition=st.integers(0, PARTITIONS - 1))
    def rebalance(self, worker: int, partition: int) -> None:
        """The other one may not know of it: whoever is late is a zombie."""
        self.workers[worker].take(self.topic, partition)

    @rule(worker=WORKERS, count=st.integers(1, 6))
    def read(self, worker: int, count: int) -> None:
        for partition in self.workers[worker].next:
            self.workers[worker].read(self.topic, partition, count)

    @rule(worker=WORKERS, crash=CRASHES, full=st.booleans())
    def flush(self, worker: int, crash: tuple[str, int] | None, full: bool) -> None:
        if not self._survives(lambda: self.workers[worker].flush(self.topic), crash, full):
            self._restart(worker, None)

    @rule(shares=st.tuples(SHARES, SHARES), crash=CRASHES)
    def race(self, shares: tuple[list[int], list[int]], crash: tuple[str, int] | None) -> None:
        """Both have read, of the same or of different partitions, before either commits."""
        for worker, share in zip(self.workers, shares, strict=True):
            for partition in share:
                worker.read(self.topic, partition, 5)
        self.flush(0, None, False)
        self.flush(1, crash, False)

    @rule(worker=WORKERS, crash=CRASHES)
    def kill_worker(self, worker: int, crash: tuple[str, int] | None) -> None:
        self._restart(worker, crash)

    def _restart(self, worker: int, crash: tuple[str, int] | None) -> None:
        self.workers[worker].abandon()

        def start() -> None:
            self.workers[worker] = Worker(self.paths, self.topic)

        if not self._survives(start, crash):
            start()

    @rule(force=st.booleans(), crash=CRASHES, full=st.booleans())
    def compact(self, force: bool, crash: tuple[str, int] | None, full: bool) -> None:
        """Merge, seal and delete."""
        if not self._survives(lambda: self.compactor.pass_once(force), crash, full):
            self._abandon_compactor()
            recover(self.ledger)  # as a worker does that is assigned something just now

            def start() -> None:
                self.compactor = Compactor(self.config)

            if not self._survives(start, crash):
                start()

    @rule()
    def read_with_a_pin(self) -> None:
        """A reader that takes its time: its files stay until it is done."""
        last = self.ledger.pins.pin(self.reader.id)
        self.held = {new.path for new in self.ledger.files.new_rows(REF.topic, 0, last)}

    @rule()
    def end_reading(self) -> None:
        self.ledger.pins.unpin(self.reader.id)
        self.held = set()

    @rule(seconds=st.sampled_from([-100_000.0, -5.0, 5.0, 100_000.0]))
    def set_the_clock(self, seconds: float) -> None:
        self.clock += seconds

    @precondition(lambda self: self.topic.epoch < 2 and self.number % 5 == 4)
    @rule()
    def recreate_the_topic(self) -> None:
        """Deleted and made again, and accepted; the workers find out when they start again."""
        self.topic = Topic(self.topic.epoch + 1, records=self.topic.records)
        self.ledger.tables.accept_loss(REF.topic, self.topic.id, self.topic.lows)
        for worker in range(2):
            self._restart(worker, None)

    @precondition(lambda self: self.number % 3 == 2)
    @rule(partition=st.integers(0, PARTITIONS - 1))
    def expire_the_topic(self, partition: int) -> None:
        """Retention takes everything; what was not read is lost, and accepted as lost."""
        end = self.topic.ends[partition]
        state = self.ledger.tables.get(REF.topic)
        assert state is not None
        at = state.positions.get(partition, self.topic.lows[partition])
        never_read = partition not in state.positions
        self.lost |= {(self.topic.epoch, partition, o) for o in range(at, end)}
        self.topic.lows[partition] = end
        lost = self.ledger.tables.accept_loss(REF.topic, self.topic.id, self.topic.lows)
        assert [(r.first, r.next_offset) for r in lost] == (
            [] if never_read or at == end else [(at, end)]
        )
        for worker in range(2):
            self._restart(worker, None)

    # What must hold after each of them ------------------------------------------------------

    @invariant()
    def the_lake_holds_what_was_committed_each_row_once(self) -> None:
        state = self.ledger.tables.get(REF.topic)
        assert state is not None
        positions = {(self.topic.epoch, p): n for p, n in state.positions.items()}
        expected = {
            (r.epoch, r.partition, r.place): r
            for r in self.topic.records
            if (r.epoch, r.partition, r.place) not in self.lost
            and (
                r.place < positions.get((r.epoch, r.partition), 0)
                or (r.epoch < self.topic.epoch and self._was_read(r))
            )
        }
        columns = state.schema.relation("plain")
        names = [name for name, _ in columns]
        found: Counter[tuple[int, int, int]] = Counter()
        with duckdb.connect() as db:
            for new in self.ledger.files.new_rows(REF.topic, 0, self.ledger.commits.last()):
                query = rows_query(columns, [new.path], new.ranges)
                for values in db.execute(query).fetchall():
                    row = dict(zip(names, values, strict=True))
                    key = (row["_topic_epoch"], row["_partition"], row["_offset"])
                    found[key] += 1
                    record = expected[key]
                    assert row["id"] == record.number
                    if record.extra:
                        assert row[record.extra] == record.number, "a column was lost"
        assert set(found.values()) <= {1}, "a row twice"
        assert set(found) == set(expected), "a row is missing"
        assert sum(found.values()) == self.ledger.offsets.row_count(REF.topic)

    def _was_read(self, record: Produced) -> bool:
        """Of a topic that is gone: the ledger's ranges are all that is known."""
        topic_id = f"{record.epoch + 1:032x}"
        return any(
            s.topic_id == topic_id
            and s.partition == record.partition
            and s.first <= record.place <= s.last
            for s in self.ledger.offsets.history(REF.topic)
        )

    @invariant()
    def public_files_are_whole_never_change_and_hold_each_row_once(self) -> None:
        trees = {
            self.paths.raw(REF, g.number)
            for g in self.ledger.generations.all()
            if g.state != "building"
        }
        by_tree = {tree: {p for p in tree.rglob("*") if p.is_file()} for tree in trees}
        found = {path for paths in by_tree.values() for path in paths}
        self.seen = {p: s for p, s in self.seen.items() if trees & set(p.parents)}
        assert set(self.seen) <= found, "a public file vanished"
        for path in found:
            stat = path.stat()
            assert self.seen.setdefault(path, (stat.st_size, stat.st_mtime_ns)) == (
                stat.st_size,
                stat.st_mtime_ns,
            ), "a public file changed"
        for public in filter(None, by_tree.values()):
            with duckdb.connect() as db:
                db.execute("SET TimeZone = 'UTC'")
                rows = db.execute(
                    "SELECT _topic_epoch, _partition, _offset, _kafka_ts::DATE, filename"
                    f" FROM read_parquet({[str(p) for p in public]}, union_by_name = true,"
                    " hive_partitioning = false, filename = true)"
                ).fetchall()
            counts = Counter(row[:3] for row in rows)
            assert set(counts.values()) == {1}, "a row is public twice"
            for *_, day, name in rows:
                assert f"year={day:%Y}/month={day:%m}/day={day:%d}/" in name

    @invariant()
    def a_living_process_leaves_no_file_behind(self) -> None:
        """On a disk that is full each try would leave one more."""
        known = self.ledger.files.known_paths("hot") | self.ledger.intended_paths()
        files = {p: p.name.partition("-")[0] for p in (self.paths.root / "hot").rglob("*.parquet")}
        files |= {p: p.parent.name for p in self.paths.staging.rglob("*.parquet")}
        left = [
            path
            for path, session in files.items()
            if self.paths.relative(path) not in known and session_is_alive(self.paths, session)
        ]
        assert not left, f"left behind: {left}"

    @invariant()
    def what_a_reader_holds_stays(self) -> None:
        missing = [path for path in self.held if not path.exists()]
        assert not missing, f"deleted while pinned: {missing}"

    @invariant()
    def offsets_are_known_without_gap_or_overlap(self) -> None:
        ends: dict[tuple[str, int], int] = {}
        spans = [*self.ledger.offsets.history(REF.topic), *self.ledger.offsets.losses(REF.topic)]
        for span in sorted(spans, key=lambda s: (s.topic_id, s.partition, s.first)):
            key = (span.topic_id, span.partition)
            if span.topic_id in self.forgotten:
                assert ends.get(key, span.first) <= span.first, "an overlap"
            else:
                assert ends.get(key, span.first) == span.first, "a gap or an overlap"
            ends[key] = span.next_offset
        state = self.ledger.tables.get(REF.topic)
        assert state is not None
        for partition, position in state.positions.items():
            assert ends[state.topic_id, partition] == position


class RebuiltLake(Lake):
    """The same, with tables that are built anew and ledgers that are lost."""

    @rule(
        worker=WORKERS,
        during=DURING,
        crash=CRASHES,
        full=st.booleans(),
        again=st.tuples(st.integers(0, 6), st.one_of(st.none(), st.integers(0, 12))),
    )
    def rebuild(
        self,
        worker: int,
        during: str | None,
        crash: tuple[str, int] | None,
        full: bool,
        again: tuple[int, int | None],
    ) -> None:
        """Some offsets are read again, the rest is reused; others are at work meanwhile."""
        if self.ledger.commits.last() == 0:
            return

        def work() -> None:
            self.during = None
            self.clock += 60.0  # no hold lasts as long
            for partition in range(PARTITIONS):
                self.workers[worker].read(self.topic, partition, 5)
            self.workers[worker].flush(self.topic)
            self.compactor.pass_once(force=True)

        if during is not None:
            self.during, crash, full = work, (during, 1), False
        parts = range(PARTITIONS)
        bounds = Bounds(dict.fromkeys(parts, again[0]), dict.fromkeys(parts, again[1]))
        before = self.ledger.tables.get(REF.topic)
        assert before is not None
        endpoints, [(ref, table)] = self.config.endpoints(), list(self.config.tables())
        scope = ReplayScope(ref, table, bounds)
        build = partial(Rebuild(self.config, endpoints, scope).run, STOP)
        done = False
        try:
            done = self._survives(build, crash, full)
        except TerminalError as error:  # a compaction that a full disk stopped, or one meanwhile
            assert "could not switch" in str(error), error
        self.during = None
        state = self.ledger.tables.get(REF.topic)
        assert state is not None
        self.rebuild_died = not done
        if done and not full:
            assert state.generation > before.generation, "not switched"
        self.clock += 60.0  # the hold of a killed one

    @rule()
    def remove_old_generations(self) -> None:
        """All but the current one; not while a reader has pinned them."""
        alive = partial(session_is_alive, self.paths)
        for old in [g for g in self.ledger.generations.all() if g.state == "old"]:
            try:
                self.ledger.generations.drop(old.topic, old.number, alive)
            except ServiceUnreachable:
                assert self.ledger.pins.all()
        delete_replaced(self.ledger)

    @rule(crash=CRASHES)
    def replay(self, crash: tuple[str, int] | None) -> None:
        """Nothing is missing, and nothing is filled."""
        if self.ledger.commits.last():
            newest = self.ledger.commits.last()
            found: list[Comparison] = []
            if self._survives(lambda: found.append(self._replayed()), crash):
                assert found[0].exact and not found[0].missing, found
            assert self.ledger.commits.last() == newest

    def _replayed(self) -> Comparison:
        [(ref, table)] = list(self.config.tables())
        scope = ReplayScope(ref, table, Bounds({}, {}))
        return Replay(self.config, self.config.endpoints(), scope).run(STOP)

    @precondition(lambda self: self.number % 4 == 1)
    @rule(crash=CRASHES)
    def lose_the_ledger(self, crash: tuple[str, int] | None) -> None:
        """Made anew from the files; what they do not say is asked of the topic."""
        before = self._places()
        if not set(range(self.topic.epoch)) <= {epoch for epoch, *_ in before}:
            return  # the files cannot say how often the topic was made anew
        for worker in self.workers:
            worker.abandon()
        self._abandon_compactor()
        self.reader._lock.close()
        self.ledger.close()
        for path in self.paths.root.glob("ledger.db*"):
            path.unlink()
        identities = {REF.topic: self._identity()}
        if not self._survives(lambda: restore_ledger(self.paths, identities), crash):
            restore_ledger(self.paths, identities)
        self.held, self.seen = set(), {}
        self.ledger, self.reader = Ledger(self.paths), Session(self.paths)
        state = self.ledger.tables.get(REF.topic)
        if state is not None:
            if state.topic_id != self.topic.id:
                self.ledger.tables.accept_loss(REF.topic, self.topic.id, self.topic.lows)
            recover(self.ledger)
            self._replayed()
            self.ledger.tables.accept_loss(REF.topic, self.topic.id, self.topic.lows)
            assert self._replayed().exact
        self.workers = [Worker(self.paths, self.topic) for _ in range(2)]
        self.compactor = Compactor(self.config)
        # Of a topic that is gone nobody can say any more where it had markers only.
        self.forgotten |= {f"{epoch + 1:032x}" for epoch in range(self.topic.epoch)}
        assert before <= self._places(), "lost with the ledger"

    def _places(self) -> set[tuple[int, int, int]]:
        """Epoch, partition and offset of each row."""
        columns = [("_topic_epoch", "INTEGER"), ("_partition", "INTEGER"), ("_offset", "BIGINT")]
        found: set[tuple[int, int, int]] = set()
        with duckdb.connect() as db:
            for new in self.ledger.files.new_rows(REF.topic, 0, self.ledger.commits.last()):
                found |= set(db.execute(rows_query(columns, [new.path], new.ranges)).fetchall())
        return found


TestLake = Lake.TestCase
TestRebuiltLake = RebuiltLake.TestCase
TestLake.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    derandomize="DUCKLAKE_EXAMPLES" not in os.environ,
    print_blob=True,
    phases=PHASES,
    suppress_health_check=list(HealthCheck),
)
TestRebuiltLake.settings = settings(TestLake.settings, max_examples=EXAMPLES // 2)


# Told, not found by chance: what a compaction must survive is too rare in any order of steps

COMPACTION = tuple(
    name
    for name in points()
    if name.startswith(("seal.", "file.", "move.", "folder.", "ledger.", "session."))
)


@pytest.fixture
def told() -> Iterator[RebuiltLake]:
    lake = RebuiltLake()
    try:
        yield lake
    finally:
        lake.teardown()


def _flush_rows_of(lake: Lake, *hours: int) -> None:
    for hour in hours:
        for partition in range(PARTITIONS):
            lake.produce(partition, 2, 1, hour, None)
        lake.read(0, 6)
        lake.flush(0, None, False)


def _look(lake: Lake) -> None:
    lake.the_lake_holds_what_was_committed_each_row_once()
    lake.public_files_are_whole_never_change_and_hold_each_row_once()
    lake.a_living_process_leaves_no_file_behind()
    lake.offsets_are_known_without_gap_or_overlap()


@pytest.mark.parametrize(
    ("step", "full"),
    [(step, False) for step in COMPACTION]
    + [(step, True) for step in COMPACTION if step in WHERE_DISKS_FILL_UP],
)
def test_a_compaction_interrupted_at_any_step(told: Lake, step: str, full: bool) -> None:
    """A seal of several days, and a merge; killed there, or the disk is full there."""
    for force, hours in ((True, (-30, 30)), (False, (0, 1, 2))):
        _flush_rows_of(told, *hours)
        told.compact(force, (step, 1), full)
        _look(told)
        told.compact(force, None, False)
        _look(told)
    told.compact(True, None, False)
    _look(told)
    assert told.ledger.files.hot(REF.topic) == ()


def test_rows_of_a_topic_made_anew_get_files_of_their_own(told: Lake) -> None:
    for force in (False, True):
        _flush_rows_of(told, 0, 0)
        told.recreate_the_topic()
        _flush_rows_of(told, 0, 0)
        told.compact(force, None, False)
        _look(told)
    names = Counter(p.name for p in told.seen)
    assert max(names.values()) == 1 and len({n[:33] for n in names}) == 3


def test_what_two_have_read_is_committed_once(told: RebuiltLake) -> None:
    for _ in range(2):
        for partition in range(PARTITIONS):
            told.produce(partition, 3, 1, 0, None)
        told.race(([0, 1], [1]), None)
        _look(told)


def test_what_is_replaced_stays_while_a_reader_has_pinned_it(told: RebuiltLake) -> None:
    _flush_rows_of(told, -30, 30)
    told.read_with_a_pin()
    assert told.held
    told.compact(True, None, False)
    told.rebuild(0, None, None, False, (0, None))
    told.remove_old_generations()
    told.what_a_reader_holds_stays()
    told.end_reading()
    told.remove_old_generations()
    _look(told)


REBUILDING = tuple(
    name
    for name in points()
    if name.startswith(("replay.", "file.", "move.", "ledger."))
    and not name.endswith(("_fill", "_replace"))
)
LONG = "DUCKLAKE_EXAMPLES" in os.environ
BETWEEN = ("replay.after_hold", "replay.before_reuse", "replay.before_switch")
LOSING = ("replay.before_segment", "replay.before_switch", "replay.after_switch")
AROUND = tuple(s for s in REBUILDING if s.startswith("replay.") and ".in_" not in s)


def _of_which_half_is_gone(lake: RebuiltLake) -> None:
    """Public and hot rows of two days; those before offset 4 are gone from the topic."""
    _flush_rows_of(lake, -30, 30)
    lake.compact(True, None, False)
    _flush_rows_of(lake, 0)
    lake.topic.lows = dict.fromkeys(range(PARTITIONS), 4)


def test_a_rebuild_interrupted_at_any_step(told: RebuiltLake) -> None:
    """Killed there, or the disk is full there: nothing has changed, or it is done."""
    _of_which_half_is_gone(told)
    full_at = [(step, True) for step in REBUILDING if step in WHERE_DISKS_FILL_UP]
    for step, full in [*((step, False) for step in REBUILDING), *full_at]:
        told.rebuild(0, None, (step, 1), full, (0, None))
        assert told.rebuild_died is not full, f"{step} was not reached"
        _look(told)
        told.compact(False, None, False)  # drops what the killed one left
        assert "building" not in {g.state for g in told.ledger.generations.all()}
    told.rebuild(0, None, None, False, (0, None))
    told.remove_old_generations()
    _look(told)


@pytest.mark.parametrize("during", AROUND if LONG else BETWEEN)
def test_a_rebuild_with_commits_and_a_compaction_at_any_step(
    told: RebuiltLake, during: str
) -> None:
    _of_which_half_is_gone(told)
    for again in ((0, None), (5, 8)):
        for partition in range(PARTITIONS):
            told.produce(partition, 2, 1, 0, "a")
        told.rebuild(0, during, None, False, again)
        _look(told)


@pytest.mark.parametrize("step", REBUILDING if LONG else LOSING)
def test_the_ledger_lost_with_a_rebuild_half_way(told: RebuiltLake, step: str) -> None:
    """Rows that the topic no longer has are in the old generation's files alone."""
    _of_which_half_is_gone(told)
    told.rebuild(0, None, (step, 1), False, (0, None))
    told.lose_the_ledger(None)
    _look(told)
    _flush_rows_of(told, 1)
    told.lose_the_ledger(None)
    _look(told)
