"""How this project opens SQLite: durable, in WAL mode, with named failures."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lake.errors import DiskFull, LedgerError, ServiceUnreachable

BUSY_SECONDS = 30.0
FULL_BYTES = 1 << 20


def connected(file: Path, made_with: str = "") -> sqlite3.Connection:
    """A connection in autocommit mode, whose commits are durable.

    Args:
        file: The database; made where it is missing.
        made_with: A pragma that has to come before everything else in a new one.
    """
    db = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        if made_with:
            db.execute(made_with)
        _switch_to_wal(db)
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A transaction that writes, alone: all of it is durable afterwards, or nothing is there."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # SQLite has rolled some failures back by itself, a full disk among them.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def failures_have_names(file: Path) -> Iterator[None]:
    """Turn what SQLite says of a full disk or a long lock into errors that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        name = error.sqlite_errorname
        if name == "SQLITE_FULL" or (
            name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN"))
            and shutil.disk_usage(file.parent).free < FULL_BYTES
        ):
            raise DiskFull(
                f"No room left on the disk of {file}.",
                "Free some; writing continues by itself.",
            ) from error
        if name.startswith("SQLITE_BUSY"):
            raise ServiceUnreachable(
                f"{file} was locked by another process for {BUSY_SECONDS:.0f} s.",
                "A stopped process may hold it: `ducklake status` lists them.",
            ) from error
        raise LedgerError(f"{file}: {error} ({name}).", "See the disk's health.") from error


def _switch_to_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait by itself where another process is at it as well."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
