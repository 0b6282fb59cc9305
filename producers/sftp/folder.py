"""A folder on an SFTP server: what the server refuses of one file costs that file alone."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from posixpath import join
from typing import Any

import paramiko
from paramiko.sftp import CMD_CLOSE, CMD_OPENDIR, CMD_READDIR

from producers.files.folder import Entry, FileMissing, FileState, FileUnavailable, Folder, shown

REQUEST = 32 * 1024
WINDOW = 4 * 1024 * 1024
"""Bytes that are asked for at once, and held at most."""
MOST_ENTRIES = 1_000_000


class SftpFolder(Folder):
    """A folder on a server.

    Args:
        sftp: A session.
        root: The folder's path.
    """

    def __init__(self, sftp: paramiko.SFTPClient, root: str) -> None:
        self._sftp: Any = sftp  # it is asked for what its own methods decode wrongly
        self._root = root

    def entries(self, path: str) -> list[Entry]:
        """List a folder; names need not be UTF-8, which paramiko's own method asks for."""
        with self._refusals():
            _, answer = self._sftp._request(CMD_OPENDIR, self._bytes(path))
            handle = answer.get_binary()
            found: list[Entry] = []
            try:
                while len(found) < MOST_ENTRIES:
                    try:
                        _, answer = self._sftp._request(CMD_READDIR, handle)
                    except EOFError:
                        break
                    found += map(self._entry, [answer] * answer.get_int())
            finally:
                self._sftp._request(CMD_CLOSE, handle)
            return [e for e in found if not (e.is_link and self._is_folder(path, e.name))]

    def _entry(self, answer: Any) -> Entry:
        name = answer.get_binary().decode("utf-8", "surrogateescape")
        answer.get_binary()
        mode = paramiko.SFTPAttributes._from_msg(answer).st_mode or 0  # type: ignore[attr-defined]
        return Entry(name, stat.S_ISDIR(mode), stat.S_ISLNK(mode))

    def _is_folder(self, path: str, name: str) -> bool:
        """Whether a link leads to a folder; what cannot be told is asked again as a file."""
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            return False
        try:
            with self._refusals():
                found = self._sftp.stat(self._bytes(f"{path}/{name}" if path else name))
            return stat.S_ISDIR(found.st_mode or 0)
        except FileUnavailable:
            return False

    def state(self, path: str) -> FileState:
        """The state of a file."""
        with self._refusals():
            found = self._sftp.stat(self._bytes(path))
        if not stat.S_ISREG(found.st_mode or 0):
            raise FileUnavailable("it is no regular file")
        if found.st_size is None or found.st_mtime is None:
            raise FileUnavailable("the server does not tell its size and time")
        return FileState(found.st_size, int(found.st_mtime))

    def blocks(self, path: str, size: int) -> Iterator[bytes]:
        """Read a file: a window's requests are under way together, whatever the distance."""
        with self._refusals():
            remote = self._sftp.open(self._bytes(path), "rb")
        try:
            for start in range(0, size, WINDOW):
                end = min(start + WINDOW, size)
                wanted = [(at, min(REQUEST, end - at)) for at in range(start, end, REQUEST)]
                with self._refusals():
                    block = b"".join(remote.readv(wanted))
                yield block
                if len(block) < end - start:
                    return  # it became shorter
        finally:
            with self._refusals():
                remote.close()

    def remove(self, path: str) -> None:
        """Delete a file."""
        with self._refusals("delete"):
            self._sftp.remove(self._bytes(path))

    def move(self, path: str, to: str) -> None:
        """Move a file; one that is there already is not replaced."""
        with self._refusals("move"):
            folder = to.rpartition("/")[0]
            if not self._exists(folder):
                self._sftp.mkdir(self._bytes(folder))
            number, free = 1, to
            while self._exists(free):
                number += 1
                free = f"{to}.{number}"
            self._sftp.rename(self._bytes(path), self._bytes(free))

    def _exists(self, path: str) -> bool:
        try:
            self._sftp.lstat(self._bytes(path))
        except FileNotFoundError:
            return False
        return True

    def _bytes(self, path: str) -> bytes:
        return join(self._root, path).encode("utf-8", "surrogateescape")

    @contextmanager
    def _refusals(self, what: str = "read") -> Iterator[None]:
        """Tell what concerns one file from a connection that is lost."""
        try:
            yield
        except FileNotFoundError:
            raise FileMissing("there is no such file") from None
        except PermissionError:
            raise FileUnavailable(
                f"the user may not {what} it", f"Grant the right to {what} it on the server."
            ) from None
        except Exception as error:
            if isinstance(error, TimeoutError) or not self._answers():
                raise
            said = shown(str(error))[:200] or type(error).__name__
            raise FileUnavailable(f"the server refuses to {what} it ({said})") from None

    def _answers(self) -> bool:
        try:
            self._sftp.normalize(".")
        except (paramiko.SSHException, OSError, EOFError):
            return False
        return True
