"""Start a service so that it cannot outlive its parent: the last step before `exec`.

    python -I -S launch.py PARENT_PID {same|namespace|nobody} COMMAND …

Runs as a program of its own, since nothing but `exec` is safe between fork and exec in a process
with threads. It imports nothing of the project: it has to start in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def _enter_user_namespace() -> None:
    """Become uid 65534 for ourselves, still root's files for the kernel: PostgreSQL wants that."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {uid} 1"),
        ("gid_map", f"{NOBODY} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib is slow to import
            file.write(line)


def main(arguments: list[str]) -> None:
    """Take the identity asked for, tie our life to the parent's, and become the command."""
    parent, identity, command = int(arguments[0]), arguments[1], arguments[2:]
    if identity == "namespace":
        _enter_user_namespace()
    elif identity == "nobody":
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    # after the change of identity, which would clear it
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above could see it
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(f"launch: {error}", file=sys.stderr)
        sys.exit(126)
