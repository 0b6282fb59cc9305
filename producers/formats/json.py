"""JSON: an array of objects, objects one after the other, or one; nested values stay as they are.

The file is read by the piece: an element that is broken costs itself, and no number is rounded.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from pydantic import field_validator

from producers.formats.file_options import FileOptions
from producers.formats.json_text import MOST_OF_ONE, Window
from producers.formats.json_values import DECODER, bad_row, parsed, reason_of, row_of
from producers.formats.lines import JOINED, Lines, beginning, undecodable
from producers.formats.row import BadRow, Row, UnreadableFile

_NEAR = 16
"""Characters from the end of what is held: what is wrong there may only be cut off."""


class JsonOptions(FileOptions):
    """Where the records are.

    Attributes:
        path: The keys that lead to the array, or to the one object: `data.items`.
    """

    path: str | None = None

    @field_validator("path")
    @classmethod
    def _has_keys(cls, path: str | None) -> str | None:
        if path is not None and not all(path.split(".")):
            raise ValueError("write keys and dots, such as data.items")
        return path


class JsonLinesOptions(FileOptions):
    """One object a line has no options of its own."""


def read(stream: BinaryIO, options: JsonOptions) -> Iterator[Row | BadRow]:
    """Read the objects of a file.

    Raises:
        UnreadableFile: It is not JSON, or has nothing at the path.
    """
    window = Window(stream)
    if options.path is not None:
        _go_to(window, options.path)
        yield from _records(window, True)
        finish(window, options.path)
    else:
        yield from _records(window, False)


def finish(window: Window, path: str) -> None:
    """Read what follows the value at a path: nothing may be cut off, or stand there once more.

    Args:
        window: The text, behind that value.
        path: The keys that led to it.

    Raises:
        UnreadableFile: The text ends in the middle, has the path twice, or something follows it.
    """
    for key in reversed(path.split(".")):
        while window.take(",}") == ",":
            if window.next() != '"':
                raise window.broken("a key expected") if window.next() else window.unfinished()
            name, _ = window.skip_value()
            if _key(name) == key:
                raise UnreadableFile(f"it has {path} twice")
            window.take(":")
            if not window.next():
                raise window.unfinished()
            window.skip_value()
    if window.next():
        raise window.broken("something follows the value")


def _records(window: Window, is_within: bool) -> Iterator[Row | BadRow]:
    if window.next() != "[":
        yield from _in_a_row(window, not is_within)
        return
    window.at += 1
    number = 0
    if window.next() == "]":
        window.at += 1
    else:
        while True:
            window.next()
            number += 1
            yield _element(window, number)
            if window.take(",]") == "]":
                break
    if not is_within and window.next():
        raise window.broken("something follows the array")


def value_at(stream: BinaryIO | Window, path: str | None) -> str:
    """The first character of the value to which keys lead; empty where there is none.

    Args:
        stream: The text; a window stands at the value then.
        path: The keys; None for the whole text.

    Raises:
        UnreadableFile: It is not JSON as far as that, or has nothing there.
    """
    window = stream if isinstance(stream, Window) else Window(stream)
    if path is not None:
        _go_to(window, path)
    return window.next()


def read_lines(stream: BinaryIO, options: JsonLinesOptions) -> Iterator[Row | BadRow]:
    """Read one object a line, in the encoding in which it begins; a broken line costs itself.

    Raises:
        UnreadableFile: It is not of that encoding at all.
    """
    encoding = json.detect_encoding(beginning(stream, 4))
    lines = Lines(stream, "utf-8-sig" if encoding == "utf-8" else encoding)
    try:
        number = 0
        while True:
            lines.taken.clear()
            try:
                line = next(lines, None)
            except csv.Error as error:
                number += 1
                yield BadRow(number, lines.raw(), str(error), lines.line)
                continue
            if line is None:
                return
            if line.startswith("\ufeff"):
                number += 1
                yield BadRow(number, lines.raw(), JOINED, lines.line)
            elif line.strip():
                number += 1
                yield parsed(number, line.rstrip("\r\n"), lines.line)
    except UnicodeError as error:
        raise undecodable(lines.encoding, error) from None
    finally:
        lines.leave()


def _in_a_row(window: Window, is_document: bool) -> Iterator[Row | BadRow]:
    """One object, or several with nothing but space between them."""
    if not window.next():
        raise window.unfinished()
    number = 0
    while window.next():
        if number and window.next() not in "{[":
            raise window.broken("something follows the value")
        number += 1
        yield _element(window, number)
        if not is_document:
            return


def _go_to(window: Window, path: str) -> None:
    for key in path.split("."):
        if window.next() != "{":
            raise UnreadableFile(f"it has no {path}", "Set `path` to the keys of the records.")
        window.take("{")
        while True:
            if window.next() == "}":
                raise UnreadableFile(f"it has no {path}", "Set `path` to the keys of the records.")
            if window.next() != '"':
                raise window.broken("a key expected") if window.next() else window.unfinished()
            name, _ = window.skip_value()
            window.take(":")
            window.next()
            if _key(name) == key:
                break
            window.skip_value()
            if window.take(",}") == "}":
                raise UnreadableFile(f"it has no {path}", "Set `path` to the keys of the records.")
    if not window.next():
        raise window.unfinished()


def _key(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _element(window: Window, number: int) -> Row | BadRow:
    """The value that begins here, and the place behind it."""
    if not window.next():
        raise window.unfinished()
    if window.next() in ",]}:":
        raise window.broken("a value expected")
    line = window.line()
    while True:
        try:
            value, end = DECODER.raw_decode(window.text, window.at)
        except (ValueError, RecursionError) as error:
            if _may_be_cut(error, window) and window.more(much=True):
                continue
            text, _ = window.skip_value()
            return bad_row(number, text, _reason(error, text), line)
        if end == len(window.text) and window.more():
            continue  # a number may go on
        text = window.text[window.at : end]
        window.at = end
        if len(text) > MOST_OF_ONE:
            return bad_row(number, text[:MOST_OF_ONE], _reason(None, text), line)
        return row_of(number, value, text, line)


def _may_be_cut(error: Exception, window: Window) -> bool:
    if not isinstance(error, json.JSONDecodeError) or len(window.text) - window.at > MOST_OF_ONE:
        return False
    return error.msg.startswith("Unterminated") or error.pos >= len(window.text) - _NEAR


def _reason(error: Exception | None, text: str) -> str:
    if len(text) >= MOST_OF_ONE or error is None:
        return f"it is longer than {MOST_OF_ONE:,} characters"
    return reason_of(error)
