"""How far a polled table has been read: stored in Kafka together with the rows.

Rows are read in the order of watermark and key. A row may be committed late, with a watermark below
one that was read already: its transaction was open. So what was read within the last `late_seconds`
is read again each time, and a digest of each of its rows says which of them were sent as they are.
What is older is settled: nothing below it is expected any more. Where these are too many rows, the
older ones become a part (`parts.py`), which is read once more when it is settled.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lake.errors import SourceError
from lake.storage.canonical import SourceColumn
from producers.mysql.canonical_sql import Row
from producers.mysql.polling.parts import Part, bounded, digest_of
from producers.mysql.polling.reader import Chunk, is_temporal

FILE = "poll.000001"
"""Stands where the rows of a connector have the name of a binlog."""
MOST_UNSETTLED = 100_000
"""Rows whose digests a cursor may hold; more become a part."""
FIRST_UNSETTLED = 10_000
"""The same during the first reading, which writes its cursor with every chunk."""
_DIGEST_BYTES = 12
_MARKS = 16


def digest(encoded: bytes) -> bytes:
    """What a row's content is known by."""
    return hashlib.blake2b(encoded, digest_size=_DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Again:
    """A table that is being read again, by its key.

    Attributes:
        id: Of the request.
        begun: The number of the cursor at which it began.
        after: The key of the last row that was read.
        rows: How many were read.
    """

    id: str
    begun: int
    after: tuple[str | None, ...] | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class PollCursor:
    """The cursor of one table.

    Attributes:
        number: Grows with every batch; stands where other rows have their place in the binlog.
        moment: The server's clock at the last batch, in milliseconds; it never goes back.
        at: Everything up to this place is settled; None at the beginning.
        seen: Digests of rows behind it that were sent.
        marks: (moment in seconds, watermark): what was the newest watermark at some moments.
        read_once: Whether the first reading has come to its end.
        definition: The digest of the table's definition that was announced last.
        columns: The names of its columns.
        order: The names of the columns of `at`, the watermark first.
        doubt: Why rows may differ from MySQL's, a key of `states.DOUBTS`; empty: nothing is known
            against them.
        again: What is being read again.
        served: The request that was served last.
        parts: What is to be compared with what was sent, the oldest first.
    """

    number: int = 0
    moment: int = 0
    at: Row | None = None
    seen: frozenset[bytes] = frozenset()
    marks: tuple[tuple[float, str], ...] = ()
    read_once: bool = False
    definition: str = ""
    columns: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    doubt: str = ""
    again: Again | None = None
    served: str = ""
    parts: tuple[Part, ...] = ()

    @classmethod
    def load(cls, plain: Mapping[str, Any]) -> PollCursor:
        """From what `dump` gave; a new one from nothing."""
        if not plain:
            return cls()
        packed = base64.b64decode(plain["seen"])
        again = plain.get("again")
        return cls(
            number=plain["number"],
            moment=plain["moment"],
            at=None if plain["at"] is None else tuple(plain["at"]),
            seen=frozenset(
                packed[i : i + _DIGEST_BYTES] for i in range(0, len(packed), _DIGEST_BYTES)
            ),
            marks=tuple((moment, mark) for moment, mark in plain["marks"]),
            read_once=plain["read_once"],
            definition=plain["definition"],
            columns=tuple(plain["columns"]),
            order=tuple(plain["order"]),
            doubt=plain["doubt"],
            again=(
                None
                if again is None
                else Again(
                    again["id"],
                    again["begun"],
                    None if again["after"] is None else tuple(again["after"]),
                    again["rows"],
                )
            ),
            served=plain["served"],
            parts=tuple(Part.load(part) for part in plain.get("parts", ())),
        )

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        again = self.again
        return {
            "number": self.number,
            "moment": self.moment,
            "at": self.at,
            "seen": base64.b64encode(b"".join(sorted(self.seen))).decode(),
            "marks": self.marks,
            "read_once": self.read_once,
            "definition": self.definition,
            "columns": self.columns,
            "order": self.order,
            "doubt": self.doubt,
            "again": (
                None
                if again is None
                else {
                    "id": again.id,
                    "begun": again.begun,
                    "after": again.after,
                    "rows": again.rows,
                }
            ),
            "served": self.served,
            "parts": [part.dump() for part in self.parts],
        }

    def advanced(self, moment: int, **changes: Any) -> PollCursor:
        """The cursor of the next batch."""
        return replace(self, number=self.number + 1, moment=max(self.moment, moment), **changes)


@dataclass(slots=True)
class Window:
    """The part of a table that one poll reads, and what it finds there.

    Args:
        cursor: Where it begins.
        watermark: The column.
        late_seconds: For so long a row may be late.
        now: The server's clock as it begins, in seconds.
    """

    cursor: PollCursor
    watermark: SourceColumn
    late_seconds: float
    now: float
    at: Row | None = None
    newest: str | None = None
    known: set[bytes] = field(default_factory=set)
    met: set[bytes] = field(default_factory=set)
    to_come: set[bytes] = field(default_factory=set)
    last: Row | None = None
    parts: tuple[Part, ...] = ()
    boundary: str | None = None

    def __post_init__(self) -> None:
        self.at = self.cursor.at
        self.known = set(self.cursor.seen)
        self.parts = self.cursor.parts
        old = [mark for moment, mark in self.cursor.marks if self._is_old(moment)]
        self.boundary = max(old, key=self._order) if old else None

    def take(self, chunk: Chunk, encoded: Sequence[bytes]) -> list[int]:
        """Note the rows of a chunk; the numbers of those that are new.

        Args:
            chunk: The rows.
            encoded: The value of each, as JSON.

        Raises:
            SourceError: Too many rows have a watermark to come.
        """
        new = []
        for number, (row, text) in enumerate(zip(chunk.rows, encoded, strict=True)):
            mark, found = str(row.place[0]), digest(text)
            if found not in self.known:
                new.append(number)
            if self._is_to_come(mark, chunk):
                self.to_come.add(found)
                continue
            self.newest, self.last = mark, row.place
            if self._is_settled(mark):
                self.at = row.place
                self.known.discard(found)
            else:
                self.met.add(found)
        if len(self.met) > (MOST_UNSETTLED if self.cursor.read_once else FIRST_UNSETTLED):
            self._part(chunk)
        if len(self.to_come) > MOST_UNSETTLED:  # rows would be missed behind them
            raise SourceError(
                f"More than {MOST_UNSETTLED:,} rows have a {self.watermark.name} that is still to"
                " come.",
                "Set it to the moment at which the row was changed: they hide what is new.",
            )
        return new

    def unfinished(self) -> dict[str, Any]:
        """The changes of the cursor, while rows are left to read."""
        seen = frozenset(self.known | self.met | self.to_come)
        return {"at": self.at, "seen": seen, "parts": self.parts}

    def finished(self, now: float) -> dict[str, Any]:
        """The changes of the cursor, once all rows were read.

        Args:
            now: The server's clock as the last ones were read, in seconds.
        """
        self.now = now
        seen = frozenset(self.met | self.to_come)
        changes = {"at": self.at, "seen": seen, "parts": self.parts}
        return {**changes, "marks": self._marks(), "read_once": True}

    def _part(self, chunk: Chunk) -> None:
        """Make a part of all rows that were met; the next ones are read from there on."""
        assert self.last is not None, "there are some"
        part = Part(chunk.moment / 1000, self.at, self.last, len(self.met), digest_of(self.met))
        self.parts = bounded((*self.parts, part))
        self.at = self.last
        self.known -= self.met
        self.met.clear()

    def _marks(self) -> tuple[tuple[float, str], ...]:
        """Those that still decide something: the newest of the old ones, and all younger ones."""
        marks = list(self.cursor.marks)
        apart = self.late_seconds / _MARKS
        if self.newest is not None and (not marks or self.now - marks[-1][0] >= apart):
            marks.append((self.now, self.newest))
        old = [mark for mark in marks if self._is_old(mark[0])]
        return (*old[-1:], *(mark for mark in marks if not self._is_old(mark[0])))

    def _is_old(self, moment: float) -> bool:
        return self.now - moment >= self.late_seconds

    def _is_settled(self, mark: str) -> bool:
        return self.boundary is not None and bool(self._order(mark) <= self._order(self.boundary))

    def _is_to_come(self, mark: str, chunk: Chunk) -> bool:
        """Whether it is later than the server's clock: rows would be missed behind it."""
        if not is_temporal(self.watermark):
            return False
        return mark > (chunk.utc if self.watermark.data_type == "timestamp" else chunk.latest)

    def _order(self, mark: str) -> Any:
        return mark if is_temporal(self.watermark) else int(mark)
