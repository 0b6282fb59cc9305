"""The run history of the batch."""

from __future__ import annotations

from lake.formats import RunSummary
from lake.ledger.core import LedgerCore
from lake.ledger.entries import Run
from lake.ledger.freshness import Arrivals, keep_arrivals

KEPT_RUNS = 2_000
NOTHING = Arrivals()


class RunReader:
    """Answers what the batch has done."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def last(self) -> Run | None:
        """The newest run."""
        return next(iter(self.newest(1)), None)

    def newest(self, limit: int) -> list[Run]:
        """The newest runs, newest first."""
        found = self._core.db.execute(
            "SELECT run, started_at, seconds, first_commit, last_commit, summary FROM runs"
            " ORDER BY run DESC LIMIT ?",
            (limit,),
        ).fetchall()
        return [
            Run(number, started_at, seconds, first, last, RunSummary.load(summary))
            for number, started_at, seconds, first, last, summary in found
        ]


class RunHistory(RunReader):
    """Adds runs."""

    def record(
        self,
        started_at: float,
        seconds: float,
        first: int,
        summary: RunSummary,
        arrivals: Arrivals = NOTHING,
    ) -> int:
        """Add a run; gives its number. Of runs, the newest `KEPT_RUNS` stay.

        Args:
            started_at: In seconds since the epoch.
            seconds: How long it took.
            first: The commit after which what it showed was new.
            summary: What it came to.
            arrivals: How long the rows that it brought took, and how far each table is now.
        """
        with self._core.write() as db:
            number = db.execute(
                "INSERT INTO runs (started_at, seconds, first_commit, last_commit, summary)"
                " VALUES (?, ?, ?, ?, ?)",
                (started_at, seconds, first, summary.commit, summary.dump()),
            ).lastrowid
            assert number is not None
            db.execute("DELETE FROM runs WHERE run <= ?", (number - KEPT_RUNS,))
            keep_arrivals(db, number, arrivals)
        return number
