"""How long to wait before the next try: longer each time, and never two at the same moment."""

from __future__ import annotations

import random

JITTER = 0.2


class Backoff:
    """Doubles the pause after each failure, up to a limit.

    Args:
        first: Seconds before the second try.
        most: Seconds that no pause exceeds.
        jitter: The part by which a pause varies: many that failed together do not return together.
        dice: Decides how it varies.
    """

    def __init__(
        self,
        first: float,
        most: float,
        jitter: float = JITTER,
        dice: random.Random | None = None,
    ) -> None:
        self._first, self._most, self._jitter = first, most, jitter
        self._dice = dice or random.Random()
        self.failures = 0

    def pause(self) -> float:
        """Seconds to wait after one more failure."""
        plain = min(self._most, self._first * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return min(self._most, plain * self._dice.uniform(1 - self._jitter, 1 + self._jitter))

    def reset(self) -> None:
        """It worked."""
        self.failures = 0
