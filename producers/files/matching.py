"""Which files a table has: one by its name, or all that match a pattern."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from producers.files.folder import Entry, FileMissing, FileUnavailable, Folder

MOST_FILES = 100_000
DEEPEST = 32
_MAGIC = re.compile(r"[*?\[]")


def is_pattern(file: str) -> bool:
    """Whether a name has characters that stand for others."""
    return _MAGIC.search(file) is not None


def pattern_problem(file: str) -> str | None:
    """Why a name or pattern cannot be used."""
    parts = file.split("/")
    if file.startswith("/") or ".." in parts:
        return "it must not lead out of the source's directory"
    if "" in parts or "\0" in file:
        return "it is no path"
    return None


def matching_files(folder: Folder, file: str) -> Iterator[str]:
    """The paths of a table's files; a plain name is itself, whether or not it is there.

    `*`, `?` and `[…]` stand for characters of one name, `**` for folders at any depth. Hidden files
    match only a pattern that begins with a dot. Links to folders are not followed.

    Raises:
        FileUnavailable: A folder cannot be listed, or holds too many files.
    """
    if not is_pattern(file):
        yield file
        return
    for count, path in enumerate(_walk(folder, "", tuple(file.split("/")), 0)):
        if count >= MOST_FILES:
            raise FileUnavailable(
                f"{file} matches more than {MOST_FILES:,} files",
                "Move read files away: `after_reading: move`.",
            )
        yield path


def _walk(folder: Folder, at: str, parts: tuple[str, ...], depth: int) -> Iterator[str]:
    part, rest = parts[0], parts[1:]
    if depth > DEEPEST:
        return
    if not is_pattern(part):
        path = _joined(at, part)
        if rest:
            yield from _walk(folder, path, rest, depth)
        else:
            yield from (path for entry in folder.entries(at) if entry.name == part)
        return
    try:
        entries = sorted(filter(_is_safe, folder.entries(at)), key=lambda entry: entry.name)
    except FileMissing:
        if depth == 0 and not at:
            raise
        return  # a folder that has gone meanwhile
    if part == "**":
        yield from _walk(folder, at, rest or ("*",), depth)
        for entry in entries:
            if entry.is_folder and not entry.name.startswith("."):
                yield from _walk(folder, _joined(at, entry.name), parts, depth + 1)
        return
    for entry in entries:
        if not _matches(entry.name, part):
            continue
        path = _joined(at, entry.name)
        if rest and entry.is_folder:
            yield from _walk(folder, path, rest, depth + 1)
        elif not rest and not entry.is_folder:
            yield path


def _matches(name: str, part: str) -> bool:
    if name == part:
        return True
    return fnmatch.fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))


def _is_safe(entry: Entry) -> bool:
    """A server may say what it likes: a name is no path."""
    return entry.name not in ("", ".", "..") and "/" not in entry.name and "\0" not in entry.name


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
