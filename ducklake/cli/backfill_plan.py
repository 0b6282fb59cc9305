"""`ducklake backfill --dry-run`: what would be read again, without asking for it."""

from __future__ import annotations

import json
from typing import Any

from ducklake.cli.file_tables import is_file_source, matching
from ducklake.cli.rest_tables import Days, checked_days, is_asked_again, refuse_days
from lake.config import MYSQL, Config, MysqlConnection, nearest
from lake.errors import ConfigError
from producers.mysql.query import ask_where, one_term
from producers.mysql.tables import mysql_tables
from producers.registry import source_connection


def show_plan(config: Config, topic: str, where: str, days: Days, as_json: bool) -> None:
    """Print what would be read again.

    Args:
        config: The configuration.
        topic: The table, as `SOURCE.TABLE`.
        where: A condition in MySQL's SQL; empty for all rows.
        days: The first and the last day, of a table of an API.
        as_json: Whether the result is one line of JSON.

    Raises:
        ConfigError: There is no such table, or it takes no such limit.
        SourceError: MySQL refuses the condition.
        ServiceUnreachable: The source does not answer.
    """
    found = _plan(config, topic, where, days)
    if as_json:
        print(json.dumps({"table": topic, **found}))
    elif found["kind"] == "api":
        span = f" from {found['from'] or 'the beginning'} to {found['to'] or 'the end'}"
        print(f"{topic}: the API would be asked again{span}")
    else:
        print(f"{topic}: {found['count']:,} {found['kind']} would be read again")


def _plan(config: Config, topic: str, where: str, days: Days) -> dict[str, Any]:
    name, _, table = topic.partition(".")
    if is_asked_again(config, name):
        first, last = checked_days(config, topic, where, days)
        return {"kind": "api", "count": None, "from": _text(first), "to": _text(last)}
    refuse_days(topic, days)
    if is_file_source(config, name):
        return {"kind": "files", "count": len(matching(config, topic))}
    sources = config.settings.sources
    if name not in sources or table not in sources[name].tables:
        known = nearest(table, sources[name].tables) if name in sources else nearest(name, sources)
        raise ConfigError(f"There is no table {topic!r}{known}.", "Name it as SOURCE.TABLE.")
    if sources[name].type not in MYSQL:
        raise ConfigError(
            f"{topic} cannot be read again at its source.",
            f"`ducklake replay {topic}` reads its topic again.",
        )
    server = source_connection(config, name)
    assert isinstance(server, MysqlConnection)
    there = mysql_tables(sources[name], server.database)[table]
    condition = f" WHERE {one_term(where)}" if where else ""
    [count] = ask_where(server, f"SELECT COUNT(*) FROM {there.sql}{condition}")
    return {"kind": "rows", "count": int(count)}


def _text(day: object) -> str | None:
    return None if day is None else str(day)
