"""The program as somebody has it who installs the wheel: no clone on its path."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT


@dataclass(frozen=True)
class Installed:
    """An environment of its own, with the wheel and the packages of the lock."""

    folder: Path

    @property
    def site(self) -> Path:
        """Its site-packages."""
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def run(
        self, cwd: Path, *words: str, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`ducklake` with some words, in a folder; its exit code is asserted."""
        program = self.folder / "bin" / "ducklake"
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(program), *words],
            cwd=cwd,
            env={**kept, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done


def build_wheel(folder: Path) -> Path:
    """Build the wheel out of this clone."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    return wheel


def install_wheel(folder: Path) -> Installed:
    """Install the wheel; packages come from the running environment, the clone does not."""
    made = Installed(folder / "environment")
    venv.create(made.folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(made.folder / "bin" / "python")]
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--ignore-installed"]
    wheel = build_wheel(folder)
    subprocess.run([*pip, "install", *options, str(wheel)], check=True, timeout=120)
    # a line of a .pth file is a folder whose own .pth files, such as the clone's, are not read
    (made.site / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return made
