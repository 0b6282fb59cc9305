"""The file operations of the lake: nothing else makes, moves, syncs or removes its files.

A file is visible under its final name only when it is whole: the order is temporary file, sync,
rename, sync of the folder (and of the parents that had to be made). Bytes are durable once their
file is synced, names once their folder is. Each function says what a power cut may undo.

Databases write their own files: SQLite the ledger, DuckDB the warehouse and what it copies out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

from lake.errors import DiskFull, TerminalError
from lake.failpoints import failpoint

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_durable: set[Path] = set()


@contextmanager
def disk_full_is_transient(path: Path) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into `DiskFull`, naming the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"No room left on the disk of {path}.", "Free some; writing continues by itself."
            ) from error
        raise


# Folders -----------------------------------------------------------------------------------------


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, durably.

    A folder that is there may have been made by a process that died before it synced the name:
    each process syncs the names of all parents once.
    """
    unsure = []
    at = folder
    while at != at.parent and not (at in _durable and at.is_dir()):
        unsure.append(at)
        at = at.parent
    for new in reversed(unsure):
        try:
            new.mkdir()
        except FileExistsError:
            with suppress(PermissionError):  # a parent of the lake that is not ours to open
                sync_folder(new.parent)
        else:
            failpoint("folder.before_sync")
            sync_folder(new.parent)
        _durable.add(new)


def make_scratch_folder(folder: Path, exist_ok: bool = True) -> None:
    """Make a folder and its missing parents for what may be lost; a power cut may undo it.

    Raises:
        FileExistsError: It is there, and must not be.
    """
    folder.mkdir(parents=True, exist_ok=exist_ok)


def found_in(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder that another process may remove meanwhile; nothing once it is gone."""
    try:
        return list(folder.glob(pattern))
    except FileNotFoundError:
        return []


def exchange_folders(one: Path, other: Path) -> None:
    """Let two folders change places in one step: nobody sees a moment without either.

    Durable once both folders and their parents are synced, which is the caller's: who finds that
    a killed process exchanged them must sync, too.

    Raises:
        TerminalError: The file system cannot do it; nothing has changed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    paths = (os.fsencode(one), os.fsencode(other))
    if libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        raise TerminalError(
            f"The file system of {one} cannot exchange two folders.", "Use ext4, XFS or Btrfs."
        )
    raise OSError(number, os.strerror(number), str(one))


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as that is possible.

    A kill, a failure or a power cut may leave any part of it: whoever needs it gone looks again.
    """
    shutil.rmtree(folder, ignore_errors=True)


def remove_empty(folder: Path) -> bool:
    """Remove a folder in which there is nothing; gives whether it is gone."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def close_folder(folder: Path, mode: int) -> int | None:
    """Take from a folder what other users may do in it beyond `mode`.

    Returns:
        The mode that it had, where that was wider and it is ours to change; None where not.
    """
    try:
        found = folder.stat()
        had = found.st_mode & 0o777
        if not had & 0o077 & ~mode or found.st_uid != os.geteuid():
            return None
        folder.chmod(had & mode)
    except OSError:
        return None  # `ducklake doctor` says what is wrong with it
    return had


# Files -------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Replace a file in one step; readers see the old content or the new, never a part.

    The bytes are durable, the name is not: a power cut may bring the old content back.

    Args:
        path: The file.
        content: Text (UTF-8) or bytes.
        mode: Permissions, set before the first byte is written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    except BaseException:
        remove_file(temporary)
        raise


def replace_unsynced(path: Path, content: str) -> None:
    """Replace a file in one step, without waiting for the disk.

    A power cut may bring the old content back, or leave the file empty: for what is written anew
    after one.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_unsynced(temporary, content)
        rename(temporary, path)
    except BaseException:
        remove_file(temporary)
        raise


def write_unsynced(path: Path, content: str) -> None:
    """Write a text (UTF-8) under a name that nobody reads yet.

    Neither bytes nor name are durable: sync the file before it gets its final name.
    """
    path.write_text(content, encoding="utf-8")


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes, durably; the new name is not durable before its folder is synced."""
    shutil.copyfile(source, target)
    sync_file(target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; durable once the target's folder is synced.

    Raises:
        FileExistsError: The target is there; it is never replaced.
    """
    os.link(source, target)


def rename(source: Path, target: Path) -> None:
    """Give a file, or a folder, another name on the same file system, in one step.

    A file that has the name already is replaced, and so is an empty folder by a folder. Durable
    once the target's folder is synced; from one folder into another, a power cut before that may
    keep both names or none (see `move_into_place`).
    """
    source.rename(target)


def move_into_place(source: Path, target: Path, intended: bool = False) -> None:
    """Give a file its place on one file system, and make the new name durable.

    Args:
        source: Where it is.
        target: Its place.
        intended: An intent in the ledger names both places, and recovery looks in both. A rename
            changes two folders, and a power cut may keep the one change and lose the other: the
            old name goes only once the new one is durable. Until then there are both.

    Raises:
        DiskFull: The target's folder cannot grow.
    """
    with disk_full_is_transient(target.parent):
        make_folder(target.parent)
        failpoint("move.before_rename")
        if intended:
            link(source, target)
        else:
            rename(source, target)
        failpoint("move.before_sync")
        sync_folder(target.parent)
        if intended:
            remove_file(source)
        failpoint("move.after_sync")


def remove_file(path: Path) -> None:
    """Remove a file's name, if it is there; a power cut may bring it back."""
    path.unlink(missing_ok=True)


def make_read_only(path: Path) -> None:
    """Let nobody but root write a file any more; a rename may still replace it."""
    path.chmod(0o400)


def touch(path: Path) -> None:
    """Set the time of a file to now; needs no room on the disk.

    Raises:
        FileNotFoundError: There is none.
    """
    os.utime(path)


def open_lock(path: Path) -> BufferedWriter:
    """Open a file that carries a lock, and make it if it is missing; nothing is written to it."""
    return path.open("ab")


# Durability --------------------------------------------------------------------------------------


def sync_file(path: Path) -> None:
    """Make the bytes of a file durable; its name is not."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
