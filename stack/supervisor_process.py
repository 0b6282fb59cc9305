"""The supervisor of a stack as another process sees it: told to stop, and awaited."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lake.errors import StackError
from lake.processes import lock


def signal_supervisor(pid: int, number: int) -> None:
    """Send a signal; nothing happens if the process has ended.

    Raises:
        StackError: It is another user's.
    """
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise StackError(
            f"The stack was started by another user (process {pid}).", "Stop it as that user."
        ) from None


def is_released(lock_file: Path, seconds: float) -> bool:
    """Whether nobody holds a lock any more, at the latest after some seconds."""
    deadline = time.monotonic() + seconds
    while lock.holder(lock_file) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
