"""A batch that is killed at any moment leaves the last published state, and the next one goes on.

`CYCLE_KILLS` says how often; a reader opens the published file all the time.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pytest

from batcher.dbt_build import DbtProject
from batcher.model_build import ModelBuild
from benchmarks.shop_lake import ShopLake
from tests.integration.test_incremental_models import Batch, Shop

KILLS = int(os.environ.get("CYCLE_KILLS", "4"))
ROOT = Path(__file__).parents[2]
CYCLES = """
import sys, time
from pathlib import Path
from batcher.dbt_build import DbtProject
from batcher.model_build import ModelBuild
from batcher.publish import Publisher
from lake.config import load_config
from lake.opening import open_lake
config = load_config(Path(sys.argv[1]))
with open_lake(config, for_writing=False) as lake:
    dbt = DbtProject(config)
    dbt.graph()
    build, publisher = ModelBuild(config, lake.ledger, dbt), Publisher(config, lake.ledger)
    print("ready", flush=True)
    while True:
        with lake.pinned() as commit:
            result = build.run(commit)
            published = publisher.publish(result.to_publish(), commit)
            build.finish(result, {n: s.cycle for n, s in published.items() if s.cycle >= 0})
        print("cycle", flush=True)
        time.sleep(0.1)
"""
ONE_CYCLE = """
    SELECT (SELECT count(*) FROM staging.stg_orders),
        (SELECT sum(orders + cancelled_orders) FROM consume.daily_sales)
"""


class Reader(threading.Thread):
    """Opens the published file in a loop, and compares two models of one cycle in it."""

    def __init__(self, path: Path, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._ended = stop
        self.looks = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        """The thread's work."""
        while not self._ended.wait(0.02):
            try:
                with duckdb.connect(str(self._path), read_only=True) as database:
                    [(orders, counted)] = database.execute(ONE_CYCLE).fetchall()
                if orders != counted:
                    self.wrong.append((orders, counted))
            except duckdb.Error as error:
                self.wrong.append(error)
            self.looks += 1


@pytest.mark.timeout(600 + 60 * KILLS)
def test_cycles_killed_at_random_moments_leave_a_published_state(tmp_path: Path) -> None:
    seed = int(os.environ.get("DUCKLAKE_SEED", random.randrange(2**32)))
    print(f"DUCKLAKE_SEED={seed}  {__name__}")
    lake = ShopLake(tmp_path)
    try:
        shop = Shop(lake, seed)
        shop.start()
        changes = [shop.order, shop.update_order, shop.update_item, shop.delete_order]
        stop = threading.Event()
        reader: Reader | None = None
        for _ in range(KILLS):
            process = subprocess.Popen(
                [sys.executable, "-c", CYCLES, str(lake.config.path)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first == "ready\n", process.communicate()[1]
            if reader is None:
                assert process.stdout.readline() == "cycle\n", process.communicate()[1]
                reader = Reader(lake.ledger.paths.lake_db, stop)
                reader.start()
            until = time.monotonic() + shop.random.uniform(0.1, 6)
            while time.monotonic() < until:
                shop.random.choice(changes)()
                time.sleep(0.1)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        stop.set()
        assert reader is not None
        reader.join()
        assert reader.looks > 0 and not reader.wrong, reader.wrong[:5]
        batch = Batch(lake)
        batch.cycle()
        batch.compare()
    finally:
        lake.close()


def test_the_state_that_a_killed_batch_leaves_is_read_by_the_next(tmp_path: Path) -> None:
    lake = ShopLake(tmp_path)
    try:
        shop = Shop(lake, 1)
        shop.start()
        Batch(lake).cycle()
        build = ModelBuild(lake.config, lake.ledger, DbtProject(lake.config))
        assert not build.run(lake.ledger.commits.last()).plan.models
    finally:
        lake.close()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """dbt's settings are in the environment of the process: each lake has its own."""
    for name in ("DUCKLAKE_WAREHOUSE", "DUCKLAKE_DBT_PACKAGES", "DUCKLAKE_DBT_TARGET"):
        monkeypatch.setenv(name, "")
