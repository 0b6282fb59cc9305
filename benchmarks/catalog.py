"""Milliseconds for each public file that is registered as an Iceberg table, at few and many files.

make bench NAME=catalog [FILES=1000] [BLOCK=50]
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
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


def _sealed(lake: ShopLake, count: int) -> Iterator[None]:
    """Public files of a day each, one compaction apart; each is there when it is yielded."""
    ref = lake.ref(TABLE)
    with closing(Compactor(lake.config)) as compactor:
        for number in range(count):
            at = f"{FIRST_DAY + timedelta(days=number):%Y-%m-%d %H:%M:%SZ}"
            lake.commit(TABLE, f"SELECT i AS order_id FROM range({ROWS}) t(i)", at=at)
            compactor.pass_once(force=True)
            assert len(lake.ledger.files.live(ref.topic)) == number + 1
            yield


def main() -> None:
    """Measure, and print one JSON object."""
    files = int(os.environ.get("FILES", 1000))
    block = int(os.environ.get("BLOCK", 50))
    wall: list[float] = []
    busy: list[float] = []
    with TemporaryDirectory() as folder:
        lake = ShopLake(Path(folder), EDIT)
        with closing(lake), closing(IcebergTables(lake.config, lake.ledger)) as tables:
            tables.register(lake.ref(TABLE))
            for number, _ in enumerate(_sealed(lake, files), 1):
                began, worked = time.perf_counter(), time.process_time()
                found = tables.register(lake.ref(TABLE))
                wall.append((time.perf_counter() - began) * 1000)
                busy.append((time.process_time() - worked) * 1000)
                assert (found.files, found.added, found.snapshots) == (number, 1, 1)
                if number % 100 == 0:
                    mean = statistics.mean(wall[-block:])
                    note(f"{number} files: {mean:.0f} ms, {statistics.mean(busy[-block:]):.0f} CPU")
            again = _from_nothing(lake, files)
    # The first file loads pyiceberg, and makes the table.
    few, many = statistics.mean(wall[1:FEW]), statistics.mean(wall[-block:])
    result = {
        "benchmark": "catalog",
        "files": files,
        f"file_ms_{FEW}": round(few, 1),
        f"file_ms_{files}": round(many, 1),
        "ratio": round(many / few, 2),
        f"file_cpu_ms_{FEW}": round(statistics.mean(busy[1:FEW]), 1),
        f"file_cpu_ms_{files}": round(statistics.mean(busy[-block:]), 1),
        "cpu_ratio": round(statistics.mean(busy[-block:]) / statistics.mean(busy[1:FEW]), 2),
        "file_ms_max": round(max(wall[1:]), 1),
        "rebuild_file_ms": round(again, 1),
    }
    print(json.dumps(result))


def _from_nothing(lake: ShopLake, files: int) -> float:
    """Milliseconds a file where a lost catalogue is made anew."""
    with closing(IcebergTables(lake.config, lake.ledger)) as tables:
        tables.drop(lake.ref(TABLE))
        began = time.perf_counter()
        assert tables.register(lake.ref(TABLE)).snapshots == files
        return (time.perf_counter() - began) * 1000 / files


if __name__ == "__main__":
    main()
