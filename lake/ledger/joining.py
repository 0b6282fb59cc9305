"""Ranges that nobody asks for one by one become one: the ledger follows files, not flushes.

Only ranges that meet, and whose rows are in one and the same public file: what is between two
ranges stays visible, and each offset stays in just one range. The joined range belongs to the
highest of their commits, which remembers the lowest one (`since`): a question about a commit in
between has no answer any more, and gets none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lake.failpoints import failpoint
from lake.ledger.core import LedgerCore
from lake.ledger.joinable import HeldRange, placed, runs_of
from lake.ledger.readers import horizon
from lake.records import OffsetRange

STEP_COMMITS = 500
"""Commits that one transaction looks at: a writer waits for it some hundredths of a second."""
LOOK_BACK = 4
_RANGE = "topic, generation, topic_id, partition, first, last, rows, commit_no"
_PLACE = "topic = ? AND generation = ? AND topic_id = ? AND partition = ?"
_Row = tuple[str, int, str, int, int, int, int, int]
"""The columns of `_RANGE`."""


@dataclass(frozen=True, slots=True)
class JoinStep:
    """What one step came to.

    Attributes:
        looked_to: The commit up to which everything was looked at.
        joined: How many ranges there are fewer.
        is_done: Whether nothing is left to look at now.
    """

    looked_to: int
    joined: int
    is_done: bool


class Joins:
    """Joins ranges, in steps that each are one transaction."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def is_due(self, topic: str, after: int, is_alive: Callable[[str], bool]) -> bool:
        """Whether a step would find commits to look at; nothing is locked for that."""
        return bool(_commits(self._core.db, topic, after, is_alive, 1))

    def step(self, topic: str, after: int, is_alive: Callable[[str], bool]) -> JoinStep:
        """Look at the next commits of a table, and join what may be joined.

        Args:
            topic: The table.
            after: The commit up to which earlier steps have looked.
            is_alive: Whether a session still runs.

        Raises:
            DiskFull: Nothing was changed.
        """
        with self._core.write() as db:
            numbers = _commits(db, topic, after, is_alive, STEP_COMMITS)
            if not numbers:
                return JoinStep(after, 0, True)
            passed = horizon(db, is_alive)
            joined = sum(_join(db, run) for run in runs_of(_around(db, numbers, passed)))
            _drop_without_ranges(db, numbers)
            failpoint("join.in_ledger")
        return JoinStep(numbers[-1], joined, len(numbers) < STEP_COMMITS)

    def give_room_back(self, least_bytes: int = 16 << 20) -> bool:
        """Give the room of what was joined back to the disk, where most of the file is unused.

        Args:
            least_bytes: Below that it is left alone.

        Returns:
            Whether the file was written anew.
        """
        db = self._core.db
        [(size,)], [(pages,)], [(free,)] = (
            db.execute(f"PRAGMA {name}").fetchall()
            for name in ("page_size", "page_count", "freelist_count")
        )
        if free * size < least_bytes or free * 2 < pages:
            return False
        db.execute("VACUUM")
        return True


def _commits(
    db: sqlite3.Connection, topic: str, after: int, is_alive: Callable[[str], bool], most: int
) -> list[int]:
    """The next commits that everybody has passed, and whose rows are public."""
    if _is_changing(db, topic):
        return []
    [(hot,)] = db.execute(
        "SELECT min((SELECT min(commit_no) FROM file_commits c WHERE c.file_id = f.file_id))"
        " FROM files f JOIN lake_tables USING (topic, generation)"
        " WHERE topic = ? AND tier = 'hot' AND obsolete_at IS NULL",
        (topic,),
    )
    up_to = horizon(db, is_alive)
    found = db.execute(
        "SELECT commit_no FROM commits JOIN lake_tables USING (topic, generation)"
        " WHERE topic = ? AND commit_no > ? AND commit_no <= ? ORDER BY commit_no LIMIT ?",
        (topic, after, up_to if hot is None else min(up_to, hot - 1), most),
    )
    return [number for (number,) in found]


def _is_changing(db: sqlite3.Connection, topic: str) -> bool:
    """Whether somebody goes by the numbers that a table's commits have now.

    A rebuild takes over what came after a commit; an intent names the commits of its files.
    """
    return any(
        db.execute(f"SELECT 1 FROM {table} WHERE topic = ?{condition}", (topic,)).fetchone()
        for table, condition in (
            ("generations", " AND state = 'building'"),
            ("compactions", ""),
            ("date_rewrites", ""),
        )
    )


def _around(db: sqlite3.Connection, numbers: Sequence[int], passed: int) -> list[HeldRange]:
    """The ranges of some commits with their neighbours, in the order of their offsets.

    A neighbour that somebody has not passed (`passed`: the newest commit of which all have) stays.
    """
    listed = json.dumps(numbers)
    found = {
        row[:5]: row
        for row in db.execute(
            f"SELECT {_RANGE} FROM ranges WHERE commit_no IN (SELECT value FROM json_each(?))"
            " ORDER BY topic_id, partition, first",
            (listed,),
        )
    }
    rows = list(found.values())
    for before, row in pairwise([None, *rows, None]):
        if before and row and before[:4] == row[:4] and before[5] + 1 == row[4]:
            continue
        if before:
            found |= {n[:5]: n for n in _following(db, before)}
        if row:
            found |= {n[:5]: n for n in _preceding(db, row)}
    files = _files_of(db, {row[7] for row in found.values()})
    return [
        placed(OffsetRange(*row[2:7]), row[7], files.get(row[7], ()), row[7] > passed)
        for _, row in sorted(found.items())
    ]


