"""The lines of a text file, of bounded length, with the bytes of the row that they make."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from producers.formats.row import UnreadableFile

MAX_CHARACTERS = 4 * 1024 * 1024
"""Of one row, over all its lines: what is beyond is no row, and memory stays bounded."""
_NO_LETTER = re.compile("[\ud800-\udfff]")
_SEPARATOR = re.compile(r"\ufeff?sep=(\W{1,20}?)\s*", re.IGNORECASE)
JOINED = "it begins with a byte order mark: files were joined here"
STAND_IN = "\ue000"
"""Stands for a delimiter of several characters: a character that nobody assigned."""


_NO_TEXTS = {"idna", "punycode", "undefined"}
"""Names of encodings in which no file is written, but host names."""


def check_encoding(encoding: str) -> str:
    """An encoding that Python knows.

    Raises:
        ValueError: It knows none of that name.
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding).detach()
        is_of_texts = codecs.lookup(encoding).name not in _NO_TEXTS
    except (LookupError, ValueError):
        is_of_texts = False
    if not is_of_texts:
        raise ValueError(f"Python knows no text encoding {encoding!r}")
    return encoding


_MARKED = {
    "utf-16": ((codecs.BOM_UTF16_BE, "utf-16-be"), (b"", "utf-16-le")),
    "utf-32": ((codecs.BOM_UTF32_BE, "utf-32-be"), (b"", "utf-32-le")),
    "utf-8-sig": ((b"", "utf-8"),),
}
"""Encodings whose encoder would write a byte order mark of its own, by the mark of the file."""


def unmarked(encoding: str, start: bytes) -> str:
    """The encoding of what stands behind the byte order mark of a file.

    Args:
        encoding: Python's name of the file's encoding.
        start: The first bytes of the file.
    """
    name = codecs.lookup(encoding).name
    for mark, plain in _MARKED.get(name, ()):
        if start.startswith(mark):
            return plain
    return name


_OTHER_TEXTS = (
    ("<!doctype html", "HTML"),
    ("<html", "HTML"),
    ("<?xml", "XML"),
    ('{"', "JSON"),
    ('[{"', "JSON"),
    ("{\\rtf", "RTF"),
)
_OTHER_BYTES = (
    (b"%PDF-", "PDF"),
    (b"PK\x03\x04", "a ZIP or a workbook"),
    (b"PAR1", "Parquet"),
    (b"\x1f\x8b", "packed by gzip"),
    (b"\xd0\xcf\x11\xe0", "an old workbook"),
)


def undecodable(encoding: str, error: UnicodeError) -> UnreadableFile:
    """What the error of a decoder means; its message may quote the file."""
    if "BOM" in str(error):
        return UnreadableFile(
            f"it has no byte order mark, which {encoding} needs",
            f"Set `encoding` to {encoding}-le or {encoding}-be.",
        )
    reason = error.reason if isinstance(error, UnicodeDecodeError) else "a broken sequence"
    return UnreadableFile(f"it is not valid {encoding}: {reason}", "Set `encoding`.")


def beginning(stream: BinaryIO, size: int) -> bytes:
    """The first bytes of a file, which stays where it is."""
    if hasattr(stream, "peek"):
        return bytes(stream.peek(size)[:size])
    at = stream.tell()
    start = stream.read(size)
    stream.seek(at)
    return start


