"""The values for which a request is made: a list, or years that MySQL knows."""

from __future__ import annotations

from datetime import UTC, datetime

from lake.config import Config, MysqlConnection
from lake.errors import ConfigError
from producers.connections import ConnectionUse, connect_as
from producers.mysql.query import ask
from producers.rest.options import RestRequest, Values, YearsOf


def values_of(config: Config, place: str, request: RestRequest) -> dict[str, list[str]]:
    """The values of each placeholder of `each`.

    Args:
        config: The configuration.
        place: Where the request stands in it.
        request: The request.

    Raises:
        ConfigError: A query answers something else than two whole numbers.
        SourceError: The server refuses it.
        ServiceUnreachable: The server does not answer.
    """
    return {
        name: _values(config, f"{place}.each.{name}", values)
        for name, values in request.each.items()
    }


def _values(config: Config, place: str, values: Values) -> list[str]:
    if not isinstance(values, YearsOf):
        return [str(value) for value in values]
    use = mysql_use(tuple(place.split(".")), values)
    row = ask(connect_as(config, use, MysqlConnection), values.first_and_last)
    if len(row) != 2 or not all(number is None or isinstance(number, int) for number in row):
        raise ConfigError(
            f"{place}.first_and_last returns no two whole numbers.",
            "It has to SELECT the first and the last one.",
        )
    this_year = datetime.now(UTC).year
    first, last = row
    return [str(number) for number in range(first or this_year, (last or this_year) + 1)]


def mysql_use(at: tuple[str, ...], values: YearsOf) -> ConnectionUse:
    """The MySQL that a query asks."""
    return ConnectionUse((*at, "connection"), values.connection, MysqlConnection, "mysql")
