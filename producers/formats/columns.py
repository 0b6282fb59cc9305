"""Names of columns: those of a header, or given ones; each once, and none empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from producers.formats.row import UnreadableFile

Duplicates = Literal["rename", "reject"]
MOST_COLUMNS = 10_000


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
