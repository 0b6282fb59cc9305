"""Names of columns: those of a header, or given ones; each once, and none empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from producers.formats.row import UnreadableFile

Duplicates = Literal["rename", "reject"]
MOST_COLUMNS = 4_096
"""As many as a table of the lake has: each query over all of them takes seconds."""


def _given(names: list[str]) -> list[str]:
    """Names of columns that are given in place of a header's.

    Raises:
        ValueError: Rows could not be told by them.
    """
    found = [name.strip() for name in names]
    if not all(found):
        raise ValueError("each column needs a name, and there must be one at least")
    if any("\0" in name for name in found):
        raise ValueError("a name has a NUL character")
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ValueError(f"a name stands there twice: {twice[0]}")
    if len(found) > MOST_COLUMNS:
        raise ValueError(f"{len(found):,} names, and {MOST_COLUMNS:,} are the most")
    return found


Names = Annotated[list[str], Field(min_length=1), AfterValidator(_given)]
"""Columns of a file without a header."""


def joined_header(rows: Sequence[Sequence[str]]) -> list[str]:
    """One header of several rows: `Travel` above `Air` makes `Travel Air`, and so to its right.

    A text above others is that of the columns to its right until the next one,
    as far as the rows below have something to say.
    """
    if len(rows) < 2:
        return list(rows[0]) if rows else []
    width = max(map(len, rows))
    parts: list[list[str]] = [[] for _ in range(width)]
    for level, row in enumerate(rows):
        last = ""
        for place in range(width):
            own = row[place].strip() if place < len(row) else ""
            below = any(place < len(r) and r[place].strip() for r in rows[level + 1 :])
            is_new = any(place < len(r) and r[place].strip() for r in rows[:level])
            last = own or (last if below and not is_new else "")
            if last:
                parts[place].append(last)
    return [" ".join(found) for found in parts]


def column_names(header: Sequence[str], duplicates: Duplicates) -> list[str]:
    """The names of a header's columns: an empty one is `column_3`, a second `a` is `a_2`.

    Args:
        header: As it stands in the file.
        duplicates: Whether a name that stands twice gets a number, or the file is refused.

    Raises:
        UnreadableFile: There is no name at all, too many, or one twice where that is refused.
    """
    names = [name.strip() for name in header]
    if not any(names):
        raise UnreadableFile(
            "it has no header line", "For a file without one, list the columns in `names`."
        )
    if len(names) > MOST_COLUMNS:
        raise UnreadableFile(f"it has {len(names):,} columns, and {MOST_COLUMNS:,} are the most")
    if any("\0" in name for name in names):
        raise UnreadableFile(
            "its header has NUL characters: it may be UTF-16",
            "Set `encoding` to utf-16, utf-16-le or utf-16-be.",
        )
    if duplicates == "reject" and len(set(filter(None, names))) < sum(map(bool, names)):
        raise UnreadableFile(
            "its header names a column twice", "`duplicates: rename` numbers the second one."
        )
    taken = set(names)
    found: list[str] = []
    used: set[str] = set()
    for place, name in enumerate(names, 1):
        wanted = name or f"column_{place}"
        made, number = wanted, 1
        while made in used or (made != name and made in taken):
            number += 1
            made = f"{wanted}_{number}"
        used.add(made)
        found.append(made)
    return found
