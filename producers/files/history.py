"""What has become of each file of a table: seen, read, rows, rejects, and what is wrong now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from producers.base import Cursors
from producers.files.connector import FileConnector
from producers.files.folder import FileMissing, FileState, FileUnavailable, Folder, shown
from producers.files.matching import matching_files
from producers.files.version import FileVersion


@dataclass(frozen=True, slots=True)
class FileHistory:
    """One file.

    Attributes:
        file: Its name.
        state: `read`, `reading`, `rejected`, `changed`, `waiting`, `refused` or `gone`.
        rows: Good rows of the last version that was read.
        rejects: Rows of it, or the whole file, that were rejected.
        size: Bytes.
        seen_at: When that version was seen first, ISO.
        read_at: When it was read to its end, ISO.
        reason: Why it was rejected or refused.
        sha256: The hash of that version.
    """

    file: str
    state: str
    rows: int = 0
    rejects: int = 0
    size: int = 0
    seen_at: str = ""
    read_at: str = ""
    reason: str = ""
    sha256: str = ""

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def file_history(source: FileConnector, table: str, cursors: Cursors) -> list[FileHistory]:
    """Every file that was read or is there now, by name.

    Raises:
        DuckLakeError: The folder cannot be opened.
    """
    prefix = f"{table}:"
    known = {
        key.removeprefix(prefix): version
        for key, cursor in cursors.items()
        if key.startswith(prefix) and (version := FileVersion.load(cursor)) is not None
    }
    found = dict(_present(source, table))
    names = sorted({*known, *found})
    return [_history(name, known.get(name), found.get(name)) for name in names]


def _present(
    source: FileConnector, table: str
) -> Iterator[tuple[str, FileState | FileUnavailable]]:
    file = source.source.tables[table].file
    assert file is not None, "checked at the start"
    with source.open_folder() as folder:
        try:
            for path in matching_files(folder, file):
                try:
                    yield shown(path), _state(folder, path)
                except FileMissing:
                    continue
        except FileMissing:
            return
        except FileUnavailable as error:
            yield file, error


def _state(folder: Folder, path: str) -> FileState | FileUnavailable:
    try:
        return folder.state(path)
    except FileMissing:
        raise
    except FileUnavailable as error:
        return error


def _history(
    name: str, version: FileVersion | None, now: FileState | FileUnavailable | None
) -> FileHistory:
    if version is None:
        if isinstance(now, FileUnavailable):
            return FileHistory(name, "refused", reason=now.what)
        return FileHistory(name, "waiting", size=now.size if now else 0)
    state, reason = "rejected" if version.reason else "read", version.reason
    if not version.complete:
        state = "reading"
    elif now is None:
        state = "gone"
    elif isinstance(now, FileUnavailable):
        state, reason = "refused", now.what
    elif not version.has_state(now):
        state = "changed"
    return FileHistory(
        name,
        state,
        version.rows,
        version.rejects,
        version.size,
        version.seen_at,
        version.read_at,
        reason,
        version.sha256,
    )
