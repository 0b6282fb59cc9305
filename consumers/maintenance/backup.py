"""A backup of what cannot be computed: the ledger, and where each producer stands in its source.

A folder with `ledger.db` as of one moment, `dead_letters.db` with the bytes of dead letters where
there are any, `cursors.json` (key to JSON, as in `ducklake.cursors`)
and `manifest.json`; it appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from lake.errors import ConfigError, LedgerError
from lake.failpoints import failpoint
from lake.formats import BackupManifest
from lake.ledger import LedgerReader
from lake.ledger.replacing import at_rest, put_in_place
from lake.storage.operations import (
    copy_file,
    disk_full_is_transient,
    make_folder,
    make_scratch_folder,
    remove_tree,
    rename,
    sync_file,
    sync_folder,
    write_unsynced,
)
from lake.storage.paths import LakePaths

_LEDGER, _CURSORS, _MANIFEST = "ledger.db", "cursors.json", "manifest.json"
_DEAD_LETTERS = "dead_letters.db"


def must_be_new(folder: Path) -> None:
    """See that a backup may become this folder.

    Raises:
        ConfigError: It holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty.", "Name a new folder for each backup.")


def write_backup(
    paths: LakePaths, lake: str, cursors: Mapping[str, str], folder: Path
) -> BackupManifest:
    """Write a backup while other processes run.

    Args:
        paths: The lake.
        lake: Its name.
        cursors: Key to JSON.
        folder: A new or an empty one.

    Raises:
        ConfigError: The folder holds something.
        LedgerError: There is no ledger.
        DiskFull: Nothing is left of it.
    """
    must_be_new(folder)
    if not paths.ledger.exists():
        raise LedgerError(f"{paths.ledger} is missing.", "There is nothing to back up yet.")
    folder = folder.absolute()
    staged = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with disk_full_is_transient(staged):
            make_folder(folder.parent)
            make_scratch_folder(staged, exist_ok=False)
            with LedgerReader(paths) as ledger:
                newest = ledger.copy_to(staged / _LEDGER)
                # After the ledger: whatever that names is here by now.
                ledger.dead_letters.copy_to(staged / _DEAD_LETTERS)
                moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                about = BackupManifest(lake, ledger.identity(), moment, newest, len(cursors))
            write_unsynced(staged / _CURSORS, json.dumps(cursors, indent=1))
            write_unsynced(staged / _MANIFEST, about.dump())
            for path in staged.iterdir():
                sync_file(path)
            sync_folder(staged)
            failpoint("backup.before_rename")
            rename(staged, folder)  # takes the place of an empty folder
            sync_folder(folder.parent)
            failpoint("backup.after_rename")
    except BaseException:
        remove_tree(staged)
        raise
    return about


def read_manifest(folder: Path, lake: str) -> BackupManifest:
    """Look at a backup before anything is touched.

    Raises:
        ConfigError: It is no backup, a damaged one, or another lake's.
        UnsupportedFormatVersion: A later release made it.
    """
    try:
        about = BackupManifest.load((folder / _MANIFEST).read_text())
        with closing(sqlite3.connect(f"file:{folder / _LEDGER}?mode=ro", uri=True)) as ledger:
            [(found,)] = ledger.execute("SELECT identity FROM lake").fetchall()
            # Not the quick check: some versions of SQLite see NULLs that are not there.
            [(sound,), *_] = ledger.execute("PRAGMA integrity_check").fetchall()
    except (OSError, TypeError, ValueError, sqlite3.Error) as error:
        raise ConfigError(
            f"{folder} is no backup ({error}).", "Name a folder that `ducklake backup` made."
        ) from None
    if sound != "ok" or found != about.ledger:
        raise ConfigError(f"The ledger in {folder} is damaged.", "Take another backup.")
    if about.lake != lake:
        raise ConfigError(
            f"{folder} is a backup of the lake {about.lake!r}, this one is {lake!r}.",
            "Name another folder.",
        )
    return about


def restore_ledger_of(folder: Path, paths: LakePaths) -> Path | None:
    """Put a backup's ledger in the place of the present one, which is kept.

    Returns:
        The folder of the one before, if there was any.

    Raises:
        LedgerError: A process is at work.
        DiskFull: Nothing has changed.
    """
    with at_rest(paths):
        fresh = paths.root / "ledger.db.restored"
        with disk_full_is_transient(fresh):
            copy_file(folder / _LEDGER, fresh)
            _restore_dead_letters(folder / _DEAD_LETTERS, paths)
        return put_in_place(paths, fresh)


def _restore_dead_letters(copy: Path, paths: LakePaths) -> None:
    """Put the bytes of dead letters back where they are lost; what is there has all of them."""
    if paths.dead_letters.exists() or not copy.exists():
        return
    staged = paths.dead_letters.with_name(f"{paths.dead_letters.name}.restored")
    copy_file(copy, staged)
    rename(staged, paths.dead_letters)
    sync_folder(paths.root)


def cursors_of(folder: Path) -> dict[str, str]:
    """The cursors in a backup: key to JSON."""
    found: dict[str, str] = json.loads((folder / _CURSORS).read_text())
    return found
