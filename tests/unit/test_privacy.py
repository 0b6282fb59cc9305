"""What the roles write is for their own user alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lake.storage.privacy import close_data_folder, data_folder_mode, keep_private

MINIMAL = """\
name: closed
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources: {}
"""


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_role_closes_a_data_folder_that_others_can_read_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "ducklake.yml").write_text(MINIMAL)
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    command = [sys.executable, "-m", "ducklake.cli", "compact", "--now"]
    command += ["--config", str(tmp_path / "ducklake.yml")]
    first = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert first.returncode == 0, first.stderr
    assert "data_folder_closed" in first.stderr and "755" in first.stderr
    assert mode(data) == 0o700
    written = [path for path in data.rglob("*") if not path.is_symlink()]
    assert any(path.name == "ledger.db" for path in written)
    assert not [str(path) for path in written if mode(path) & 0o077]
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "data_folder_closed" not in again.stderr


def test_a_folder_that_is_closed_already_is_left_alone(tmp_path: Path) -> None:
    for had in (0o700, 0o500):
        tmp_path.chmod(had)
        with capture_logs() as logs:
            close_data_folder(tmp_path)
        assert mode(tmp_path) == had and not logs
    tmp_path.chmod(0o700)
    close_data_folder(tmp_path / "absent")


def test_files_of_a_private_process_are_its_own(tmp_path: Path) -> None:
    keep_private(tmp_path)
    (tmp_path / "file").write_text("x")
    assert mode(tmp_path / "file") == 0o600


def test_nobody_may_pass_through_to_postgresql_where_it_has_to(tmp_path: Path) -> None:
    stack = tmp_path / "stack"
    stack.mkdir(mode=0o700)
    assert data_folder_mode(tmp_path) == 0o700
    stack.chmod(0o711)
    tmp_path.chmod(0o755)
    close_data_folder(tmp_path)
    assert mode(tmp_path) == (0o711 if tmp_path.stat().st_uid == 0 else 0o700)
