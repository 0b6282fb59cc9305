"""Debezium's settings that list columns by regular expressions: which of them match nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

_COLUMN_LISTS = re.compile(
    r"column\.(include|exclude)\.list|column\.(mask|truncate|propagate)\..+|message\.key\.columns"
)


def unknown_columns(
    options: Mapping[str, object], known: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Each setting with an expression in it that no column matches.

    Args:
        options: A source's options.
        known: Columns as `database.table.column`.
    """
    for key, value in options.items():
        if not _COLUMN_LISTS.fullmatch(key):
            continue
        for pattern in _patterns(key, str(value)):
            if not any(_matches(pattern, name) for name in known):
                yield key, pattern


def _patterns(key: str, value: str) -> Iterator[str]:
    if key != "message.key.columns":
        yield from (entry.strip() for entry in re.split(r"(?<!\\),", value) if entry.strip())
        return
    for entry in value.split(";"):
        table, _, columns = entry.strip().rpartition(":")
        yield from (f"{table}.{re.escape(name.strip())}" for name in columns.split(",") if table)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name, re.IGNORECASE) is not None
    except re.error:
        return True  # one of Java's own kind
