"""The border to the readers: whatever one of them raises costs its file alone, and has a name."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import orjson

from lake.config import Table
from lake.records import kept_json
from lake.storage.declared_types import declared_type
from producers.base import REJECT_BYTES
from producers.files.spool import unpacked
from producers.formats import FORMATS, BadRow, FileOptions, Format, Row, UnreadableFile
from producers.formats.row import ROW_BYTES

PACKINGS = (".gz", ".zip")


class EncodedRow(NamedTuple):
    """A row with its JSON."""

    number: int
    values: dict[str, Any]
    encoded: bytes


@dataclass(frozen=True, slots=True)
class FileForm:
    """How the files of a table are read.

    Attributes:
        format: Their format.
        packing: `.gz`, `.zip`, or empty.
        options: The reader's options.
        key: The columns of the record's key.
        typed: Columns that are declared as something else than text.
    """

    format: Format
    packing: str
    options: FileOptions
    key: tuple[str, ...]
    typed: frozenset[str]

    @classmethod
    def of(cls, spec: Table, options: FileOptions) -> FileForm:
        """The form of a table's files."""
        suffix, packing = suffixes(spec)
        typed = {
            column
            for column, type_ in spec.columns.items()
            if declared_type("", column, type_) not in ("VARCHAR", "JSON")
        }
        return cls(FORMATS[suffix], packing, options, tuple(spec.key), frozenset(typed))


def suffixes(spec: Table) -> tuple[str, str]:
    """The suffix that names the format of a table's files, and that of their packing."""
    path = PurePosixPath((spec.file or "").lower())
    packing = path.suffix if path.suffix in PACKINGS else ""
    inner = PurePosixPath(path.stem).suffix if packing else path.suffix
    said = spec.options.get("format")
    return (f".{str(said).lower().lstrip('.')}" if said else inner), packing


def file_rows(form: FileForm, content: BinaryIO, size: int) -> Iterator[EncodedRow | BadRow]:
    """The rows of a file, numbered across the members of an archive.

    Raises:
        UnreadableFile: It cannot be read, for whatever reason.
    """
    broken = _tried(form, content, size).broken if form.packing == ".zip" else {}
    number = 0
    for place, (name, member) in enumerate(_members(form, content, size)):
        if place in broken:
            number += 1
            yield BadRow(number, b"", f"its member {name}: {broken[place]}")
            continue
        before = number
        for row in _encoded(form, _guarded(form, member)):
            number = before + row.number
            yield row._replace(number=number) if before else row


def count_rows(form: FileForm, content: BinaryIO, size: int) -> int:
    """How many rows `file_rows` would find that are good.

    Raises:
        UnreadableFile: As `file_rows`.
    """
    count = form.format.count
    if form.packing == ".zip":
        return _tried(form, content, size).good
    if count is None:
        return sum(type(row) is not BadRow for row in file_rows(form, content, size))
    [(_, member)] = _members(form, content, size)
    try:
        return count(member, form.options)
    except BaseException as error:
        raise _named(error) from None


class _Tried(NamedTuple):
    """What the members of an archive are: a broken one gives none of its rows."""

    good: int
    broken: dict[int, UnreadableFile]


def _tried(form: FileForm, content: BinaryIO, size: int) -> _Tried:
    """Read the members of an archive without keeping anything."""
    good, broken = 0, {}
    for place, (_, member) in enumerate(_members(form, content, size)):
        if isinstance(member, UnreadableFile):
            broken[place] = member
            continue
        try:
            rows = _encoded(form, _guarded(form, member))
            good += sum(type(row) is not BadRow for row in rows)
        except UnreadableFile as error:
            broken[place] = error
    return _Tried(good, broken)


def _members(form: FileForm, content: BinaryIO, size: int) -> Iterator[tuple[str, Any]]:
    try:
        yield from unpacked(content, form.packing, size, form.options.members)
    except GeneratorExit:
        raise
    except BaseException as error:
        raise _named(error) from None


def _guarded(form: FileForm, content: BinaryIO) -> Iterator[Row | BadRow]:
    """The one place through which every reader's rows and errors come."""
    try:
        yield from form.format.read(content, form.options)
    except GeneratorExit:
        raise
    except BaseException as error:  # a panic in a library is no Exception
        raise _named(error) from None


def _named(error: BaseException) -> BaseException:
    if isinstance(error, UnreadableFile | KeyboardInterrupt | SystemExit):
        return error
    if isinstance(error, MemoryError):
        return UnreadableFile("reading it takes more memory than there is", "Ask for it in parts.")
    if isinstance(error, RecursionError):
        return UnreadableFile("it is nested too deeply")
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" in {frame[0].name} of {Path(frame[0].filename).name}" if frame else ""
    return UnreadableFile(  # not the message, which may quote a row
        f"its reader failed ({type(error).__name__}{place})",
        "Its options may not fit it: see `ducklake preview`.",
    )


def _encoded(form: FileForm, rows: Iterator[Row | BadRow]) -> Iterator[EncodedRow | BadRow]:
    """Rows with their JSON; one that no message can hold is a bad row."""
    typed = form.typed if form.format.is_text else frozenset()
    is_first, has_header = True, form.format.has_header
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        number, values, _ = row
        # A header holds for all rows of its file; elsewhere each row has its own keys.
        missing = [n for n in form.key if n not in values] if is_first or not has_header else ()
        if missing:
            reason = f"it has no {', '.join(missing)}, which `key` names"
            if is_first and has_header:
                known = ", ".join(list(values)[:20])
                raise UnreadableFile(reason, f"Its columns: {known}.")
            payload = orjson.dumps(values, default=str)[:REJECT_BYTES]
            yield BadRow(number, payload, reason, row.line)
            continue
        is_first = False
        for name in typed:
            text = values.get(name)
            if isinstance(text, str) and not text.strip():
                values[name] = None  # type: ignore[index]
        try:
            encoded = kept_json(values)
        except TypeError:
            payload = repr(dict(values)).encode(errors="replace")
            yield BadRow(number, payload, "JSON cannot hold it", row.line)
            continue
        if len(encoded) > ROW_BYTES:
            reason = f"it has {len(encoded):,} bytes, and {ROW_BYTES:,} is the most"
            yield BadRow(number, encoded[:REJECT_BYTES], reason, row.line)
        else:
            yield EncodedRow(number, values, encoded)  # type: ignore[arg-type]
