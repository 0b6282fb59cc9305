"""A program that starts processes of its own, none of which outlives this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
_LOOK_SECONDS = 0.2
_SPARE_SECONDS = 5.0


def run_guarded(
    command: Sequence[str],
    environment: Mapping[str, str],
    stop: threading.Event,
    grace_seconds: float,
) -> int | None:
    """Run a program until it ends, or until it is to stop.

    If this process is killed, the program and all that it has started end within the same time.

    Args:
        command: Program and arguments; no secrets in them.
        environment: The whole environment.
        stop: Set when the program shall end.
        grace_seconds: What it is given to end by itself; then all of its processes are killed.

    Returns:
        The exit code with which it ended by itself; None where it was stopped.
    """
    words = [sys.executable, "-I", "-S", str(GUARD), str(grace_seconds), *command]
    guard = subprocess.Popen(
        words, stdin=subprocess.PIPE, env=dict(environment), start_new_session=True
    )
    assert guard.stdin is not None
    try:
        while guard.poll() is None and not stop.wait(_LOOK_SECONDS):
            pass
        code = guard.poll()
        guard.stdin.close()
        guard.wait(grace_seconds + _SPARE_SECONDS)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(guard.pid, signal.SIGKILL)  # the guard was killed, or does not come to an end
        guard.wait()
    return code
