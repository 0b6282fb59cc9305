"""What is wrong in the file, in words: its line, the nearest known key, an old key's new name."""

from __future__ import annotations

import difflib
import os
import types
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

Place = tuple[str, ...]
"""The keys that lead to a value."""

_MOVED: Mapping[Place, str] = {
    ("services", "mysql"): "each source names its server: see `connections`",
    ("services", "sftp"): "each source names its server: see `connections`",
    ("services", "api"): "each source names its server: see `connections`",
    ("services", "connect", "mysql_password"): "it is `connections.*.connect_password` now",
    ("consumer", "seal_seconds"): "it is `consumer.seal_max_age_seconds` now",
    ("consumer", "seal_mb"): "it is `consumer.target_file_mb` now",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the known words where none is near."""
    words = list(known)
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(words)}" if words else "; none is known here"


def sentence(text: str) -> str:
    """A text with its stop at the end."""
    return text if text.endswith(("?", ".")) else f"{text}."


def place_of(at: Place, lines: Mapping[Place, int], name: str) -> str:
    """Where a key stands: file and line, or the variable of the environment that set it."""
    for length in range(len(at), 0, -1):
        if at[:length] in lines:
            return f"{name}, line {lines[at[:length]]}"
        variable = "DUCKLAKE_" + "__".join(at[:length]).upper()
        if variable in os.environ:
            return f"the environment, {variable}"
    return f"{name}, line 1"


def explain(
    error: ValidationError,
    model: type[BaseModel],
    prefix: Place,
    lines: Mapping[Place, int],
    name: str,
) -> str:
    """One line for each thing that is wrong; no value is shown, since it may be a secret.

    Args:
        error: What pydantic says.
        model: The model that was validated.
        prefix: The keys that lead to what was validated.
        lines: The line of each key.
        name: The file's name.
    """
    said = []
    for item in error.errors(include_input=False, include_url=False):
        inner = tuple(str(part) for part in item["loc"] if part != "[key]")
        at = prefix + inner
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key" + (
                f"; {_MOVED[at]}" if at in _MOVED else nearest(inner[-1], _keys(model, inner[:-1]))
            )
        elif item["type"] == "missing":
            message = "it is missing"
        key = ".".join(at) or "the file"
        said.append(sentence(f"{place_of(at, lines, name)}: {key}: {message}"))
    return "\n".join(said)


def _keys(model: type[BaseModel], at: Place) -> list[str]:
    """The keys that a model knows at some place in it."""
    found: Any = model
    for part in at:
        found = _inside(found, part)
    return list(found.model_fields) if _is_model(found) else []


def _inside(annotation: Any, part: str) -> Any:
    """The type of what stands under a key."""
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return _plain(field.annotation) if field is not None else None
    if get_origin(annotation) is dict:
        return _plain(get_args(annotation)[1])
    if get_origin(annotation) in (list, tuple):
        return _plain(get_args(annotation)[0])
    return None


def _plain(annotation: Any) -> Any:
    """An annotation without what is said about it, and without `| None`."""
    if hasattr(annotation, "__metadata__"):
        return _plain(annotation.__origin__)
    if get_origin(annotation) in (Union, types.UnionType):
        for option in get_args(annotation):
            if option is not type(None):
                return _plain(option)
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
