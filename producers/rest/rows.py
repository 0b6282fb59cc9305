"""Records of an API as rows: exact, with their key, and one that is none costs itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import structlog

from lake.config import Table
from lake.records import Record, Reject, kept_json
from producers.base import REJECT_BYTES, record_key
from producers.formats.row import ROW_BYTES, BadRow, Row
from producers.rest.pages import Page, Walk

log = structlog.get_logger()
Keep = Callable[[Mapping[str, Any]], bool]
_OF_ERRORS = frozenset(
    {"message", "error", "errors", "detail", "details", "status", "code", "title", "type"}
    | {"error_description", "statuscode", "success", "ok", "result", "path", "timestamp", "reason"}
)


class GoodRow(NamedTuple):
    """A record with its JSON, and where it stood."""

    values: Mapping[str, Any]
    encoded: bytes
    about: dict[str, Any]


class Rejected(NamedTuple):
    """A record that is none."""

    payload: bytes
    reason: str
    about: dict[str, Any]


class _Shifted:
    """Records that come again on the next page, since others were inserted before them meanwhile.

    Only the page before is remembered, and only a record that is the same in all its columns is
    taken for one: in a table with a key there is none twice.
    """

    def __init__(self, table: str, has_key: bool) -> None:
        self._table = table
        self._has_key = has_key
        self._number = 0
        self._before: set[bytes] = set()
        self._current: set[bytes] = set()
        self._said = False

    def repeats(self, number: int, encoded: bytes) -> bool:
        """Whether a record stood on the page before."""
        if not self._has_key:
            return False
        if number != self._number:
            self._number, self._before, self._current = number, self._current, set()
        digest = hashlib.blake2b(encoded, digest_size=16).digest()
        self._current.add(digest)
        if digest not in self._before:
            return False
        if not self._said:
            self._said = True
            log.warning(
                "pages_shifted",
                message="Records of a page came again on the next one and are sent once: rows were"
                " inserted while the pages were read.",
                table=self._table,
                page=number,
            )
        return True


@dataclass(frozen=True, slots=True)
class RowForm:
    """What a table's records are.

    Attributes:
        table: Its name.
        spec: Its section.
        paged: Whether rows tell the page on which they stood.
    """

    table: str
    spec: Table
    paged: bool

    def read(self, walk: Walk, keep: Keep | None = None) -> Iterator[GoodRow | Rejected]:
        """The records of an answer.

        Args:
            walk: The answer.
            keep: Whether a record is wanted; all by default.
        """
        fetched_at = datetime.now(UTC).isoformat()
        shifted = _Shifted(self.table, self.paged and bool(self.spec.key))
        for number, page, row in walk.rows():
            about: dict[str, Any] = {"url": page.url, "status": 200, "fetched_at": fetched_at}
            if self.paged:
                about["page"] = number
            checked = self._checked(row)
            if isinstance(checked, BadRow):
                reason = f"{page.url}, item {row.number}: {checked.reason}"
                yield Rejected(checked.payload[:REJECT_BYTES], reason, about)
            elif shifted.repeats(number, checked[1]):
                continue
            elif keep is None or keep(checked[0]):
                yield GoodRow(*checked, about)

    def _checked(self, row: Row | BadRow) -> tuple[Mapping[str, Any], bytes] | BadRow:
        if isinstance(row, BadRow):
            return row
        number, values, _ = row
        try:
            encoded = kept_json(values)
        except TypeError:
            text = repr(dict(values)).encode(errors="replace")
            return BadRow(number, text, "JSON cannot hold it")
        if (lacking := self.lacks(values)) is not None:
            return BadRow(number, encoded, lacking)
        if len(encoded) > ROW_BYTES:
            return BadRow(number, encoded, f"it has more than {ROW_BYTES:,} bytes")
        return values, encoded

    def lacks(self, values: Mapping[str, Any]) -> str | None:
        """Why an object is no record of the table; None where it may be one."""
        expected = self.spec.key or list(self.spec.columns)
        if expected and not any(name in values for name in expected):
            return f"it has none of the columns {', '.join(expected)}"
        if not expected and {name.lower() for name in values} <= _OF_ERRORS:
            return "it is a message, and no record"
        return None

    def record(self, row: GoodRow) -> Record:
        """A row on its way."""
        key = record_key(self.spec, row.values)
        return Record(self.table, key, row.values, row.about, row.encoded)

    def reject(self, row: Rejected) -> Reject:
        """What is none, on its way."""
        return Reject(self.table, row.payload, row.reason, row.about)


def problem_of(walk: Walk, form: RowForm) -> tuple[Page, str] | None:
    """Why an answer is not what was asked for, though its status says so."""
    page = walk.problem
    if page is not None:
        return page, page.problem
    if len(walk.pages) != 1 or not walk.is_one_object:
        return None
    for _, found, row in walk.rows():
        reason = row.reason if isinstance(row, BadRow) else form.lacks(row.values)
        if reason is not None:
            return found, f"no record: {reason}"
    return None


def nothing_good(walk: Walk, form: RowForm) -> tuple[Page, str] | None:
    """Why an answer of records is none: it has some, and every one of them is rejected."""
    first: tuple[Page, str] | None = None
    count = 0
    for _, page, row in walk.rows():
        reason = row.reason if isinstance(row, BadRow) else form.lacks(row.values)
        if reason is None:
            return None
        first, count = first or (page, reason), count + 1
    if first is None:
        return None
    return first[0], f"none of its {count:,} items is a record: {first[1]}"


def misnamed(
    walk: Walk, form: RowForm, cursor: str | None, is_first: bool
) -> tuple[Page, str] | None:
    """Which column of the configuration no record has at all: its name may be misspelled.

    Args:
        walk: The answer.
        form: The table, whose `key` names columns.
        cursor: The column of `incremental`.
        is_first: Whether it is the first answer; later on, a single record may be odd by itself.
    """
    # Of several requests, not each needs to have all of them.
    missing = {} if form.spec.options.get("requests") else dict.fromkeys(form.spec.key, "key")
    missing |= {cursor: "incremental.cursor"} if cursor is not None else {}
    if not missing:
        return None
    first: Page | None = None
    count = 0
    for _, page, row in walk.rows():
        if isinstance(row, BadRow) or form.lacks(row.values) is not None:
            continue
        there = {n for n in missing if n in row.values and (n != cursor or _says(row.values[n]))}
        missing = {name: m for name, m in missing.items() if name not in there}
        if not missing:
            return None
        first, count = first or page, count + 1
    if first is None or (count == 1 and not is_first):
        return None
    name, setting = next(iter(missing.items()))
    records = "its record has no" if count == 1 else f"none of its {count:,} records has"
    return first, f"{records} {name}, which `{setting}` names"


def _says(value: Any) -> bool:
    return value is not None and value != ""


def in_days(column: str, first: date | None, last: date | None) -> Keep:
    """Keeps records whose column has a day from `first` to `last`, or none that can be read."""

    def keep(values: Mapping[str, Any]) -> bool:
        day = day_of(values.get(column))
        if day is None:
            return True
        return (first is None or day >= first) and (last is None or day <= last)

    return keep


def day_of(value: Any) -> date | None:
    """The day of a date, a time, or seconds or milliseconds of the epoch."""
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value.strip()).date()
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value / 1000 if abs(value) > 1e11 else value
            return datetime.fromtimestamp(seconds, UTC).date()
    except (ValueError, OverflowError, OSError):
        pass
    return None
