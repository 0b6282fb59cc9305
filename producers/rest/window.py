"""Rows that were sent and may come again, since what is late is asked for as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lake.errors import SourceError
from producers.rest.order import Order, before, order_of

MOST_REMEMBERED = 100_000
"""Rows within the lag: each is a digest in the cursor."""


class Window:
    """What was sent within the lag of the greatest value of a cursor.

    Args:
        cursor: As Kafka has it.
        lag: How far before the greatest value is asked.
        start: The first value of all; nothing older is sent.

    Attributes:
        floor: The least value whose rows are all remembered; older rows count as sent. None before
            the first one.
    """

    def __init__(self, cursor: Mapping[str, Any], lag: int | str, start: Any = None) -> None:
        self._lag = lag
        self._value: Any = cursor.get("value")
        self._order = order_of(self._value)
        # One without a window is of a time when nothing older than its value was sent.
        self._from = cursor.get("window_from", start if self._value is None else self._value)
        rows = cursor.get("window")
        if rows is None:
            rows = [[digest, self._value, n] for digest, n in cursor.get("seen", {}).items()]
        self._rows: dict[str, list[Any]] = {digest: [value, n] for digest, value, n in rows}
        self.floor = self._floor()

    def unsent(self) -> dict[str, int]:
        """How often each row was sent, by its digest: to be counted down by whoever reads."""
        return {digest: count for digest, (_, count) in self._rows.items()}

    def begins_group(self, entry: Any) -> bool:
        """Any row may be the first of a transaction: all that were sent are remembered."""
        return True

    def take(self, entry: Any) -> None:
        """One more row is sent."""
        known = self._rows.setdefault(entry.digest, [entry.value, 0])
        known[1] += 1
        if self._order is None or entry.order > self._order:
            self._value, self._order = entry.value, entry.order

    def dump(self, whole_group: bool) -> dict[str, Any]:
        """As a cursor.

        Raises:
            SourceError: Too many rows lie within the lag.
        """
        floor = self._floor()
        kept = {
            digest: known
            for digest, known in self._rows.items()
            if floor is None or _order(known[0]) >= floor
        }
        if len(kept) > MOST_REMEMBERED:
            raise SourceError(
                f"More than {MOST_REMEMBERED:,} rows lie within `incremental.lag` ({self._lag}).",
                "Choose a shorter one.",
            )
        self._rows = kept
        newest = {d: n for d, (value, n) in kept.items() if order_of(value) == self._order}
        window = [[digest, value, count] for digest, (value, count) in kept.items()]
        return {
            "value": self._value,
            "seen": newest,
            "window": window,
            "window_from": self._from,
        }

    def _floor(self) -> Order | None:
        if self._order is None:
            return None
        lagging = before(self._value, self._lag)
        if self._from is None or _order(lagging) > _order(self._from):
            self._from = lagging
        return _order(self._from)


def _order(value: Any) -> Order:
    found = order_of(value)
    assert found is not None, "a row without a value is rejected"
    return found
