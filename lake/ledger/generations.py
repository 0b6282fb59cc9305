"""Generations of a table: built in a tree of their own, switched to in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from lake.config import TableRef
from lake.errors import CommitConflict, LedgerError, ServiceUnreachable
from lake.failpoints import failpoint
from lake.ledger.core import LedgerCore, now
from lake.ledger.entries import NOW, Generation, Segment, TableState
from lake.ledger.payloads import Payloads
from lake.ledger.statements import (
    add_commit,
    add_dead_letters,
    add_file,
    copy_dead_letters,
    pins_of,
)
from lake.ledger.switch import must_reach, must_stand_at, rows_of, take_over
from lake.storage.operations import make_folder
from lake.storage.schema import Schema

HOLD_SECONDS = 10.0
_BOOKS = ("ranges", "row_counts", "commits", "positions", "losses", "dead_letters", "generations")


class GenerationReader:
    """Lists generations."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def all(self) -> list[Generation]:
        """All generations of all tables."""
        found = self._core.db.execute(
            "SELECT g.topic, g.generation, g.state, g.session, g.made_at,"
            " (SELECT count(*) FROM files f WHERE f.topic = g.topic"
            "  AND f.generation = g.generation AND obsolete_at IS NULL),"
            " coalesce((SELECT rows FROM row_counts r WHERE r.topic = g.topic"
            "  AND r.generation = g.generation), 0),"
            " (SELECT coalesce(sum(bytes), 0) FROM files f WHERE f.topic = g.topic"
            "  AND f.generation = g.generation AND obsolete_at IS NULL)"
            " FROM generations g ORDER BY g.topic, g.generation"
        )
        return [Generation(*row) for row in found]

    def built_offsets(self, topic: str, generation: int) -> int:
        """How many offsets a generation covers so far."""
        [(count,)] = self._core.db.execute(
            "SELECT coalesce(sum(last - first + 1), 0) FROM ranges"
            " WHERE topic = ? AND generation = ?",
            (topic, generation),
        )
        return int(count)

    def abandoned(self, is_alive: Callable[[str], bool]) -> list[tuple[str, int, str]]:
        """(topic, generation, session) of what a process that has ended was building."""
        found = self._core.db.execute(
            "SELECT topic, generation, session FROM generations WHERE state = 'building'"
        ).fetchall()
        return [left for left in found if not is_alive(left[2])]


