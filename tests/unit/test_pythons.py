"""`.ci/pythons`: only interpreters that run, and pyenv's among them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PYTHONS = Path(__file__).resolve().parents[2] / ".ci" / "pythons"
OWN = "{}.{}".format(*sys.version_info[:2])
TOOLS = ("bash", "sh", "awk", "sort")


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def found(folder: Path) -> list[str]:
    """What it prints with a PATH of its own and `folder/pyenv`."""
    for tool in TOOLS:
        (folder / "bin" / tool).symlink_to(shutil.which(tool) or "")
    done = subprocess.run(
        [PYTHONS],
        env={"PATH": str(folder / "bin"), "PYENV_ROOT": str(folder / "pyenv")},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_shim_that_fails_is_passed_over_for_what_pyenv_has(tmp_path: Path) -> None:
    program(tmp_path / "bin/python3.13", "echo 'pyenv: command not found' >&2; exit 127")
    program(tmp_path / f"pyenv/versions/{OWN}.99/bin/python", f'exec "{sys.executable}" "$@"')
    assert found(tmp_path) == [f"{OWN} {sys.executable}"]


def test_the_path_comes_first_and_each_version_once(tmp_path: Path) -> None:
    program(tmp_path / f"bin/python{OWN}", f'exec "{sys.executable}" "$@"')
    program(tmp_path / f"pyenv/versions/{OWN}.98/bin/python", f"echo {OWN} pyenv")
    assert found(tmp_path) == [f"{OWN} {sys.executable}"]


def test_where_there_is_none_nothing_is_printed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert found(tmp_path) == []
