"""Named points at which a test may kill or stop the process: before and after each step.

A point does nothing unless `DUCKLAKE_FAILPOINT` names it: `name` kills at the first hit, `name:N`
at the Nth, and `name:N:stop` stops there until somebody sends SIGCONT; `name:N:hang` lets only this
thread stand there, as a disk that does not answer would, and all others go on. Reading the
environment once keeps a point as cheap as a comparison.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

ENVIRONMENT = "DUCKLAKE_FAILPOINT"
_wanted = ""
_hits_left = 0
_signal: signal.Signals | None = signal.SIGKILL
_ACTIONS = {"stop": signal.SIGSTOP, "hang": None}


def arm(spec: str) -> None:
    """Choose the point at which this process dies.

    Args:
        spec: `name`, `name:N` for its Nth hit, `name:N:stop`, `name:N:hang`, or nothing for none.
    """
    global _wanted, _hits_left, _signal
    name, nth, action = [*spec.split(":"), "", ""][:3]
    _wanted, _hits_left = name, int(nth or 1)
    _signal = _ACTIONS.get(action, signal.SIGKILL)


def failpoint(name: str) -> None:
    """Kill this process here, as SIGKILL does, if a test asked for it."""
    if _wanted and name == _wanted:
        global _hits_left
        _hits_left -= 1
        if _hits_left == 0:
            _die()


def _die() -> None:
    if _signal is None:
        _hang()
    else:
        os.kill(os.getpid(), _signal)


def _hang() -> None:
    woken = threading.Event()
    if threading.current_thread() is threading.main_thread():  # no other may handle signals
        signal.signal(signal.SIGCONT, lambda *_: woken.set())
    print(f"hangs at {_wanted}", file=sys.stderr, flush=True)
    woken.wait()


arm(os.environ.get(ENVIRONMENT, ""))
