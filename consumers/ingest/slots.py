"""Which worker of this lake a process is: the first free number, kept while the process lives.

The number makes the worker a static member of its consumer group: the successor of a killed worker
takes its number and so its partitions, at once and without a rebalance.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

from lake.errors import TerminalError
from lake.storage.operations import make_folder, open_lock

MOST_WORKERS = 64


class WorkerSlot:
    """The lock on a worker's number; the kernel lets go of it when the process ends.

    Args:
        folder: Where the locks lie.

    Raises:
        TerminalError: All numbers are taken.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        for number in range(MOST_WORKERS):
            lock = open_lock(folder / f"worker-{number}.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                continue
            self.number = number
            self._lock = lock
            return
        raise TerminalError(f"{MOST_WORKERS} workers are running.", "Stop some of them first.")

    def close(self) -> None:
        """Let somebody else have the number."""
        self._lock.close()
