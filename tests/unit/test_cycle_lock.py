"""One cycle at a time for each lake."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from batcher.cycle import Batch
from batcher.cycle_lock import cycle_lock, is_cycle_running
from lake.config import load_config
from lake.errors import AlreadyRunning
from lake.storage.paths import LakePaths

HOLD = """
import sys
from pathlib import Path
from batcher.cycle import Batch
from batcher.cycle_lock import cycle_lock
from lake.storage.paths import LakePaths
with cycle_lock(LakePaths(Path(sys.argv[1]))):
    print("taken", flush=True)
    sys.stdin.read()
"""
PROJECT = """
services:
  kafka: {bootstrap_servers: "127.0.0.1:9"}
  connect: {url: "http://127.0.0.1:9"}
  postgres: {host: 127.0.0.1, port: 9}
sources: {drops: {type: files, directory: ., tables: {stock: {file: stock.csv}}}}
batch: {dbt_project: dbt}
"""


@pytest.fixture
def paths(tmp_path: Path) -> LakePaths:
    (tmp_path / "work").mkdir()
    return LakePaths(tmp_path)


@contextmanager
def another(paths: LakePaths) -> Iterator[subprocess.Popen[str]]:
    """A process within a cycle of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(paths.root)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "taken\n"
        yield process


def test_a_second_cycle_is_refused_by_name_while_one_runs(paths: LakePaths) -> None:
    with another(paths) as process:
        assert is_cycle_running(paths)
        message = rf"process {process.pid}.*try again"
        with pytest.raises(AlreadyRunning, match=message), cycle_lock(paths):
            pytest.fail("two cycles at once")
        process.kill()
        process.wait()
        assert not is_cycle_running(paths), "the kernel lets go with the process"
        with cycle_lock(paths), pytest.raises(AlreadyRunning), cycle_lock(paths, 0.1):
            pytest.fail("two cycles of one process at once")
    assert not is_cycle_running(paths)


def test_who_waits_begins_once_the_other_cycle_has_ended(paths: LakePaths) -> None:
    ended: list[float] = []
    with another(paths) as process:

        def end() -> None:
            time.sleep(0.3)
            ended.append(time.monotonic())
            process.communicate("")

        ending = threading.Thread(target=end)
        ending.start()
        with cycle_lock(paths, 30):
            assert ended and time.monotonic() >= ended[0]
        ending.join()


def test_a_batch_begins_no_cycle_while_somebody_else_runs_one(tmp_path: Path) -> None:
    (tmp_path / "ducklake.yml").write_text(PROJECT)
    (tmp_path / "dbt").mkdir()
    (tmp_path / "dbt" / "dbt_project.yml").touch()
    config = load_config(tmp_path / "ducklake.yml")
    with closing(Batch(config, config.endpoints())) as batch:
        paths = LakePaths(config.data_dir)
        with another(paths), pytest.raises(AlreadyRunning):
            batch.cycle()
