"""A tiny lake without Kafka: what is recorded of it, and the oracle that looks at what is left.

    python -m tests.crash.power_lake FOLDER      (under strace; one lake for each scenario)

Commit n brings offsets 3n-3 to 3n-1 of each of two partitions, of two days in turns.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from consumers import planning
from consumers.compactor import Compactor
from consumers.days import merge_day
from consumers.decode import Decoded
from consumers.hot_files import commit_flush
from consumers.recovery import recover, refuse_an_old_ledger
from consumers.replay.carry import Carrier
from consumers.replay.segments import SegmentWriter, Target
from ducklake import failpoints
from ducklake.config import Config, TableRef, load_config
from ducklake.lake.files import Session
from ducklake.lake.ledger import Ledger, TableState
from ducklake.lake.ledger.generations import HOLD_SECONDS
from ducklake.lake.paths import LakePaths
from ducklake.lake.schema import Schema, source_column
from ducklake.records import OffsetRange
from tests.crash.power_loss import State, mark

REF = TableRef("shop", "orders")
TOPIC_ID = "ab" * 16
SCHEMA = Schema((source_column("order_id", "BIGINT"), source_column("note", "VARCHAR")))
FIRST_DAY = date(2026, 1, 5)
ROWS = 3
PARTITIONS = (0, 1)
SETTINGS = """\
sources: {shop: {type: plain, tables: {orders: {}}}}
consumer: {seal_seconds: 3600}
"""


def expected(commits: int, rebuilt: int = 0) -> dict[tuple[int, int], tuple[int, str]]:
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


def day_of(offset: int) -> date:
    return FIRST_DAY + timedelta(days=offset % 2)


def table(places: list[tuple[int, int]], rebuilt: int = 0) -> pa.Table:
    """The rows of some (partition, offset)."""
    moments = [datetime.combine(day_of(o), datetime.min.time(), UTC) for _, o in places]
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


def flush(ledger: Ledger, session: Session, state: TableState) -> None:
    """The next commit."""
    first = state.positions.get(0, 0)
    end = first + ROWS
    rows = table([(p, o) for p in PARTITIONS for o in range(first, end)])
    spans = [OffsetRange(TOPIC_ID, p, first, end - 1, ROWS) for p in PARTITIONS]
    starts = {p: state.positions.get(p) for p in PARTITIONS}
    commit_flush(ledger, session, REF, state, rows, spans, starts, SCHEMA, ())


class SmallLake:
    """What processes do to one lake.

    Args:
        folder: Of the lake; its name is that of the scenario.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "ducklake.yml"
        if not path.exists():
            path.write_text(SETTINGS)
        self.config: Config = load_config(path)
        self.paths = LakePaths(self.config.data_dir)

    def say(self, settled: bool = False, **said: Any) -> None:
        os.write(1, mark(self.folder.name, settled, **said))

    def commit(self, count: int = 1) -> None:
        """What a worker does: start, and flush."""
        with Ledger(self.paths) as ledger, Session(self.paths) as session:
            refuse_an_old_ledger(ledger)
            recover(ledger)
            for _ in range(count):
                state = ledger.open_table(REF.topic, TOPIC_ID, len(PARTITIONS))
                flush(ledger, session, state)
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
        for day in (day_of(0), day_of(1)):
            merge_day(compactor, REF, day)
            self.say(merged=day.isoformat())
        compactor.close()

    def rebuild(self) -> None:
        """`ducklake replay --rebuild`: the first partition read again, the second one carried."""
        with Ledger(self.paths) as ledger, Session(self.paths) as session:
            state = ledger.table(REF.topic)
            assert state is not None
            generation = ledger.begin_generation(REF.topic, session.id)
            target = Target(REF, generation, TOPIC_ID, session.id, session.folder, 1e6)
            end = state.positions[0]
            writer = SegmentWriter(ledger, target, 0, 0)
            rows = table([(0, offset) for offset in range(end)], rebuilt=end // ROWS)
            writer.add(Decoded(rows, SCHEMA, ()), end)
            writer.finish(end)
            ledger.hold(REF.topic, generation, session.id, HOLD_SECONDS)
            carrier = Carrier(
                ledger, session, target, "plain", lambda span: [span] if span.partition else []
            )
            carrier.carry(state, 0, ledger.newest_number())
            failpoints.failpoint("replay.before_switch")
            ledger.switch(state, generation, session.id, SCHEMA)
            self.say(generation=generation)


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


SCENARIOS: dict[str, tuple[Callable[[SmallLake], None], tuple[Step, ...]]] = {
    "first_commit": (_nothing, ((SmallLake.commit, ""),)),
    "commit": (_hot_and_sealed, ((lambda lake: lake.commit(2), ""),)),
    "seal": (lambda lake: lake.commit(2), ((SmallLake.compact, ""),)),
    "merge": (lambda lake: lake.commit(2), ((SmallLake.merge, ""),)),
    "days": (_sealed_twice, ((SmallLake.merge_days, ""),)),
    "rebuild": (_hot_and_sealed, ((SmallLake.rebuild, ""),)),
    # Killed, and the power goes while its successor recovers: what it did was not synced either.
    "killed_commit": (
        _hot_and_sealed,
        ((SmallLake.commit, "move.before_sync:1"), (SmallLake.commit, "")),
    ),
    "killed_seal": (
        lambda lake: lake.commit(2),
        ((SmallLake.compact, "seal.after_move:2"), (SmallLake.compact, "")),
    ),
    "killed_rebuild": (
        _hot_and_sealed,
        ((SmallLake.rebuild, "replay.before_switch"), (SmallLake.compact, ""),
         (SmallLake.rebuild, "")),
    ),
}  # fmt: skip


def main(folder: Path) -> None:
    """Do all that is recorded, each step in a process of its own."""
    for name, (prepare, steps) in SCENARIOS.items():
        (folder / name).mkdir()
        lake = SmallLake(folder / name)
        _in_a_process(lambda lake=lake, prepare=prepare: prepare(lake), "")  # type: ignore[misc]
        commits = _commits(lake)
        lake.say(settled=True, commits=commits, prepared=commits, generation=0,
                 rebuilt="rebuild" in name)
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


# The oracle ------------------------------------------------------------------------------------


def quiet() -> None:
    """Say nothing of what recovery does, thousands of times."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def examine(state: State, folder: Path) -> str | None:
    """Put a state on a disk, recover, and look at all that was promised.

    Returns:
        What is wrong, or None.
    """
    lake = Path(tempfile.mkdtemp(prefix="power-", dir=folder))
    try:
        state.write_into(lake)
        Examination(lake, state.said).run()
        return None
    except Exception as error:
        return f"{state.why}\n    {type(error).__name__}: {error}"
    finally:
        shutil.rmtree(lake)


class Examination:
    """One lake after a power cut.

    Args:
        folder: Where it lies.
        said: What its processes had said by then.
    """

    def __init__(self, folder: Path, said: dict[str, Any]) -> None:
        self._lake = SmallLake(folder)
        self._said = said

    def run(self) -> None:
        """Start as a worker and a compactor do, look, and go on."""
        paths = self._lake.paths
        before = _contents(paths)
        with Ledger(paths) as ledger:
            refuse_an_old_ledger(ledger)
            replaced = _may_go(ledger)
            recover(ledger)
            compactor = Compactor(self._lake.config)
            try:
                compactor.pass_once(force=False)
                gone = set(before) - set(_contents(paths))
                lost = {before[sha] for sha in gone} - replaced
                assert not lost, f"deleted, and nobody had replaced it: {lost}"
                commits = self._look(ledger, whole=False)
                assert commits >= self._said["commits"], "an acknowledged commit is lost"
                with Session(paths) as session:
                    opened = ledger.open_table(REF.topic, TOPIC_ID, len(PARTITIONS))
                    flush(ledger, session, opened)
                compactor.pass_once(force=True)
                assert self._look(ledger, whole=True) == commits + 1, "it does not go on"
                if self._said["rebuilt"]:
                    self._said["prepared"] = commits + 1
                    self._lake.rebuild()
                    assert self._look(ledger, whole=True) == commits + 1, "no second rebuild"
            finally:
                compactor.close()

    def _look(self, ledger: Ledger, whole: bool) -> int:
        """Compare everything with what was committed; all of it is public if `whole`.

        Returns:
            How many commits there are.
        """
        state = ledger.table(REF.topic)
        if state is None:
            return 0
        ends = dict.fromkeys(PARTITIONS, 0)
        for span in ledger.history(REF.topic):
            assert span.first == ends[span.partition], f"a gap or an overlap at {span}"
            ends[span.partition] = span.next_offset
        assert {p: state.positions.get(p, 0) for p in PARTITIONS} == ends, "positions"
        commits, rest = divmod(ends[0], ROWS)
        assert not rest and set(ends.values()) == {ends[0]}, f"half a commit: {ends}"
        assert state.generation >= self._said["generation"], "an acknowledged switch is lost"
        wanted = expected(commits, self._said["prepared"] if state.generation else 0)
        paths = [new.path for new in ledger.new_rows(REF.topic, 0, ledger.last_commit())]
        assert _rows(paths) == wanted, "rows of the ledger"
        hashes = ledger.hashes(REF.topic)
        for file in ledger.live_files(REF.topic):
            content = file.path.read_bytes()
            assert len(content) == file.bytes, f"{file.path} has another size"
            assert hashlib.sha256(content).hexdigest() == hashes[file.file_id], f"{file.path}"
        self._look_at_the_public_tree(state, wanted, whole)
        return commits

    def _look_at_the_public_tree(
        self, state: TableState, wanted: dict[tuple[int, int], tuple[int, str]], whole: bool
    ) -> None:
        public = sorted(self._lake.paths.raw(REF, state.generation).rglob("*.parquet"))
        found = _rows(public)
        if whole:
            assert found == wanted, "rows of the public tree"
        assert found.items() <= wanted.items(), "a public row that was not committed"
        for path in public:
            for _, offset in _rows([path]):
                assert f"day={day_of(offset).day:02}" in path.parts, f"{path}: another day"


def _rows(paths: Iterable[Path]) -> dict[tuple[int, int], tuple[int, str]]:
    names = ["_partition", "_offset", "order_id", "note"]
    rows = [
        row
        for path in paths
        for row in zip(*pq.ParquetFile(path).read(names).to_pydict().values(), strict=True)
    ]
    found = {(p, offset): (order, note) for p, offset, order, note in rows}
    assert len(found) == len(rows), "a row twice"
    return found


def _contents(paths: LakePaths) -> dict[str, str]:
    """SHA-256 to relative path of all Parquet files but those that are merely being built."""
    found = [*paths.lake_files(), *paths.orphans.rglob("*.parquet")]
    found += paths.staging.glob("*/*.parquet")
    return {hashlib.sha256(p.read_bytes()).hexdigest(): paths.relative(p) for p in found}


def _may_go(ledger: Ledger) -> set[str]:
    """Relative paths of what is replaced, or is going to be; or was never finished."""
    paths = ledger.paths
    inputs = {i for _, _, intent in ledger.open_seals() for i in intent.inputs}
    inputs |= {i for _, _, text in ledger.open_days() for i in json.loads(text)[2]}
    known = {g.number for g in ledger.generations() if g.state != "building"}
    with closing(sqlite3.connect(paths.ledger)) as db:
        files = db.execute("SELECT file_id, path, generation, obsolete_at FROM files").fetchall()
    gone = {p for i, p, g, at in files if at is not None or i in inputs or g not in known}
    for tree in (paths.root / "generations").glob("*"):
        if int(tree.name) not in known:
            gone |= {paths.relative(path) for path in tree.rglob("*.parquet")}
    return gone


if __name__ == "__main__":
    main(Path(sys.argv[1]))
