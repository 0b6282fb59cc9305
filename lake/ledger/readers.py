"""How far those who ask by commit number have come: nobody asks for single commits below that.

What all of them have passed may be joined (`joining.py`). A reader states its commit after it has
kept its results; one that comes back with an older commit is told so (`CommitsJoined`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lake.ledger.core import LedgerCore, now
from lake.ledger.entries import NOW

ABSENT_SECONDS = 7 * 86_400.0
"""How long a reader that says nothing is waited for; afterwards it has to take everything."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who asks what is new by commit number.

    Attributes:
        name: Whose statement it is: each replaces the one before.
        session: The session with which it ends; empty: it outlives its process.
        commit: It asks for what came after this commit, or for everything.
        stated_at: In seconds since the epoch.
    """

    name: str
    session: str
    commit: int
    stated_at: float


class ReaderList:
    """Answers who reads."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def all(self) -> list[Reader]:
        """All readers, in the order of their names."""
        return readers_of(self._core.db)


class Readers(ReaderList):
    """Takes statements of readers."""

    def state(self, name: str, commit: int, newest: int | None = None) -> None:
        """Say that a reader has passed a commit; it holds for `ABSENT_SECONDS`.

        Args:
            name: The reader's.
            commit: It will ask for what came after it, or for everything.
            newest: The newest commit that it knows of: one that stays behind it is as one that
                says nothing, and is not waited for longer.
        """
        known = {reader.name: reader for reader in self.all()}.get(name)
        if known is not None and known.commit == commit and commit < (newest or commit):
            return
        self._state(name, "", commit)

    def remove(self, name: str) -> None:
        """Forget a reader: nothing waits for it any more."""
        with self._core.write() as db:
            db.execute("DELETE FROM readers WHERE name = ?", (name,))

    @contextmanager
    def nothing_is_joined(self, session: str) -> Iterator[None]:
        """Keep every range as it is, for the time of the block or until the session has ended.

        Args:
            session: Whose ranges are looked at now and changed later.
        """
        name = f"session {session}"
        self._state(name, session, 0)
        try:
            yield
        finally:
            self.remove(name)

    def _state(self, name: str, session: str, commit: int) -> None:
        with self._core.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO readers VALUES (?, ?, ?, ?)", (name, session, commit, now())
            )


def readers_of(db: sqlite3.Connection) -> list[Reader]:
    """All readers, in the order of their names."""
    found = db.execute("SELECT name, session, commit_no, stated_at FROM readers ORDER BY name")
    return [Reader(*row) for row in found]


def horizon(db: sqlite3.Connection, is_alive: Callable[[str], bool]) -> int:
    """The newest commit that every reader and every pin has passed; `NOW` where nobody reads.

    Args:
        db: The ledger.
        is_alive: Whether a session still runs.
    """
    passed = [
        reader.commit
        for reader in readers_of(db)
        if (is_alive(reader.session) if reader.session else not _is_absent(reader))
    ]
    pins = db.execute("SELECT session, commit_no FROM pins").fetchall()
    passed += [commit for session, commit in pins if is_alive(session)]
    return min(passed, default=NOW)


def _is_absent(reader: Reader) -> bool:
    return now() - reader.stated_at > ABSENT_SECONDS
