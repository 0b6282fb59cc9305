"""A batch that is killed at any moment leaves the last published state, and the next one goes on.

`CYCLE_KILLS` says how often. What is killed is `ducklake batch`, which also exports to PostgreSQL;
two readers look at the published file and at PostgreSQL all the time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psycopg2
import pytest

from batcher.dbt_build import DbtProject
from batcher.model_build import ModelBuild
from benchmarks.shop_lake import ShopLake
from lake.config import Config, PostgresEndpoint
from tests.integration.postgres_lab import connection, server
from tests.integration.test_incremental_models import Batch, Shop

__all__ = ["server"]

KILLS = int(os.environ.get("CYCLE_KILLS", "4"))
ROOT = Path(__file__).parents[2]
ONE_CYCLE = """
    SELECT (SELECT count(*) FROM staging.stg_orders),
        (SELECT sum(orders + cancelled_orders) FROM consume.daily_sales)
"""


class Reader(threading.Thread):
    """Asks in a loop, and compares two models of one cycle."""

    def __init__(self, look: Callable[[], tuple[object, object]], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._look = look
        self._ended = stop
        self.looks = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        """The thread's work."""
        while not self._ended.wait(0.02):
            try:
                orders, counted = self._look()
                if orders != counted:
                    self.wrong.append((orders, counted))
            except (duckdb.Error, psycopg2.Error) as error:
                self.wrong.append(error)
            self.looks += 1


@dataclass
class Exported:
    """The shop's lake, its PostgreSQL, and the batch that is killed.

    Attributes:
        lake: Of the shop.
        at: The database.
        errors: Where the batch's log goes.
    """

    lake: ShopLake
    at: PostgresEndpoint
    errors: Path

    def batch(self, *options: str) -> subprocess.Popen[bytes]:
        """`ducklake batch`; its log is in a file."""
        command = [sys.executable, "-m", "ducklake.cli", "batch", *options]
        with self.errors.open("wb") as log:
            return subprocess.Popen(
                [*command, "--config", str(self.lake.config.path)], cwd=ROOT, stdout=log, stderr=log
            )

    def await_cycle(self, process: subprocess.Popen[bytes]) -> None:
        """Until a cycle has begun."""
        deadline = time.monotonic() + 120
        while b"dbt ..." not in self.errors.read_bytes():
            assert process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.05)

    def in_duckdb(self) -> tuple[object, object]:
        """Orders of two models, in the published file."""
        path = str(self.lake.ledger.paths.lake_db)
        with duckdb.connect(path, read_only=True) as database:
            [(orders, counted)] = database.execute(ONE_CYCLE).fetchall()
        return orders, counted

    def in_postgres(self) -> tuple[object, object]:
        """The same, there."""
        with closing(connection(self.at)) as database, database.cursor() as cursor:
            cursor.execute(ONE_CYCLE)
            [(orders, counted)] = cursor.fetchall()
        return orders, counted

    def differences(self) -> list[dict[str, object]]:
        """What of PostgreSQL is not as in the lake; raw's rows are counted, too."""
        with closing(connection(self.at)) as database, database.cursor() as cursor:
            for table in ("orders", "order_items"):
                cursor.execute(
                    f"SELECT count(*), count(DISTINCT (_topic_epoch, _partition, _offset))"
                    f" FROM raw.{table}"
                )
                rows = self.lake.ledger.offsets.row_count(self.lake.ref(table).topic)
                assert cursor.fetchall() == [(rows, rows)], table
        command = [sys.executable, "-m", "ducklake.cli", "export", "--repair", "--json"]
        found = subprocess.run(
            [*command, "--config", str(self.lake.config.path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        relations: list[dict[str, object]] = json.loads(found.stdout)["relations"]
        assert len(relations) > 20
        return [r for r in relations if r["added"] or r["changed"] or r["removed"]]


@pytest.fixture
def exported(server: Config, tmp_path: Path) -> Iterator[Exported]:
    at = server.endpoints().postgres
    lake = ShopLake(
        tmp_path,
        {
            "bootstrap_servers: embedded": 'bootstrap_servers: "127.0.0.1:9"',
            "url: embedded": 'url: "http://127.0.0.1:9"',
            "host: embedded\n    port: 5432\n    user: ducklake": f"host: {at.host}\n"
            f"    port: {at.port}\n    user: {at.user}",
            "${DUCKLAKE_POSTGRES_PASSWORD:-}": f'"{at.password}"',
            "database: techstore": f"database: {at.database}",
        },
    )
    try:
        yield Exported(lake, at, tmp_path / "batch.log")
    finally:
        lake.close()


@pytest.mark.timeout(600 + 60 * KILLS)
def test_cycles_killed_at_random_moments_leave_a_published_state(exported: Exported) -> None:
    seed = int(os.environ.get("DUCKLAKE_SEED", random.randrange(2**32)))
    print(f"DUCKLAKE_SEED={seed}  {__name__}")
    lake = exported.lake
    shop = Shop(lake, seed)
    shop.start()
    changes = [shop.order, shop.update_order, shop.update_item, shop.delete_order]
    first = exported.batch("--once")
    assert first.wait(timeout=300) == 0, exported.errors.read_text()
    stop = threading.Event()
    readers = [Reader(look, stop) for look in (exported.in_duckdb, exported.in_postgres)]
    for reader in readers:
        reader.start()
    for _ in range(KILLS):
        shop.order()
        process = exported.batch()
        exported.await_cycle(process)
        until = time.monotonic() + shop.random.uniform(0.1, 6)
        while time.monotonic() < until:
            shop.random.choice(changes)()
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
    stop.set()
    for reader in readers:
        reader.join()
        assert reader.looks > 0 and not reader.wrong, reader.wrong[:5]
    last = exported.batch("--once")
    assert last.wait(timeout=300) == 0, exported.errors.read_text()
    assert not exported.differences()
    batch = Batch(lake)
    assert not batch.cycle().plan.models
    batch.compare()


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
