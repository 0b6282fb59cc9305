"""Named points at which a test may kill the process: before and after each step that matters.

A point does nothing unless `DUCKLAKE_FAILPOINT` names it: `name` kills at the first hit, `name:N`
at the Nth. Reading the environment once keeps a point as cheap as a comparison.
"""

from __future__ import annotations

import os
import signal

ENVIRONMENT = "DUCKLAKE_FAILPOINT"
_wanted = ""
_hits_left = 0


def arm(spec: str) -> None:
    """Choose the point at which this process dies.

    Args:
        spec: `name`, `name:N` for its Nth hit, or nothing for none.
    """
    global _wanted, _hits_left
    _wanted, _, nth = spec.partition(":")
    _hits_left = int(nth or 1)


def failpoint(name: str) -> None:
    """Kill this process here, as SIGKILL does, if a test asked for it."""
    if _wanted and name == _wanted:
        global _hits_left
        _hits_left -= 1
        if _hits_left <= 0:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(ENVIRONMENT, ""))
