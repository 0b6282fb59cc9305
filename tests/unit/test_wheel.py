"""The wheel works in any folder outside the clone, and takes one name in site-packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ducklake import __version__
from tests.conftest import ROOT
from tests.wheel import Installed, install_wheel

MINIMAL = "sources:\n  drops: {type: files, directory: ., tables: {stock: {file: stock.csv}}}\n"
BUNDLED = ("batcher", "consumers", "lake", "producers", "stack", "techstore")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install_wheel(tmp_path_factory.mktemp("wheel"))


def ask(installed: Installed, cwd: Path, code: str) -> str:
    """What a line of Python prints there."""
    python = installed.folder / "bin" / "python"
    done = subprocess.run(
        [str(python), "-c", code], cwd=cwd, env={}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_site_packages_gets_one_name(installed: Installed) -> None:
    own = {p.name.partition(".")[0] for p in installed.site.iterdir() if "dist-info" not in p.name}
    assert own - {"locked"} == {"ducklake"}


def test_a_wheel_knows_its_version(installed: Installed, tmp_path: Path) -> None:
    assert installed.run(tmp_path, "--version").stdout == f"ducklake {__version__}\n"


def test_a_wheel_checks_a_configuration(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "ducklake.yml").write_text(MINIMAL, encoding="utf-8")
    assert "is valid: 1 sources, 1 tables" in installed.run(tmp_path, "config", "check").stdout


def test_a_folder_without_a_project_is_told_how_to_make_one(
    installed: Installed, tmp_path: Path
) -> None:
    assert "ducklake init" in installed.run(tmp_path, "config", "check", code=1).stderr


def test_modules_of_the_same_name_are_not_in_the_way(installed: Installed, tmp_path: Path) -> None:
    for name in BUNDLED:
        (tmp_path / f"{name}.py").write_text("raise ImportError('another one')\n")
    (tmp_path / "ducklake.yml").write_text(MINIMAL, encoding="utf-8")
    installed.run(tmp_path, "config", "check", environment={"PYTHONPATH": str(tmp_path)})


def test_a_child_process_finds_its_modules(installed: Installed, tmp_path: Path) -> None:
    code = (
        "import ducklake, subprocess, sys;"
        " child = 'import stack.jars; print(len(stack.jars.read_lock()))';"
        " print(subprocess.check_output([sys.executable, '-c', child], text=True))"
    )
    assert int(ask(installed, tmp_path, code)) > 100


def test_everything_that_is_read_as_a_file_is_in_the_wheel(
    installed: Installed, tmp_path: Path
) -> None:
    bundle = installed.site / "ducklake" / "_bundle"
    for name in ("connect", "dbt_ducklake", "docker/mysql", "docker/sftp"):
        there, here = bundle / name, ROOT / name
        found = {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
        assert found >= {
            str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()
        } - {".sqlfluff"}
    assert (bundle / "docs" / "ducklake.schema.json").is_file()
    for module in ("stack.supervisor", "stack.sftp", "techstore.api_server", "stack.converter"):
        ask(installed, tmp_path, f"import ducklake, {module}")
