"""One writing process: its staging folder, and the lock that says that it lives."""

from __future__ import annotations

import fcntl
import secrets

from lake.failpoints import failpoint
from lake.storage.operations import (
    disk_full_is_transient,
    make_folder,
    open_lock,
    remove_tree,
    rename,
    sync_folder,
)
from lake.storage.paths import LakePaths


class Session:
    """One writing process: its id, its staging folder and the lock that says that it lives.

    The lock is the kernel's (flock): it ends with the process, however that ends.
    """

    def __init__(self, paths: LakePaths) -> None:
        self.id = secrets.token_hex(6)
        self.folder = paths.staging / self.id
        # Locked before it has its name: recovery must never meet a session without its lock.
        unnamed = paths.staging / f".{self.id}"
        with disk_full_is_transient(paths.staging):
            make_folder(unnamed)
            self._lock = open_lock(unnamed / "lock")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            failpoint("session.before_name")
            rename(unnamed, self.folder)
            sync_folder(paths.staging)  # what an intent names must be found after a crash
            failpoint("session.after_name")

    def close(self) -> None:
        """Let go; what is left in the folder is for recovery."""
        # Locked while we look: recovery would take it for a dead one's, and remove it first. It may
        # finish what we begin here, once the lock has lost its name.
        if {entry.name for entry in self.folder.iterdir()} == {"lock"}:
            remove_tree(self.folder)
        self._lock.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def session_is_alive(paths: LakePaths, session: str) -> bool:
    """Whether the process of a session still holds its lock."""
    try:
        with (paths.staging / session / "lock").open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except FileNotFoundError:
        return False
