"""What a producer rejects is limited by its table's policy; other tables go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from lake.errors import DeadLetterLimit
from producers.base import Batch
from producers.reject_limits import RejectLimits
from tests.unit.files_lab import OLD, FilesLab, files_lab

GOOD = {"good": {"file": "good.csv"}}


class LimitedLab:
    """A source of files whose batches pass its limits, as in the source's loop."""

    def __init__(self, lab: FilesLab) -> None:
        self.lab = lab
        self.limits = RejectLimits(lab.config, "drops")

    def poll(self) -> None:
        lab = self.lab
        for batch in self.limits.admitted(lab.source.poll(dict(lab.cursors))):
            lab.records += batch.records
            lab.rejects += batch.rejects
            lab.cursors[batch.key] = orjson.loads(orjson.dumps(batch.cursor))

    def drain(self) -> None:
        self.poll()
        while not self.lab.source.settled():
            self.poll()

    def stopped(self) -> dict[str, str]:
        return {s.table: s.reason for s in self.lab.source.table_states() if s.state == "stopped"}


def lab_of(tmp_path: Path, file: str = "bad.csv", **policy: Any) -> LimitedLab:
    tables = {"bad": {"file": file, "dead_letters": policy}, **GOOD}
    return LimitedLab(files_lab(tmp_path, tables))


def test_a_table_stops_at_its_first_reject_and_goes_on_with_the_corrected_file(
    tmp_path: Path,
) -> None:
    limited = lab_of(tmp_path, policy="stop")
    lab = limited.lab
    lab.drop("bad.csv", b"id,name\n1,a\n2\n")
    lab.drop("good.csv", b"id\n1\n")
    limited.drain()
    assert [row["id"] for row in lab.rows("good")] == ["1"]
    assert lab.rows("bad") == [] and lab.rejects == []
    assert "row 2 (line 3): it has 1 fields" in limited.stopped()["bad"]
    assert "is `stop`" in limited.stopped()["bad"]
    lab.drop("good.csv", b"id\n2\n", at=OLD + 1)
    limited.drain()
    assert [row["id"] for row in lab.rows("good")] == ["1", "2"], "the others go on"
    lab.drop("bad.csv", b"id,name\n1,a\n2,b\n", at=OLD + 1)
    limited.drain()
    assert [row["id"] for row in lab.rows("bad")] == ["1", "2"] and not limited.stopped()


def test_garbage_without_end_fills_no_disk(tmp_path: Path) -> None:
    """What was sent counts, before the consumer has read it."""
    limited = lab_of(tmp_path, max_rows=1000)
    lab = limited.lab
    lab.drop("bad.csv", b"id,name\n" + b"garbage\n" * 100_000)
    lab.drop("good.csv", b"id\n1\n")
    limited.drain()
    assert len(lab.rejects) == 20_000, "one transaction beyond the limit"
    assert "`max_rows` is 1,000" in limited.stopped()["bad"]
    assert [row["id"] for row in lab.rows("good")] == ["1"]
    limited.drain()
    assert len(lab.rejects) == 20_000
    again = LimitedLab(lab.again({"bad": {"file": "bad.csv"}, **GOOD}))
    again.drain()  # a higher limit goes on where it was
    assert len(again.lab.rejects) == 80_000 and not again.stopped()


def test_bytes_count_as_well(tmp_path: Path) -> None:
    limited = lab_of(tmp_path, "*.csv", max_mb=0.01)
    for n in range(3):
        limited.lab.drop(f"{n}.csv", b"id,name\n" + b"x" * 9000 + b"\n", at=OLD + n)
    limited.drain()
    assert len(limited.lab.rejects) == 2 and "`max_mb` is 0.01" in limited.stopped()["bad"]


def test_a_source_that_knows_no_limits_fails_as_a_whole(tmp_path: Path) -> None:
    limited = lab_of(tmp_path, policy="stop")
    limited.lab.drop("bad.csv", b"id,name\n2\n")
    batches: list[Batch] = []
    while not batches:
        batches = list(limited.lab.source.poll({}))

    def source() -> Iterator[Batch]:
        yield from batches

    for found in (source(), iter(batches)):
        with pytest.raises(DeadLetterLimit, match="is `stop`"):
            list(limited.limits.admitted(found))
