"""A folder with files, here or on a server: what is asked of it, and how it refuses a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileState:
    """What is said of a file: its size in bytes and when it was modified (epoch)."""

    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a folder holds.

    Attributes:
        name: Its name.
        is_folder: Whether it is a folder itself; a link to one is none.
        is_link: Whether it is a link.
    """

    name: str
    is_folder: bool
    is_link: bool


class FileUnavailable(Exception):
    """A file cannot be had now: it alone, and it is asked for again.

    Args:
        what: Why.
        remedy: What the reader should do about it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class FileMissing(FileUnavailable):
    """There is no such file: it may still come."""


class Folder(ABC):
    """A folder; paths are relative to it, with slashes.

    Every method raises FileUnavailable where one file is concerned, and a DuckLakeError where the
    whole folder is.
    """

    @abstractmethod
    def entries(self, path: str) -> list[Entry]:
        """What a folder below it holds."""

    @abstractmethod
    def state(self, path: str) -> FileState:
        """The state of a regular file."""

    @abstractmethod
    def blocks(self, path: str, size: int) -> Iterator[bytes]:
        """The content of a file, by the piece.

        Args:
            path: The file.
            size: How large it was when it was looked at.
        """

    @abstractmethod
    def remove(self, path: str) -> None:
        """Delete a file."""

    @abstractmethod
    def move(self, path: str, to: str) -> None:
        """Move a file; the folder of its new path is made where it is missing."""


def shown(path: str) -> str:
    """A path as it may be printed and stored: control characters and odd bytes are escaped."""
    if path.isprintable() and "\\" not in path:
        return path
    letters = []
    for letter in path:
        if letter.isprintable() and letter != "\\":
            letters.append(letter)
        elif "\udc80" <= letter <= "\udcff":
            letters.append(f"\\x{ord(letter) - 0xDC00:02x}")
        else:
            letters.append(letter.encode("unicode_escape").decode() if letter != "\\" else "\\\\")
    return "".join(letters)
