"""`ducklake schema`: the definitions that a table had, and what raw made of each change."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime

from rich.console import Console

from consumers.ingest.drift import AcceptedDrift
from consumers.ingest.schema_changes import SchemaChanges
from consumers.ingest.schema_history import TableHistory
from consumers.maintenance.schema_versions import SchemaVersion, schema_versions
from ducklake.cli.checks import chosen_one
from ducklake.mysql_sources import mysql_source
from ducklake.reconciliation.comparison import tables_of_mysql
from lake.config import Config, TableRef
from lake.errors import ConfigError, SourceError
from lake.storage.paths import LakePaths


def schema(config: Config, table: str, accept: bool, as_json: bool) -> None:
    """Print the versions of a table; with `accept`, accept the newest one.

    Raises:
        ConfigError: It is no table of a MySQL source.
        SourceError: Nothing is known of it yet.
        ServiceUnreachable: Kafka does not answer.
    """
    ref, _ = chosen_one(config, table)
    if not tables_of_mysql(config, [ref]):
        raise ConfigError(
            f"{ref.topic} does not come from MySQL: it has no history of definitions.",
            "`ducklake report` lists the tables.",
        )
    history = _history(config, ref)
    if history.newest is None:
        raise SourceError(
            f"No definition of {ref.topic} is known yet.", "`ducklake produce` brings it to Kafka."
        )
    if accept:
        AcceptedDrift(LakePaths(config.data_dir)).accept(ref.topic, history)
    versions = list(schema_versions(history))
    if as_json:
        listed = [version.dump() for version in versions]
        print(json.dumps({"table": ref.topic, "versions": listed}))
    else:
        _show(versions)
        if accept:
            print(f"{ref.topic}: version {versions[-1].number} is accepted; the table goes on")


def _history(config: Config, ref: TableRef) -> TableHistory:
    named = mysql_source(config, ref.source)[1][ref.table]
    with closing(SchemaChanges(config.endpoints(), ref.source)) as changes:
        return changes.history(named.database, named.table)


def _show(versions: list[SchemaVersion]) -> None:
    console = Console()
    for version in versions:
        moment = datetime.fromtimestamp(version.since, UTC).isoformat(" ", "seconds")
        console.print(f"[bold]{version.number}[/bold]  {version.position}  {moment}")
        lines = [" ".join(version.statement.split())[:500]]
        lines.append("columns: " + (", ".join(map(str, version.columns)) or "unchanged"))
        lines.append("raw: " + (", ".join(map(str, version.raw)) or "unchanged"))
        for line in lines:
            console.print(f"   {line}", markup=False, soft_wrap=True)
