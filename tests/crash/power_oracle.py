"""The oracle of the power-loss test: recover a state, compare it with what was said, go on."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import structlog

from consumers.compaction.compactor import Compactor
from consumers.maintenance.backup import cursors_of, read_manifest
from lake.errors import LedgerError
from lake.ledger import Ledger, TableState
from lake.ledger.staleness import assert_ledger_current
from lake.recovery import recover
from lake.storage.paths import LakePaths
from lake.storage.session import Session
from tests.crash.power_lake import (
    HOLE,
    PARTITIONS,
    REF,
    ROWS,
    TOPIC_ID,
    Place,
    SmallLake,
    day_of,
    expected,
    flush,
)
from tests.crash.power_loss import State


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
        self._lake = SmallLake(folder, recorded=False)
        self._said = said

    def run(self) -> None:
        """Start as a worker and a compactor do, look, and go on."""
        paths = self._lake.paths
        before = _contents(paths)
        self._look_at_the_backup()
        if not self._is_believed():
            self._lake.restore()  # as the error says
        if self._said["lost"] and not self._said.get("repaired"):
            self._lake.repair()
        with Ledger(paths) as ledger:
            assert_ledger_current(ledger)
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
                    opened = ledger.tables.open(REF.topic, TOPIC_ID, len(PARTITIONS))
                    flush(ledger, session, opened)
                compactor.pass_once(force=True)
                assert self._look(ledger, whole=True) == commits + 1, "it does not go on"
                if self._said["gap"] and HOLE not in self._filled(ledger):
                    self._lake.fill()
                    compactor.pass_once(force=True)
                    assert self._look(ledger, whole=True) == commits + 1, "it is not filled"
                if self._said["rebuilt"]:
                    self._said["prepared"] = commits + 1
                    self._lake.rebuild()
                    assert self._look(ledger, whole=True) == commits + 1, "no second rebuild"
            finally:
                compactor.close()

    def _is_believed(self) -> bool:
        """Whether there is a ledger as new as the files, or nothing at all."""
        paths = self._lake.paths
        if not paths.ledger.exists() and paths.holds_files():
            return False
        with Ledger(paths) as ledger:
            try:
                assert_ledger_current(ledger)
            except LedgerError:
                return False
        return True

    def _look_at_the_backup(self) -> None:
        """It is whole, or not there."""
        backup, lake = self._lake.backup, self._lake.config.settings.name
        assert backup.exists() or not self._said["backed_up"], "an acknowledged backup is lost"
        if backup.exists():
            assert read_manifest(backup, lake).commit
            assert cursors_of(backup) == {"shop": "{}"}

    def _filled(self, ledger: Ledger) -> set[Place]:
        return {
            (r.partition, r.first) for r in ledger.offsets.history(REF.topic) if r.first == r.last
        }

    def _look(self, ledger: Ledger, whole: bool) -> int:
        """Compare everything with what was committed; all of it is public if `whole`.

        Returns:
            How many commits there are.
        """
        state = ledger.tables.get(REF.topic)
        if state is None:
            return 0
        ends = dict.fromkeys(PARTITIONS, 0)
        for span in ledger.offsets.history(REF.topic):
            assert span.first == ends[span.partition], f"a gap or an overlap at {span}"
            ends[span.partition] = span.next_offset
        assert {p: state.positions.get(p, 0) for p in PARTITIONS} == ends, "positions"
        commits, rest = divmod(ends[0], ROWS)
        assert not rest and set(ends.values()) == {ends[0]}, f"half a commit: {ends}"
        assert state.generation >= self._said["generation"], "an acknowledged switch is lost"
        wanted = expected(commits, self._said["prepared"] if state.generation else 0)
        if self._said["gap"] and HOLE not in self._filled(ledger):
            assert not self._said.get("filled"), "an acknowledged fill is lost"
            del wanted[HOLE]
        paths = [new.path for new in ledger.files.new_rows(REF.topic, 0, ledger.commits.last())]
        assert _rows(paths) == wanted, "rows of the ledger"
        for file in ledger.files.live(REF.topic):
            content = file.path.read_bytes()
            assert len(content) == file.bytes, f"{file.path} has another size"
            assert hashlib.sha256(content).hexdigest() == file.sha256, f"{file.path}"
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
            for place in _rows([path]):
                assert f"day={day_of(*place).day:02}" in path.parts, f"{path}: another day"


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
    inputs = {i for found in ledger.compactions.open() for i in found.intent.inputs}
    inputs |= {i for found in ledger.date_rewrites.open() for i in found.intent.inputs}
    known = {g.number for g in ledger.generations.all() if g.state != "building"}
    with closing(sqlite3.connect(paths.ledger)) as db:
        files = db.execute("SELECT file_id, path, generation, obsolete_at FROM files").fetchall()
    gone = {p for i, p, g, at in files if at is not None or i in inputs or g not in known}
    for tree in (paths.root / "generations").glob("*"):
        if int(tree.name) not in known:
            gone |= {paths.relative(path) for path in tree.rglob("*.parquet")}
    return gone
