"""When the next cycle starts: at once where something is new, later and later where one fails."""

from __future__ import annotations

from lake.processes.backoff import Backoff

MOST_SECONDS = 30.0
"""Longest pause before a failed cycle, or an export that did not succeed, is tried again."""


class Pace:
    """The starts of cycles; moments are seconds of a monotonic clock.

    Args:
        interval: Seconds at least between two starts.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._backoff = Backoff(max(interval, 0.1), max(interval, MOST_SECONDS))
        self._done = -1
        self._start_at = 0.0
        self._retry_at: float | None = None

    def is_new(self, commit: int) -> bool:
        """Whether no cycle has shown this commit yet."""
        return commit != self._done

    def may_start(self, now: float) -> bool:
        """Whether a cycle may start."""
        return now >= self._start_at

    def may_retry(self, now: float) -> bool:
        """Whether what the last cycle did not export is to be tried again."""
        return self._retry_at is not None and now >= self._retry_at

    def begins(self, now: float) -> None:
        """A cycle starts."""
        self._start_at = now + self._interval

    def ended(self, commit: int, exported: bool, now: float) -> None:
        """A cycle showed a commit; what it did not export is tried again, and nothing waits for it.

        Args:
            commit: The ledger's.
            exported: Whether PostgreSQL has all of it.
            now: The moment.
        """
        self._done = commit
        self.retried(exported, now)

    def retried(self, exported: bool, now: float) -> None:
        """An export was tried, again or at a cycle's end; what the models show is another matter.

        Args:
            exported: Whether PostgreSQL has all of it.
            now: The moment.
        """
        if exported:
            self._backoff.reset()
            self._retry_at = None
        else:
            self._retry_at = now + self._backoff.pause()

    def failed(self, now: float) -> None:
        """A cycle failed: the next one is tried after a pause, whatever arrives."""
        self._done = -1
        self._start_at = now + self._backoff.pause()
