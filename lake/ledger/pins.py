"""Readers that need files to stay as they are: who they are, and since when."""

from __future__ import annotations

from lake.errors import DateHeld
from lake.ledger.commits import CommitReader
from lake.ledger.core import LedgerCore
from lake.ledger.statements import pins_of


class Pins:
    """Claims of sessions on the files that are live when they pin."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core
        self._commits = CommitReader(core)

    def pin(self, session: str) -> int:
        """Keep every file that is live now until `unpin`; returns the newest commit's number.

        Raises:
            DateHeld: The folders of a date change places at this moment.
        """
        with self._core.write() as db:
            if db.execute("SELECT 1 FROM date_rewrites WHERE claimed_by <> ''").fetchone():
                raise DateHeld("The files of a date are being exchanged.", "Try again in a moment.")
            moment = self._core.moment()
            commit = self._commits.last()
            db.execute("INSERT OR REPLACE INTO pins VALUES (?, ?, ?)", (session, moment, commit))
            return commit

    def unpin(self, session: str) -> None:
        """Let go of the files that `pin` kept."""
        with self._core.write() as db:
            db.execute("DELETE FROM pins WHERE session = ?", (session,))

    def all(self) -> list[tuple[str, float]]:
        """(session, moment) of every pin."""
        return pins_of(self._core.db)
