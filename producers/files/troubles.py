"""Files that cannot be had: named once, and again while it lasts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import structlog

from producers.base import Trouble
from producers.files.folder import FileUnavailable, shown

log = structlog.get_logger()
AGAIN_SECONDS = 600.0


@dataclass(slots=True)
class _Known:
    reason: str
    since: float
    said: float


class Troubles:
    """What is wrong with the files of a source.

    Args:
        source: Its name.
        directory: Its folder.
    """

    def __init__(self, source: str, directory: str) -> None:
        self._source = source
        self._directory = directory.rstrip("/")
        self._known: dict[str, _Known] = {}
        self._current: dict[str, Trouble] = {}
        self._new: dict[str, Trouble] = {}
        self._met: set[str] = set()

    def begin(self) -> None:
        """A poll begins."""
        self._new, self._met = {}, set()

    def end(self) -> None:
        """A poll has looked at every file."""
        self._current = self._new
        self._known = {path: known for path, known in self._known.items() if path in self._met}

    def current(self) -> list[Trouble]:
        """What was wrong at the last poll; a file that is not there is not wrong."""
        return list((self._new or self._current).values())

    def missing(self, path: str, error: FileUnavailable) -> None:
        """There is no such file; it may still come."""
        self._say(path, error)

    def unavailable(self, path: str, error: FileUnavailable) -> None:
        """There is one, and it cannot be read."""
        since = self._say(path, error)
        name = f"{self._source}:{self._at(path)}"
        self._new[path] = Trouble(name, since, f"{error.what}.", error.remedy)

    def _at(self, path: str) -> str:
        return f"{self._directory}/{shown(path)}"

    def _say(self, path: str, error: FileUnavailable) -> float:
        self._met.add(path)
        now = time.time()
        known = self._known.get(path)
        if known is None or known.reason != error.what:
            known = self._known[path] = _Known(error.what, now, 0.0)
        if now - known.said >= AGAIN_SECONDS:
            known.said = now
            log.warning(
                "file_not_read",
                message="A file cannot be read yet.",
                source=self._source,
                file=self._at(path),
                reason=f"{error.what}. {error.remedy}".strip(),
            )
        return known.since
