"""`ducklake config check`, and the same before every command that asks sources."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from confluent_kafka.admin import AdminClient

from ducklake.alerts.targets import targets
from lake.config import FOREIGN, NOWHERE, Config, load_config
from lake.errors import ConfigError, ServiceUnreachable, SourceError, StackNotRunning
from lake.kafka.clients import kafka_client
from producers.mysql.tables import quoted
from producers.registry import check_sources, server_problems, unused_connections


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


def check(path: Path | None, offline: bool) -> None:
    """Validate, ask the servers, and say what may surprise.

    Args:
        path: The file; None looks for it.
        offline: Whether servers are not to be asked.

    Raises:
        ConfigError: Something is wrong; every line names its place.
    """
    config = load_checked(path)
    sources, tables = config.settings.sources, list(config.tables())
    print(
        f"{config.path.name} is valid: {len(sources)} sources, {len(tables)} tables,"
        f" data in {config.data_dir}"
    )
    shared = Counter(ref.table for ref, _ in tables)
    for ref, spec in tables:
        relation = config.relation(ref)
        if spec.table is not None or spec.database is not None:
            names = [name for name in (spec.database, spec.table or ref.table) if name]
            mysql = ".".join(quoted(name) for name in names)
            print(f"{ref.topic} is {mysql} in MySQL, and raw.{relation}")
        if shared[ref.table] > 1:
            print(f"{ref.topic} is raw.{relation}: other sources have {ref.table}, too")
        if relation not in (ref.table, f"{ref.source}__{ref.table}"):
            print(f"{ref.topic} is raw.{relation}: PostgreSQL's names have at most 63 bytes")
    wrong = targets(config)[1]
    if wrong:
        raise ConfigError("\n".join(str(error) for error in wrong))
    # of one that takes them; nobody is asked
    options = config.settings.services.kafka.options
    kafka_client(AdminClient, replace(NOWHERE, kafka_options=options))
    for name in unused_connections(config):
        print(f"connections.{name}: no source uses it, so nothing of it was checked")
    if not offline:
        _ask_servers(config)
    print("`ducklake plan` says what running with it will do")


def _ask_servers(config: Config) -> None:
    """Check each source against its server, where that answers.

    Raises:
        ConfigError: Something is wrong; every line names its place.
    """
    wrong = []
    for name, source in config.settings.sources.items():
        if source.type == FOREIGN:
            continue
        try:
            for line, is_error in server_problems(config, name):
                if is_error:
                    wrong.append(line)
                else:
                    print(line)
        except (StackNotRunning, ServiceUnreachable) as error:
            print(f"sources.{name}: not checked against its server: {error}")
        except SourceError as error:
            wrong.append(f"sources.{name}: {error}")
    if wrong:
        raise ConfigError("\n".join(wrong))
