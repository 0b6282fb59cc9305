"""Bytes on disk: names, order of steps, sessions, orphans."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import DiskFull, LedgerError
from lake.ledger import Ledger
from lake.recovery import recover
from lake.storage import operations
from lake.storage.operations import make_folder, move_into_place
from lake.storage.parquet_files import write_parquet
from lake.storage.paths import LakePaths, SealedName, files_below
from lake.storage.quarantine import quarantine
from lake.storage.session import Session, session_is_alive

ROWS = pa.table({"n": pa.array([1, 2], pa.int64())})
NUMBERS = st.integers(0, 2**63 - 1)


@given(
    st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 9999), NUMBERS, NUMBERS
)
def test_the_name_of_a_public_file_can_be_read_back(
    topic_id: str, partition: int, first: int, last: int
) -> None:
    name = SealedName(topic_id, partition, first, last)
    assert SealedName.parse(name.name()) == name


@pytest.mark.parametrize("name", ["x.parquet", "t0-1-2-3.parquet", "", "copy-" + "t" * 40])
def test_other_names_are_not_public_files(name: str) -> None:
    with pytest.raises(ValueError, match="not the name"):
        SealedName.parse(name)


def test_a_file_has_its_name_only_when_it_and_its_folder_are_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_fsync = os.fsync
    target = tmp_path / "raw" / "a.parquet"

    def fsync(handle: int) -> None:
        synced = Path(f"/proc/self/fd/{handle}").readlink()
        steps.append(
            f"{synced.name}{' with it' if synced == target.parent and target.exists() else ''}"
        )
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    written = write_parquet(ROWS, tmp_path / "staged.parquet", {"ducklake.table": "t"})
    move_into_place(written.path, target)
    assert steps[0] == "staged.parquet"
    assert steps[-1] == "raw with it"
    assert tmp_path.name in steps[1:-1], "the name of a new folder is synced in its parent"
    assert pq.read_metadata(target).metadata[b"ducklake.table"] == b"t"
    assert (written.rows, written.size) == (2, target.stat().st_size)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="Free some"):
        write_parquet(ROWS, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    folder.rmdir()
    folder.parent.rmdir()
    make_folder(folder)
    assert folder.is_dir()


def test_a_session_lives_as_long_as_its_lock(tmp_path: Path) -> None:
    paths = LakePaths(tmp_path)
    session = Session(paths)
    assert session_is_alive(paths, session.id)
    session.close()
    assert not session_is_alive(paths, session.id)
    assert not session.folder.exists()


def test_recovery_leaves_living_sessions_alone_and_deletes_nothing(tmp_path: Path) -> None:
    paths = LakePaths(tmp_path)
    with Ledger(paths) as ledger, Session(paths) as living:
        dead = Session(paths)
        names = {}
        for session in (living, dead):
            hot = paths.root / "hot" / "shop" / "orders" / f"{session.id}-1.parquet"
            move_into_place(write_parquet(ROWS, session.folder / "1.parquet").path, hot)
            names[session.id] = [hot, write_parquet(ROWS, session.folder / "2.parquet").path]
        dead._lock.close()
        assert recover(ledger) == 2
        assert all(path.exists() for path in names[living.id])
        assert living.folder.exists()
        assert not dead.folder.exists()
        for path in names[dead.id]:
            assert not path.exists()
            assert (paths.orphans / paths.relative(path)).exists()
        assert recover(ledger) == 0
        for path in names[living.id]:
            path.unlink()


def test_orphans_of_the_same_name_are_all_kept(tmp_path: Path) -> None:
    paths = LakePaths(tmp_path)
    for _ in range(2):
        (tmp_path / "hot").mkdir(exist_ok=True)
        (tmp_path / "hot" / "x").write_text("x")
        quarantine(paths, tmp_path / "hot" / "x")
    assert len(list(paths.orphans.rglob("x*"))) == 2


def test_what_is_outside_of_the_lake_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="not part of the lake"):
        quarantine(LakePaths(tmp_path / "lake"), tmp_path / "x")


def test_an_announced_file_keeps_its_old_name_until_the_new_one_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename changes two folders, of which a power cut may keep one."""
    source, target = tmp_path / "staging" / "a", tmp_path / "raw" / "a"
    source.parent.mkdir()
    source.write_bytes(b"rows")
    synced: list[tuple[str, bool, bool]] = []
    monkeypatch.setattr(
        operations,
        "sync_folder",
        lambda folder: synced.append((folder.name, source.exists(), target.exists())),
    )
    move_into_place(source, target, intended=True)
    assert synced[-1] == ("raw", True, True)
    assert not source.exists() and target.read_bytes() == b"rows"


def test_a_session_that_ends_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    """Others recover at any moment, and remove what dead ones have left."""
    paths = LakePaths(tmp_path)
    over = threading.Event()

    def others() -> None:
        with Ledger(paths) as ledger:
            while not over.is_set():
                recover(ledger)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for _ in range(300):
            Session(paths).close()
    finally:
        over.set()
        thread.join()
    assert not list(paths.staging.glob("[!.]*"))


def test_files_are_listed_while_others_remove_folders(tmp_path: Path) -> None:
    lake = LakePaths(tmp_path)
    for number in range(2):
        for table in ("orders", "stock"):
            day = tmp_path / "generations" / str(number) / "shop" / table / "year=2026"
            make_folder(day)
            (day / "a.parquet").touch()
    found = lake.lake_files()
    next(found)
    shutil.rmtree(tmp_path / "generations")
    assert not list(found)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(_: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match="Input/output error"):
        list(files_below(tmp_path))
