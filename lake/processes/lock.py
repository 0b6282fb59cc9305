"""Who runs this: a lock that tells who holds it without being taken.

A POSIX record lock, not flock: asking for its holder (F_GETLK) never gets in the way of somebody
who is about to take it, and the kernel drops it with the process, however that ends. So it is true
where a remembered process id is not: after a `kill -9`, and across containers.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

_FLOCK = "hhqqi"  # struct flock on Linux x86-64: type, whence, start, length, pid
# Closing any descriptor of a file drops a process's own lock on it: what we hold is not asked for.
_held: dict[Path, int] = {}


def take(path: Path) -> int | None:
    """Take the lock for the life of this process.

    Returns:
        The open file, which must stay open; None if somebody holds the lock already.
    """
    if _held.get(path.resolve()) == os.getpid():
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return None
        raise
    _held[path.resolve()] = os.getpid()
    return descriptor


def release(path: Path, descriptor: int) -> None:
    """Let go of a lock that `take` gave."""
    _held.pop(path.resolve(), None)
    os.close(descriptor)


def holder(path: Path) -> int | None:
    """The process id of whoever holds the lock; None if nobody does, 0 in another container."""
    if _held.get(path.resolve()) == os.getpid():  # not what a forked child has from its parent
        return os.getpid()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    return None if answer[0] == fcntl.F_UNLCK else int(answer[4])