class Lines:
    """The lines of a file; knows those of the current row, and takes all but the first back.

    Args:
        stream: The file.
        encoding: Python's name of its encoding.
        comment: What a line begins with that is none, where a row could begin.
        several: A delimiter of several characters, for which STAND_IN stands in what is handed out.

    Attributes:
        taken: The lines of the current row.
        line: The number of the first of them, from 1, as an editor counts.
    """

    def __init__(
        self, stream: BinaryIO, encoding: str, comment: str | None = None, several: str = ""
    ) -> None:
        self.encoding = encoding
        self._plain = unmarked(encoding, beginning(stream, 4))
        # Undecodable bytes are carried along, so that they cost their own row and no other.
        self._text = io.TextIOWrapper(
            stream, encoding=encoding, errors="surrogateescape", newline=""
        )
        self._comment = comment
        self._several = several
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.line = 0
        self._letters = 0
        self._read = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        taken = self.taken
        line = self._again.popleft() if self._again else self._text.readline(MAX_CHARACTERS)
        self._read += 1
        if not taken:
            self._letters = 0
            if self._comment is not None:
                while line.startswith(self._comment):
                    self._drop_rest(line)
                    again = self._again
                    line = again.popleft() if again else self._text.readline(MAX_CHARACTERS)
                    self._read += 1
            self.line = self._read
        if not line:
            self._read -= 1
            raise StopIteration
        taken.append(line)
        self._letters += len(line)
        if self._letters >= MAX_CHARACTERS:
            self._skip_to_its_end()
            raise csv.Error(
                f"it is longer than {MAX_CHARACTERS:,} characters, or a quote is not closed"
            )
        if self._several:
            if STAND_IN in line:
                raise csv.Error(f"it has the character U+{ord(STAND_IN):04X}, which is reserved")
            return line.replace(self._several, STAND_IN)
        return line

    def skip(self, lines: int) -> None:
        """Leave lines out."""
        for _ in range(lines):
            self._drop_rest(self._text.readline(MAX_CHARACTERS))
            self._read += 1

    def skip_separator(self, delimiter: str) -> None:
        """Leave out a line `sep=;`, with which Excel is told the delimiter.

        Raises:
            UnreadableFile: It names another delimiter.
        """
        line = self._again.popleft() if self._again else self._text.readline(MAX_CHARACTERS)
        found = _SEPARATOR.fullmatch(line)
        if found is None:
            self._again.appendleft(line)
        elif found[1] != delimiter:
            raise UnreadableFile(
                f"its first line says that its delimiter is {found[1]!r}", "Set `delimiter`."
            )
        else:
            self._read += 1

    def _drop_rest(self, line: str) -> None:
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(MAX_CHARACTERS)

    def _skip_to_its_end(self) -> None:
        if self.taken[-1].endswith(("\n", "\r")):
            return
        self.taken[-1] += "\n"  # it ends here, also where it is read a second time
        self._drop_rest(self._text.readline(MAX_CHARACTERS))

    def leave(self) -> None:
        """Let go of the stream without closing it: it is the caller's."""
        self._text.detach()

    def give_back(self) -> bytes:
        """Put all lines of this row but the first back; the first one's bytes."""
        first, *rest = self.taken or [""]
        self._again.extendleft(reversed(rest))
        self._read -= len(rest)
        self.taken[:] = [first]
        return self.raw()

    def raw(self) -> bytes:
        """The bytes of this row as they stand in the file."""
        text = "".join(self.taken).rstrip("\r\n")
        return text.encode(self._plain, errors="surrogateescape")

    def refuse_other_formats(self, of_rows: bool = False) -> None:
        """Refuse a header that is the first line of something else, such as the page of an error.

        Of one line it would be a file without rows, which empties the table.

        Args:
            of_rows: Whether it is a row, in a file without a header; a row may be JSON.

        Raises:
            UnreadableFile: It is.
        """
        start = "".join(self.taken).removeprefix("\ufeff").lstrip()[:20].lower()
        content = self.raw()[:8]
        found = [name for sign, name in _OTHER_TEXTS if start.startswith(sign)]
        found = [name for name in found if not (of_rows and name == "JSON")]
        found += [name for sign, name in _OTHER_BYTES if content.startswith(sign)]
        if found:
            raise UnreadableFile(
                f"it is {found[0]}, and no delimited text", "Have it sent as delimited text."
            )

    def problem(self) -> str:
        """Why this row's text cannot be taken; empty where it can."""
        for line in self.taken:
            if not line.isascii() and _NO_LETTER.search(line):
                return f"it is not valid {self.encoding}"
        if self.line > 1 and self.taken[0].startswith("\ufeff"):
            return JOINED
        return ""
