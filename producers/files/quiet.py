"""When a file is complete: it has been quiet for a while, and longer where it grew."""

from __future__ import annotations

import time
from dataclasses import dataclass

from producers.files.folder import FileState

LONGER = 5.0
"""Times as long for a file that grew while it was watched, or that ends in the middle of a line."""
OLD_SECONDS = 120.0
"""Since the last change, by the server's clock: nobody is writing any more."""


@dataclass(slots=True)
class _Seen:
    state: FileState
    since: float
    grew: bool = False


class QuietFiles:
    """Remembers what each file looked like.

    The seconds are more than one, which is as fine as a server's clock tells times: a later change
    has a later time.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def is_quiet(self, path: str, state: FileState, seconds: float) -> bool:
        """Whether a file has not changed for long enough; a writer may still be at it."""
        now = time.monotonic()
        seen = self._seen.get(path)
        if seen is None:
            seen = self._seen[path] = _Seen(state, now)
        elif seen.state != state:
            self._seen[path] = seen = _Seen(state, now, grew=True)
        return now - seen.since >= seconds * (LONGER if seen.grew else 1.0)

    def ends_too_early(self, path: str, state: FileState, seconds: float) -> bool:
        """Whether a file that ends in the middle should be looked at again later.

        It then has to be quiet for as long as one that grew.
        """
        seen = self._seen.get(path)
        if seen is None or seen.grew or time.time() - state.mtime > OLD_SECONDS:
            return False
        seen.grew = True
        return time.monotonic() - seen.since < seconds * LONGER

    def forget(self, path: str) -> None:
        """It changed while it was read: look at it anew."""
        self._seen.pop(path, None)
