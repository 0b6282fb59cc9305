"""Names that PostgreSQL takes: at most 63 bytes, and none of its own columns.

PostgreSQL would cut a longer name without a word, and two long names of one beginning would be one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

NAME_BYTES = 63
"""PostgreSQL's limit, in bytes of UTF-8."""
POSTGRES_COLUMNS = frozenset({"tableoid", "oid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""System columns of every table; no column of a user may have their names."""
_DIGEST_CHARACTERS = 8


def fitting(name: str) -> str:
    """A name of at most 63 bytes: the name itself, or its beginning, `_`, and 8 digits of its hash.

    The hash (SHA-256) is of the whole name, so that two names with the same beginning differ.
    """
    encoded = name.encode()
    if len(encoded) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:_DIGEST_CHARACTERS]
    kept = encoded[: NAME_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{kept}_{digest}"


def postgres_columns(names: Iterable[str]) -> dict[str, str]:
    """The name in PostgreSQL of each column of a table.

    A system column's name gets an underscore behind it, a name over 63 bytes is shortened
    (`fitting`). If another column has that name, `_2`, `_3`, … follow; columns are named in their
    order, so that one that is added later renames none.

    Args:
        names: The columns in the lake, in order, unique without regard to case.
    """
    ordered = list(names)
    named: dict[str, str] = {}
    taken: set[str] = set()
    for name in ordered:
        wanted = fitting(f"{name}_" if name in POSTGRES_COLUMNS else name)
        candidate, number = wanted, 1
        while candidate in taken:
            number += 1
            candidate = fitting(f"{wanted}_{number}")
        taken.add(candidate)
        named[name] = candidate
    return named
