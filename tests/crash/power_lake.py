"""A tiny lake without Kafka: what its processes do, to be recorded.

    python -m tests.crash.power_lake FOLDER      (under strace; one lake for each scenario)

Commit n brings offsets 3n-3 to 3n-1 of each of two partitions, of two days in turns; the second
partition is a day later.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from consumers.compaction import planning
from consumers.compaction.compactor import Compactor
from consumers.compaction.date_rewrite import rewrite_date
from consumers.ingest.decoding import Decoded
from consumers.ingest.flush import Flush, HotRows, commit_flush, write_hot
from consumers.maintenance.backup import restore_ledger_of, write_backup
from consumers.maintenance.ledger_rebuild import restore_ledger
from consumers.replay.reuse import FileReuse
from consumers.replay.segments import SegmentWriter, Target
from lake import failpoints
from lake.config import Config, TableRef, load_config
from lake.kafka.topics import TopicIdentity
from lake.ledger import NOW, Gap, Ledger, TableState
from lake.ledger.generations import HOLD_SECONDS
from lake.ledger.staleness import assert_ledger_current
from lake.records import OffsetRange
from lake.recovery import delete_replaced, recover
from lake.storage.operations import sync_folder
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session
from tests.crash.power_loss import mark

REF = TableRef("shop", "orders")
TOPIC_ID = "ab" * 16
SCHEMA = Schema((source_column("order_id", "BIGINT"), source_column("note", "VARCHAR")))
FIRST_DAY = date(2026, 1, 5)
ROWS = 3
PARTITIONS = (0, 1)
Place = tuple[int, int]
"""Partition and offset."""
HOLE: Place = (0, 4)
"""In the middle of the second commit."""
SETTINGS = """\
sources: {shop: {type: plain, tables: {orders: {}}}}
consumer: {seal_max_age_seconds: 3600}
"""


def expected(commits: int, rebuilt: int = 0) -> dict[Place, tuple[int, str]]:
    """(partition, offset) to the values, after so many commits.

    Args:
        commits: How many.
        rebuilt: How many of them a rebuild has read again, of the first partition.
    """
    return {
        (p, offset): (2 * offset + p, _note(p, offset, rebuilt))
        for p in PARTITIONS
        for offset in range(commits * ROWS)
    }


def _note(partition: int, offset: int, rebuilt: int) -> str:
    return "again" if partition == 0 and offset < rebuilt * ROWS else f"first {partition} {offset}"


def day_of(partition: int, offset: int) -> date:
    return FIRST_DAY + timedelta(days=offset % 2 + partition)


def table(places: list[Place], rebuilt: int = 0) -> pa.Table:
    """The rows of some (partition, offset)."""
    moments = [datetime.combine(day_of(*place), datetime.min.time(), UTC) for place in places]
    stamps = pa.array(moments, pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "order_id": pa.array([2 * o + p for p, o in places], pa.int64()),
            "note": [_note(p, o, rebuilt) for p, o in places],
            "_op": ["r"] * len(places),
            "_source_ts": stamps,
            "_kafka_ts": stamps,
            "_topic": [REF.topic] * len(places),
            "_partition": pa.array([p for p, _ in places], pa.int32()),
            "_offset": pa.array([o for _, o in places], pa.int64()),
            "_topic_epoch": pa.array([0] * len(places), pa.int32()),
        }
    )


def flush(
    ledger: Ledger, session: Session, state: TableState, without: frozenset[Place] = frozenset()
) -> None:
    """The next commit; it may lack some rows."""
    first = state.positions.get(0, 0)
    end = first + ROWS
    places = {p: [(p, o) for o in range(first, end) if (p, o) not in without] for p in PARTITIONS}
    rows = table([place for some in places.values() for place in some])
    spans = [OffsetRange(TOPIC_ID, p, first, end - 1, len(some)) for p, some in places.items()]
    starts = {p: state.positions.get(p) for p in PARTITIONS}
    commit_flush(ledger, session, REF, Flush(state, starts, spans, rows, SCHEMA))


class SmallLake:
    """What processes do to one lake.

    Args:
        folder: Of the lake; its name is that of the scenario.
        recorded: Whether to say what was done.
    """

    def __init__(self, folder: Path, recorded: bool) -> None:
        self.folder = folder
        self._recorded = recorded
        path = folder / "ducklake.yml"
        if not path.exists():
            path.write_text(SETTINGS)
        self.config: Config = load_config(path)
        self.paths = LakePaths(self.config.data_dir)

    def say(self, settled: bool = False, **said: Any) -> None:
        if self._recorded:
            os.write(1, mark(self.folder.name, settled, **said))

    def commit(self, count: int = 1, without: frozenset[Place] = frozenset()) -> None:
        """What a worker does: start, and flush."""
        with Ledger(self.paths) as ledger, Session(self.paths) as session:
            assert_ledger_current(ledger)
            recover(ledger)
            for _ in range(count):
                state = ledger.tables.open(REF.topic, TOPIC_ID, len(PARTITIONS))
                flush(ledger, session, state, without)
                self.say(commits=state.positions.get(0, 0) // ROWS + 1)

    def compact(self, force: bool = True) -> None:
        """What a compactor does: start, and look once."""
        compactor = Compactor(self.config)
        compactor.pass_once(force=force)
        compactor.close()

    def merge(self) -> None:
        """Hot files become one hot file."""
        planning.MERGED_FILES = 2
        self.compact(force=False)

    def merge_days(self) -> None:
        """`ducklake compact --days`."""
        compactor = Compactor(self.config)
        for day in (day_of(0, 0), day_of(0, 1)):
            rewrite_date(compactor, REF, day)
            self.say(merged=day.isoformat())
        compactor.close()

    def rebuild(self) -> None:
        """`ducklake replay --rebuild`: the first partition read again, the second one reused."""
        with Ledger(self.paths) as ledger, Session(self.paths) as session:
            state = ledger.tables.get(REF.topic)
            assert state is not None
            generation = ledger.generations.begin(REF.topic, session.id)
            target = Target(REF, generation, TOPIC_ID, session.id, session.folder, 1e6)
            end = state.positions[0]
            writer = SegmentWriter(ledger, target, 0, 0)
            rows = table([(0, offset) for offset in range(end)], rebuilt=end // ROWS)
            writer.add(Decoded(rows, SCHEMA, ()), end)
            writer.finish(end)
            ledger.generations.hold(REF.topic, generation, session.id, HOLD_SECONDS)
            reuse = FileReuse(
                ledger, session, target, "plain", lambda span: [span] if span.partition else []
            )
            reuse.take_over(state, 0, ledger.commits.newest_number())
            failpoints.failpoint("replay.before_switch")
            ledger.generations.switch(state, generation, session.id, SCHEMA)
            self.say(generation=generation)

    def fill(self) -> None:
        """`ducklake replay`, where a row is missing within a commit."""
        partition, offset = HOLE
        with Ledger(self.paths) as ledger, Session(self.paths) as session:
            state = ledger.tables.get(REF.topic)
            assert state is not None
            old = next(
                r
                for r in ledger.offsets.history(REF.topic)
                if r.partition == partition and r.first <= offset <= r.last
            )
            kept = tuple(OffsetRange(TOPIC_ID, 0, o, o, 1) for o in (old.first, old.last))
            span = OffsetRange(TOPIC_ID, partition, offset, offset, 1)
            rows = HotRows(REF, state.generation, SCHEMA, table([HOLE]), [span])
            file = write_hot(ledger, session, rows)
            ledger.commits.backfill(state, session.id, [Gap(span, (old,), kept)], file, SCHEMA)
            self.say(filled=True)

    def lose_a_file(self) -> None:
        """A disk that has lost the one hot file."""
        [file] = (self.paths.root / "hot").rglob("*.parquet")
        file.unlink()
        sync_folder(file.parent)

    def repair(self) -> None:
        """`ducklake replay`, where a file is missing: the same rows in a file of another name."""
        with Ledger(self.paths) as ledger, Session(self.paths) as session:
            recover(ledger)
            state = ledger.tables.get(REF.topic)
            assert state is not None
            for lost in ledger.files.contents(REF.topic, state.generation, 0, NOW):
                if lost.path.exists():
                    continue
                places = [(s.partition, o) for s in lost.ranges for o in range(s.first, s.last + 1)]
                rows = HotRows(
                    REF,
                    state.generation,
                    SCHEMA,
                    table(sorted(places)),
                    lost.ranges,
                    replaces=self.paths.relative(lost.path),
                )
                made = write_hot(ledger, session, rows)
                ledger.files.replace(REF.topic, state.generation, lost.file_id, made)
            self.say(repaired=True)
            delete_replaced(ledger)

    @property
    def backup(self) -> Path:
        """Where a backup goes."""
        return self.folder / "backups" / "first"

    def back_up(self) -> None:
        """`ducklake backup`."""
        write_backup(self.paths, self.config.settings.name, {"shop": "{}"}, self.backup)
        self.say(backed_up=True)

    def bring_back(self) -> None:
        """`ducklake restore`."""
        restore_ledger_of(self.backup, self.paths)

    def lose_the_ledger(self) -> None:
        """A disk that has lost one file; its log is left."""
        self.paths.ledger.unlink()
        sync_folder(self.paths.root)

    def restore(self) -> None:
        """`ducklake ledger rebuild`."""
        identity = TopicIdentity(REF.topic, TOPIC_ID, len(PARTITIONS))
        restore_ledger(self.paths, {REF.topic: identity})


Step = tuple[Callable[[SmallLake], None], str]
"""What a process does, and the failpoint at which it is killed."""


def _sealed_twice(lake: SmallLake) -> None:
    for _ in range(2):
        lake.commit()
        lake.compact()


def _hot_and_sealed(lake: SmallLake) -> None:
    _sealed_twice(lake)
    lake.commit()


def _nothing(lake: SmallLake) -> None:
    pass


def _backed_up(lake: SmallLake) -> None:
    _hot_and_sealed(lake)
    lake.back_up()


def _with_a_hole(lake: SmallLake) -> None:
    lake.commit()
    lake.commit(without=frozenset({HOLE}))
    lake.compact()
    lake.commit()


def _with_a_lost_file(lake: SmallLake) -> None:
    _hot_and_sealed(lake)
    lake.lose_a_file()


SCENARIOS: dict[str, tuple[Callable[[SmallLake], None], tuple[Step, ...]]] = {
    "first_commit": (_nothing, ((SmallLake.commit, ""),)),
    "commit": (_hot_and_sealed, ((lambda lake: lake.commit(2), ""),)),
    "seal": (lambda lake: lake.commit(2), ((SmallLake.compact, ""),)),
    "merge": (lambda lake: lake.commit(2), ((SmallLake.merge, ""),)),
    "days": (_sealed_twice, ((SmallLake.merge_days, ""),)),
    "rebuild": (_hot_and_sealed, ((SmallLake.rebuild, ""),)),
    # Killed, and the power goes while its successor recovers: what it did was not synced either.
    "killed_first_commit": (
        _nothing,
        ((SmallLake.commit, "folder.before_sync:5"), (SmallLake.commit, "")),
    ),
    "killed_commit": (
        _hot_and_sealed,
        ((SmallLake.commit, "move.before_sync:1"), (SmallLake.commit, "")),
    ),
    "killed_seal": (
        lambda lake: lake.commit(2),
        ((SmallLake.compact, "move.before_sync:2"), (SmallLake.compact, "")),
    ),
    "killed_rebuild": (
        _hot_and_sealed,
        (
            (SmallLake.rebuild, "replay.before_switch"),
            (SmallLake.compact, ""),
            (SmallLake.rebuild, ""),
        ),
    ),
    # The killed one leaves the ledger's log behind, with a commit that it has told of. It is the
    # last one: a later file would give away a ledger that has lost its log.
    "restore": (
        _hot_and_sealed,
        ((lambda lake: lake.commit(2), "commit.before_write:2"), (SmallLake.restore, "")),
    ),
    "restore_lost": (
        _hot_and_sealed,
        (
            (lambda lake: lake.commit(2), "commit.after_ledger:2"),
            (SmallLake.lose_the_ledger, ""),
            (SmallLake.restore, ""),
        ),
    ),
    "fill": (_with_a_hole, ((SmallLake.fill, ""),)),
    "repair": (_with_a_lost_file, ((SmallLake.repair, ""),)),
    "killed_repair": (
        _with_a_lost_file,
        ((SmallLake.repair, "move.before_sync:1"), (SmallLake.repair, "")),
    ),
    "backup": (_hot_and_sealed, ((SmallLake.back_up, ""),)),
    # The backup is older than the files: the ledger is made anew from these.
    "bring_back": (
        _backed_up,
        ((lambda lake: lake.commit(2), "commit.after_ledger:2"), (SmallLake.bring_back, "")),
    ),
}


def main(folder: Path) -> None:
    """Do all that is recorded, each step in a process of its own."""
    for name, (prepare, steps) in SCENARIOS.items():
        (folder / name).mkdir()
        lake = SmallLake(folder / name, recorded=True)
        _in_a_process(lambda lake=lake, prepare=prepare: prepare(lake), "")  # type: ignore[misc]
        commits = _commits(lake)
        lake.say(
            settled=True,
            commits=commits,
            prepared=commits,
            generation=0,
            rebuilt="rebuild" in name,
            lost="repair" in name,
            gap=name == "fill",
            backed_up=name == "bring_back",
        )
        for step, failpoint in steps:
            _in_a_process(lambda lake=lake, step=step: step(lake), failpoint)  # type: ignore[misc]


def _commits(lake: SmallLake) -> int:
    if not lake.paths.ledger.exists():
        return 0
    with closing(sqlite3.connect(f"file:{lake.paths.ledger}?mode=ro", uri=True)) as db:
        [(end,)] = db.execute("SELECT max(next_offset) FROM positions")
    return int(end) // ROWS


def _in_a_process(step: Callable[[], None], failpoint: str) -> None:
    child = os.fork()
    if not child:
        try:
            failpoints.arm(failpoint)
            step()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != (-9 if failpoint else 0):
        raise SystemExit(f"a step ended with {code}, {failpoint or 'no failpoint'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
