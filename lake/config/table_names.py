"""Tables of MySQL whose name is no name in the lake: each gets one, or says which one it wants.

A key under `tables` is a name in the lake: a topic, folders, a relation. For a source of MySQL
it may also be any name of MySQL: then the name in the lake is derived, and `table` holds the key.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lake.config.settings import MYSQL

LAKE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FOREIGN_CHARACTER = re.compile(r"[^a-z0-9_]")


@dataclass(frozen=True, slots=True)
class WrongName:
    """A key under `tables` that cannot be a name in the lake.

    Attributes:
        at: The keys that lead to it.
        what: What is wrong.
        remedy: What to write.
    """

    at: tuple[str, ...]
    what: str
    remedy: str


def lake_name(table: str) -> str:
    """A name in the lake that is like one of MySQL: orders for `Orders`, t_2020 for `2020`.

    Accents are dropped, letters become lower case, any other character an underscore.
    """
    plain = "".join(
        character
        for character in unicodedata.normalize("NFKD", table)
        if not unicodedata.combining(character)
    )
    name = _FOREIGN_CHARACTER.sub("_", plain.lower())
    return name if LAKE_NAME.fullmatch(name) else f"t_{name}"


def name_tables(sources: Any) -> Iterator[WrongName | tuple[tuple[str, ...], str]]:
    """Give the tables of all sources their names in the lake, in place.

    Args:
        sources: What stands under `sources`, of whatever shape.

    Yields:
        What is wrong, and for each key that was replaced where it stood, and the new one.
    """
    for source, spec in sources.items() if isinstance(sources, dict) else ():
        tables = spec.get("tables") if isinstance(spec, dict) else None
        if not isinstance(tables, dict):
            continue
        at = ("sources", str(source), "tables")
        named: dict[str, Any] = {}
        mine = {key for key in tables if LAKE_NAME.fullmatch(str(key))}
        for key, entry in tables.items():
            name = str(key)
            if key not in mine:
                name = lake_name(name)
                wrong = _wrong(spec.get("type"), (*at, str(key)), entry, name, {*mine, *named})
                if wrong is not None:
                    yield wrong
                    continue
                entry = {**(entry or {}), "table": str(key)}
                yield (*at, str(key)), name
            named[name] = entry
        spec["tables"] = named


def _wrong(
    kind: Any, at: tuple[str, ...], entry: Any, name: str, taken: set[str]
) -> WrongName | None:
    key = at[-1]
    rule = "a table's name in the lake has lower-case letters, digits and _, a letter first"
    if kind not in MYSQL:
        return WrongName(at, rule, f"Call it {_free(name, taken)}.")
    if isinstance(entry, dict) and "table" in entry:
        return WrongName(at, rule, f"Call it {_free(name, taken)}; `table` has the name in MySQL.")
    if name in taken:
        what = f"its name in the lake would be {name}, which is the one of another table"
        return WrongName(at, what, f"Write `{_free(name, taken)}: {{table: {quoted(key)}}}`.")
    return None


def _free(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def quoted(name: str) -> str:
    """A name as a string of YAML."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