def _following(db: sqlite3.Connection, row: _Row) -> list[_Row]:
    which = f"SELECT {_RANGE} FROM ranges WHERE {_PLACE} AND first = ?"
    return db.execute(which, (*row[:4], row[5] + 1)).fetchall()


def _preceding(db: sqlite3.Connection, row: _Row) -> Iterator[_Row]:
    """The range before; more of these where they have no row."""
    which = f"SELECT {_RANGE} FROM ranges WHERE {_PLACE} AND first < ? ORDER BY first DESC LIMIT 1"
    for _ in range(LOOK_BACK):
        before = db.execute(which, (*row[:4], row[4])).fetchone()
        if before is None or before[5] + 1 != row[4]:
            return
        yield before
        if before[6]:
            return
        row = before


def _files_of(db: sqlite3.Connection, numbers: set[int]) -> dict[int, list[tuple[int, str, str]]]:
    """(id, tier, path) of the live files that hold rows of each commit."""
    found: dict[int, list[tuple[int, str, str]]] = {}
    for number, *file in db.execute(
        "SELECT commit_no, file_id, tier, path FROM file_commits JOIN files USING (file_id)"
        " WHERE commit_no IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(numbers)),),
    ):
        found.setdefault(number, []).append(tuple(file))
    return found


def _join(db: sqlite3.Connection, run: Sequence[HeldRange]) -> int:
    """Make one range of a run; gives by how many there are fewer."""
    if len(run) < 2:
        return 0
    first, last = run[0].span, run[-1].span
    survivor = max(held.commit for held in run)
    file = next((held.file for held in run if held.file), 0)
    [key] = db.execute("SELECT topic, generation FROM commits WHERE commit_no = ?", (survivor,))
    place = (*key, first.topic_id, first.partition)
    db.execute(
        f"DELETE FROM ranges WHERE {_PLACE} AND first BETWEEN ? AND ?",
        (*place, first.first, last.first),
    )
    values = (*place, first.first, last.last, sum(held.span.rows for held in run), survivor)
    db.execute("INSERT INTO ranges VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    if file:
        db.execute("INSERT OR IGNORE INTO file_commits VALUES (?, ?)", (file, survivor))
    _fold(db, {held.commit for held in run} - {survivor}, survivor, file, first)
    return len(run) - 1


def _fold(
    db: sqlite3.Connection, numbers: set[int], survivor: int, file: int, place: OffsetRange
) -> None:
    """Ranges of these commits are a later one's now; a commit goes with its last range."""
    every = json.dumps([*numbers, survivor])
    db.execute(
        "UPDATE commits SET since = (SELECT min(CASE since WHEN 0 THEN commit_no ELSE since END)"
        " FROM commits WHERE commit_no IN (SELECT value FROM json_each(?))) WHERE commit_no = ?",
        (every, survivor),
    )
    left = db.execute(
        "SELECT DISTINCT commit_no, topic_id = ? AND partition = ? FROM ranges"
        " WHERE commit_no IN (SELECT value FROM json_each(?))",
        (place.topic_id, place.partition, every),
    ).fetchall()
    if file:
        elsewhere = numbers - {number for number, is_here in left if is_here}
        db.execute(
            "DELETE FROM file_commits WHERE file_id = ?"
            " AND commit_no IN (SELECT value FROM json_each(?))",
            (file, json.dumps(sorted(elsewhere))),
        )
    gone = json.dumps(sorted(numbers - {number for number, _ in left}))
    # The moment of a commit is that of its newest records.
    db.execute(
        "UPDATE commits SET records = records + was.sum, committed_at = CASE"
        " WHEN records > 0 OR was.sum = 0 THEN committed_at ELSE was.moment END"
        " FROM (SELECT coalesce(sum(records), 0) AS sum, max(CASE WHEN records > 0"
        "  THEN committed_at END) AS moment FROM commits"
        "  WHERE commit_no IN (SELECT value FROM json_each(?))) AS was WHERE commit_no = ?",
        (gone, survivor),
    )
    db.execute("DELETE FROM commits WHERE commit_no IN (SELECT value FROM json_each(?))", (gone,))


def _drop_without_ranges(db: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Forget commits that only said that something happened, and that everybody has heard of."""
    db.executemany(
        "DELETE FROM commits WHERE commit_no = :number"
        " AND NOT EXISTS (SELECT 1 FROM ranges r WHERE r.commit_no = :number)"
        " AND NOT EXISTS (SELECT 1 FROM file_commits c WHERE c.commit_no = :number)"
        " AND EXISTS (SELECT 1 FROM commits k WHERE k.topic = commits.topic"
        "  AND k.generation = commits.generation AND k.commit_no > :number AND k.records > 0)",
        [{"number": number} for number in numbers],
    )
