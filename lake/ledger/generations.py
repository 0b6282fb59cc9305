"""Generations of a table: built beside the current one, switched to in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lake.config import TableRef
from lake.errors import CommitConflict, LedgerError, ServiceUnreachable
from lake.failpoints import failpoint
from lake.ledger.database import LedgerDb, TableState, now
from lake.ledger.reading import NOW, ReadingLedger
from lake.records import DeadLetter, OffsetRange
from lake.storage.files import WrittenFile, make_folder
from lake.storage.schema import Schema

HOLD_SECONDS = 10.0
_BOOKS = ("ranges", "commits", "positions", "losses", "dead_letters", "generations")


@dataclass(frozen=True, slots=True)
class Generation:
    """One state of a table as the ledger lists it.

    Attributes:
        state: `building`, `current` or `old`.
        session: Who builds it, or built it.
        made_at: When it was begun, in seconds since the epoch.
        bytes: Size of its files; what two generations share counts in both.
    """

    topic: str
    number: int
    state: str
    session: str
    made_at: float
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A file of a generation that is being built.

    Attributes:
        tier: `hot` or `sealed`.
        commits: Which of the commits that are added with it have rows in it, by their index.
        created_at: When its oldest row was committed, in seconds since the epoch; None: now.
    """

    tier: str
    file: WrittenFile
    commits: tuple[int, ...]
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """What is added to a generation at once.

    Attributes:
        commits: The ranges of each new commit.
        files: The files that hold their rows.
        dead_letters: (index of the commit, dead letter).
        dead_letters_from: The generation whose dead letters of these ranges are taken over.
    """

    commits: tuple[tuple[OffsetRange, ...], ...]
    files: tuple[BuiltFile, ...]
    dead_letters: tuple[tuple[int, DeadLetter], ...] = ()
    dead_letters_from: int | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that the lake is to hold from now on, and what their ranges were before.

    Attributes:
        span: What is committed now.
        cut: A range that covered a part of it without having its rows.
        kept: What of `cut` stays where it is.
    """

    span: OffsetRange
    cut: tuple[OffsetRange, ...] = ()
    kept: tuple[OffsetRange, ...] = ()


class GenerationLedger(ReadingLedger):
    """Builds, switches, lists and drops generations; fills gaps in the current one."""

    def generations(self) -> list[Generation]:
        """All generations of all tables."""
        found = self._db.execute(
            "SELECT g.topic, g.generation, g.state, g.session, g.made_at,"
            " (SELECT count(*) FROM files f WHERE f.topic = g.topic"
            "  AND f.generation = g.generation AND obsolete_at IS NULL),"
            " (SELECT coalesce(sum(rows), 0) FROM ranges r WHERE r.topic = g.topic"
            "  AND r.generation = g.generation),"
            " (SELECT coalesce(sum(bytes), 0) FROM files f WHERE f.topic = g.topic"
            "  AND f.generation = g.generation AND obsolete_at IS NULL)"
            " FROM generations g ORDER BY g.topic, g.generation"
        )
        return [Generation(*row) for row in found]

    def built_offsets(self, topic: str, generation: int) -> int:
        """How many offsets a generation covers so far."""
        [(count,)] = self._db.execute(
            "SELECT coalesce(sum(last - first + 1), 0) FROM ranges"
            " WHERE topic = ? AND generation = ?",
            (topic, generation),
        )
        return int(count)

    def begin_generation(self, topic: str, session: str) -> int:
        """Announce that a table is built anew beside the current generation.

        Raises:
            LedgerError: Somebody is at it already.
        """
        with self._write() as db:
            if db.execute(
                "SELECT 1 FROM generations WHERE topic = ? AND state = 'building'", (topic,)
            ).fetchone():
                raise LedgerError(
                    f"Table {topic} is being rebuilt already.", "Wait for that one, or stop it."
                )
            # Numbers of removed generations are not given again: their files have names.
            [(number,)] = db.execute(
                "SELECT 1 + max((SELECT max(generation) FROM generations WHERE topic = :t),"
                " (SELECT coalesce(max(generation), 0) FROM files WHERE topic = :t))",
                {"t": topic},
            )
            # Nor is one whose tree is there: a kill or a power cut came before it was removed for
            # good, and what is in it would be public beside the new rows.
            ref = TableRef(*topic.split(".", 1))
            while self.paths.raw(ref, number).exists():
                number += 1
            make_folder(self.paths.raw(ref, number))
            db.execute(
                "INSERT INTO generations VALUES (?, ?, 'building', ?, ?, 0, '[]', 0)",
                (topic, number, session, now()),
            )
        return int(number)

    def add_segment(self, topic: str, generation: int, session: str, segment: Segment) -> None:
        """Add to a generation that is being built; nobody reads it yet."""
        moment = now()
        key = (topic, generation)
        with self._write() as db:
            self._must_be_building(db, topic, generation, session)
            numbers: list[int] = []
            for ranges in segment.commits:
                number = self._add_commit(db, key, session, moment, 0, ranges)
                numbers.append(number)
                if segment.dead_letters_from is not None:
                    self._copy_dead_letters(db, key, segment.dead_letters_from, number, ranges)
            for built in segment.files:
                path = self.paths.relative(built.file.path)
                commits = [numbers[index] for index in built.commits]
                born = moment if built.created_at is None else built.created_at
                self._add_file(db, key, built.tier, path, built.file, commits, born)
            for index, letter in segment.dead_letters:
                topic_id = segment.commits[index][0].topic_id
                self._add_dead_letters(db, key, topic_id, numbers[index], [letter])
            failpoint("replay.in_segment")

    @staticmethod
    def _copy_dead_letters(
        db: sqlite3.Connection,
        key: tuple[str, int],
        generation: int,
        number: int,
        ranges: Sequence[OffsetRange],
    ) -> None:
        topic, new = key
        db.executemany(
            "INSERT INTO dead_letters SELECT topic, ?, topic_id, partition, offset, ?, kafka_ts,"
            " source_table, reason, key, value, headers FROM dead_letters WHERE topic = ?"
            " AND generation = ? AND topic_id = ? AND partition = ? AND offset BETWEEN ? AND ?",
            [
                (new, number, topic, generation, r.topic_id, r.partition, r.first, r.last)
                for r in ranges
            ],
        )

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
        with self._write() as db:
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
        with self._write() as db:
            self._must_be_building(db, state.topic, generation, session)
            self._must_stand_at(db, state)
            if db.execute(
                "SELECT 1 FROM commits WHERE topic = ? AND generation = ? AND commit_no > ?",
                (state.topic, state.generation, carried_to),
            ).fetchone():
                raise CommitConflict(f"Table {state.topic} was filled meanwhile.")
            for table in ("seals", "days"):
                if db.execute(f"SELECT 1 FROM {table} WHERE topic = ?", (state.topic,)).fetchone():
                    raise CommitConflict(f"A compaction of {state.topic} is half-way.")
            self._must_reach(db, key, state)
            rows = db.execute(
                "SELECT coalesce(sum(rows), 0) FROM ranges WHERE topic = ? AND generation = ?", key
            ).fetchone()[0]
            number = self._add_commit(db, key, session, now(), max(1, rows))
            for table, columns in (
                ("positions", "topic_id, partition, next_offset"),
                ("losses", "topic_id, partition, first, last, accepted_at"),
            ):
                db.execute(
                    f"INSERT INTO {table} SELECT topic, ?, {columns} FROM {table}"
                    " WHERE topic = ? AND generation = ?",
                    (generation, state.topic, state.generation),
                )
            db.execute(
                "UPDATE generations SET state = 'old', schema = ? WHERE topic = ?"
                " AND state = 'current'",
                (state.schema.dump(), state.topic),
            )
            db.execute(
                "UPDATE generations SET state = 'current', since_commit = ?, schema = ?"
                " WHERE topic = ? AND generation = ?",
                (number, schema.dump(), *key),
            )
            db.execute(
                "UPDATE lake_tables SET generation = ?, schema = ?,"
                " schema_version = schema_version + 1 WHERE topic = ?",
                (generation, schema.dump(), state.topic),
            )
            failpoint("replay.in_switch")
        return number

    @staticmethod
    def _must_stand_at(db: sqlite3.Connection, state: TableState) -> None:
        known = db.execute(
            "SELECT generation, topic_id, schema_version FROM lake_tables WHERE topic = ?",
            (state.topic,),
        ).fetchone()
        positions = LedgerDb._positions(db, state.topic, state.generation, state.topic_id)
        wanted = (state.generation, state.topic_id, state.schema_version)
        if known != wanted or positions != state.positions:
            raise CommitConflict(f"Table {state.topic} has moved on.")

    @staticmethod
    def _must_reach(db: sqlite3.Connection, key: tuple[str, int], state: TableState) -> None:
        ends = dict(
            db.execute(
                "SELECT partition, max(last) + 1 FROM ranges"
                " WHERE topic = ? AND generation = ? AND topic_id = ? GROUP BY partition",
                (*key, state.topic_id),
            ).fetchall()
        )
        lost: Mapping[int, int] = dict(
            db.execute(
                "SELECT partition, max(last) + 1 FROM losses"
                " WHERE topic = ? AND generation = ? AND topic_id = ? GROUP BY partition",
                (state.topic, state.generation, state.topic_id),
            ).fetchall()
        )
        for partition, position in state.positions.items():
            if max(ends.get(partition, -1), lost.get(partition, -1)) != position:
                raise LedgerError(
                    f"Generation {key[1]} of {key[0]}, partition {partition}, ends at"
                    f" {ends.get(partition)}; the table stands at {position}.",
                    "Nothing was changed. Start the rebuild again.",
                )

    def drop_generation(self, topic: str, generation: int, is_alive: Callable[[str], bool]) -> None:
        """Forget a generation that is not the current one; its files are replaced ones then.

        Args:
            topic: The table.
            generation: Which one.
            is_alive: Whether a session still runs.

        Raises:
            LedgerError: There is no such generation, it is the current one, or still being built.
            ServiceUnreachable: Somebody reads the lake at this moment.
        """
        with self._write() as db:
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
            if found[0] == "old" and any(is_alive(session) for session, _ in self.pins()):
                raise ServiceUnreachable(
                    f"Generation {generation} of {topic} may be in use: a reader has pinned the"
                    " lake's files.",
                    "Run it again once the batch's cycle is over.",
                )
            self._forget_generation(db, topic, generation)

    def drop_abandoned(self, topic: str, generation: int, session: str) -> bool:
        """Forget what a process that has ended was building.

        Returns:
            Whether it was still there: another process may have dropped it in the meantime, and a
            new rebuild may have got its number.
        """
        with self._write() as db:
            there = db.execute(
                "SELECT 1 FROM generations WHERE topic = ? AND generation = ?"
                " AND state = 'building' AND session = ?",
                (topic, generation, session),
            ).fetchone()
            if there:
                self._forget_generation(db, topic, generation)
        return there is not None

    def _forget_generation(self, db: sqlite3.Connection, topic: str, generation: int) -> None:
        """Its files are replaced ones from now on."""
        db.execute(
            "DELETE FROM file_commits WHERE file_id IN (SELECT file_id FROM files"
            " WHERE topic = ? AND generation = ?)",
            (topic, generation),
        )
        db.execute(
            "UPDATE files SET obsolete_at = ? WHERE topic = ? AND generation = ?"
            " AND obsolete_at IS NULL",
            (self._moment(db), topic, generation),
        )
        for table in _BOOKS:
            db.execute(
                f"DELETE FROM {table} WHERE topic = ? AND generation = ?", (topic, generation)
            )

    def abandoned(self, is_alive: Callable[[str], bool]) -> list[tuple[str, int, str]]:
        """(topic, generation, session) of what a process that has ended was building."""
        found = self._db.execute(
            "SELECT topic, generation, session FROM generations WHERE state = 'building'"
        ).fetchall()
        return [left for left in found if not is_alive(left[2])]

    # Gaps in the current generation --------------------------------------------------------

    def fill(
        self,
        state: TableState,
        session: str,
        gaps: Sequence[Gap],
        file: WrittenFile | None,
        schema: Schema,
        dead_letters: Sequence[DeadLetter] = (),
    ) -> int:
        """Commit rows below the positions: what was missing is new from now on.

        Returns:
            The commit's number.

        Raises:
            CommitConflict: Somebody else filled these offsets, the generation moved on, or the
                table is being rebuilt.
        """
        moment = now()
        key = (state.topic, state.generation)
        records = sum(h.span.rows for h in gaps) + len(dead_letters)
        with self._write() as db:
            self._must_be_current(db, *key)
            # A rebuild sees what is behind the positions; what changes below them it would lose.
            if db.execute(
                "SELECT 1 FROM generations WHERE topic = ? AND state = 'building'", (state.topic,)
            ).fetchone():
                raise CommitConflict(
                    f"Table {state.topic} is being rebuilt.",
                    "Start the replay again when that is over.",
                )
            number = self._add_commit(db, key, session, moment, records)
            if schema != state.schema:
                self._change_schema(db, state, schema)
            for gap in gaps:
                self._cut(db, key, gap)
                r = gap.span
                where = (*key, r.topic_id, r.partition)
                # The last one that begins before the end: the others end before it begins.
                if db.execute(
                    "SELECT 1 FROM ranges WHERE topic = ? AND generation = ? AND topic_id = ?"
                    " AND partition = ? AND last >= ? AND first = (SELECT max(first) FROM ranges"
                    "  WHERE topic = ? AND generation = ? AND topic_id = ? AND partition = ?"
                    "  AND first <= ?)",
                    (*where, r.first, *where, r.last),
                ).fetchone():
                    raise CommitConflict(
                        f"Table {state.topic}, partition {r.partition}: offsets {r.first} to"
                        f" {r.last} are in the lake already."
                    )
                self._add_ranges(db, key, number, [r])
                self._found_again(db, where, r)
            if file is not None:
                path = self.paths.relative(file.path)
                self._add_file(db, key, "hot", path, file, (number,), moment)
            self._add_dead_letters(db, key, state.topic_id, number, dead_letters)
            failpoint("replay.in_fill")
        return number

    @staticmethod
    def _cut(db: sqlite3.Connection, key: tuple[str, int], gap: Gap) -> None:
        for r in gap.cut:
            found = db.execute(
                "DELETE FROM ranges WHERE topic = ? AND generation = ? AND topic_id = ?"
                " AND partition = ? AND first = ? AND last = ? AND rows = ? RETURNING commit_no",
                (*key, r.topic_id, r.partition, r.first, r.last, r.rows),
            ).fetchone()
            if found is None:
                raise CommitConflict(f"Table {key[0]}: a range has changed meanwhile.")
            kept = [k for k in gap.kept if r.first <= k.first <= r.last]
            LedgerDb._add_ranges(db, key, found[0], kept)

    @staticmethod
    def _found_again(
        db: sqlite3.Connection, where: tuple[str, int, str, int], span: OffsetRange
    ) -> None:
        """What was accepted as lost and is there after all is no loss any more."""
        lost = db.execute(
            "DELETE FROM losses WHERE topic = ? AND generation = ? AND topic_id = ?"
            " AND partition = ? AND first <= ? AND last >= ? RETURNING first, last, accepted_at",
            (*where, span.last, span.first),
        ).fetchall()
        for first, last, moment in lost:
            for left, right in ((first, span.first - 1), (span.last + 1, last)):
                if left <= right:
                    db.execute(
                        "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (*where, left, right, moment),
                    )

    def replace_file(self, topic: str, generation: int, lost: int, file: WrittenFile) -> None:
        """Put a file with the same rows in the place of one that is lost or damaged.

        Raises:
            CommitConflict: The lost one was replaced meanwhile, or a compaction is about to.
        """
        with self._write() as db:
            self._must_be_current(db, topic, generation)
            for table, inputs in (("seals", "$[0]"), ("days", "$[2]")):
                if db.execute(
                    f"SELECT 1 FROM {table}, json_each(intent, ?) WHERE value = ?", (inputs, lost)
                ).fetchone():
                    raise CommitConflict(
                        f"A compaction that replaces a file of {topic} is half-way.",
                        "`ducklake compact --now` ends it; then start the replay again.",
                    )
            commits = [
                number
                for (number,) in db.execute(
                    "SELECT commit_no FROM file_commits WHERE file_id = ?", (lost,)
                )
            ]
            gone = db.execute(
                "UPDATE files SET obsolete_at = ? WHERE file_id = ? AND obsolete_at IS NULL",
                (self._moment(db), lost),
            ).rowcount
            if not gone:
                raise CommitConflict(f"A file of {topic} was replaced meanwhile.")
            db.execute("DELETE FROM file_commits WHERE file_id = ?", (lost,))
            path = self.paths.relative(file.path)
            self._add_file(db, (topic, generation), "hot", path, file, commits, now())
