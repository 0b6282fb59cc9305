"""A disk of 16 MB fills up at every step, is freed, and the lake goes on without a restart."""

from __future__ import annotations

import errno
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.crash.conftest import LakeMaker
from tests.crash.oracle import LakeUnderTest, until
from tests.crash.readers import PublicReader
from tests.crash.test_kafka_faults import is_stopped

OPTIONS = "size=16m,nr_inodes=1000"
PAIR = {"orders": "plain", "stock": "plain"}


class SmallDisk:
    """A file system of its own for one lake's data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no block and no inode."""
        self._ballast.mkdir()
        for block in (b"\0" * 65_536, b"\0" * 512):
            with (self._ballast / f"of-{len(block)}").open("wb", buffering=0) as ballast:
                _until_full(partial(ballast.write, block))
        numbers = iter(range(10_000))
        _until_full(lambda: (self._ballast / str(next(numbers))).touch())

    def free(self) -> None:
        for path in self._ballast.iterdir():
            path.unlink()
        self._ballast.rmdir()


def _until_full(action: Callable[[], object]) -> None:
    while True:
        try:
            action()
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "small" / "data"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", OPTIONS, "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system needs the right to mount: {done.stderr}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _complains(lake: LakeUnderTest) -> bool:
    return any("No room left" in worker.text() for worker in lake.workers)


@pytest.mark.parametrize(
    ("victim", "point"),
    [
        ("consume", "commit.before_move:1"),  # the folder of the hot files is not there yet
        ("consume", "file.before_write:3"),
        ("consume", "file.before_sync:3"),
        ("consume", "move.before_rename:3"),
        ("consume", "commit.before_ledger:3"),
        ("compact", "file.before_write:1"),
        ("compact", "seal.before_intent:1"),
        ("compact", "seal.before_move:1"),  # the folder of the day is not there yet
    ],
)
def test_a_disk_that_fills_up_and_is_freed(
    victim: str, point: str, disk: SmallDisk, make_lake: LakeMaker
) -> None:
    lake = make_lake(PAIR, folder=disk.folder.parent, consumer={"seal_max_age_seconds": 0.2})
    with PublicReader(lake):
        workers = [lake.start("consume" if victim == "compact" else "compact")]
        workers.append(lake.start(victim, failpoint=f"{point}:stop"))

        def stands() -> bool:
            lake.loader.burst()
            return is_stopped(workers[1])

        until(stands, f"{victim} at {point}")
        disk.fill()
        workers[1].signal(signal.SIGCONT)

        def complains() -> bool:
            lake.loader.send(lake.topics[0], 20)
            return _complains(lake)

        until(complains, "a word about the full disk")
        lake.loader.burst()
        disk.free()
        lake.await_caught_up()
        assert [w.exit_code() for w in workers] == [None, None], lake.show_logs()
        lake.stop()
    lake.check()
