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

from lake.storage.canonical import SourceColumn
from producers.mysql.polling import cursor as module
from producers.mysql.polling.cursor import PollCursor, Window
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

    def poll(self, now: int, table: list[Write]) -> None:
        cursor, after = self.known, self.known.at
        window = Window(cursor, self.column, LATE, float(now))
        rows = sorted((mark(self.column, w.at).rjust(20), str(w.key), w) for w in table)
        while True:
            behind = [
                PolledRow((at.strip(), key), {"key": w.key, "version": w.version})
                for at, key, w in rows
                if after is None or (at, key) > (str(after[0]).rjust(20), str(after[1]))
            ]
            part, clock = behind[: self.rows_at_once], mark(self.column, now)
            chunk = Chunk(part, len(part) < self.rows_at_once, clock, clock, now * 1000)
            new = window.take(chunk, [row.encoded() for row in part])
            self.sent.update((part[n].value["key"], part[n].value["version"]) for n in new)
            changes: dict[str, Any] = window.unfinished()
            if chunk.is_last:
                changes = window.finished(float(now))
            self.known = replace(self.known, **changes)
            if new:
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


def test_more_than_can_be_kept_is_sent_once_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNSETTLED", 3)
    poller = Poller(NUMBER)
    table = [Write(key, 0, 1, 1) for key in range(9)]
    poller.poll(1, table)
    poller.poll(2, table)
    assert poller.known.doubt == module.CROWDED
    assert set(poller.sent.values()) == {1} and len(poller.sent) == 9


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
