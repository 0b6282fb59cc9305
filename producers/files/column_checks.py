"""Whether the newest file of a table has the columns that the configuration names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO, cast

from lake.config import Table, nearest
from producers.base import Problem
from producers.files.folder import FileMissing, FileState, FileUnavailable, Folder, shown
from producers.files.matching import matching_files
from producers.files.reading import FileForm, file_rows
from producers.formats import BadRow, UnreadableFile

LOOKED_ROWS = 200
BEGINNING_BYTES = 1024 * 1024
"""Of a text that is read line by line."""
MOST_BYTES = 64 * 1024 * 1024
"""Of any other file: it has to be fetched whole."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found in a file.

    Attributes:
        names: The columns of its first rows.
        rows: How many these are.
        reason: Why it was not read to where it was meant to be; empty where it was.
    """

    names: frozenset[str]
    rows: int
    reason: str = ""


def column_problems(folder: Folder, table: str, spec: Table, form: FileForm) -> Iterator[Problem]:
    """Columns of `key` and `columns` that the newest file of a table lacks.

    Args:
        folder: Where its files are.
        table: The table.
        spec: Its section.
        form: How its files are read.
    """
    if not spec.key and not spec.columns:
        return
    at = ("tables", table)
    try:
        found = _newest(folder, spec)
        if found is None:
            what = f"no file {spec.file} yet: its columns were not compared with `key`, `columns`"
            yield Problem(at, what, is_error=False)
            return
        path, state = found
        looked = _looked_at(folder, path, state, form)
    except FileUnavailable as error:
        what = f"{spec.file}: its columns were not compared with `key`, `columns`: {error.what}"
        yield Problem(at, what, error.remedy, is_error=False)
        return
    if not looked.names:
        why = looked.reason or "it has no rows"
        what = f"{shown(path)}: its columns were not compared with `key`, `columns`: {why}"
        yield Problem(at, what, is_error=False)
        return
    yield from _missing(table, spec, form, shown(path), looked)


def _missing(
    table: str, spec: Table, form: FileForm, path: str, looked: _Looked
) -> Iterator[Problem]:
    has_header = form.format.has_header
    where = "" if has_header else f" in its first {looked.rows:,} rows"
    for setting, columns in (("key", spec.key), ("columns", list(spec.columns))):
        for column in columns:
            if column in looked.names:
                continue
            near = nearest(column, sorted(looked.names)[:20])
            what = f"{path} has no column {column!r}{where}{near}"
            # Without a header, a column that is rarely filled may be in none of the first rows.
            is_error = setting == "key" or has_header
            yield Problem(("tables", table, setting), what, is_error=is_error)


def _newest(folder: Folder, spec: Table) -> tuple[str, FileState] | None:
    states: dict[str, FileState] = {}
    for path in matching_files(folder, spec.file or ""):
        try:
            states[path] = folder.state(path)
        except FileMissing:
            continue
    if not states:
        return None
    newest = max(states, key=lambda path: (states[path].mtime, path))
    return newest, states[newest]


def _looked_at(folder: Folder, path: str, state: FileState, form: FileForm) -> _Looked:
    by_lines = form.format.has_lines and not form.packing
    if not by_lines and state.size > MOST_BYTES:
        raise FileUnavailable(f"{shown(path)} has more than {MOST_BYTES >> 20} MB")
    size = min(state.size, BEGINNING_BYTES) if by_lines else state.size
    names: set[str] = set()
    count = 0
    free = replace(form, key=(), typed=frozenset())
    with tempfile.TemporaryFile() as content:
        left = size
        for block in folder.blocks(path, size):
            content.write(block[:left])
            left -= min(left, len(block))
            if not left:
                break
        content.flush()
        content.seek(0)
        try:
            for row in islice(file_rows(free, cast(BinaryIO, content), size), LOOKED_ROWS):
                if not isinstance(row, BadRow):
                    names.update(row.values)
                    count += 1
        except UnreadableFile as error:
            return _Looked(frozenset(names), count, str(error))
    return _Looked(frozenset(names), count)
