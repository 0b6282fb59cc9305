"""`ducklake config check`, and the same before every command that asks sources."""

from __future__ import annotations

from pathlib import Path

from lake.config import Config, load_config
from producers.registry import check_sources, unused_connections


def load_checked(path: Path | None, sources: list[str] | None = None) -> Config:
    """Load the configuration, and have the connectors validate what only they know.

    Args:
        path: The file; None looks for it.
        sources: The sources that will be asked; all by default.

    Raises:
        ConfigError: Something is wrong; every line names its place.
    """
    config = load_config(path)
    known = config.settings.sources
    check_sources(config, [name for name in sources or known if name in known])
    return config


def check(path: Path | None) -> None:
    """Validate, and say what may surprise.

    Raises:
        ConfigError: Something is wrong; every line names its place.
    """
    config = load_checked(path)
    sources, tables = config.settings.sources, list(config.tables())
    print(
        f"{config.path.name} is valid: {len(sources)} sources, {len(tables)} tables,"
        f" data in {config.data_dir}"
    )
    for ref, _ in tables:
        if config.relation(ref) != ref.table:
            print(f"{ref.topic} is raw.{config.relation(ref)}: other sources have {ref.table}, too")
    for name in unused_connections(config):
        print(f"connections.{name}: no source uses it, so nothing of it was checked")
