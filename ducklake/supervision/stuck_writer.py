"""A worker stopped while it holds the ledger's write lock would stop all others: find it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection
from pathlib import Path

import psutil

WAL_WRITE_LOCK_BYTE = 120
"""SQLite's WAL write lock: this byte of the `-shm` file (see SQLite's walformat document)."""
PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 2.0


def write_lock_holder(ledger: Path) -> int | None:
    """The process that holds the ledger's write lock, from the kernel's list of locks."""
    try:
        inode = ledger.with_name(f"{ledger.name}-shm").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        # 1: POSIX  ADVISORY  WRITE 4242 08:01:131 120 120
        words = line.split()
        if "->" in words or len(words) < 8 or words[3] != "WRITE":
            continue
        pid, file, first, last = words[4], words[5], words[6], words[7]
        if int(file.rpartition(":")[2]) != inode or last == "EOF":
            continue
        if int(first) <= WAL_WRITE_LOCK_BYTE <= int(last):
            return int(pid)
    return None


class StuckWriterWatch:
    """Notices that nobody can write, and ends the process that is in the way if it is ours.

    Args:
        ledger: The ledger's file.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._holder: int | None = None
        self._since = 0.0
        self._next_look = 0.0

    def look(self, ours: Collection[int]) -> int | None:
        """Look for a holder that does not let go; call it often, it looks every few seconds.

        Args:
            ours: Processes that may be ended.

        Returns:
            The process that was ended, if one was.
        """
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + LOOK_SECONDS
        if not self._ledger.exists() or self._can_write():
            self._holder = None
            return None
        holder = write_lock_holder(self._ledger)
        if holder is None or holder != self._holder:
            self._holder, self._since = holder, now
            return None
        if now - self._since < PATIENCE_SECONDS or holder not in ours:
            return None
        psutil.Process(holder).kill()
        self._holder = None
        return holder

    def _can_write(self) -> bool:
        database = sqlite3.connect(self._ledger, timeout=0, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
        finally:
            database.close()
        return True
