"""Generations in the ledger: built, held, switched to, dropped; gaps filled, files replaced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lake.errors import CommitConflict, LedgerError, ServiceUnreachable, TableHeld
from lake.formats import CompactionIntent, DateRewriteIntent, PlannedFile
from lake.ledger import BuiltFile, Gap, Ledger, Segment, TableState
from lake.ledger.generations import HOLD_SECONDS
from lake.records import DeadLetter, OffsetRange
from lake.recovery import drop_abandoned
from lake.storage.parquet_files import WrittenFile
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema

TOPIC, ID = "shop.orders", "a" * 32
EMPTY = Schema()
BUILDER = "builder"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(LakePaths(tmp_path)) as ledger:
        ledger.tables.open(TOPIC, ID, 2)
        commit(ledger, 0, 9)
        yield ledger


def table(ledger: Ledger) -> TableState:
    state = ledger.tables.get(TOPIC)
    assert state is not None
    return state


def span(first: int, last: int, rows: int | None = None) -> OffsetRange:
    return OffsetRange(ID, 0, first, last, last - first + 1 if rows is None else rows)


def file_of(ledger: Ledger, name: str, rows: int) -> WrittenFile:
    return WrittenFile(ledger.paths.root / "hot" / f"{name}.parquet", 1, "sha", rows)


def commit(ledger: Ledger, first: int, last: int, state: TableState | None = None) -> int:
    state = state or table(ledger)
    r = span(first, last)
    starts = {0: state.positions.get(0)}
    file = file_of(ledger, f"{state.generation}-{first}", r.rows)
    return ledger.commits.add(state, "worker", [r], starts, file, EMPTY)


def build(ledger: Ledger, *ranges: OffsetRange) -> int:
    """Begin a generation that covers these ranges."""
    number = ledger.generations.begin(TOPIC, BUILDER)
    for r in ranges:
        add(ledger, number, r)
    return number


def add(ledger: Ledger, number: int, r: OffsetRange, session: str = BUILDER) -> None:
    file = file_of(ledger, f"new-{number}-{r.first}", r.rows)
    files = (BuiltFile("sealed", file, (0,)),) if r.rows else ()
    ledger.generations.add_segment(TOPIC, number, session, Segment(((r,),), files))


def letter(offset: int) -> DeadLetter:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return DeadLetter(TOPIC, 0, offset, moment, TOPIC, "why", None, b"v", "{}")


def switch(ledger: Ledger, number: int) -> int:
    return ledger.generations.switch(table(ledger), number, BUILDER, EMPTY)


def names(ledger: Ledger, after: int, up_to: int) -> set[str]:
    return {new.path.name for new in ledger.files.new_rows(TOPIC, after, up_to)}


def everybody_is_alive(session: str) -> bool:
    return True


def everybody_is_dead(session: str) -> bool:
    return False


# Built and switched to ---------------------------------------------------------------------------


def test_nobody_sees_a_generation_before_the_switch_and_all_of_it_is_new_after(
    ledger: Ledger,
) -> None:
    old = ledger.commits.last()
    number = build(ledger, span(0, 4), span(5, 9, 0))
    assert names(ledger, 0, ledger.commits.last()) == {"0-0.parquet"}
    assert ledger.offsets.row_count(TOPIC) == 10
    switched = switch(ledger, number)
    assert names(ledger, 0, old) == {"0-0.parquet"}, "whoever has pinned it still reads the old one"
    assert names(ledger, old, switched) == {"new-1-0.parquet"}
    assert names(ledger, switched, switched) == set()
    assert ledger.offsets.row_count(TOPIC) == 5 and ledger.offsets.row_count(TOPIC, old) == 10
    assert table(ledger).positions == {0: 10}
    commit(ledger, 10, 10)
    assert names(ledger, switched, ledger.commits.last()) == {"1-10.parquet"}


def test_only_one_builds_and_only_the_builder_adds(ledger: Ledger) -> None:
    number = build(ledger, span(0, 9))
    with pytest.raises(LedgerError, match="being rebuilt already"):
        ledger.generations.begin(TOPIC, "other")
    with pytest.raises(LedgerError, match="not being built by this process"):
        add(ledger, number, span(10, 10), session="other")
    with pytest.raises(LedgerError, match="not being built by this process"):
        ledger.generations.hold(TOPIC, number, "other", HOLD_SECONDS)
    with pytest.raises(LedgerError, match="not being built by this process"):
        ledger.generations.switch(table(ledger), number, "other", EMPTY)


def test_a_switch_waits_for_what_was_committed_meanwhile(ledger: Ledger) -> None:
    number = build(ledger, span(0, 9))
    built_up_to = table(ledger)
    commit(ledger, 10, 12)
    with pytest.raises(CommitConflict, match="moved on"):
        ledger.generations.switch(built_up_to, number, BUILDER, EMPTY)
    assert table(ledger).generation == 0
    last = ledger.commits.last()
    add(ledger, number, span(10, 12))
    switched = switch(ledger, number)
    assert ledger.offsets.row_count(TOPIC) == 13
    # All of it is new, also what was built before the old generation's last commit.
    assert names(ledger, last, switched) == {"new-1-0.parquet", "new-1-10.parquet"}


def test_a_generation_that_is_too_short_is_not_switched_to(ledger: Ledger) -> None:
    number = build(ledger, span(0, 8))
    with pytest.raises(LedgerError, match="is at 10"):
        switch(ledger, number)
    assert table(ledger).generation == 0


@pytest.mark.parametrize("what", ["seal", "day"])
def test_a_switch_waits_for_a_compaction(ledger: Ledger, what: str) -> None:
    number = build(ledger, span(0, 9))
    if what == "seal":
        ledger.compactions.record_intent(TOPIC, 0, CompactionIntent((), ()))
    else:
        ledger.date_rewrites.record_intent(TOPIC, 0, DateRewriteIntent("", "", (), ()))
    with pytest.raises(CommitConflict, match="is incomplete"):
        switch(ledger, number)
    assert table(ledger).generation == 0


def test_a_compaction_of_the_old_generation_is_refused(ledger: Ledger) -> None:
    switch(ledger, build(ledger, span(0, 9)))
    with pytest.raises(CommitConflict, match="another generation"):
        ledger.compactions.record_intent(TOPIC, 0, CompactionIntent((), ()))
    assert ledger.compactions.open() == []


def test_a_day_of_the_old_generation_is_refused(ledger: Ledger) -> None:
    switch(ledger, build(ledger, span(0, 9)))
    with pytest.raises(CommitConflict, match="another generation"):
        ledger.date_rewrites.record_intent(TOPIC, 0, DateRewriteIntent("", "", (), ()))
    assert ledger.date_rewrites.open() == []


def test_a_writer_of_the_old_generation_is_fenced(ledger: Ledger) -> None:
    old = table(ledger)
    switch(ledger, build(ledger, span(0, 9)))
    with pytest.raises(CommitConflict, match="another generation"):
        commit(ledger, 10, 12, state=old)
    assert ledger.offsets.row_count(TOPIC) == 10


def test_a_held_table_takes_no_commit_until_the_hold_ends(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lake.ledger import commits, generations

    now = 1_790_000_000.0
    for place in (commits, generations):
        monkeypatch.setattr(place, "now", lambda: now)
    number = build(ledger, span(0, 9))
    ledger.generations.hold(TOPIC, number, BUILDER, 3600)
    now += 1
    with pytest.raises(TableHeld):
        commit(ledger, 10, 10)
    ledger.generations.hold(TOPIC, number, BUILDER, 0)
    commit(ledger, 10, 10)
    ledger.generations.hold(TOPIC, number, BUILDER, 3600)
    now += HOLD_SECONDS  # a builder that was killed ends it by nothing else
    commit(ledger, 11, 11)
    ledger.generations.hold(TOPIC, number, BUILDER, 3600)
    now -= 86_400  # and a clock that is set back does not make it longer
    commit(ledger, 12, 12)


def test_losses_and_dead_letters_come_along(ledger: Ledger) -> None:
    state = table(ledger)
    ledger.commits.add(state, "worker", [span(10, 11, 0)], {0: 10}, None, EMPTY, [letter(10)])
    [lost] = ledger.tables.accept_loss(TOPIC, ID, {0: 20, 1: 0})
    number = build(ledger)
    segment = Segment(((span(0, 9, 0),), (span(10, 11, 0),)), (), dead_letters_from=0)
    ledger.generations.add_segment(TOPIC, number, BUILDER, segment)
    before = ledger.commits.last()
    assert [entry.offset for entry in ledger.dead_letters.up_to(before)] == [10]
    switched = switch(ledger, number)
    assert [entry.offset for entry in ledger.dead_letters.up_to(switched)] == [10]
    assert [entry.offset for entry in ledger.dead_letters.up_to(before)] == [10]
    assert ledger.offsets.losses(TOPIC) == [lost] and table(ledger).positions == {0: 20}


# Dropped -----------------------------------------------------------------------------------------


def test_the_current_generation_and_one_that_is_being_built_are_not_dropped(
    ledger: Ledger,
) -> None:
    number = build(ledger, span(0, 9))
    with pytest.raises(LedgerError, match="being built"):
        ledger.generations.drop(TOPIC, number, everybody_is_alive)
    switch(ledger, number)
    with pytest.raises(LedgerError, match="is at generation"):
        ledger.generations.drop(TOPIC, number, everybody_is_dead)
    with pytest.raises(LedgerError, match="has no generation"):
        ledger.generations.drop(TOPIC, 7, everybody_is_dead)


def test_an_old_generation_stays_while_somebody_reads(ledger: Ledger) -> None:
    switch(ledger, build(ledger, span(0, 9)))
    ledger.pins.pin("reader")
    with pytest.raises(ServiceUnreachable, match="pinned"):
        ledger.generations.drop(TOPIC, 0, everybody_is_alive)
    assert [g.number for g in ledger.generations.all()] == [0, 1]
    ledger.generations.drop(TOPIC, 0, everybody_is_dead)
    assert [g.number for g in ledger.generations.all()] == [1]
    assert [f.path.name for f in ledger.files.obsolete(1e12)] == ["0-0.parquet"]
    assert ledger.offsets.row_count(TOPIC) == 10


def test_what_a_killed_rebuild_left_is_dropped(ledger: Ledger) -> None:
    number = build(ledger, span(0, 4))
    left = ledger.paths.root / "hot" / f"new-{number}-0.parquet"
    left.parent.mkdir()
    left.touch()
    drop_abandoned(ledger)  # nobody holds the lock of the builder's session
    assert [g.number for g in ledger.generations.all()] == [0]
    assert not left.exists() and not ledger.files.knows(left)
    assert build(ledger, span(0, 9)) == 1
    assert ledger.offsets.row_count(TOPIC) == 10


def test_a_new_rebuild_is_not_taken_for_the_one_that_was_killed(ledger: Ledger) -> None:
    """Two processes find what a killed one left; before the slower one acts, a third begins."""
    build(ledger, span(0, 4))
    [left] = ledger.generations.abandoned(everybody_is_dead)
    drop_abandoned(ledger)
    assert not ledger.generations.drop_abandoned(*left)
    assert ledger.generations.begin(TOPIC, "another") == left[1]
    assert not ledger.generations.drop_abandoned(*left)
    assert [g.session for g in ledger.generations.all()][1:] == ["another"]


# Gaps -------------------------------------------------------------------------------------------


def test_a_hole_is_filled_once_and_its_rows_are_new(ledger: Ledger) -> None:
    ledger.tables.accept_loss(TOPIC, ID, {0: 20, 1: 0})
    before = ledger.commits.last()
    state = table(ledger)
    gap = Gap(span(12, 14))
    number = ledger.commits.backfill(state, "s", [gap], file_of(ledger, "filled", 3), EMPTY)
    assert names(ledger, before, number) == {"filled.parquet"}
    assert [(r.first, r.last) for r in ledger.offsets.losses(TOPIC)] == [(10, 11), (15, 19)]
    with pytest.raises(CommitConflict, match="in the lake already"):
        ledger.commits.backfill(state, "s", [Gap(span(14, 15))], file_of(ledger, "again", 2), EMPTY)
    assert ledger.offsets.row_count(TOPIC) == 13
    assert table(ledger).positions == {0: 20}


def test_a_hole_within_a_range_cuts_it(ledger: Ledger) -> None:
    """The range said ten rows, and its file has eight."""
    state = table(ledger)
    gap = Gap(span(4, 5), (span(0, 9),), (span(0, 3), span(6, 9)))
    ledger.commits.backfill(state, "s", [gap], file_of(ledger, "filled", 2), EMPTY)
    assert [(r.first, r.last, r.rows) for r in ledger.offsets.history(TOPIC)] == [
        (0, 3, 4),
        (4, 5, 2),
        (6, 9, 4),
    ]
    assert ledger.offsets.row_count(TOPIC) == 10
    with pytest.raises(CommitConflict, match="changed in the meantime"):
        ledger.commits.backfill(state, "s", [gap], file_of(ledger, "again", 2), EMPTY)


def test_a_fill_into_an_old_generation_is_refused(ledger: Ledger) -> None:
    ledger.tables.accept_loss(TOPIC, ID, {0: 20, 1: 0})
    state = table(ledger)
    number = build(ledger, span(0, 9))
    switch(ledger, number)
    with pytest.raises(CommitConflict, match="another generation"):
        ledger.commits.backfill(state, "s", [Gap(span(12, 14))], None, EMPTY)


def test_a_replaced_file_is_not_read_any_more(ledger: Ledger) -> None:
    [lost] = ledger.files.live(TOPIC)
    last = ledger.commits.last()
    ledger.files.replace(TOPIC, 0, lost.file_id, file_of(ledger, "again", 10))
    assert [f.path.name for f in ledger.files.live(TOPIC)] == ["again.parquet"]
    assert names(ledger, 0, last) == {"again.parquet"}
    assert [f.file_id for f in ledger.files.obsolete(1e12)] == [lost.file_id]
    with pytest.raises(CommitConflict, match="replaced in the meantime"):
        ledger.files.replace(TOPIC, 0, lost.file_id, file_of(ledger, "twice", 10))


def test_a_file_that_a_compaction_is_about_to_replace_is_left_to_it(ledger: Ledger) -> None:
    """Else the compaction could not be finished: one of its inputs would be gone."""
    [lost] = ledger.files.live(TOPIC)
    output = PlannedFile("staging/x", "raw/x.parquet", 10, 1, "sha", (1,))
    intent = CompactionIntent((lost.file_id,), (output,))
    seal = ledger.compactions.record_intent(TOPIC, 0, intent)
    with pytest.raises(CommitConflict, match="is incomplete"):
        ledger.files.replace(TOPIC, 0, lost.file_id, file_of(ledger, "again", 10))
    ledger.compactions.flip(seal, TOPIC, intent)
    assert [f.path.name for f in ledger.files.live(TOPIC)] == ["x.parquet"]


def test_a_table_that_is_being_rebuilt_takes_no_fill(ledger: Ledger) -> None:
    """The rebuild may have taken over already what lay around the gap."""
    ledger.tables.accept_loss(TOPIC, ID, {0: 20, 1: 0})
    state = table(ledger)
    build(ledger, span(0, 9))
    with pytest.raises(CommitConflict, match="being rebuilt"):
        ledger.commits.backfill(state, "s", [Gap(span(12, 14))], None, EMPTY)
    assert ledger.offsets.row_count(TOPIC) == 10
    drop_abandoned(ledger)
    ledger.commits.backfill(state, "s", [Gap(span(12, 14))], None, EMPTY)
