"""Milliseconds for each public file that is registered as an Iceberg table, at few and many files.

Files of a lake with up to 10 and of one with up to 1,000 are registered in turns, so that other
work on the machine slows both alike.

make bench NAME=catalog [FILES=1000] [TURNS=45]
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.broker import note
from benchmarks.shop_lake import ShopLake
from consumers.catalogs.iceberg import IcebergTables
from consumers.compaction.compactor import Compactor

FEW = 10
TABLE = "orders"
ROWS = 1_000
FIRST_DAY = datetime(2023, 1, 1, 12, tzinfo=UTC)
EDIT = {"consumer:": "catalog: {iceberg: {uri: sqlite}}\nconsumer:"}


class _Growing:
    """A lake whose public files become more, one compaction at a time, each of a day of its own.

    Args:
        folder: Where it goes.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with ExitStack() as opening:
            self.lake = opening.enter_context(closing(ShopLake(folder, EDIT)))
            self._compactor = opening.enter_context(closing(Compactor(self.lake.config)))
            tables = IcebergTables(self.lake.config, self.lake.ledger)
            self.tables = opening.enter_context(closing(tables))
            self._opened = opening.pop_all()
        self._files = 0

    def seal(self) -> None:
        """Make one more public file."""
        at = f"{FIRST_DAY + timedelta(days=self._files):%Y-%m-%d %H:%M:%SZ}"
        self.lake.commit(TABLE, f"SELECT i AS order_id FROM range({ROWS}) t(i)", at=at)
        assert self._compactor.pass_once(force=True) == 1
        self._files += 1

    def registered_ms(self) -> tuple[float, float]:
        """Register what is new: milliseconds, and those of the processor."""
        began, worked = time.perf_counter(), time.process_time()
        found = self.tables.register(self.lake.ref(TABLE))
        took = (time.perf_counter() - began) * 1000, (time.process_time() - worked) * 1000
        assert found.files == self._files
        return took

    def close(self) -> None:
        """Close the lake."""
        self._opened.close()


def main() -> None:
    """Measure, and print one JSON object."""
    files, turns = int(os.environ.get("FILES", 1000)), int(os.environ.get("TURNS", 45))
    few: list[tuple[float, float]] = []
    many: list[tuple[float, float]] = []
    with TemporaryDirectory() as folder, ExitStack() as opened:
        large = opened.enter_context(closing(_Growing(Path(folder) / "large")))
        for _ in range(files - turns):
            large.seal()
        note(f"{files - turns} files are there")
        caught_up, _ = large.registered_ms()
        for turn in range(turns):
            if turn % (FEW - 1) == 0:  # the first file makes the table, which is not measured
                small = opened.enter_context(closing(_Growing(Path(folder) / f"{turn}")))
                small.seal()
                small.registered_ms()
            small.seal()
            large.seal()
            few.append(small.registered_ms())
            many.append(large.registered_ms())
    (few_ms, few_cpu), (many_ms, many_cpu) = _means(few), _means(many)
    result = {
        "benchmark": "catalog",
        "files": files,
        f"file_ms_{FEW}": round(few_ms, 1),
        f"file_ms_{files}": round(many_ms, 1),
        "ratio": round(many_ms / few_ms, 2),
        f"file_cpu_ms_{FEW}": round(few_cpu, 1),
        f"file_cpu_ms_{files}": round(many_cpu, 1),
        "cpu_ratio": round(many_cpu / few_cpu, 2),
        "caught_up_file_ms": round(caught_up / (files - turns), 1),
    }
    print(json.dumps(result))


def _means(taken: Sequence[tuple[float, float]]) -> tuple[float, float]:
    walls, busy = zip(*taken, strict=True)
    return statistics.mean(walls), statistics.mean(busy)


if __name__ == "__main__":
    main()
