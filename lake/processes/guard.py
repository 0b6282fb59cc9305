"""Run a program so that nothing that it starts outlives whoever asked for it.

    python -I -S guard.py SECONDS COMMAND …

For a program whose own processes would be left behind. The guard leads a process group of its
own, and its standard input is a pipe whose other end its caller holds: once that is closed, also
because the caller was killed, the program is interrupted as by Ctrl-C, and what is left of the
group after those seconds is killed. It imports nothing of the project: it has to start in
milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

_LOOK_SECONDS = 0.1


def _others() -> list[int]:
    """The living processes of our group, but for ourselves."""
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib is slow to import
        if name.isdecimal() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/stat") as file:  # noqa: PTH123 - pathlib is slow to import
                    state, _, group = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue  # it has ended
            if int(group) == os.getpgrp() and state != "Z":
                found.append(int(name))
    return found


def _signal(number: int) -> None:
    for pid in _others():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _end_all(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Interrupt the program, and kill whatever of the group is there after a time."""
    until = time.monotonic() + seconds
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.send_signal(signal.SIGINT)
        child.wait(seconds)
    _signal(signal.SIGTERM)
    while _others() and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    _signal(signal.SIGKILL)
    child.wait()


def main(arguments: list[str]) -> int:
    """Run the command until it ends, or until nobody wants it any more; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # the pipe says when it is over
    child = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL)
    while child.poll() is None:
        ready, _, _ = select.select([sys.stdin.fileno()], [], [], _LOOK_SECONDS)
        if ready and not os.read(sys.stdin.fileno(), 1):
            break
    _end_all(child, float(arguments[0]))
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) & 0xFF)
