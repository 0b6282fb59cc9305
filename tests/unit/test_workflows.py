"""The workflows run what the Makefile has, with actions that nobody can exchange."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(file: Path) -> list[dict[str, Any]]:
    """All steps of a workflow."""
    about = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [step for job in about["jobs"].values() for step in job["steps"]]


def test_there_are_workflows() -> None:
    assert [file.name for file in FILES] == ["ci.yml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_action_is_pinned_by_its_commit(file: Path) -> None:
    uses = [step["uses"] for step in steps(file) if "uses" in step]
    assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", use) for use in uses)
    about = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert about["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in about["jobs"].values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_run_is_there(file: Path) -> None:
    for step in steps(file):
        line = step.get("run", "")
        for script in re.findall(r"(?:^|\s)(\.ci/\w+)", line):
            assert (ROOT / script).is_file()
        made = re.match(r"make ([a-z -]+?)(?: [A-Z]|$)", line)
        assert made is None or set(made[1].split()) <= TARGETS, line


def test_every_python_that_the_project_is_for_is_tested() -> None:
    about = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.findall(r"Python :: (3\.\d+)", project) or ["3.11", "3.12", "3.13"]
    assert about["jobs"]["test"]["strategy"]["matrix"]["python"] == found
