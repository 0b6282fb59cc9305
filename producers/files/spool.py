"""A file's content on this machine: fetched whole, hashed, and unpacked as it is read."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, cast

from producers.files.folder import FileState, FileUnavailable, Folder
from producers.formats import UnfinishedFile, UnreadableFile

SPARE_BYTES = 64 * 1024 * 1024
"""Of the spool's file system, which are left free."""
RATIO, SMALL_BYTES = 200, 1024 * 1024 * 1024
"""A file that unpacks to more than this many times its size, and to more than that, is a bomb."""
MOST_MEMBERS = 10_000
MOST_LISTED_BYTES = 16 * 1024 * 1024
"""Of the list of an archive's members, which is held in memory before they can be counted."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file as it was fetched.

    Attributes:
        content: A temporary file.
        size: Its bytes.
        sha256: Their hash, in hex.
    """

    content: BinaryIO
    size: int
    sha256: str


@contextmanager
def fetched(folder: Folder, path: str, state: FileState) -> Iterator[Fetched]:
    """Fetch a file.

    Raises:
        FileUnavailable: It cannot be had, or there is no room for it.
    """
    spool = tempfile.gettempdir()
    _check_room(spool, state.size)
    digest = hashlib.sha256()
    size = 0
    with tempfile.TemporaryFile() as content:
        for block in folder.blocks(path, state.size):
            digest.update(block)
            size += len(block)
            try:
                content.write(block)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise _no_room(spool, state.size) from None
        content.flush()
        content.seek(0)
        yield Fetched(cast(BinaryIO, content), size, digest.hexdigest())


def _check_room(spool: str, size: int) -> None:
    if shutil.disk_usage(spool).free < size + SPARE_BYTES:
        raise _no_room(spool, size)


def _no_room(spool: str, size: int) -> FileUnavailable:
    free = shutil.disk_usage(spool).free
    return FileUnavailable(
        f"it has {size >> 20:,} MB, and {spool} has {free >> 20:,} MB free, of which"
        f" {SPARE_BYTES >> 20} stay free",
        "Free some, or name another folder in TMPDIR.",
    )


# Packed files ------------------------------------------------------------------------------------


def unpacked(content: BinaryIO, packing: str, size: int, members: str) -> Iterator[Any]:
    """Each file within a file: (its name, its content), or (its name, why it cannot be read).

    Args:
        content: The file.
        packing: `.gz`, `.zip`, or empty.
        size: Its bytes.
        members: Of a .zip: the pattern of the members that are read.

    Raises:
        UnreadableFile: It is no such file.
    """
    content.seek(0)
    if packing == ".gz":
        _refuse_bomb(content, size)
        source = gzip.GzipFile(fileobj=content, mode="rb")
        yield "", _buffered(_Unpacking(source, size))
    elif packing == ".zip":
        yield from _members(content, members, size)
    else:
        yield "", content


def _most(packed: int) -> int:
    return max(SMALL_BYTES, packed * RATIO)


def _bomb(packed: int) -> UnreadableFile:
    return UnreadableFile(
        f"it unpacks to more than {_most(packed) >> 20:,} MB, and {RATIO} times its size",
        "If it is meant to, ask for it unpacked.",
    )


def _refuse_bomb(content: BinaryIO, size: int) -> None:
    """Unpacking alone is fast; parsing a bomb up to its limit would take minutes."""
    if size * 1032 > SMALL_BYTES:  # the most that can be packed into so many bytes
        packed = _Unpacking(gzip.GzipFile(fileobj=content, mode="rb"), size)
        buffer = bytearray(1 << 20)
        while packed.readinto(buffer):
            pass
        content.seek(0)


def _members(content: BinaryIO, wanted: str, size: int) -> Iterator[Any]:
    try:
        package = zipfile.ZipFile(cast(Any, _Listed(content)))
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise UnfinishedFile(f"it is no ZIP, or damaged ({type(error).__name__})") from None
    with package:
        parts = [part for part in package.infolist() if _is_wanted(part, wanted)]
        if not parts:
            raise UnreadableFile(f"no member of it matches {wanted!r}", "Set `members`.")
        if sum(part.file_size for part in parts) > _most(size):
            raise _bomb(size)
        if len(parts) > MOST_MEMBERS:
            raise UnreadableFile(f"it has {len(parts):,} members; {MOST_MEMBERS:,} are the most")
        for part in sorted(parts, key=lambda part: part.filename):
            if part.flag_bits & 1:
                yield part.filename, UnreadableFile(
                    "it is protected by a password", "Ask for it without one."
                )
                continue
            try:
                source = package.open(part)
            except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
                yield part.filename, UnreadableFile(f"it is damaged ({type(error).__name__})")
                continue
            with source:
                yield part.filename, _buffered(_Unpacking(source, size))


class _Listed:
    """An archive whose list of members is not larger than it may be."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def read(self, size: int = -1) -> bytes:
        """Read; all that is ever asked for at once and is long is the list."""
        if size > MOST_LISTED_BYTES:
            raise UnreadableFile(
                f"the list of its members has more than {MOST_LISTED_BYTES >> 20} MB",
                f"{MOST_MEMBERS:,} members are the most.",
            )
        return self._content.read(size)


def _is_wanted(part: zipfile.ZipInfo, wanted: str) -> bool:
    if part.is_dir() or "__MACOSX" in part.filename:
        return False
    return fnmatchcase(part.filename.rpartition("/")[2], wanted) or fnmatchcase(
        part.filename, wanted
    )


def _buffered(raw: io.RawIOBase) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(raw, 1 << 18))


class _Unpacking(io.RawIOBase):
    """What a packed stream unpacks to; it ends where that is too much, and errors have names."""

    def __init__(self, source: Any, packed: int) -> None:
        self._source = source
        self._packed = packed
        self._got = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._source.read(len(buffer))
        except EOFError:
            raise UnfinishedFile("it is packed, and ends in the middle") from None
        except (OSError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
            raise UnreadableFile(
                f"it is packed, and damaged ({type(error).__name__})", "Ask for it again."
            ) from None
        self._got += len(block)
        if self._got > _most(self._packed):
            raise _bomb(self._packed)
        buffer[: len(block)] = block
        return len(block)
