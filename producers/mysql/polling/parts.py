"""Parts of a polled table that hold more rows than a cursor can remember one by one.

Of such a part the cursor keeps how many rows were sent and one digest of all of them. Once
`late_seconds` have passed, no row of it can be committed any more: then it is read again, and where
it is not what was sent, all of it is sent. So a late row arrives whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from producers.mysql.canonical_sql import Row

MOST_PARTS = 64
"""Of more, the two oldest become one."""
TO_SEND = -1


@dataclass(frozen=True, slots=True)
class Part:
    """Rows between two places.

    Attributes:
        moment: When it was read, in seconds of the epoch.
        after: The place behind which it begins; None: the beginning of the table.
        until: The place of its last row.
        rows: How many rows were sent; `TO_SEND` of a part that is being sent again.
        digest: Of these rows, in any order; 24 hexadecimal digits.
    """

    moment: float
    after: Row | None
    until: Row
    rows: int
    digest: str

    @classmethod
    def load(cls, plain: dict[str, Any]) -> Part:
        """From what `dump` gave."""
        after = None if plain["after"] is None else tuple(plain["after"])
        until = tuple(plain["until"])
        return cls(plain["moment"], after, until, plain["rows"], plain["digest"])

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "moment": self.moment,
            "after": self.after,
            "until": self.until,
            "rows": self.rows,
            "digest": self.digest,
        }

    def sent_up_to(self, place: Row | None) -> Part:
        """What is left to send of it."""
        return replace(self, after=place, rows=TO_SEND)


def digest_of(digests: Iterable[bytes]) -> str:
    """One digest for rows in any order."""
    return format(combined(0, digests), "024x")


def combined(so_far: int, digests: Iterable[bytes]) -> int:
    """The same, of rows that come one after the other; `format` with 24 digits gives the text."""
    for one in digests:
        so_far ^= int.from_bytes(one)
    return so_far


def bounded(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The parts, of which the oldest are joined while they are too many."""
    while len(parts) > MOST_PARTS:
        first, second, *others = parts
        is_known = TO_SEND not in (first.rows, second.rows)
        both = Part(
            max(first.moment, second.moment),
            first.after,
            second.until,
            first.rows + second.rows if is_known else TO_SEND,
            format(int(first.digest, 16) ^ int(second.digest, 16), "024x"),
        )
        parts = (both, *others)
    return parts
