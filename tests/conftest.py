"""Fixtures that need the real services: one embedded stack for the whole run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from lake.config import Config, load_config

# openpyxl writes the same bytes with lxml and without only if it does not use it.
os.environ["OPENPYXL_LXML"] = "False"

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("ducklake.yml", "dbt_techstore", "dbt_ducklake", "connect", "docker")

LONGEST = (
    *("test_replay_page", "test_secured_services", "test_mysql_life", "test_mysql_poll"),
    *("test_mysql_backfill", "test_main_job", "test_init", "test_killed_cycles"),
    *("test_incremental_models", "test_stories", "test_reconciliation_remedies"),
    *("test_reconciliation", "test_mysql_alterations", "test_mysql_schema_changes"),
    *("test_mysql_unseen", "test_mysql_names", "test_one_bad_among_good", "test_railway_start"),
    *("test_random", "test_kafka_faults", "test_two_of_each", "test_public_schemas"),
)
"""Files that take minutes: begun first, so that no worker is left alone with one at the end."""

# A busy machine is slower, and no test asserts a time.
settings.register_profile("ducklake", deadline=None)
settings.load_profile("ducklake")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring long files to the front; within a file the order stays."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def copy_project(folder: Path) -> Path:
    """Copy the project's configuration and data, so that tests never touch the user's."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("target", "logs", "dbt_packages")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project; a blank is in its path, which everything has to bear."""
    return copy_project(tmp_path_factory.mktemp("a lake"))


@pytest.fixture(scope="session")
def stack_config(project: Path) -> Iterator[Config]:
    """The configuration of a running stack with its own data folder.

    Embedded, or with SERVICES=docker in containers (all but the API server).
    """
    from stack import lifecycle

    with ExitStack() as services:
        if os.environ.get("SERVICES") == "docker":
            from tests.compose.services import container_services

            config = services.enter_context(container_services(project))
        else:
            config = load_config(project / "ducklake.yml")
        lifecycle.up(config)
        try:
            yield config
        finally:
            lifecycle.down(config)
