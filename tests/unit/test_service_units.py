"""The units of systemd: systemd takes them, their commands are there, and odd paths are quoted."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ducklake.cli.app import app
from ducklake.service.units import Service, folder
from ducklake.supervision.roles import ROLES
from lake.config import Config, load_config
from lake.errors import ConfigError

SETTINGS = {
    "name": "shop",
    "services": {
        "kafka": {"bootstrap_servers": "127.0.0.1:9"},
        "connect": {"url": "http://127.0.0.1:9"},
        "postgres": {"host": "127.0.0.1"},
    },
    "sources": {"s": {"type": "kafka", "tables": {"t": {}}}},
}


def configured(folder_: Path, **more: object) -> Config:
    folder_.mkdir(parents=True, exist_ok=True)
    path = folder_ / "ducklake.yml"
    path.write_text(yaml.safe_dump({**SETTINGS, **more}))
    return load_config(path)


def commands(unit: str) -> list[list[str]]:
    """What a unit starts, as systemd would hand it to the kernel."""
    lines = re.findall(r"^Exec\w+=-?(.*)$", unit, re.MULTILINE)
    return [[w.replace("$$", "$").replace("%%", "%") for w in shlex.split(line)] for line in lines]


@pytest.mark.parametrize("is_system", [False, True])
@pytest.mark.parametrize("name", ["plain", 'a "folder" of 100 % and $HOME'])
def test_systemd_takes_the_units(tmp_path: Path, name: str, is_system: bool) -> None:
    config = configured(tmp_path / name)
    service = Service(config, is_system, "daemon" if is_system else "")
    units = service.units()
    assert set(units) == {
        "ducklake-shop.target",
        *(f"ducklake-shop-{role}.service" for role in (*ROLES, "dashboard")),
    }
    place = tmp_path / "units"
    place.mkdir()
    for unit, text in units.items():
        (place / unit).write_text(text)
        for command in commands(text):
            assert command[0] == sys.executable and command[-1] == str(config.path)
    verify = shutil.which("systemd-analyze")
    if verify is None:
        return  # the commands and their words are looked at all the same
    words = [verify, "verify", *([] if is_system else ["--user"]), "--man=no"]
    found = subprocess.run(
        [*words, *map(str, sorted(place.iterdir()))],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    said = [line for line in found.stderr.splitlines() if "ducklake-shop" in line]
    assert not said, found.stderr


def test_each_command_of_a_unit_is_one_of_the_program(tmp_path: Path) -> None:
    units = Service(configured(tmp_path), False).units()
    words = {command[3] for text in units.values() for command in commands(text)}
    assert words == {*ROLES, "dashboard", "doctor"}
    for word in words:
        assert CliRunner().invoke(app, [word, "--help"]).exit_code == 0


def test_embedded_services_come_before_the_roles(tmp_path: Path) -> None:
    config = configured(tmp_path, services={"postgres": {"host": "127.0.0.1"}})
    units = Service(config, True, "daemon").units()
    stack = "ducklake-shop-stack.service"
    assert {command[3] for command in commands(units[stack])} == {"up", "down"}
    assert f"After=network-online.target {stack}" in units["ducklake-shop-batch.service"]
    for name, text in units.items():
        if name.endswith(".service"):
            assert "UMask=0077" in text and "User=daemon" in text and "NoNewPrivileges=yes" in text


def test_the_command_writes_shows_and_removes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = configured(tmp_path / "project")
    place = folder(False, tmp_path)

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", "service", *words, "--config", str(config.path)],
            capture_output=True,
            text=True,
        )
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    assert "ExecStart=" in run("install", "--dry-run") and not place.exists()
    assert "systemctl --user enable --now ducklake-shop.target" in run("install").replace(
        "systemctl --user daemon-reload && ", ""
    )
    assert len(list(place.glob("ducklake-shop*"))) == 7
    assert "7 units removed" in run("remove")
    assert not list(place.iterdir())
    assert "has no units of shop" in run("remove")


def test_no_role_runs_as_root() -> None:
    from ducklake.cli.service import _user

    with pytest.raises(ConfigError, match="do not run as root"):
        _user("root")
    assert _user("ana") == "ana"
