"""The models of a dbt project as its files are now, read beside a batch that may be running."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from batcher.dbt_build import DbtProject
from batcher.dbt_graph import ModelGraph
from batcher.dbt_packages import PACKAGES, UNREADABLE, local_packages
from lake.config import Config
from lake.storage.paths import LakePaths


def read_project(config: Config) -> ModelGraph:
    """Have dbt read the project; neither the project nor the lake is changed.

    Raises:
        BatchError: There is none, or dbt cannot read it.
    """
    installed = LakePaths(config.data_dir).dbt_packages
    with TemporaryDirectory(prefix="ducklake-plan-") as folder:
        dbt = DbtProject(config, scratch=Path(folder))
        dbt.load()
        if (config.dbt_project / "packages.yml").is_file():
            _link_packages(config.dbt_project, installed, Path(folder) / installed.name)
        return dbt.graph()


def _link_packages(project: Path, installed: Path, links: Path) -> None:
    """Have links to a project's packages, as a next installation would have them."""
    links.mkdir(parents=True, exist_ok=True)
    if PACKAGES not in (project / "dbt_project.yml").read_text(encoding="utf-8"):
        return  # they are installed elsewhere
    found = {path.parent.name: path.parent for path in installed.glob("*/dbt_project.yml")}
    with suppress(*UNREADABLE):
        found |= dict(local_packages(project))
    for name, folder in found.items():
        (links / name).symlink_to(folder.resolve())