class Generations(GenerationReader):
    """Builds, switches and drops generations.

    Args:
        core: The connection.
        payloads: Where the bytes of dead letters go.
    """

    def __init__(self, core: LedgerCore, payloads: Payloads) -> None:
        super().__init__(core)
        self._payloads = payloads

    def begin(self, topic: str, session: str) -> int:
        """Say that a table is built anew, in a tree of its own.

        Raises:
            LedgerError: Somebody is at it already.
        """
        while True:
            number = self._free_number(topic)
            if self._began(topic, number, session):
                return number

    def _free_number(self, topic: str) -> int:
        """A number that no generation has had, with its tree, durably.

        Numbers of removed generations are not given again: their files have names. Nor is one whose
        tree is there: a kill or a power cut came before it was removed for good, and what is in it
        would be public together with the new rows.
        """
        _must_be_nobody_s(self._core.db, topic)
        number = _next_number(self._core.db, topic)
        ref = TableRef(*topic.split(".", 1))
        while self._core.paths.raw(ref, number).exists():
            number += 1
        make_folder(self._core.paths.raw(ref, number))
        return number

    def _began(self, topic: str, number: int, session: str) -> bool:
        """Whether the number was still free."""
        with self._core.write() as db:
            _must_be_nobody_s(db, topic)
            if number < _next_number(db, topic):
                return False
            db.execute(
                "INSERT INTO generations VALUES (?, ?, 'building', ?, ?, 0, '[]', 0)",
                (topic, number, session, now()),
            )
        return True

    def add_segment(self, topic: str, generation: int, session: str, segment: Segment) -> None:
        """Add to a generation that is being built; nobody reads it yet."""
        moment = now()
        key = (topic, generation)
        for topic_id, letters in segment.dead_letters_by_topic_id().items():
            self._payloads.add(topic_id, letters)
        with self._core.write() as db:
            self._must_be_building(db, topic, generation, session)
            numbers: list[int] = []
            for ranges in segment.commits:
                number = add_commit(db, key, session, moment, 0, ranges)
                numbers.append(number)
                if segment.dead_letters_from is not None:
                    copy_dead_letters(db, key, segment.dead_letters_from, number, ranges)
            for built in segment.files:
                path = self._core.paths.relative(built.file.path)
                commits = [numbers[index] for index in built.commits]
                born = moment if built.created_at is None else built.created_at
                add_file(db, key, built.tier, path, built.file, commits, born)
            for index, letter in segment.dead_letters:
                add_dead_letters(db, key, segment.topic_id(index), numbers[index], [letter])
            failpoint("replay.in_segment")

    @staticmethod
    def _must_be_building(
        db: sqlite3.Connection, topic: str, generation: int, session: str
    ) -> None:
        found = db.execute(
            "SELECT state, session FROM generations WHERE topic = ? AND generation = ?",
            (topic, generation),
        ).fetchone()
        if found != ("building", session):
            raise LedgerError(
                f"Generation {generation} of {topic} is not being built by this process any more.",
                "Start the rebuild again.",
            )

    def hold(self, topic: str, generation: int, session: str, seconds: float) -> None:
        """Let nobody commit to the table for some seconds, so that a rebuild can catch up.

        Args:
            topic: The table.
            generation: The one that is built.
            session: Who builds it.
            seconds: At most `HOLD_SECONDS`; 0 ends it. A killed rebuild's hold ends by itself.
        """
        with self._core.write() as db:
            self._must_be_building(db, topic, generation, session)
            db.execute(
                "UPDATE generations SET held_until = ? WHERE topic = ? AND generation = ?",
                (now() + min(seconds, HOLD_SECONDS) if seconds else 0, topic, generation),
            )

    def switch(
        self,
        state: TableState,
        generation: int,
        session: str,
        schema: Schema,
        carried_to: int = NOW,
    ) -> int:
        """Make a built generation the current one, where it has come as far as the old one.

        Args:
            state: The table up to whose positions the new generation was built.
            generation: The new one.
            session: Who built it.
            schema: The new generation's schema.
            carried_to: The newest commit number that was looked at for what is carried over: what
                was filled in later, below the positions, would be missing.

        Returns:
            The number of the commit from which on it is current.

        Raises:
            CommitConflict: The table has moved on, or a compaction of it is half-way: catch up,
                and try again.
            LedgerError: The new generation does not reach the old one's positions.
        """
        key = (state.topic, generation)
        with self._core.write() as db:
            self._must_be_building(db, state.topic, generation, session)
            must_stand_at(db, state)
            if db.execute(
                "SELECT 1 FROM commits WHERE topic = ? AND generation = ? AND commit_no > ?",
                (state.topic, state.generation, carried_to),
            ).fetchone():
                raise CommitConflict(f"Table {state.topic} was backfilled in the meantime.")
            for table in ("compactions", "date_rewrites"):
                if db.execute(f"SELECT 1 FROM {table} WHERE topic = ?", (state.topic,)).fetchone():
                    raise CommitConflict(f"A compaction of {state.topic} is incomplete.")
            must_reach(db, key, state)
            number = add_commit(db, key, session, now(), max(1, rows_of(db, key)))
            take_over(db, state, generation, number, schema)
            failpoint("replay.in_switch")
        return number

    def drop(self, topic: str, generation: int, is_alive: Callable[[str], bool]) -> None:
        """Forget a generation that is not the current one; its files are replaced ones then.

        Args:
            topic: The table.
            generation: Which one.
            is_alive: Whether a session still runs.

        Raises:
            LedgerError: There is no such generation, it is the current one, or still being built.
            ServiceUnreachable: Somebody reads the lake at this moment.
        """
        with self._core.write() as db:
            found = db.execute(
                "SELECT state, session FROM generations WHERE topic = ? AND generation = ?",
                (topic, generation),
            ).fetchone()
            if found is None or found[0] == "current":
                what = "has no generation" if found is None else "is at generation"
                raise LedgerError(
                    f"Table {topic} {what} {generation}.",
                    "`ducklake generations list` shows which ones are old.",
                )
            if found[0] == "building" and is_alive(found[1]):
                raise LedgerError(
                    f"Generation {generation} of {topic} is being built.", "Stop the rebuild first."
                )
            if found[0] == "old" and any(is_alive(session) for session, _ in pins_of(db)):
                raise ServiceUnreachable(
                    f"Generation {generation} of {topic} may be in use: a reader has pinned the"
                    " lake's files.",
                    "Run it again once the batch's cycle is over.",
                )
            self._forget(db, topic, generation)

    def drop_abandoned(self, topic: str, generation: int, session: str) -> bool:
        """Forget what a process that has ended was building.

        Returns:
            Whether it was still there: another process may have dropped it in the meantime, and a
            new rebuild may have got its number.
        """
        with self._core.write() as db:
            there = db.execute(
                "SELECT 1 FROM generations WHERE topic = ? AND generation = ?"
                " AND state = 'building' AND session = ?",
                (topic, generation, session),
            ).fetchone()
            if there:
                self._forget(db, topic, generation)
        return there is not None

    def _forget(self, db: sqlite3.Connection, topic: str, generation: int) -> None:
        """Its files are replaced ones from now on."""
        db.execute(
            "DELETE FROM file_commits WHERE file_id IN (SELECT file_id FROM files"
            " WHERE topic = ? AND generation = ?)",
            (topic, generation),
        )
        db.execute(
            "UPDATE files SET obsolete_at = ? WHERE topic = ? AND generation = ?"
            " AND obsolete_at IS NULL",
            (self._core.moment(), topic, generation),
        )
        for table in _BOOKS:
            db.execute(
                f"DELETE FROM {table} WHERE topic = ? AND generation = ?", (topic, generation)
            )


def _must_be_nobody_s(db: sqlite3.Connection, topic: str) -> None:
    found = db.execute("SELECT 1 FROM generations WHERE topic = ? AND state = 'building'", (topic,))
    if found.fetchone():
        raise LedgerError(
            f"Table {topic} is being rebuilt already.", "Wait for that one, or stop it."
        )


def _next_number(db: sqlite3.Connection, topic: str) -> int:
    [(number,)] = db.execute(
        "SELECT 1 + max((SELECT max(generation) FROM generations WHERE topic = :t),"
        " (SELECT coalesce(max(generation), 0) FROM files WHERE topic = :t))",
        {"t": topic},
    )
    return int(number)
