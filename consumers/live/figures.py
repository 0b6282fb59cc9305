"""What a shop watches, by windows on the time of its orders: pure, from changes to figures.

Orders are kept for a day in panes of a minute; each window is a number of panes. An order that is
changed, cancelled, moved or deleted leaves the figures in which it was: applying the same records
again, in whatever order the topics are read, gives the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from consumers.live.items import OrderItems
from consumers.live.records import Change, Item, Order, Rate, now_minute
from lake.config import Live

KEPT_MINUTES = 25 * 60
"""A day of 25 hours, as one has where clocks are set back."""
TODAY = "today"
_CENT = Decimal("0.01")
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Sums:
    """What some minutes add up to; `products` maps a product to units and revenue."""

    orders: int = 0
    cancelled: int = 0
    late: int = 0
    revenue: Decimal = _NOTHING
    products: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)

    @classmethod
    def together(cls, parts: Iterable[Sums]) -> Sums:
        """The sum of several."""
        orders, cancelled, late, revenue = 0, 0, 0, _NOTHING
        products: dict[str, tuple[Decimal, Decimal]] = {}
        for part in parts:
            orders += part.orders
            cancelled += part.cancelled
            late += part.late
            revenue += part.revenue
            for product, (units, money) in part.products.items():
                before = products.get(product, (_NOTHING, _NOTHING))
                products[product] = (before[0] + units, before[1] + money)
        return cls(orders, cancelled, late, revenue, products)


class LiveFigures:
    """The last day of orders, and what has changed of its figures.

    Args:
        live: What is counted.
        zone: In which a day begins, and in which times are written.
    """

    def __init__(self, live: Live, zone: ZoneInfo) -> None:
        self._live = live
        self._zone = zone
        self._orders: dict[str, Order] = {}
        self._panes: dict[int, set[str]] = {}
        self._sums: dict[int, Sums] = {}
        self._changed: set[int] = set()
        self._listed: set[int] = set()
        self._items = OrderItems()
        self._names: dict[str, str] = {}
        self._rate: Rate | None = None
        self._told: dict[str, dict[str, Any]] = {}

    def apply(self, change: Change, now: datetime) -> None:
        """Take over what a record says.

        Args:
            change: What it says.
            now: The present, aware.
        """
        key, state = change.key, change.state
        if isinstance(state, Rate):
            if self._rate is None or state.at >= self._rate.at:
                self._rate = state
        elif change.part == "orders":
            self._apply_order(key, state if isinstance(state, Order) else None, now)
        elif change.part == "items":
            self._apply_item(key, state if isinstance(state, Item) else None, now)
        elif state is None:
            self._names.pop(key, None)
        else:
            self._names[key] = str(state)

    def _apply_order(self, key: str, order: Order | None, now: datetime) -> None:
        old = self._orders.pop(key, None)
        if old is not None:
            self._panes[old.minute].discard(key)
            self._changed.add(old.minute)
            if order is not None and old.late != order.late:
                order = Order(order.minute, order.amount, order.cancelled, True)
        present = now_minute(now)
        if order is None or not present - KEPT_MINUTES < order.minute <= present + KEPT_MINUTES:
            self._items.forget(key)
            return
        self._orders[key] = order
        self._panes.setdefault(order.minute, set()).add(key)
        self._changed.add(order.minute)
        if order.minute > present - self._live.window_minutes:
            self._listed.add(order.minute)
            self._items.of(key)
        else:
            self._items.forget(key)  # no window lists its products any more

    def _apply_item(self, key: str, item: Item | None, now: datetime) -> None:
        for order in self._items.apply(key, item, self._wants_items_of(item, now)):
            if (known := self._orders.get(order)) is not None:
                self._changed.add(known.minute)

    def _wants_items_of(self, item: Item | None, now: datetime) -> bool | None:
        """Whether an item's order is in the window; None where the order is not known (yet)."""
        known = self._orders.get(item.order) if item is not None else None
        if known is None:
            return None
        return known.minute > now_minute(now) - self._live.window_minutes

    def take_changes(self, now: datetime) -> dict[str, dict[str, Any] | None]:
        """The figures that have changed since the last call, by key; None: there are none any more.

        Args:
            now: The present, aware.
        """
        present = now_minute(now)
        self._expire(present)
        changed, self._changed = sorted(self._changed), set()
        found: dict[str, dict[str, Any] | None] = {}
        for minute in changed:
            if self._panes.get(minute):
                self._sums[minute] = sums = self._count(minute, present)
                found[self._moment(minute)] = self._figure(minute, minute + 1, sums)
            else:
                self._panes.pop(minute, None)
                self._sums.pop(minute, None)
                found[self._moment(minute)] = None
        found |= self._windows(now, present)
        new = {key: figure for key, figure in found.items() if self._told.get(key) != figure}
        self._told |= {key: figure for key, figure in new.items() if figure is not None}
        for key in [key for key, figure in new.items() if figure is None]:
            del self._told[key]
        return new

    def _expire(self, present: int) -> None:
        for minute in [m for m in self._panes if m <= present - KEPT_MINUTES]:
            for key in self._panes.pop(minute):
                del self._orders[key]
                self._items.forget(key)
            self._changed.add(minute)
        for minute in [m for m in self._listed if m <= present - self._live.window_minutes]:
            self._listed.remove(minute)
            for key in self._panes.get(minute, ()):
                self._items.forget(key)
            self._changed.add(minute)

    def _count(self, minute: int, present: int) -> Sums:
        keys = self._panes.get(minute, ())
        states = [self._orders[key] for key in keys]
        sold = [order.amount for order in states if not order.cancelled]
        products: dict[str, tuple[Decimal, Decimal]] = {}
        if minute > present - self._live.window_minutes:
            for key in keys:
                if not self._orders[key].cancelled:
                    self._add_items(key, products)
        late = sum(order.late for order in states)
        return Sums(len(sold), len(states) - len(sold), late, sum(sold, _NOTHING), products)

    def _add_items(self, key: str, products: dict[str, tuple[Decimal, Decimal]]) -> None:
        for item in self._items.of(key):
            units, revenue = products.get(item.product, (_NOTHING, _NOTHING))
            money = item.revenue.quantize(_CENT, ROUND_HALF_UP)
            products[item.product] = (units + item.units, revenue + money)

    def _windows(self, now: datetime, present: int) -> dict[str, dict[str, Any]]:
        """The window that moves on each minute, and today."""
        length = self._live.window_minutes
        begin = present + 1 - length
        parts = [self._sums[m] for m in range(begin, present + 1) if m in self._sums]
        window = self._figure(begin, present + 1, sums := Sums.together(parts))
        midnight = now.astimezone(self._zone).replace(hour=0, minute=0, second=0, microsecond=0)
        first = now_minute(midnight)
        today = Sums.together(s for m, s in self._sums.items() if first <= m <= present)
        return {
            f"last_{length}m": {**window, **self._converted(sums), "top": self._top(sums)},
            TODAY: {**self._figure(first, present + 1, today), **self._converted(today)},
        }

    def _figure(self, begin: int, end: int, sums: Sums) -> dict[str, Any]:
        return {
            "from": self._moment(begin),
            "until": self._moment(end),
            "orders": sums.orders,
            "cancelled_orders": sums.cancelled,
            "late_orders": sums.late,
            "currency": self._live.currency,
            "revenue": _money(sums.revenue),
            "average_ticket": _average(sums.revenue, sums.orders),
        }

    def _converted(self, sums: Sums) -> dict[str, Any]:
        if self._live.rate is None or self._rate is None:
            return {"converted": None}
        revenue = sums.revenue / self._rate.value
        at = datetime.fromtimestamp(self._rate.at, UTC).astimezone(self._zone)
        return {
            "converted": {
                "currency": self._live.rate.currency,
                "rate": str(self._rate.value),
                "rate_at": at.isoformat(timespec="seconds"),
                "revenue": _money(revenue),
                "average_ticket": _average(revenue, sums.orders),
            }
        }

    def _top(self, sums: Sums) -> list[dict[str, str]]:
        best = sorted(sums.products.items(), key=lambda found: (-found[1][1], found[0]))
        return [
            {
                "product": product,
                "name": self._names.get(product, product),
                "units": f"{units:f}",
                "revenue": _money(revenue),
            }
            for product, (units, revenue) in best[: self._live.top]
        ]

    def _moment(self, minute: int) -> str:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
        return moment.astimezone(self._zone).isoformat(timespec="minutes")


def _money(value: Decimal) -> str:
    return f"{value.quantize(_CENT, ROUND_HALF_UP):f}"


def _average(revenue: Decimal, orders: int) -> str | None:
    return _money(revenue / orders) if orders else None
