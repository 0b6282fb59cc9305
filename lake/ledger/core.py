"""One connection to the ledger's database, and the one kind of transaction that writes to it."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

from lake.errors import LedgerError
from lake.failpoints import failpoint
from lake.ledger.migrations import bring_up_to_date, is_older
from lake.ledger.replacing import at_rest, locked_for_use
from lake.ledger.sqlite import connected, failures_have_names, transaction
from lake.storage.paths import LakePaths


def now() -> float:
    """Seconds since the epoch, by the machine's clock."""
    return time.time()


class LedgerCore:
    """One process's connection, which the parts of a ledger share.

    Args:
        paths: The lake.
        file: The database, where it is not (yet) the lake's own.
        read_only: SQLite refuses every write through this connection.

    Raises:
        LedgerError: There are files, and no ledger; or a process is at work in the lake of an
            earlier release.
        UnsupportedFormatVersion: A later release wrote it.
        ServiceUnreachable: It is being replaced now.
    """

    def __init__(self, paths: LakePaths, file: Path | None = None, read_only: bool = False) -> None:
        self.paths = paths
        self.db: sqlite3.Connection
        while not self._open(file):
            # Alone: a process of the earlier release would not find its tables any more.
            with at_rest(paths), ExitStack() as opening:
                bring_up_to_date(
                    opening.enter_context(closing(connected(paths.ledger))), paths.ledger, paths
                )
        if read_only:
            self.db.execute("PRAGMA query_only = ON")

    def _open(self, file: Path | None) -> bool:
        """Open it; False where it has to be migrated first."""
        paths = self.paths
        with ExitStack() as opening:
            if file is None:
                opening.enter_context(locked_for_use(paths))
            if file is None and not paths.ledger.exists() and paths.holds_files():
                raise LedgerError(
                    f"{paths.ledger} is missing, and the lake holds files.",
                    "`ducklake restore` brings back a backup of it, `ducklake ledger rebuild` makes"
                    " it anew from the files.",
                )
            self.db = opening.enter_context(closing(connected(file or paths.ledger)))
            if file is None and is_older(self.db):
                return False
            bring_up_to_date(self.db, file or paths.ledger, paths)
            self._opened = opening.pop_all()
        return True

    def close(self) -> None:
        """Close the connection."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes, alone: all of it is there afterwards, durably, or nothing.

        Raises:
            DiskFull: Nothing was written.
            ServiceUnreachable: Somebody else is writing, for long.
        """
        with failures_have_names(self.paths.ledger), transaction(self.db):
            yield self.db
            failpoint("ledger.before_commit")
        failpoint("ledger.after_commit")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several questions about one and the same state."""
        if self.db.in_transaction:
            yield self.db
            return
        self.db.execute("BEGIN")
        try:
            yield self.db
        finally:
            self.db.execute("COMMIT")

    def moment(self) -> float:
        """Now, and later than every pin and replacement before: the clock may jump back."""
        latest = self.db.execute(
            "SELECT max((SELECT coalesce(max(pinned_at), 0) FROM pins), (SELECT"
            " coalesce(max(obsolete_at), 0) FROM files WHERE obsolete_at IS NOT NULL))"
        ).fetchone()[0]
        return max(now(), math.nextafter(latest, math.inf))

    def copy_to(self, path: Path) -> int:
        """Write the whole ledger, as of one moment, to a new file; others go on meanwhile.

        Returns:
            The highest commit number in it.
        """
        with closing(sqlite3.connect(path)) as target:
            self.db.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")
            return newest_number(target)

    def identity(self) -> str:
        """A name that this ledger keeps for life and no other has."""
        return str(self.db.execute("SELECT identity FROM lake").fetchone()[0])


def newest_number(db: sqlite3.Connection) -> int:
    """The highest commit number ever given, those of empty commits included."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'commits'").fetchone()
    return int(row[0]) if row else 0
