"""Reading the published tables against one file each, after a day of cycles.

make bench NAME=publish [DAYS=100] [CYCLES=100] [CACHE=FOLDER]

Each cycle changes the shop as in `make bench NAME=cycle`; then every published model is read from
`data/lake.duckdb`, and from one Parquet file with the same rows.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from batcher.dbt_build import DbtProject
from batcher.model_build import ModelBuild
from batcher.publish import Publisher
from benchmarks.broker import note
from benchmarks.cycle import HistoryLake
from lake.storage.sql import literal

REPEATS = 25
READS = {"all": "SELECT count(*), sum(hash(t)) FROM {} t", "rows": "SELECT count(*) FROM {}"}


def main() -> None:
    """Measure, and print one JSON object."""
    days, count = int(os.environ.get("DAYS", 100)), int(os.environ.get("CYCLES", 100))
    with ExitStack() as stack:
        cache = os.environ.get("CACHE") or stack.enter_context(TemporaryDirectory())
        folder = Path(cache) / f"publish-{days}"
        folder.mkdir(parents=True, exist_ok=True)
        history = HistoryLake(folder, days)
        ledger = history.lake.ledger
        build = ModelBuild(history.lake.config, ledger, DbtProject(history.lake.config))
        publisher = Publisher(history.lake.config, ledger)
        for number in range(count):
            history.change()
            commit = ledger.commits.last()
            result = build.run(commit)
            assert not result.outcome.failed, result.outcome
            published = publisher.publish(result.to_publish(), commit)
            build.finish(result, {n: s.cycle for n, s in published.items() if s.cycle >= 0})
            if number % 10 == 9:
                note(f"cycle {number + 1} of {count}")
        ratios = {}
        with duckdb.connect(str(ledger.paths.lake_db), read_only=True) as database:
            database.execute("SET threads = 2")
            for relation, snapshot in published.items():
                if snapshot.rows < 10_000:
                    continue  # milliseconds, and one file
                whole = Path(cache) / "whole.parquet"
                database.execute(
                    f"COPY (FROM {relation}) TO {literal(str(whole))}"
                    " (FORMAT parquet, COMPRESSION zstd)"
                )
                one = f"read_parquet({literal(str(whole))})"
                for name, read in READS.items():
                    taken = _compared(database, read.format(relation), read.format(one))
                    ratios[f"{relation} {name}"] = round(taken[0] / taken[1], 3)
                note(f"{relation}: {len(snapshot.layers)} layers, {ratios[f'{relation} all']}")
        layers = {name: len(snapshot.layers) for name, snapshot in published.items()}
        history.close()
    result_line = {
        "benchmark": "publish",
        "read_ratio": max(ratio for name, ratio in ratios.items() if name.endswith("all")),
        "ratios": ratios,
        "layers": {name: number for name, number in layers.items() if number},
        "cycles": count,
        "items": days * 20_000,
    }
    print(json.dumps(result_line))


def _compared(database: duckdb.DuckDBPyConnection, one: str, other: str) -> tuple[float, float]:
    """The least seconds of two queries, taken in turns."""
    best = [float("inf"), float("inf")]
    for _ in range(REPEATS):
        for at, query in enumerate((one, other)):
            began = time.perf_counter()
            database.execute(query).fetchall()
            best[at] = min(best[at], time.perf_counter() - began)
    return best[0], best[1]


if __name__ == "__main__":
    main()
