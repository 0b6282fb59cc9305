"""Orders and revenue by the minute in which they were placed: pure, from records to figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

ARGENTINA = timezone(timedelta(hours=-3))
WINDOW = timedelta(hours=24)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Order:
    """The state of one order; `placed` is local time, cut to the minute."""

    placed: datetime
    total_ars: Decimal
    cancelled: bool


@dataclass(frozen=True, slots=True)
class OrderChange:
    """What a record says: the order's new state, None where it was deleted."""

    order_id: int
    order: Order | None


def parse(value: bytes | None) -> OrderChange | None:
    """Read Debezium's record of the table `orders`; None where it is none that is known."""
    try:
        record = orjson.loads(value or b"")
        row = record["after"]
        if row is None:
            return OrderChange(int(record["before"]["order_id"]), None)
        placed = datetime.fromisoformat(row["ordered_at"]).replace(
            second=0, microsecond=0, tzinfo=ARGENTINA
        )
        total = Decimal(str(row["total_ars"]))
        if not total.is_finite():
            return None
        order = Order(placed, total, row["status"] == "cancelled")
        return OrderChange(int(row["order_id"]), order)
    except (KeyError, TypeError, ValueError, InvalidOperation):
        return None


@dataclass(slots=True)
class MinuteFigures:
    """The last 24 hours of orders; applying the same record again changes nothing."""

    _orders: dict[int, Order] = field(default_factory=dict)
    _minutes: dict[datetime, set[int]] = field(default_factory=dict)
    _changed: set[datetime] = field(default_factory=set)

    def apply(self, change: OrderChange, now: datetime) -> None:
        """Take over an order's new state; one older than the window is left out.

        Args:
            change: The state.
            now: The present, aware.
        """
        old = self._orders.pop(change.order_id, None)
        if old == change.order and old is not None:
            self._orders[change.order_id] = old
            return
        if old is not None:
            self._minutes[old.placed].discard(change.order_id)
            self._changed.add(old.placed)
        if change.order is None or change.order.placed <= now - WINDOW:
            return
        self._orders[change.order_id] = change.order
        self._minutes.setdefault(change.order.placed, set()).add(change.order_id)
        self._changed.add(change.order.placed)

    def take_changes(self, now: datetime) -> dict[str, dict[str, Any] | None]:
        """The figures of the minutes that changed, once; None where a minute has none any more."""
        for minute in [m for m in self._minutes if m <= now - WINDOW]:
            for order_id in self._minutes.pop(minute):
                del self._orders[order_id]
            self._changed.add(minute)
        changed, self._changed = sorted(self._changed), set()
        return {minute.isoformat(timespec="minutes"): self._figure(minute) for minute in changed}

    def _figure(self, minute: datetime) -> dict[str, Any] | None:
        orders = [self._orders[order_id] for order_id in self._minutes.get(minute, ())]
        if not orders:
            self._minutes.pop(minute, None)
            return None
        sold = [order.total_ars for order in orders if not order.cancelled]
        return {
            "minute": minute.isoformat(timespec="minutes"),
            "orders": len(sold),
            "cancelled_orders": len(orders) - len(sold),
            "revenue_ars": f"{sum(sold, Decimal('0.00')):.2f}",
        }
