"""Whether a stream that should move has stopped moving: decided on values, the clock passed in."""

from __future__ import annotations

STALL_SECONDS = 20.0


class StallWatch:
    """Sees a reader that says that it runs, is behind, and does not move.

    After MySQL went away, Debezium sometimes stays RUNNING and reads nothing more.
    """

    def __init__(self) -> None:
        self._at: str | None = None
        self._since = 0.0

    def look(self, position: str, behind: bool, now: float) -> bool:
        """Take a look.

        Args:
            position: Where the reader says that it is, in any form that changes as it moves.
            behind: Whether there is something that it has not delivered.
            now: The time in seconds.

        Returns:
            Whether it was behind, at this same position, for the whole of `STALL_SECONDS`.
        """
        if not behind or position != self._at:
            self._at = position if behind else None
            self._since = now
            return False
        return now - self._since >= STALL_SECONDS
