"""Whether a page is what was asked for, whatever its status says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, BinaryIO

from producers.formats.json import finish, value_at
from producers.formats.json_text import Window
from producers.formats.row import UnreadableFile

_SIGNS: dict[str, Callable[[Any], bool]] = {
    "error": bool,
    "errors": bool,
    "success": lambda said: said is False,
    "ok": lambda said: said is False,
}
"""Of an answer that failed: keys, and whether their value says so."""


def page_problem(section: Callable[[], BinaryIO], records: str | None, is_paged: bool) -> str:
    """Why a page is not what was asked for; empty where it is.

    Args:
        section: Opens the page.
        records: The keys that lead to its records.
        is_paged: Whether they have to be an array.
    """
    try:
        whole = Window(section())
        if whole.next() not in ("[", "{"):
            return _misfit(whole)
        whole.skip_value()
        if whole.next():
            return "not JSON: something follows the value"
        rest = Window(section())
        found = value_at(rest, records)
        if found and records is not None:
            rest.skip_value()
            finish(rest, records)
    except UnreadableFile as error:
        return error.what.removeprefix("it is ").removeprefix("it ")
    if found == "[" and records is not None and _is_empty(section(), records):
        sign = _says_failure(section)
        if sign:
            return f"no record, and its `{sign}` says that it failed"
    if found == "[" or (found == "{" and not is_paged):
        return ""
    at = f" at {records}" if records else ""
    return f"no array of records{at}"


def value_in(section: BinaryIO, path: str) -> tuple[bool, Any]:
    """Whether keys lead to a value, and the value; a null on the way is one as well."""
    try:
        window = Window(section)
        if not value_at(window, path):
            return False, None
        text, _ = window.skip_value()
        return True, json.loads(text)
    except (UnreadableFile, ValueError):
        pass
    above = path.rpartition(".")[0]
    if not above:
        return False, None
    section.seek(0)
    is_there, value = value_in(section, above)
    return is_there and value is None, None


def _is_empty(section: BinaryIO, records: str) -> bool:
    """Whether the array of records has nothing in it."""
    window = Window(section)
    value_at(window, records)
    window.take("[")
    return window.next() == "]"


def _says_failure(section: Callable[[], BinaryIO]) -> str:
    return next((n for n, is_bad in _SIGNS.items() if is_bad(value_in(section(), n)[1])), "")


def _misfit(window: Window) -> str:
    first = window.next()
    if not first:
        return "empty"
    if first == "<":
        return "not JSON, but HTML or XML"
    if window.text.startswith("null", window.at):
        return "null"
    return "not JSON, or no array and no object"
