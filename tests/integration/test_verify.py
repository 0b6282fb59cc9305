"""`ducklake verify` must be able to fail: every kind of damage is found, and named."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.crash.conftest import LakeMaker, broker, forks, make_lake, make_shared_lake
from tests.crash.oracle import LakeUnderTest

__all__ = ["broker", "forks", "make_lake", "make_shared_lake"]  # fixtures


@dataclass
class Damaged:
    """An exact lake, half of it public, for one test to damage."""

    lake: LakeUnderTest
    topic: str

    def file(self, tier: str) -> Path:
        """The file of a tier with the most rows."""
        [(path,)] = self.sql(
            "SELECT path FROM files WHERE topic = ? AND tier = ? AND obsolete_at IS NULL"
            " ORDER BY rows DESC LIMIT 1",
            self.topic,
            tier,
        )
        return self.lake.paths.root / str(path)

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        ledger = sqlite3.connect(self.lake.paths.ledger)
        try:
            with ledger:
                return ledger.execute(statement, values).fetchall()
        finally:
            ledger.close()

    def rewrite(self, tier: str, change: Callable[[pa.Table], pa.Table], hide: bool) -> Path:
        """Write a file anew; `hide` makes size and checksum in the ledger fit."""
        path = self.file(tier)
        table = pq.ParquetFile(path).read()
        path.unlink()
        pq.write_table(change(table), path)
        if hide:
            content = path.read_bytes()
            sha = hashlib.sha256(content).hexdigest()
            relative = self.lake.paths.relative(path)
            self.sql(
                "UPDATE files SET bytes = ?, sha256 = ? WHERE path = ?",
                len(content),
                sha,
                relative,
            )
        return path

    def found(self, *arguments: str) -> set[str]:
        """The kinds of differences that the command names; checks its exit code."""
        worker = self.lake.start("verify", "--json", *arguments)
        code = worker.await_end()
        [line] = [x for x in worker.text().splitlines() if x.startswith("{")]
        verdict = json.loads(line)
        assert verdict["exact"] is (code == 0), worker.text()
        return {d["kind"] for d in verdict["differences"]}


@pytest.fixture(scope="module")
def exact(make_shared_lake: LakeMaker) -> LakeUnderTest:
    lake = make_shared_lake({"orders": "plain", "customers": "cdc"})
    for sealed in (True, False):
        lake.start("consume")
        for _ in range(3):
            lake.loader.burst()
            lake.await_caught_up()
        lake.stop()
        if sealed:
            lake.seal()
    assert lake.verify() == ()
    return lake


@pytest.fixture
def damaged(exact: LakeUnderTest, tmp_path: Path) -> Iterator[Damaged]:
    """The exact lake; afterwards it is as before."""
    root = exact.paths.root
    kept = tmp_path / "kept"
    shutil.copytree(root, kept)
    yield Damaged(exact, exact.topics[0])
    shutil.rmtree(root)
    shutil.copytree(kept, root)


TIERS = pytest.mark.parametrize("tier", ["hot", "sealed"])


def test_an_exact_lake_is_called_exact(damaged: Damaged) -> None:
    assert damaged.found() == set()


@TIERS
def test_a_changed_byte(damaged: Damaged, tier: str) -> None:
    path = damaged.file(tier)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert damaged.found() == {"damaged-file"}


@TIERS
def test_a_truncated_file(damaged: Damaged, tier: str) -> None:
    path = damaged.file(tier)
    path.write_bytes(path.read_bytes()[:-10])
    assert damaged.found() == {"damaged-file"}


@TIERS
def test_a_deleted_file(damaged: Damaged, tier: str) -> None:
    damaged.file(tier).unlink()
    assert damaged.found("--lake-only") == {"missing-file"}


@TIERS
def test_a_dropped_row(damaged: Damaged, tier: str) -> None:
    damaged.rewrite(tier, lambda rows: rows.slice(1), hide=False)
    assert damaged.found() == {"damaged-file"}


@TIERS
def test_a_dropped_row_whose_file_was_made_to_fit(damaged: Damaged, tier: str) -> None:
    damaged.rewrite(tier, lambda rows: rows.slice(1), hide=True)
    assert damaged.found() == {"row-count", "kafka-missing"}
    assert damaged.found("--lake-only") == {"row-count"}


@TIERS
def test_a_row_that_is_there_twice(damaged: Damaged, tier: str) -> None:
    damaged.rewrite(tier, lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]), hide=True)
    assert damaged.found("--lake-only") == {"repeated", "row-count"}


@TIERS
def test_a_changed_value(damaged: Damaged, tier: str) -> None:
    def change(rows: pa.Table) -> pa.Table:
        at = rows.column_names.index("id")
        return rows.set_column(at, rows.field(at), pc.add(rows.column("id"), 1))

    damaged.rewrite(tier, change, hide=True)
    assert damaged.found("--lake-only") == set(), "only Kafka knows better"
    assert damaged.found() == {"kafka-differs"}


def test_a_row_in_the_folder_of_another_day(damaged: Damaged) -> None:
    path = damaged.file("sealed")
    other = Path(str(path).replace("/day=", "/day=0"))  # a day that no month has
    other.parent.mkdir()
    path.rename(other)
    old, new = damaged.lake.paths.relative(path), damaged.lake.paths.relative(other)
    damaged.sql("UPDATE files SET path = ? WHERE path = ?", new, old)
    assert damaged.found("--lake-only") == {"misplaced"}


def test_a_public_file_doubled_under_another_name(damaged: Damaged) -> None:
    path = damaged.file("sealed")
    shutil.copy(path, path.with_name(f"copy-{path.name}"))
    assert damaged.found() == {"unknown-file"}


def test_a_stranger_in_the_public_tree(damaged: Damaged) -> None:
    (damaged.file("sealed").parent / "notes.txt").write_text("hello")
    assert damaged.found() == {"unknown-file"}


@pytest.mark.parametrize("by", [-1, 1])
def test_a_shifted_position(damaged: Damaged, by: int) -> None:
    damaged.sql(
        "UPDATE positions SET next_offset = next_offset + ? WHERE topic = ?", by, damaged.topic
    )
    assert "position" in damaged.found("--lake-only")


@pytest.mark.parametrize("which", ["min", "max"])
def test_a_removed_range(damaged: Damaged, which: str) -> None:
    damaged.sql(
        f"DELETE FROM ranges WHERE topic = ? AND commit_no = (SELECT {which}(commit_no) FROM ranges"
        " WHERE topic = ? AND rows > 0)",
        damaged.topic,
        damaged.topic,
    )
    assert "stray" in damaged.found("--lake-only")


def test_all_ranges_removed(damaged: Damaged) -> None:
    damaged.sql("DELETE FROM ranges WHERE topic = ?", damaged.topic)
    assert damaged.found("--lake-only") == {"position", "stray"}


def test_a_gap_between_ranges(damaged: Damaged) -> None:
    [(partition, first)] = damaged.sql(
        "SELECT partition, min(first) FROM ranges WHERE topic = ? AND first > (SELECT min(first)"
        " FROM ranges WHERE topic = ?) GROUP BY partition ORDER BY count(*) DESC LIMIT 1",
        damaged.topic,
        damaged.topic,
    )
    damaged.sql(
        "UPDATE ranges SET first = first + 1 WHERE topic = ? AND partition = ? AND first = ?",
        damaged.topic,
        partition,
        first,
    )
    assert "gap" in damaged.found("--lake-only")


def test_a_range_committed_twice(damaged: Damaged) -> None:
    [(partition, first)] = damaged.sql(
        "SELECT partition, first FROM ranges WHERE topic = ? AND last > first ORDER BY rows DESC"
        " LIMIT 1",
        damaged.topic,
    )
    damaged.sql(
        "INSERT INTO ranges SELECT topic, generation, topic_id, partition, first + 1, last, rows,"
        " commit_no FROM ranges WHERE topic = ? AND partition = ? AND first = ?",
        damaged.topic,
        partition,
        first,
    )
    assert "overlap" in damaged.found("--lake-only")


def test_a_lost_dead_letter(damaged: Damaged) -> None:
    damaged.lake.loader.send(damaged.topic, 1, bad=True)
    damaged.lake.start("consume")
    damaged.lake.await_caught_up()
    damaged.lake.stop()
    assert damaged.found() == set()
    damaged.sql("DELETE FROM dead_letters WHERE topic = ?", damaged.topic)
    assert damaged.found() == {"kafka-missing"}
