"""A configuration, a dbt project and a module of another user are refused, each with a way out."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lake.config import find_config, load_config
from lake.config.trust import assert_believed, doubt
from lake.errors import ConfigError
from producers.modules import assert_module_believed

STRANGER = 23_456
MINIMAL = """\
name: ours
services: {kafka: {bootstrap_servers: "127.0.0.1:9"}, postgres: {host: 127.0.0.1}}
sources: {}
"""


def give(path: Path, uid: int = STRANGER, gid: int = -1) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a file away")
    os.chown(path, uid, gid)


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration above the folder in which somebody works."""
    monkeypatch.delenv("DUCKLAKE_CONFIG", raising=False)
    path = tmp_path / "ducklake.yml"
    path.write_text(MINIMAL)
    path.chmod(0o644)
    (tmp_path / "deep" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "inside")
    return path


def test_a_configuration_of_another_user_is_not_taken_but_named_it_is(found: Path) -> None:
    assert find_config() == found
    give(found)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        load_config()
    [option] = re.findall(r"`--config (.+?)`", caught.value.remedy)
    assert load_config(Path(shlex.split(option)[0])).settings.name == "ours"


def test_the_remedy_takes_a_configuration_over(found: Path) -> None:
    for mode in (None, 0o666, 0o646):
        if mode is None:
            give(found)
        else:
            found.chmod(mode)
        with pytest.raises(ConfigError) as caught:
            find_config()
        [line] = re.findall(r"To take it over: `(.+)`", caught.value.remedy)
        subprocess.run(["sh", "-c", line.replace("sudo ", "")], check=True, timeout=30)
        assert find_config() == found


def test_the_command_line_says_it_in_one_sentence(found: Path) -> None:
    found.chmod(0o666)
    command = [sys.executable, "-m", "ducklake.cli", "config", "check"]
    environment = {k: v for k, v in os.environ.items() if k != "DUCKLAKE_CONFIG"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=found.parent, env=environment
    )
    assert done.returncode == 1 and "every user may change it" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_group_of_others_may_not_write_and_ones_own_may(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o664)
    assert doubt(path) == ""
    shared = next(user.pw_gid for user in pwd.getpwall() if user.pw_uid not in (0, os.geteuid()))
    give(path, 0, shared)
    assert "its group may change it" in doubt(path)


def test_what_a_configuration_of_another_user_names_is_believed_with_it(tmp_path: Path) -> None:
    config, project = tmp_path / "ducklake.yml", tmp_path / "models"
    config.touch()
    project.mkdir()
    give(project)
    with pytest.raises(ConfigError):
        assert_believed(project, "the dbt project", "", config)
    give(config)
    assert_believed(project, "the dbt project", "", config)


def test_a_module_of_another_user_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "their_connectors"
    package.mkdir()
    (package / "__init__.py").write_text("")
    module = package / "dolar.py"
    module.write_text("raise SystemExit('it ran')")
    assert_module_believed("their_connectors.dolar")
    module.chmod(0o666)
    config = tmp_path / "ducklake.yml"
    config.write_text(
        MINIMAL.replace("{}", "{x: {type: 'their_connectors.dolar:X', tables: {t: {key: [a]}}}}")
    )
    from producers.registry import connector_class

    with pytest.raises(ConfigError, match=r"dolar\.py: the module their_connectors\.dolar is not"):
        connector_class(load_config(config), "x")
    module.chmod(0o644)
    package.chmod(0o777)
    with pytest.raises(ConfigError, match="every user may change it"):
        assert_module_believed("their_connectors.dolar")
    package.chmod(0o755)
    give(module)
    with pytest.raises(ConfigError, match="belongs to another user"):
        assert_module_believed("their_connectors.dolar")


def test_a_dbt_project_of_another_user_is_not_run(tmp_path: Path) -> None:
    from batcher.dbt_build import DbtProject

    config = tmp_path / "ducklake.yml"
    config.write_text(MINIMAL + "batch: {dbt_project: models}\n")
    project = tmp_path / "models"
    project.mkdir()
    (project / "dbt_project.yml").write_text("name: x\n")
    project.chmod(0o777)
    with pytest.raises(ConfigError, match="the dbt project is not used: every user may change it"):
        DbtProject(load_config(config))
