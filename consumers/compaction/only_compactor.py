"""One compactor for each lake: the lock under which public files are made."""

from __future__ import annotations

import fcntl
from io import BufferedWriter

from lake.errors import TerminalError
from lake.storage.operations import open_lock
from lake.storage.paths import LakePaths


def only_compactor(paths: LakePaths) -> BufferedWriter:
    """The lock under which public files are made; closing it lets go.

    Raises:
        TerminalError: Another process has it.
    """
    lock = open_lock(paths.root / "compactor.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise TerminalError(
            "Another compactor of this lake is running.", "One is enough; stop the other first."
        ) from None
    return lock
