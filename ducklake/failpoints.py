"""Named points at which a test may kill or stop the process: before and after each step.

A point does nothing unless `DUCKLAKE_FAILPOINT` names it: `name` kills at the first hit, `name:N`
at the Nth, and `name:N:stop` stops there until somebody sends SIGCONT. Reading the environment
once keeps a point as cheap as a comparison.
"""

from __future__ import annotations

import os
import signal

ENVIRONMENT = "DUCKLAKE_FAILPOINT"
_wanted = ""
_hits_left = 0
_signal = signal.SIGKILL


def arm(spec: str) -> None:
    """Choose the point at which this process dies.

    Args:
        spec: `name`, `name:N` for its Nth hit, `name:N:stop`, or nothing for none.
    """
    global _wanted, _hits_left, _signal
    name, nth, action = [*spec.split(":"), "", ""][:3]
    _wanted, _hits_left = name, int(nth or 1)
    _signal = signal.SIGSTOP if action == "stop" else signal.SIGKILL


def failpoint(name: str) -> None:
    """Kill this process here, as SIGKILL does, if a test asked for it."""
    if _wanted and name == _wanted:
        global _hits_left
        _hits_left -= 1
        if _hits_left == 0:
            _die()


def _die() -> None:
    os.kill(os.getpid(), _signal)


arm(os.environ.get(ENVIRONMENT, ""))
