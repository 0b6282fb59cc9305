"""Which rows of a polled table are new, whatever order their transactions end in.

Stories of transactions and polls, decided on values alone; a row may be committed up to
`late_seconds` after its watermark was taken, and any poll may be the last one of its process.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import SourceError
from lake.storage.canonical import SourceColumn
from producers.mysql.polling import cursor as module
from producers.mysql.polling import parts
from producers.mysql.polling.cursor import PollCursor, Window, digest
from producers.mysql.polling.parts import digest_of
from producers.mysql.polling.reader import Chunk, PolledRow

LATE = 5
NUMBER = SourceColumn("at", "bigint", "BIGINT", nullable=False)
MOMENT = SourceColumn("at", "timestamp", "TIMESTAMP WITH TIME ZONE", nullable=False)


@dataclass(frozen=True)
class Write:
    """A version of a row."""

    key: int
    version: int
    at: int
    committed: int


def mark(column: SourceColumn, at: int) -> str:
    return str(at) if column is NUMBER else f"2026-01-01 00:{at // 60:02}:{at % 60:02}"


def row_of(write: Write) -> PolledRow:
    return PolledRow((), {"key": write.key, "version": write.version})


@dataclass
class Poller:
    """A table and what is sent of it, as `TablePoller` does it."""

    column: SourceColumn
    rows_at_once: int = 2

    def __post_init__(self) -> None:
        self.stored = self.known = PollCursor()
        self.sent: Counter[tuple[int, int]] = Counter()

    def restart(self) -> None:
        self.known = PollCursor.load(json.loads(json.dumps(self.stored.dump())))

    def late_rows(self, now: int, rows: list[tuple[str, str, Write]]) -> None:
        """Parts that are not what was sent are sent as a whole."""
        while self.known.parts and now - self.known.parts[0].moment >= LATE:
            part, *others = self.known.parts
            here = [
                write
                for at, key, write in rows
                if (part.after is None or (at, key) > self.place(part.after))
                and (at, key) <= self.place(part.until)
            ]
            found = digest_of(digest(row_of(write).encoded()) for write in here)
            self.known = replace(self.known, parts=tuple(others))
            if (len(here), found) != (part.rows, part.digest):
                self.sent.update((write.key, write.version) for write in here)
                self.stored = self.known = self.known.advanced(now * 1000)

    @staticmethod
    def place(of: tuple[str | None, ...]) -> tuple[str, str]:
        return str(of[0]).rjust(20), str(of[1])

    def poll(self, now: int, table: list[Write]) -> None:
        rows = sorted((mark(self.column, w.at).rjust(20), str(w.key), w) for w in table)
        self.late_rows(now, rows)
        cursor, after = self.known, self.known.at
        window = Window(cursor, self.column, LATE, float(now))
        while True:
            behind = [
                PolledRow((at.strip(), key), row_of(w).value)
                for at, key, w in rows
                if after is None or (at, key) > self.place(after)
            ]
            part, clock = behind[: self.rows_at_once], mark(self.column, now)
            chunk = Chunk(part, len(part) < self.rows_at_once, clock, clock, now * 1000)
            new = window.take(chunk, [row.encoded() for row in part])
            self.sent.update((part[n].value["key"], part[n].value["version"]) for n in new)
            changes: dict[str, Any] = window.unfinished()
            if chunk.is_last:
                changes = window.finished(float(now))
            self.known = replace(self.known, **changes)
            if new or self.known.parts != self.stored.parts:
                self.stored = self.known = self.known.advanced(now * 1000)
            if chunk.is_last:
                return
            after = part[-1].place


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Write], list[tuple[int, bool]]]:
    """Writes, and moments of polls, each with whether another process makes it."""
    writes, free = [], dict.fromkeys(range(4), 0)
    for version in range(draw(st.integers(1, 12))):
        key = draw(st.integers(0, 3))
        at = free[key] + draw(st.integers(0, 6))
        committed = at + draw(st.integers(0, LATE))
        free[key] = committed  # until then others wait for the row
        writes.append(Write(key, version, at, committed))
    polls = draw(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=20))
    return writes, sorted(polls)


@pytest.mark.parametrize("column", [NUMBER, MOMENT], ids=["number", "moment"])
@given(story=stories(), rows_at_once=st.integers(1, 5))
def test_every_version_that_a_poll_can_see_is_sent_once(
    column: SourceColumn, story: tuple[list[Write], list[tuple[int, bool]]], rows_at_once: int
) -> None:
    writes, polls = story
    poller = Poller(column, rows_at_once)
    for now, is_another in polls:
        if is_another:
            poller.restart()
        table = {w.key: w for w in writes if w.committed <= now}
        poller.poll(now, list(table.values()))
        there = {(w.key, w.version) for w in table.values()}
        assert there <= set(poller.sent), (now, there)
    assert set(poller.sent.values()) <= {1}, poller.sent


@pytest.mark.parametrize("column", [NUMBER, MOMENT], ids=["number", "moment"])
def test_what_is_settled_is_forgotten(column: SourceColumn) -> None:
    poller = Poller(column)
    table: list[Write] = []
    for now in range(0, 200, 2):
        table.append(Write(now, now, now, now))
        poller.poll(now, table)
        assert len(poller.known.seen) <= LATE and len(poller.known.marks) <= 20
    assert set(poller.sent.values()) == {1} and len(poller.sent) == 100


@pytest.mark.parametrize("column", [NUMBER, MOMENT], ids=["number", "moment"])
@given(story=stories(), rows_at_once=st.integers(1, 5))
def test_late_rows_come_whatever_the_number_of_rows(
    column: SourceColumn, story: tuple[list[Write], list[tuple[int, bool]]], rows_at_once: int
) -> None:
    writes, polls = story
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_UNSETTLED", 2)
        patch.setattr(module, "FIRST_UNSETTLED", 1)
        patch.setattr(parts, "MOST_PARTS", 2)
        poller = Poller(column, rows_at_once)
        end = max(write.committed for write in writes) + 60
        for now, is_another in [*polls, (end, True), (end + LATE, True)]:
            if is_another:
                poller.restart()
            table = {w.key: w for w in writes if w.committed <= now}
            poller.poll(now, list(table.values()))
            assert len(poller.known.parts) <= 2
        assert {(w.key, w.version) for w in table.values()} <= set(poller.sent)


def test_a_part_that_is_what_was_sent_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_UNSETTLED", 3)
    poller = Poller(NUMBER)
    table = [Write(key, 0, 1, 1) for key in range(9)]
    poller.poll(1, table)
    assert [part.rows for part in poller.known.parts] == [4, 4] and len(poller.known.seen) == 1
    poller.poll(1 + LATE, table)
    assert poller.known.parts == () and set(poller.sent.values()) == {1}
    table.append(Write(-1, 0, 1, 1))  # longer than it may take
    poller.poll(30, table)
    assert (-1, 0) not in poller.sent


def test_too_many_rows_to_come_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNSETTLED", 3)
    poller = Poller(MOMENT)
    with pytest.raises(SourceError, match="More than 3 rows have a at that is still to come"):
        poller.poll(0, [Write(key, 0, 3000, 0) for key in range(9)])


def test_a_watermark_to_come_is_never_passed() -> None:
    poller = Poller(MOMENT)
    table = [Write(1, 0, 3000, 0)]
    poller.poll(0, table)
    poller.poll(100, table)
    table.append(Write(2, 0, 90, 90))
    poller.poll(110, table)
    assert poller.sent == Counter({(1, 0): 1, (2, 0): 1})


@pytest.mark.parametrize("column", [NUMBER, MOMENT], ids=["number", "moment"])
def test_a_row_is_found_however_often_later_ones_were_polled_before(column: SourceColumn) -> None:
    poller = Poller(column)
    table = [Write(1, 0, at=1, committed=1)]
    poller.poll(2, table)
    poller.poll(3, table)
    table.append(Write(2, 0, at=0, committed=4))
    poller.poll(5, table)
    assert poller.sent == Counter({(1, 0): 1, (2, 0): 1})
