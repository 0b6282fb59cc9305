"""The packages that a dbt project names, and the files that dbt reads of it and of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

PACKAGE = "DUCKLAKE_DBT_PACKAGE"
"""By this a project finds the package `dbt_ducklake` of the release that runs it."""
PACKAGES = "DUCKLAKE_DBT_PACKAGES"
"""By this it says that its packages are installed in the lake's folder."""
UNREADABLE = (OSError, yaml.YAMLError, KeyError, TypeError, ValueError)
"""What comes of a `packages.yml` with a mistake, which dbt names better."""


def are_others(project: Path, packages: Path) -> bool:
    """Whether the installed packages are not those that a project names.

    Args:
        project: The project's folder, which has a `packages.yml`.
        packages: Where its packages are installed.
    """
    if not any(path.exists() for path in packages.glob("*/dbt_project.yml")):
        return True
    try:
        return any(
            _contents(folder) != _contents(packages / name)
            for name, folder in local_packages(project)
        )
    except UNREADABLE:
        return True


def local_packages(project: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each package of a project that lies on this machine."""
    found = yaml.safe_load((project / "packages.yml").read_text(encoding="utf-8"))
    for package in found["packages"]:
        if "local" in package:
            folder = project / _without_variable(package["local"])
            about = yaml.safe_load((folder / "dbt_project.yml").read_text(encoding="utf-8"))
            yield about["name"], folder


def _without_variable(path: str) -> str:
    """The folder of a package that is named by the variable of this release's own."""
    return re.sub(rf"\{{\{{\s*env_var\(['\"]{PACKAGE}['\"]\)\s*\}}\}}", os.environ[PACKAGE], path)


def _contents(package: Path) -> dict[str, bytes]:
    """What dbt reads of a package."""
    return {str(path.relative_to(package)): path.read_bytes() for path in _read_by_dbt(package)}


def files_of(*folders: Path) -> frozenset[tuple[str, int, int]]:
    """What tells whether a project was edited: each file's name, time of change and size."""
    found = set()
    for folder in folders:
        for path in _read_by_dbt(folder):
            if not {"target", "dbt_packages"} & set(path.relative_to(folder).parts):
                about = path.stat()
                found.add((str(path), about.st_mtime_ns, about.st_size))
    return frozenset(found)


def _read_by_dbt(folder: Path) -> Iterator[Path]:
    # `**` follows no links, and a package on this machine is one: `*` does.
    nested = (f"*/**/*.{ending}" for ending in ("sql", "yml", "yaml", "csv", "py", "md"))
    for pattern in ("*.yml", "*.yaml", *nested):
        yield from folder.glob(pattern)
