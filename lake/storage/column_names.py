"""What a field of a record is called as a column, whatever it is called in its source.

Names are unique without regard to case, since DuckDB, PostgreSQL and hive paths compare them so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIVE_COLUMNS = frozenset({"year", "month", "day"})
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def column_name(field: str) -> str:
    """The name of a field's column, where nothing else has it.

    Readers of hive paths would overwrite year, month and day: they get an underscore behind. A
    leading underscore is the lake's own: `field` comes before it. A control character becomes an
    underscore, and a field without a name is called `unnamed`.
    """
    name = _UNPRINTABLE.sub("_", field) or "unnamed"
    if name.lower() in HIVE_COLUMNS:
        name = f"{name}_"
    return f"field{name}" if name.startswith("_") else name


class UniqueNames:
    """Names of which no two are the same but for case.

    Args:
        taken: Those that are there already.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}

    def take(self, name: str) -> str:
        """A name that was not taken: the name itself, or with `_2`, `_3`, … behind it."""
        candidate, number = name, 1
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate.casefold())
        return candidate
