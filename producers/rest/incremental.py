"""Only what is new: rows in the order of their cursor, each batch with how far it goes.

The order of the answer does not matter: rows are sorted on the disk before the first one is sent.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import orjson
import structlog

from lake.errors import SourceError
from lake.records import Record, Reject
from producers.base import BATCH_ROWS, Batch
from producers.rest.options import Incremental
from producers.rest.order import KINDS, Order, order_of
from producers.rest.pages import Walk
from producers.rest.rows import GoodRow, Rejected, RowForm
from producers.rest.snapshot import BATCH_BYTES
from producers.rest.window import Window

log = structlog.get_logger()
MOST_AT_ONCE = 5 * BATCH_ROWS
"""Rows of one value of the cursor that go into one transaction."""
MOST_REJECTED = 1000
"""Digests of rejected records that are remembered, so that they are not rejected at each poll."""


@dataclass(frozen=True, slots=True)
class _Entry:
    order: Order
    value: Any
    start: int
    size: int
    digest: str
    about: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Found:
    """What an answer has that was not sent yet.

    Attributes:
        entries: Rows, in order.
        rejects: Records that are none.
        rejected: The digests of all of these, also of those that were rejected before.
        ahead: Rows beyond the cursor's value that were sent: of a value that has very many.
    """

    entries: list[_Entry]
    rejects: list[Reject]
    rejected: list[str]
    ahead: Mapping[Order, Counter[str]]


class _Reached:
    """How far the rows go that have been taken: a value, and what was sent of it."""

    def __init__(self, cursor: Mapping[str, Any], ahead: Mapping[Order, Counter[str]]) -> None:
        self.value: Any = cursor.get("value")
        self.order = order_of(self.value)
        self._ahead = ahead
        self.sent: Counter[str] = Counter(cursor.get("seen", {}))
        for sent in ahead.values():
            self.sent -= sent
        self._before: Any = self.value
        self._sent_before: Counter[str] = Counter()

    def begins_group(self, entry: _Entry) -> bool:
        """Whether a row has a greater value than the one before."""
        return self.order is None or entry.order > self.order

    def take(self, entry: _Entry) -> None:
        """One more row."""
        if self.begins_group(entry):
            self._before, self._sent_before = self.value, self.sent
            self.value, self.order = entry.value, entry.order
            self.sent = Counter(self._ahead.get(entry.order, {}))
        self.sent[entry.digest] += 1

    def dump(self, whole_group: bool) -> dict[str, Any]:
        """As a cursor: of the last value, or where not all of it was sent, of the one before."""
        if whole_group:
            return {"value": self.value, "seen": dict(self.sent)}
        return {"value": self._before, "seen": dict(self._sent_before + self.sent)}


def incremental_batches(
    form: RowForm, unit: str, walk: Walk, spec: Incremental, known: Mapping[str, Any]
) -> Iterator[Batch]:
    """The rows of an answer that are not in Kafka yet.

    Args:
        form: The table.
        unit: The name of the cursor.
        walk: The answer to "what is new since the cursor's value".
        spec: The cursor's column, and how late its rows may come.
        known: The cursor.

    Raises:
        SourceError: The column's values cannot be compared.
    """
    with cast(BinaryIO, tempfile.TemporaryFile()) as spool:
        window = None if spec.lag is None else Window(known, spec.lag, spec.start)
        found = _sorted(form, walk, spec.cursor, known, window, spool)
        entries, rejects, rejected = found.entries, found.rejects, found.rejected
        if not entries and not rejects:
            return
        reached, rows = window or _Reached(known, found.ahead), int(known.get("rows", 0))
        records: list[Record] = []
        held = 0
        for entry in entries:
            full = len(records) >= BATCH_ROWS or held >= BATCH_BYTES
            begins = reached.begins_group(entry)
            if full and (begins or len(records) >= MOST_AT_ONCE):
                rows += len(records)
                cursor = {**reached.dump(begins), "rows": rows, "rejected": rejected}
                yield Batch(form.table, unit, cursor, records, rejects)
                records, rejects, held = [], [], 0
            reached.take(entry)
            records.append(_record(form, entry, spool))
            held += entry.size
        cursor = {**reached.dump(True), "rows": rows + len(records), "rejected": rejected}
        yield Batch(form.table, unit, cursor, records, rejects)


def _sorted(
    form: RowForm,
    walk: Walk,
    column: str,
    known: Mapping[str, Any],
    window: Window | None,
    spool: BinaryIO,
) -> _Found:
    """Write new rows to the spool, and sort their places."""
    floor = order_of(known.get("value")) if window is None else window.floor
    seen = Counter(known.get("seen", {}) if window is None else window.unsent())
    before = set(known.get("rejected", ()))
    entries: list[_Entry] = []
    rejects: dict[str, Reject] = {}
    ahead: dict[Order, Counter[str]] = {}
    kind = floor[0] if floor is not None else None
    at = skipped = 0
    for row in form.read(walk):
        payload = row.encoded if isinstance(row, GoodRow) else row.payload
        digest = _digest(payload)
        if not isinstance(row, GoodRow):
            rejects[digest] = form.reject(row)
            continue
        order = order_of(row.values.get(column))
        if order is None or kind not in (None, order[0]):
            reason = _why_not(row.about["url"], column, order, kind)
            rejects[digest] = form.reject(Rejected(payload, reason, row.about))
        elif floor is not None and order < floor:
            skipped += 1
        elif seen[digest]:
            seen[digest] -= 1
            if order != floor:
                ahead.setdefault(order, Counter())[digest] += 1
        else:
            spool.write(payload)
            size = len(payload)
            entries.append(_Entry(order, row.values[column], at, size, digest, row.about))
            at += size
    if skipped and entries:
        _tell_skipped(form.table, skipped)
    usual = _usual_kind(form.table, column, entries)
    for entry in entries:
        if entry.order[0] != usual:
            reason = _why_not(entry.about["url"], column, entry.order, usual)
            odd = Rejected(_payload(entry, spool), reason, entry.about)
            rejects[entry.digest] = form.reject(odd)
    entries = [entry for entry in entries if entry.order[0] == usual]
    entries.sort(key=lambda entry: (entry.order, entry.start))
    new = [reject for digest, reject in rejects.items() if digest not in before]
    return _Found(entries, new, list(rejects)[:MOST_REJECTED], ahead)


def _usual_kind(table: str, column: str, entries: list[_Entry]) -> int | None:
    """The kind that most values of a cursor have; what is of another one has no place in order.

    Raises:
        SourceError: No kind is that of most.
    """
    counts = Counter(entry.order[0] for entry in entries).most_common()
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        found = " and ".join(sorted(KINDS[kind] for kind, _ in counts))
        raise SourceError(
            f"Table {table}: {column} has {found}, which have no common order.",
            "Name another column in `incremental.cursor`.",
        )
    return counts[0][0] if counts else None


def _why_not(url: str, column: str, order: Order | None, kind: int | None) -> str:
    if order is None or kind is None:
        return f"{url}: a record has no {column}, by which it is asked for"
    return f"{url}: its {column} is among {KINDS[order[0]]}, and that of the others {KINDS[kind]}"


def _digest(payload: bytes) -> str:
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


def _payload(entry: _Entry, spool: BinaryIO) -> bytes:
    spool.seek(entry.start)
    return spool.read(entry.size)


def _tell_skipped(table: str, count: int) -> None:
    log.warning(
        "rows_before_cursor",
        message="The API answered rows older than it was asked for; they count as sent.",
        table=table,
        rows=count,
    )


def _record(form: RowForm, entry: _Entry, spool: BinaryIO) -> Record:
    encoded = _payload(entry, spool)
    return form.record(GoodRow(orjson.loads(encoded), encoded, entry.about))
