"""From records to orders, items, names and rates, as the section `live` names their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from lake.config import Config, Live
from lake.config.live import LiveItems, LiveNames, LiveRate
from lake.errors import ConfigError

_CREATED = "c"


@dataclass(frozen=True, slots=True)
class Order:
    """The state of one order.

    Attributes:
        minute: The minute in which it was placed, counted from the epoch.
        amount: What it is worth.
        cancelled: Whether it counts no more.
        late: Whether its first record came long after the order.
    """

    minute: int
    amount: Decimal
    cancelled: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A line of an order: so many of a product, for so much together."""

    order: str
    product: str
    units: Decimal
    revenue: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """An exchange rate: the price of one unit, and its time in seconds of the epoch."""

    value: Decimal
    at: float


@dataclass(frozen=True, slots=True)
class Change:
    """The new state of what a key names.

    Attributes:
        part: The part of the section that names the table: `orders`, `items`, `names` or `rate`.
        key: The row's key.
        state: None where it was deleted.
    """

    part: str
    key: str
    state: Order | Item | Rate | str | None


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as a record has it: of a deleted one, what it was."""

    columns: Mapping[str, Any]
    is_deleted: bool
    is_created: bool

    @classmethod
    def of(cls, value: bytes | None, is_cdc: bool) -> _Row:
        """The row.

        Raises:
            KeyError: It is none.
            TypeError: It is none.
            ValueError: It is none.
        """
        record = orjson.loads(value or b"")
        if not is_cdc:
            return cls({**record}, False, True)
        is_deleted = record["after"] is None
        columns = record["before"] if is_deleted else record["after"]
        return cls({**columns}, is_deleted, record.get("op") == _CREATED)

    def key(self, columns: tuple[str, ...]) -> str:
        values = [self.columns[column] for column in columns]
        if None in values:
            raise ValueError("a key is NULL")
        return str(values[0]) if len(values) == 1 else orjson.dumps(values).decode()

    def number(self, column: str) -> Decimal:
        value = self.columns[column]
        found = Decimal(str(value))
        if isinstance(value, bool) or not found.is_finite():
            raise ValueError("no number")
        return found


class Reader:
    """Reads the records of all topics that the live figures need.

    Args:
        config: The configuration.

    Raises:
        ConfigError: It has no live figures.
    """

    def __init__(self, config: Config) -> None:
        self.live = live_section(config)
        self._keys = {ref.topic: tuple(table.key) for ref, table in config.tables()}
        self._cdc = {ref.topic for ref, _ in config.tables() if config.kind(ref) == "cdc"}
        zone = self.live.orders.time_zone or config.settings.batch.time_zone
        self._zone = ZoneInfo(zone)

    def read(self, topic: str, value: bytes | None, arrived_at: float) -> list[Change] | None:
        """What a record says; None where it is none that can be understood.

        Args:
            topic: Where it comes from; several parts of the section may name it.
            value: Its bytes.
            arrived_at: When Kafka got it, in seconds of the epoch.
        """
        try:
            row = _Row.of(value, topic in self._cdc)
            return list(self._changes(topic, row, arrived_at))
        except (KeyError, TypeError, ValueError, InvalidOperation, OverflowError):
            return None

    def _changes(self, topic: str, row: _Row, arrived_at: float) -> list[Change]:
        live, key = self.live, ""
        if self._keys[topic]:
            key = row.key(self._keys[topic])
        gone = row.is_deleted
        found: list[Change] = []
        if live.orders.table == topic:
            found.append(Change("orders", key, None if gone else self._order(row, arrived_at)))
        if live.items is not None and live.items.table == topic:
            found.append(Change("items", key, None if gone else _item(live.items, row)))
        if live.names is not None and live.names.table == topic:
            found.append(Change("names", key, None if gone else _name(live.names, row)))
        if live.rate is not None and live.rate.table == topic and not gone:
            rate = self._rate(live.rate, row)
            found += [Change("rate", key, rate)] if rate is not None else []
        return found

    def _order(self, row: _Row, arrived_at: float) -> Order:
        named = self.live.orders
        placed = self._moment(row.columns[named.time])
        cancelled = named.cancelled is not None and (
            str(row.columns[named.cancelled.column]) in named.cancelled.values
        )
        late = row.is_created and arrived_at - placed > self.live.late_seconds
        return Order(int(placed // 60), row.number(named.amount), cancelled, late)

    def _rate(self, named: LiveRate, row: _Row) -> Rate | None:
        found = [row.columns[c] for c in named.time if row.columns.get(c) is not None]
        if row.columns.get(named.column) is None or not found:
            return None
        value = row.number(named.column)
        return Rate(value, self._moment(found[0])) if value > 0 else None

    def _moment(self, text: str) -> float:
        """Seconds of the epoch. MySQL's DATETIME is written as if it were UTC: it is local."""
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or not moment.utcoffset():
            moment = moment.replace(tzinfo=self._zone)
        return moment.timestamp()


def live_section(config: Config) -> Live:
    """The section `live`.

    Raises:
        ConfigError: There is none.
    """
    if config.settings.live is None:
        raise ConfigError(
            f"{config.path.name} has no section `live`, which says what is counted.",
            "Add one (docs/CONFIGURATION.md, Live figures), or leave `ducklake live` out.",
        )
    return config.settings.live


def _item(named: LiveItems, row: _Row) -> Item:
    units = row.number(named.quantity) if named.quantity else Decimal(1)
    revenue = units * row.number(named.price)
    percent = named.discount_percent
    if percent is not None and row.columns[percent] is not None:
        revenue *= (100 - row.number(percent)) * Decimal("0.01")
    return Item(row.key((named.order,)), row.key((named.product,)), units, revenue)


def _name(named: LiveNames, row: _Row) -> str:
    return str(row.columns[named.column])


def now_minute(now: datetime) -> int:
    """A moment's minute, counted from the epoch."""
    return int(now.timestamp() // 60)
