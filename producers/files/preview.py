"""What a file looks like to its reader: encoding, dialect, columns, types, first rows, rejects."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO

import clevercsv
from charset_normalizer import from_bytes

from lake.config import Table
from producers.files.checks import options_model
from producers.files.fixed_widths import guessed_widths
from producers.files.layout import lines_of
from producers.files.reading import FileForm, file_rows, suffixes
from producers.files.several_tables import described
from producers.files.spool import unpacked
from producers.formats import FORMATS, BadRow, FileOptions
from producers.formats.fixed_width import FixedWidthOptions

SAMPLE_BYTES = 256 * 1024
SAMPLE_ROWS = 1000
SHOWN_ROWS = 10
_USUAL = frozenset(",;|\t")
"""What divides the fields of nearly all files."""
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Those of four bytes first: one of them begins with one of two."""
_DIALECT = ("delimiter", "quote", "escape")
_WESTERN = frozenset(
    "áéíóúüñÁÉÍÓÚÜÑ¿¡ºª°€çÇàèìòùâêîôûãõäöëïÄÖßÀÈ«»\u2013\u2014\u2018\u2019\u201c\u201d…·\xb4\xa0"
)
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)\.(\d+)")
_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
_TIMESTAMP = re.compile(_DATE.pattern + r"[T ][0-2]\d:[0-5]\d(:[0-5]\d(\.\d{1,6})?)?")


@dataclass(frozen=True, slots=True)
class Preview:
    """What was found.

    Attributes:
        file: The file.
        format: Its format.
        options: The options of its reader.
        columns: Name to a type that holds all values that were looked at.
        rows: The first rows.
        rejects: Number and reason of the rows that cannot be parsed.
        looked_at: How many rows were looked at.
        notes: What stands in it besides the table, and what reads that.
        distinct: Columns that have another value in each of the rows, so that one may be a key.
    """

    file: str
    format: str
    options: dict[str, Any]
    columns: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[tuple[int, str]] = field(default_factory=list)
    looked_at: int = 0
    notes: list[str] = field(default_factory=list)
    distinct: list[str] = field(default_factory=list)


def preview(name: str, content: BinaryIO, size: int, spec: Table, guess: bool) -> Preview:
    """Read the beginning of a file.

    Args:
        name: Its name.
        content: The file itself.
        size: Its bytes.
        spec: The table's configuration.
        guess: Whether to find out what `spec` does not say.

    Raises:
        UnreadableFile: It cannot be read in this way.
    """
    suffix, packing = suffixes(spec)
    said, notes = dict(spec.options), list[str]()
    if guess and FORMATS[suffix].is_text and FORMATS[suffix].has_lines:
        [*samples] = islice(unpacked(content, packing, size, "*"), 1)
        if samples:
            found, notes = _guessed(samples[0][1].read(SAMPLE_BYTES), suffix)
            said = {**found, **said}
        content.seek(0)
    options = options_model(spec).model_validate(said)
    assert isinstance(options, FileOptions)
    form = FileForm.of(spec, options)
    rows: list[dict[str, Any]] = []
    rejects: list[tuple[int, str]] = []
    for row in islice(file_rows(form, content, size), SAMPLE_ROWS):
        if isinstance(row, BadRow):
            rejects.append((row.number, row.reason))
        else:
            rows.append(dict(row.values))
    looked = len(rows) + len(rejects)
    return Preview(
        name,
        suffix.lstrip("."),
        said,
        {**column_types(rows), **spec.columns},
        rows[:SHOWN_ROWS],
        rejects[:SHOWN_ROWS],
        looked,
        notes,
        list(distinct_columns(rows)),
    )


