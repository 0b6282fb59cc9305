"""What `ducklake backfill` does for sources of type `rest` and `dlt`."""

from __future__ import annotations

import json
from datetime import date, datetime

from lake.config import Config, nearest
from lake.errors import ConfigError
from producers.registry import connector_class
from producers.rest.connector import RestConnector
from producers.rest.options import RestTable
from producers.rest.requests import request_backfill

Days = tuple[datetime | None, datetime | None]


def is_rest_source(config: Config, name: str) -> bool:
    """Whether a source asks APIs."""
    if name not in config.settings.sources:
        return False
    try:
        return issubclass(connector_class(config, name), RestConnector)
    except ConfigError:
        return False


def is_asked_again(config: Config, name: str) -> bool:
    """Whether a source can be asked for a whole table again: an API, or one of dlt."""
    source = config.settings.sources.get(name)
    return is_rest_source(config, name) or (source is not None and source.type == "dlt")


def refuse_days(topic: str, days: Days) -> None:
    """Refuse --from and --to where the table is none of an API.

    Raises:
        ConfigError: They were given.
    """
    if days != (None, None):
        raise ConfigError(
            f"{topic} is no table of an API: it has no --from and --to.",
            "For MySQL, use --where; files are read again as a whole.",
        )


def checked_days(
    config: Config, topic: str, where: str, days: Days
) -> tuple[date | None, date | None]:
    """The days for which a table of an API is asked again.

    Raises:
        ConfigError: There is no such table, or nothing says which of its records are of a day.
    """
    if where:
        raise ConfigError(
            f"{topic} is no table of MySQL: it has no --where.",
            "Leave it out; an API has --from and --to.",
        )
    name, _, table = topic.partition(".")
    if not is_rest_source(config, name):
        refuse_days(topic, days)
    tables = config.settings.sources[name].tables
    if table not in tables:
        raise ConfigError(
            f"Source {name} has no table {table!r}{nearest(table, tables)}.",
            "Name it as SOURCE.TABLE.",
        )
    first, last = (day.date() if day is not None else None for day in days)
    if first is not None and last is not None and first > last:
        raise ConfigError(f"--from {first} is after --to {last}.", "Exchange them.")
    if (first or last) and not _knows_days(RestTable.model_validate(tables[table].options)):
        raise ConfigError(
            f"Nothing says which records of {topic} are of a day.",
            "Set `date_column` in its options, or leave out --from and --to.",
        )
    return first, last


def request_rest_backfill(
    config: Config,
    topic: str,
    where: str,
    days: Days,
    as_json: bool,
) -> None:
    """Have an API asked again for a table, by the producers that run or start next.

    Args:
        config: The configuration.
        topic: The table, as `SOURCE.TABLE`.
        where: A condition, which an API does not have.
        days: The first and the last day; None for the beginning and the end.
        as_json: Whether the result is one line of JSON.

    Raises:
        ConfigError: There is no such table, or nothing says which of its records are of a day.
    """
    first, last = checked_days(config, topic, where, days)
    name, _, table = topic.partition(".")
    made = request_backfill(config, name, table, first, last)
    if as_json:
        span = {"from": _iso(first), "to": _iso(last)}
        print(json.dumps({"table": topic, "requested_at": made.at, **span}))
    else:
        print(f"{topic}: its source is asked again by `ducklake run` or `ducklake produce`.")


def _knows_days(options: RestTable) -> bool:
    return any(
        request.date_column or request.backfill or request.incremental
        for request in options.all_requests().values()
    )


def _iso(day: date | None) -> str | None:
    return day.isoformat() if day is not None else None
