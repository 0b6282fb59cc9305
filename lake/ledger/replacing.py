"""The ledger's file is replaced while nobody has it open, and opened while nobody replaces it.

Whoever went on with a ledger that was replaced would publish rows that the new one does not know
of. The locks are the kernel's (flock): they end with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from lake.errors import LedgerError, ServiceUnreachable
from lake.failpoints import failpoint
from lake.storage.operations import (
    disk_full_is_transient,
    make_folder,
    move_into_place,
    open_lock,
    rename,
    sync_folder,
)
from lake.storage.paths import LakePaths

REST_SECONDS = 5.0
_LOOK_SECONDS = 0.05


def locked_for_use(paths: LakePaths) -> BufferedWriter:
    """Keep the ledger from being replaced until the file that this gives is closed.

    Raises:
        ServiceUnreachable: It is being replaced now.
        DiskFull: There is no room for the lock's name.
    """
    lock = _opened(paths)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ServiceUnreachable(
            f"{paths.ledger} is being replaced.",
            "Start again once `ducklake ledger rebuild` or `ducklake restore` has ended.",
        ) from None
    return lock


@contextmanager
def at_rest(paths: LakePaths) -> Iterator[None]:
    """Have the lake alone: nobody has its ledger open, and nobody opens it.

    Raises:
        LedgerError: Somebody is at work, and goes on.
    """
    with _opened(paths) as lock:
        deadline = time.monotonic() + REST_SECONDS
        while not _taken(lock):
            if time.monotonic() > deadline:
                raise LedgerError(
                    f"A process has the lake open: {paths.root}.",
                    "Stop `ducklake run`, `consume`, `compact`, `batch` and `replay` first.",
                )
            threading.Event().wait(_LOOK_SECONDS)  # a look at the ledger is over in a moment
        yield


def put_in_place(paths: LakePaths, fresh: Path) -> Path | None:
    """Make a whole, synced file the ledger; the one before it is kept.

    Returns:
        The folder of the one before, if there was any.
    """
    kept = _quarantine(paths)
    failpoint("restore.before_rename")
    rename(fresh, paths.ledger)
    sync_folder(paths.root)
    failpoint("restore.after_rename")
    return kept


def _quarantine(paths: LakePaths) -> Path | None:
    """Quarantine a ledger that is to be replaced; gives its new folder.

    What is left of a lost one goes there, too: SQLite would apply its log to the new ledger.
    """
    # The ledger first, durably: without its log it would be an older one, and look whole.
    parts = [paths.ledger.with_name(paths.ledger.name + end) for end in ("", "-wal", "-shm")]
    left = [part for part in parts if part.exists()]
    if not left:
        return None
    folder = paths.orphans / f"ledger-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**6}"
    for part in left:
        move_into_place(part, folder / part.name, intended=True)
        sync_folder(paths.root)
        failpoint("restore.after_part_quarantined")
    return folder


def _opened(paths: LakePaths) -> BufferedWriter:
    with disk_full_is_transient(paths.root):
        make_folder(paths.root)
        return open_lock(paths.ledger_lock)


def _taken(lock: BufferedWriter) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
