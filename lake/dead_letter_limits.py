"""Whether a table may have one more dead letter: its policy, and the room that is left.

The consumer asks for records of the table's topic, a producer for what it rejects itself. A limit
that is reached stops the table, and lets at most what is read at once go beyond it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lake.config import DeadLetterPolicy
from lake.errors import DeadLetterLimit
from lake.ledger import DeadLetterUsage

HOUR = 3600.0
DROP, STOP = "drop", "stop"


class DeadLetterLimits:
    """The limits of one table.

    Args:
        topic: The table.
        policy: Its policy.
        usage: What the ledger has of it, given a moment since which dead letters are recent.
    """

    def __init__(
        self, topic: str, policy: DeadLetterPolicy, usage: Callable[[float], DeadLetterUsage]
    ) -> None:
        self._topic = topic
        self._policy = policy
        self._usage = usage

    def check(self, reason: str) -> None:
        """Let one more dead letter pass.

        Args:
            reason: Why it is one.

        Raises:
            DeadLetterLimit: It may not.
        """
        if self._policy.policy == DROP:
            return
        if self._policy.policy == STOP:
            raise DeadLetterLimit(
                f"Table {self._topic}: {reason}, and its policy for dead letters is `stop`."
                " Nothing from there on is in the lake.",
                "Correct it in the source, or its table in ducklake.yml; or set `dead_letters:"
                " {policy: quarantine}`. Then restart `ducklake run`: it goes on by itself.",
            )
        reached = self._reached()
        if reached:
            raise DeadLetterLimit(
                f"Table {self._topic}: {reached}; the newest one: {reason}.",
                f"`ducklake dead-letters list {self._topic}` shows them. It goes on by itself once"
                f" there is room: `ducklake dead-letters redrive {self._topic}` after a fix, or"
                f" `ducklake dead-letters drop {self._topic}`. Or raise the limit, or set"
                " `dead_letters: {policy: drop}`, and restart `ducklake run`.",
                self.have_room,
            )

    def have_room(self) -> bool:
        """Whether another dead letter can be kept."""
        return not self._reached()

    def _reached(self) -> str:
        """Which limit is reached; empty for none."""
        limits = self._policy
        usage = self._usage(time.time() - HOUR)
        if usage.rows >= limits.max_rows:
            return f"it has {usage.rows:,} dead letters, and `max_rows` is {limits.max_rows:,}"
        if usage.bytes >= limits.max_mb * 1e6:
            size = usage.bytes / 1e6
            return f"its dead letters have {size:,.0f} MB, and `max_mb` is {limits.max_mb:g}"
        if limits.max_per_hour is not None and usage.recent >= limits.max_per_hour:
            return (
                f"it had {usage.recent:,} dead letters within an hour, and `max_per_hour` is"
                f" {limits.max_per_hour:,}"
            )
        return ""
