"""Quarantined files and replaced generations go when they are old enough; the disk is looked at."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from benchmarks.shop_lake import ShopLake
from consumers.compaction.compactor import Compactor
from consumers.compaction.housekeeping import Housekeeping
from ducklake.cli import gc
from ducklake.cli.condition_text import disk_lines
from lake.config import load_config
from lake.errors import ConfigError
from lake.storage.disk_use import DAY, DiskUse, disk_use, look_at_disk
from lake.storage.paths import LakePaths
from stack import lifecycle

ORDERS = "SELECT i AS order_id FROM range({}) t(i)"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ShopLake]:
    made = ShopLake(tmp_path, {"consumer:": "retention: {quarantine: 2s}\nconsumer:"})
    made.commit("orders", ORDERS.format(5))
    try:
        yield made
    finally:
        made.close()


def quarantined(lake: ShopLake, name: str = "raw/mysql/orders/x.parquet") -> Path:
    path = lake.ledger.paths.orphans / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 5000)
    return path


def collect(
    lake: ShopLake, capsys: pytest.CaptureFixture[str], *, dry: bool, age: str
) -> list[dict[str, Any]]:
    assert gc.collect(lake.config, dry, age, yes=True, as_json=True)
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["leftovers"]
    return sorted(found, key=lambda one: one["kind"])


def test_what_is_old_enough_is_removed_and_nothing_else(
    lake: ShopLake, capsys: pytest.CaptureFixture[str]
) -> None:
    path = quarantined(lake)
    lake.rebuild("orders")
    old, moved = collect(lake, capsys, dry=False, age="1d")
    assert (moved["kind"], old["name"]) == ("quarantine", "mysql.orders/0")
    assert not moved["is_due"] and not old["is_due"] and path.exists()
    shown = collect(lake, capsys, dry=True, age="0")
    assert all(one["is_due"] for one in shown) and path.exists()
    hot = [rows.path for rows in lake.ledger.files.new_rows("mysql.orders", 0, 1)]
    collect(lake, capsys, dry=False, age="0")
    assert not path.exists() and not any(lake.ledger.paths.orphans.iterdir())
    assert [one.state for one in lake.ledger.generations.all()] == ["current"]
    assert not any(file.exists() for file in hot)
    assert lake.ledger.offsets.row_count("mysql.orders") == 5
    assert not collect(lake, capsys, dry=False, age="0")


def test_a_generation_stays_while_the_published_file_shows_it(lake: ShopLake) -> None:
    from batcher.cycle_result import Cycle
    from batcher.outcome import Outcome
    from lake.opening import open_lake

    with open_lake(lake.config, for_writing=True) as opened:
        commit = opened.ledger.commits.last()
        opened.runs.record(time.time(), 1.0, 0, Cycle(commit, Outcome(())).summary())
        lake.rebuild("orders")
        keeping = Housekeeping(lake.config, opened)
        assert not keeping.leftovers()


def test_the_compactor_removes_it_by_itself_and_looks_at_the_disk(lake: ShopLake) -> None:
    path, paths = quarantined(lake), LakePaths(lake.config.data_dir)
    time.sleep(2.1)
    young = quarantined(lake, "young.parquet")
    compactor, stop = Compactor(lake.config), threading.Event()
    thread = threading.Thread(target=compactor.run, args=(stop,))
    thread.start()
    try:
        while disk_use(paths).at == 0:
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
        compactor.close()
    assert not path.exists() and young.exists()
    assert disk_use(paths).parts["orphans"] > 0


def test_the_disk_is_full_after_what_is_free_at_the_rate_of_the_last_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, now = LakePaths(tmp_path), time.time()
    free = [100_000_000_000]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free[0]))
    look_at_disk(paths, now - 2 * DAY)
    assert disk_use(paths).days_left is None  # it was too long ago to tell of today
    for hours in range(24, 0, -1):
        look_at_disk(paths, now - hours * 3600)
        free[0] -= 250_000_000
    assert disk_use(paths).bytes_per_day == pytest.approx(6e9, rel=0.01)
    [line] = disk_lines(disk_use(paths))
    assert line.endswith("94.0 GB free; full in 16 days at the rate of the last day")
    free[0] = 200_000_000_000
    assert "full" not in disk_lines(disk_use(paths))[0]
    assert disk_lines(DiskUse()) == []


def test_an_age_that_is_none_is_refused(lake: ShopLake) -> None:
    with pytest.raises(ConfigError, match="'soon' is no age"):
        gc.collect(lake.config, True, "soon", yes=True, as_json=True)
    text = lake.config.path.read_text().replace("quarantine: 2s", "quarantine: soon")
    lake.config.path.write_text(text)
    with pytest.raises(ConfigError, match="quarantine"):
        load_config(lake.config.path)


def test_a_reset_knows_every_file_of_the_lake(tmp_path: Path) -> None:
    """One that it does not know would be left, as somebody else's."""
    paths = LakePaths(tmp_path)
    names = [n for n, value in vars(LakePaths).items() if isinstance(value, property)]
    found = {getattr(paths, name).relative_to(tmp_path).parts[0] for name in names}
    assert "disk_use.json" in found and len(found) > 10
    assert not [name for name in found if not any(fnmatch(name, own) for own in lifecycle._OURS)]
