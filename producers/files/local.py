"""Files in a folder of this machine (`type: files`), watched by the kernel's events."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import watchfiles

from lake.errors import SourceError
from lake.openlineage.datasets import Dataset, local_file
from producers.files.connector import FileConnector
from producers.files.folder import Entry, FileMissing, FileState, FileUnavailable, Folder, shown

BLOCK = 1 << 20


class FilesConnector(FileConnector):
    """Reads files in a folder; it is polled, and at once when something in it changes."""

    @contextmanager
    def open_folder(self) -> Iterator[Folder]:
        """Look whether it is there."""
        root = self._root
        if not root.is_dir():
            raise SourceError(
                f"Source {self.name}: there is no folder {root}.",
                f"Make it, or mend sources.{self.name}.directory.",
            )
        yield LocalFolder(root)

    def origin(self, table: str) -> Sequence[Dataset]:
        """The file, or the pattern of its files."""
        return (local_file(self._root / str(self.source.tables[table].file)),)

    @property
    def _root(self) -> Path:
        return (self.config.root / Path(self.source.directory).expanduser()).absolute()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for the next poll, or for a change."""
        try:
            changes = watchfiles.watch(
                self._root,
                stop_event=stop,
                rust_timeout=max(1, int(seconds * 1000)),
                yield_on_timeout=True,
                raise_interrupt=False,
                debounce=200,
                step=50,
            )
            next(changes, None)
        except (OSError, RuntimeError):  # no events on this file system, or no more of them
            stop.wait(seconds)


class LocalFolder(Folder):
    """A folder of this machine; links that lead out of it are not followed.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real = root.resolve()

    def entries(self, path: str) -> list[Entry]:
        """List a folder."""
        with _refusals(), os.scandir(self._root / path) as entries:
            return [
                Entry(entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink())
                for entry in entries
                if not (entry.is_symlink() and _leads_to_a_folder(entry))
            ]

    def state(self, path: str) -> FileState:
        """The state of a file."""
        with _refusals():
            place = self._inside(path)
            found = place.stat()
        if not stat.S_ISREG(found.st_mode):
            raise FileUnavailable("it is no regular file")
        return FileState(found.st_size, int(found.st_mtime))

    def blocks(self, path: str, size: int) -> Iterator[bytes]:
        """Read a file."""
        with _refusals(), self._inside(path).open("rb") as file:
            while block := file.read(BLOCK):
                yield block

    def remove(self, path: str) -> None:
        """Delete a file."""
        with _refusals():
            (self._root / path).unlink()

    def move(self, path: str, to: str) -> None:
        """Move a file; one that is there already is not replaced."""
        with _refusals():
            target = self._root / to
            target.parent.mkdir(parents=True, exist_ok=True)
            number, free = 1, target
            while free.exists():
                number += 1
                free = target.with_name(f"{target.name}.{number}")
            (self._root / path).rename(free)

    def _inside(self, path: str) -> Path:
        place = (self._root / path).resolve(strict=True)
        if not place.is_relative_to(self._real):
            raise FileUnavailable(
                f"it is a link that leads out of {shown(str(self._root))}",
                "Copy the file into the folder.",
            )
        return place


def _leads_to_a_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:  # it leads nowhere, which is said when it is asked as a file
        return False


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileMissing("there is no such file") from None
    except PermissionError:
        raise FileUnavailable("the user may not read it", "Grant the right to read it.") from None
    except RuntimeError:  # how Python up to 3.12 names a loop of links
        raise FileUnavailable("it is a loop of links") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileUnavailable("it is a loop of links") from None
        raise FileUnavailable(error.strerror or type(error).__name__, "It is retried.") from None
    except ValueError:
        raise FileUnavailable("its name cannot be used") from None
