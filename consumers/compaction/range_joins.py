"""The ledger forgets what nobody asks for any more: a few steps at each look."""

from __future__ import annotations

from functools import partial

from lake.ledger import Ledger
from lake.storage.session import session_is_alive

STEPS = 20
"""Transactions that one look at a table makes at most; the next look goes on."""


class RangeJoins:
    """Joins the ranges of a lake's tables.

    Args:
        ledger: The ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # What an earlier process has joined is looked at once more: it is not much.
        self._looked_to: dict[tuple[str, int], int] = {}
        self._alive = partial(session_is_alive, ledger.paths)

    def look_at(self, topic: str) -> int:
        """Join what may be joined of a table; gives by how many ranges there are fewer.

        Raises:
            DiskFull: The rest is joined at the next look.
        """
        state = self._ledger.tables.get(topic)
        if state is None:
            return 0
        key = (topic, state.generation)
        joins, joined = self._ledger.joins, 0
        for _ in range(STEPS):
            after = self._looked_to.get(key, 0)
            if not joins.is_due(topic, after, self._alive):
                break
            step = joins.step(topic, after, self._alive)
            self._looked_to[key] = step.looked_to
            joined += step.joined
            if step.is_done:
                break
        return joined

    def give_room_back(self) -> None:
        """Let the ledger's file shrink where most of it is unused."""
        self._ledger.joins.give_room_back()
