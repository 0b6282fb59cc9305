"""The lines of recent orders; of orders that are not known yet, a bounded number waits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from consumers.live.records import Item

MOST_WAITING = 50_000
"""Items whose order is not known; beyond, the one that waits longest is given up."""


class OrderItems:
    """Items by their own key, found by their order's.

    Args:
        most_waiting: How many may wait for their order.
    """

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._items: dict[str, Item] = {}
        self._of_order: dict[str, set[str]] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._most_waiting = most_waiting

    def apply(self, key: str, item: Item | None, wanted: bool | None) -> Iterator[str]:
        """Take over an item's new state.

        Args:
            key: The item's.
            item: The state; None: deleted.
            wanted: Whether its order is in the window; None: the order is not known.

        Yields:
            The orders whose items changed.
        """
        if (old := self._remove(key)) is not None:
            yield old.order
        if item is None or wanted is False:
            return
        self._items[key] = item
        self._of_order.setdefault(item.order, set()).add(key)
        if wanted is None:
            self._waiting[key] = None
            if len(self._waiting) > self._most_waiting:
                self._remove(next(iter(self._waiting)))
        else:
            yield item.order

    def of(self, order: str) -> Iterable[Item]:
        """The items of an order, which is known from now on: they wait no more."""
        keys = self._of_order.get(order, ())
        for key in keys:
            self._waiting.pop(key, None)
        return [self._items[key] for key in keys]

    def forget(self, order: str) -> None:
        """Drop the items of an order, which no window will ask for."""
        for key in list(self._of_order.get(order, ())):
            self._remove(key)

    def _remove(self, key: str) -> Item | None:
        old = self._items.pop(key, None)
        self._waiting.pop(key, None)
        if old is not None:
            keys = self._of_order[old.order]
            keys.discard(key)
            if not keys:
                del self._of_order[old.order]
        return old
