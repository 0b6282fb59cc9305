"""One cycle at a time for each lake, whoever starts it: two would write into one warehouse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lake.errors import AlreadyRunning
from lake.processes import lock
from lake.storage.paths import LakePaths

LOOK_SECONDS = 0.05
WAIT_SECONDS = 60.0
"""How long somebody who wants one cycle waits for the end of another one."""


def lock_file(paths: LakePaths) -> Path:
    """Locked for the time of a cycle."""
    return paths.root / "work" / "cycle.lock"


@contextmanager
def cycle_lock(paths: LakePaths, wait: float = 0.0) -> Iterator[None]:
    """Run a cycle within this block, and nobody else one meanwhile.

    Args:
        paths: The lake.
        wait: Seconds to wait for the end of another cycle.

    Raises:
        AlreadyRunning: It has not ended by then.
    """
    path, deadline = lock_file(paths), time.monotonic() + wait
    while (descriptor := lock.take(path)) is None:
        if time.monotonic() >= deadline:
            holder = lock.holder(path)
            who = f"process {holder}" if holder else "another container"
            raise AlreadyRunning(
                f"A cycle of this lake is running ({who}).",
                "Wait until it has ended, then try again: `ducklake status` shows what runs.",
            )
        time.sleep(LOOK_SECONDS)
    try:
        yield
    finally:
        lock.release(path, descriptor)


def is_cycle_running(paths: LakePaths) -> bool:
    """Whether a cycle runs now."""
    return lock.holder(lock_file(paths)) is not None