def _guessed(sample: bytes, suffix: str) -> tuple[dict[str, Any], list[str]]:
    """The encoding and the dialect of a text, where they are not the default ones; and notes."""
    encoding = guessed_encoding(sample)
    text = sample.decode(encoding, errors="replace")
    found: dict[str, Any] = {} if encoding == "utf-8-sig" else {"encoding": encoding}
    lines = lines_of(text)
    whole = lines[:-1] if len(sample) >= SAMPLE_BYTES and len(lines) > 1 else lines
    if FORMATS[suffix].options is FixedWidthOptions:
        return {**found, **guessed_widths(whole)}, []
    text = "".join(whole)
    defaults = FORMATS[suffix].options.model_fields
    try:
        dialect = clevercsv.Sniffer().sniff(text[:65_536], verbose=False)
    except Exception:  # it has no name for "I cannot tell"
        return found, []
    if dialect is None:
        return found, []
    for option, value in (
        ("delimiter", _delimiter(dialect.delimiter, lines, suffix)),
        ("quote", dialect.quotechar or defaults["quote"].default),
        ("escape", dialect.escapechar or None),
    ):
        if value != defaults[option].default and (value or option != "delimiter"):
            found[option] = value
    delimiter, quote, escape = (found.get(n, defaults[n].default) for n in _DIALECT)
    is_whole = len(sample) < SAMPLE_BYTES
    more, notes = described(text, delimiter, quote, escape, is_whole)
    return {**found, **more}, notes


def _delimiter(guessed: str, lines: Sequence[str], suffix: str) -> str:
    """What divides fields; empty, which means the default one, where that is another sign.

    A column of names, addresses or times has blanks, at signs and colons in each row: what divides
    fields stands in the header as well.
    """
    header = next((line for line in lines if line.strip()), "")
    if guessed in _USUAL:
        doubled = 2 * guessed
        rows = [line for line in lines if line.strip()]
        if guessed != "\t" and rows and all(_only_doubled(line, guessed) for line in rows):
            return doubled
        return guessed
    if guessed.isalnum() or guessed not in header or (guessed == " " and suffix != ".txt"):
        return ""
    return guessed


def _only_doubled(line: str, sign: str) -> bool:
    """Whether a sign stands in a line in pairs alone."""
    runs = re.findall(rf"{re.escape(sign)}+", line)
    return bool(runs) and all(run == 2 * sign for run in runs)


def guessed_encoding(sample: bytes) -> str:
    """Python's name of an encoding in which a text makes sense."""
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    start = sample[:4096]
    if start.count(0) > len(start) // 4:
        return "utf-16-le" if start[1::2].count(0) >= start[0::2].count(0) else "utf-16-be"
    try:
        sample[: -3 if len(sample) >= SAMPLE_BYTES else None].decode("utf-8")
    except UnicodeDecodeError:
        western = sample.decode("cp1252", errors="replace")
        if {letter for letter in western if not letter.isascii()} <= _WESTERN:
            return "cp1252"  # which is mistaken for Polish or Turkish where there is little text
        best = from_bytes(sample[:65_536]).best()
        return str(best.encoding) if best is not None else "latin-1"
    return "utf-8-sig"


def distinct_columns(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Columns that have a value in each row, and in no two the same."""
    for column in dict.fromkeys(name for row in rows for name in row):
        values = {str(row[column]) for row in rows if row.get(column) not in (None, "")}
        if 1 < len(rows) == len(values):
            yield column


def column_types(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """A type for each column that holds all its values exactly; text where in doubt."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: _type_of(found) for name, found in values.items()}


def _type_of(values: Sequence[Any]) -> str:
    found = [value for value in values if value is not None and value != ""]
    if not found:
        return "VARCHAR"
    if any(isinstance(value, dict | list) for value in found):
        return "JSON"
    if all(isinstance(value, bool) for value in found):
        return "BOOLEAN"
    if all(isinstance(value, int) and not isinstance(value, bool) for value in found):
        return "BIGINT"
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in found):
        return "DOUBLE"
    texts = [value for value in found if isinstance(value, str)]
    if len(texts) < len(found):
        return "VARCHAR"
    if all(map(_WHOLE.fullmatch, texts)):
        return "BIGINT"
    for pattern, type_ in ((_DATE, "DATE"), (_TIMESTAMP, "TIMESTAMP")):
        if all(pattern.fullmatch(text) and _is_moment(text) for text in texts):
            return type_
    matches = [_DECIMAL.fullmatch(text) or _WHOLE.fullmatch(text) for text in texts]
    if all(matches):
        scale = max(len(text.partition(".")[2]) for text in texts)
        digits = max(len(text.lstrip("-").partition(".")[0]) for text in texts)
        if digits + scale <= 38:
            return f"DECIMAL({max(18, digits + scale)},{scale})"
    return "VARCHAR"


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
