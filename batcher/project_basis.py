"""What a dbt project's models depend on beside their own text: settings, variables, environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

_ENVIRONMENT = re.compile(r"\benv_var\s*\(\s*['\"]([^'\"]+)['\"]")
_OWN = frozenset(
    {
        "DUCKLAKE_WAREHOUSE",
        "DUCKLAKE_DBT_THREADS",
        "DUCKLAKE_DBT_TARGET",
        "DUCKLAKE_DBT_PACKAGE",
        "DUCKLAKE_DBT_PACKAGES",
        "DUCKLAKE_SCRIPTS",
        "DUCKLAKE_TESTED_ROWS",
    }
)
"""What the batch itself tells dbt: no row depends on it."""


def project_basis(project: Path, packages: Path) -> str:
    """The settings of a project, and the variables of the packages that it installs, as one text.

    Args:
        project: The project's folder.
        packages: Where its packages are installed.
    """
    text = (project / "dbt_project.yml").read_text(encoding="utf-8")
    variables, texts = {}, [text]
    for path in sorted(packages.glob("*/dbt_project.yml")):
        texts.append(path.read_text(encoding="utf-8"))
        about = yaml.safe_load(texts[-1]) or {}
        if about.get("vars"):
            variables[path.parent.name] = about["vars"]
    basis = [yaml.safe_load(text), variables, environment_of(texts)]
    return json.dumps(basis, default=str, sort_keys=True)


def environment_of(texts: Iterable[str]) -> list[tuple[str, str | None]]:
    """The variables of the environment that texts ask for by `env_var`, and what they are now."""
    names = {name for text in texts for name in _ENVIRONMENT.findall(text)}
    return [(name, os.environ.get(name)) for name in sorted(names - _OWN)]
