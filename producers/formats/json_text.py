"""A window over the text of a large JSON file: filled as it is needed, emptied behind."""

from __future__ import annotations

import codecs
import json
import re
from typing import BinaryIO

from producers.formats.row import UnfinishedFile, UnreadableFile

BLOCK = 1 << 18
MOST_OF_ONE = 8 * 1024 * 1024
"""Characters of one value: a larger one is no row."""
DEEPEST = 100_000
"""Levels: each costs time, and a file that has nothing else would cost minutes."""
_SPACE = re.compile(r"[ \t\n\r]*")
_INSIDE = re.compile(r'["{}\[\]]')
_STRING_END = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[,\]} \t\n\r]")


class Window:
    """A part of a text, and the place in it from which is read.

    Attributes:
        text: What is held.
        at: The place in it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.text = ""
        self.at = 0
        self._stream = stream
        self._ended = False
        self._lines = self._counted = 0  # line ends before that place, which are counted once
        start = stream.read(4)
        # By its BOM, or by where its NULs stand: JSON begins with a character of ASCII.
        encoding = json.detect_encoding(start)
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
        self.text = self._decode(start).removeprefix("\ufeff")

    def more(self, much: bool = False) -> bool:
        """Take in more of the file, and forget what is behind; whether there was any.

        Args:
            much: As much again as is held.
        """
        if self._ended:
            return False
        block = self._stream.read(max(BLOCK, len(self.text) - self.at) if much else BLOCK)
        self._ended = not block
        self.line()
        self.text = self.text[self.at :] + self._decode(block)
        self.at = self._counted = 0
        return not self._ended

    def _decode(self, block: bytes) -> str:
        try:
            return self._decoder.decode(block, not block)
        except UnicodeError:
            raise UnreadableFile(
                "it is not valid text in the encoding in which it begins"
            ) from None

    def next(self) -> str:
        """The next character that is no space, which stays; empty at the end."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, wanted: str) -> str:
        """The next character that is no space, which has to be one of some.

        Raises:
            UnreadableFile: It is another one.
        """
        found = self.next()
        if not found:
            raise self.unfinished()
        if found not in wanted:
            raise self.broken(f"one of {' '.join(wanted)} expected")
        self.at += 1
        return found

    def unfinished(self) -> UnfinishedFile:
        """The text ends too early."""
        return UnfinishedFile(f"it is not JSON: it ends in the middle ({self._place()})")

    def broken(self, what: str) -> UnreadableFile:
        """Something else stands there than JSON has."""
        return UnreadableFile(f"it is not JSON: {what} ({self._place()})")

    def line(self) -> int:
        """The line of the place from which is read, from 1."""
        self._lines += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._lines + 1

    def _place(self) -> str:
        return f"line {self.line()}"

    def skip_value(self) -> tuple[str, bool]:
        """Go behind the value that begins here; its text, cut, and whether it was whole.

        Only strings and brackets are looked at: what stands between them may be anything.
        """
        kept: list[str] = []
        length, depth, start = 0, 0, self.at
        is_string, is_scalar = False, self.text[self.at] not in '"{['
        while True:
            match = _end_of(is_string, is_scalar).search(self.text, self.at)
            cut = match is None or (match.group() == "\\" and match.end() == len(self.text))
            if match is None:
                self.at = len(self.text)
            elif cut or is_scalar:
                self.at = match.start()
            else:
                self.at = match.end()
                depth, is_string = _step(match.group(), depth, is_string)
                self.at += match.group() == "\\"  # and what it escapes
                if depth > DEEPEST:
                    raise self.broken(f"it is nested more than {DEEPEST:,} levels deep")
            done = not cut and depth == 0 and not is_string
            if cut or done:
                kept += [self.text[start : self.at]] if length < MOST_OF_ONE else []
                length += self.at - start
                if done:
                    return "".join(kept)[:MOST_OF_ONE], length <= MOST_OF_ONE
                if not self.more():
                    raise self.unfinished()
                start = self.at


def _end_of(is_string: bool, is_scalar: bool) -> re.Pattern[str]:
    if is_scalar:
        return _SCALAR_END
    return _STRING_END if is_string else _INSIDE


def _step(found: str, depth: int, is_string: bool) -> tuple[int, bool]:
    if is_string:
        return depth, found == "\\"
    if found == '"':
        return depth, True
    return depth + (1 if found in "{[" else -1), False
