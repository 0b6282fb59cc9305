"""What the ledger answers: tables, positions, files, and what is new."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from lake.ledger.database import LakeFile, LedgerDb, NewRows, TableState
from lake.records import OffsetRange
from lake.storage.files import Session
from lake.storage.paths import SealedName
from lake.storage.schema import Schema

NOW = 1 << 62
"""A commit number after all others."""
_PLACE = (
    "{0}.topic = :topic AND {0}.generation = :generation"
    " AND {0}.topic_id = :topic_id AND {0}.partition = :partition"
)
# Ranges do not overlap: all that touch a stretch begin within it, but for the last one before it.
# Asked for the ends alone, SQLite would look at every range from the beginning of the topic.
_TOUCHING = (
    f"{_PLACE.format('r')} AND r.first BETWEEN coalesce((SELECT max(b.first) FROM ranges b"
    f" WHERE {_PLACE.format('b')} AND b.first <= :first), :first) AND :last AND r.last >= :first"
)
_SPANS = (
    "SELECT r.topic_id, partition, first, last, {1} AS rows FROM {0} r JOIN lake_tables t"
    " USING (topic, generation) WHERE r.topic = :topic"
)
# What is known of a table's offsets: what was read, and what was accepted as lost.
_KNOWN = f"({_SPANS.format('ranges', 'rows')} UNION ALL {_SPANS.format('losses', 0)})"


def _stretch(topic: str, generation: int, span: OffsetRange) -> dict[str, object]:
    """The parameters of `_PLACE` and `_TOUCHING`."""
    return {
        "topic": topic,
        "generation": generation,
        "topic_id": span.topic_id,
        "partition": span.partition,
        "first": span.first,
        "last": span.last,
    }


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A live file with all commits whose rows it holds.

    Attributes:
        file_id: Its number in the ledger.
        topic_id: Of the topic from which its rows came.
        commits: The numbers of the commits.
        ranges: Their ranges; a public file holds rows of one partition only.
    """

    file_id: int
    path: Path
    tier: str
    generation: int
    rows: int
    bytes: int
    sha256: str
    created_at: float
    topic_id: str
    commits: tuple[int, ...]
    ranges: tuple[OffsetRange, ...]

    def may_hold(self, span: OffsetRange) -> bool:
        """Whether rows of a range of its commits can be in it: all of them in a hot file."""
        return self.tier == "hot" or SealedName.parse(self.path.name).partition == span.partition


@dataclass(frozen=True, slots=True)
class Break:
    """Two neighbouring ranges that do not meet: a gap, or an overlap.

    Attributes:
        before: The offset after the one.
        first: The first offset of the other.
    """

    topic_id: str
    partition: int
    before: int
    first: int


class ReadingLedger(LedgerDb):
    """Answers; changes nothing but pins and the batch's diary."""

    # Tables and positions ------------------------------------------------------------------

    def table(self, topic: str) -> TableState | None:
        """The state of a table, or None where it was never seen."""
        row = self._db.execute(
            "SELECT generation, topic_id, partitions, schema, schema_version, epoch"
            " FROM lake_tables WHERE topic = ?",
            (topic,),
        ).fetchone()
        if row is None:
            return None
        positions = self._positions(self._db, topic, row[0], row[1])
        return TableState(
            topic, row[0], row[1], row[2], Schema.load(row[3]), row[4], positions, row[5]
        )

    def generation(self, topic: str, up_to: int) -> int | None:
        """Which generation of a table was current at a commit; None where there was none."""
        row = self._db.execute(
            "SELECT generation FROM generations WHERE topic = ? AND state <> 'building'"
            " AND since_commit <= ? ORDER BY since_commit DESC LIMIT 1",
            (topic, up_to),
        ).fetchone()
        return None if row is None else int(row[0])

    def schema(self, topic: str, up_to: int) -> Schema | None:
        """A table's schema as of a commit; it has all columns that its files then had."""
        state = self.table(topic)
        if state is None:
            return None
        generation = self.generation(topic, up_to)
        if generation in (None, state.generation):
            return state.schema
        [(text,)] = self._db.execute(
            "SELECT schema FROM generations WHERE topic = ? AND generation = ?",
            (topic, generation),
        )
        return Schema.load(text)

    def epochs(self, topic: str) -> dict[str, int]:
        """The epoch of each id that a table's topic has had."""
        return dict(
            self._db.execute("SELECT topic_id, epoch FROM epochs WHERE topic = ?", (topic,))
        )

    def history(self, topic: str) -> Iterator[OffsetRange]:
        """Every range committed to a table, in the order of topic id, partition and offset."""
        return self._spans("ranges", "rows", topic)

    def losses(self, topic: str) -> list[OffsetRange]:
        """Every range that was lost, and accepted as lost, in the same order."""
        return list(self._spans("losses", "0", topic))

    def _spans(self, relation: str, rows: str, topic: str) -> Iterator[OffsetRange]:
        found = self._db.execute(
            f"{_SPANS.format(relation, rows)} ORDER BY r.topic_id, partition, first",
            {"topic": topic},
        )
        return (OffsetRange(*span) for span in found)

    def breaks(self, topic: str) -> list[Break]:
        """Where neighbouring ranges, losses among them, do not meet; in their order."""
        found = self._db.execute(
            "SELECT * FROM (SELECT topic_id, partition, lag(last) OVER (PARTITION BY topic_id,"
            f" partition ORDER BY first) + 1 AS before, first FROM {_KNOWN}) WHERE before <> first"
            " ORDER BY topic_id, partition, first",
            {"topic": topic},
        )
        return [Break(*row) for row in found]

    def ends(self, topic: str) -> dict[tuple[str, int], int]:
        """By topic id and partition: the offset after the last one that is known of."""
        found = self._db.execute(
            f"SELECT topic_id, partition, max(last) + 1 FROM {_KNOWN} GROUP BY 1, 2",
            {"topic": topic},
        )
        return {(topic_id, partition): end for topic_id, partition, end in found}

    def topics(self) -> tuple[str, ...]:
        """All tables that the ledger knows."""
        return tuple(t for (t,) in self._db.execute("SELECT topic FROM lake_tables ORDER BY topic"))

    # Files ---------------------------------------------------------------------------------

    def hot_files(self, topic: str) -> tuple[LakeFile, ...]:
        """A table's live hot files, oldest first."""
        return self._files(topic, "AND tier = 'hot'")

    def live_files(self, topic: str) -> tuple[LakeFile, ...]:
        """All files that hold a table's rows now."""
        return self._files(topic, "")

    def _files(self, topic: str, condition: str) -> tuple[LakeFile, ...]:
        return self._lake_files(
            "JOIN lake_tables t USING (topic, generation)"
            f" WHERE topic = ? AND obsolete_at IS NULL {condition} ORDER BY file_id",
            (topic,),
        )

    def _lake_files(
        self, which: str, values: tuple[object, ...] | dict[str, object]
    ) -> tuple[LakeFile, ...]:
        """Rows of `files f`."""
        found = self._db.execute(
            "SELECT file_id, path, tier, f.rows, bytes, created_at, sha256 FROM files f " + which,
            values,
        )
        return tuple(LakeFile(i, self.paths.root / p, *rest) for i, p, *rest in found)

    def ranges_of(self, files: Iterable[int]) -> list[tuple[int, OffsetRange]]:
        """(commit number, range) of all commits whose rows these files hold."""
        ids = json.dumps(list(files))
        found = self._db.execute(
            "SELECT DISTINCT r.commit_no, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM file_commits c JOIN ranges r USING (commit_no)"
            " WHERE c.file_id IN (SELECT value FROM json_each(?)) ORDER BY r.partition, r.first",
            (ids,),
        )
        return [(number, OffsetRange(*rest)) for number, *rest in found]

    def topic_ids(self, files: Iterable[int]) -> dict[int, str]:
        """The id of the topic from which the rows of each file came, by the file's id."""
        found = self._db.execute(
            "SELECT DISTINCT c.file_id, r.topic_id FROM file_commits c JOIN ranges r"
            " USING (commit_no) WHERE c.file_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(files)),),
        )
        return dict(found.fetchall())

    def committed(
        self, topic: str, generation: int, after: int, up_to: int
    ) -> dict[int, list[OffsetRange]]:
        """The ranges of each commit after one, up to and including another."""
        found: dict[int, list[OffsetRange]] = {}
        for number, *span in self._db.execute(
            "SELECT r.commit_no, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM commits k JOIN ranges r USING (commit_no)"
            " WHERE k.topic = ? AND k.generation = ? AND k.commit_no > ? AND k.commit_no <= ?"
            " ORDER BY r.commit_no, r.partition",
            (topic, generation, after, up_to),
        ):
            found.setdefault(number, []).append(OffsetRange(*span))
        return found

    def contents(self, topic: str, generation: int, after: int, up_to: int) -> list[CommittedFile]:
        """The live files that hold rows of these commits, each with all its commits."""
        rows = self._db.execute(
            "SELECT f.file_id, f.path, f.tier, f.generation, f.rows, f.bytes, f.sha256,"
            " f.created_at, r.commit_no, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM files f JOIN file_commits c USING (file_id) JOIN ranges r USING (commit_no)"
            " WHERE f.obsolete_at IS NULL AND f.file_id IN (SELECT file_id FROM commits k"
            "  JOIN file_commits USING (commit_no) WHERE k.topic = ? AND k.generation = ?"
            "  AND k.commit_no > ? AND k.commit_no <= ?)"
            " ORDER BY f.file_id, r.commit_no, r.partition",
            (topic, generation, after, up_to),
        )
        files = []
        for _, group in groupby(rows, itemgetter(0)):
            listed = list(group)
            file_id, path, tier, number, count, size, sha256, born = listed[0][:8]
            spans = tuple(OffsetRange(*row[9:]) for row in listed)
            files.append(
                CommittedFile(
                    file_id,
                    self.paths.root / path,
                    tier,
                    number,
                    count,
                    size,
                    sha256,
                    born,
                    spans[0].topic_id,
                    tuple(dict.fromkeys(row[8] for row in listed)),
                    spans,
                )
            )
        return files

    def ranges_within(self, topic: str, generation: int, span: OffsetRange) -> list[OffsetRange]:
        """The committed ranges that have offsets in a stretch, whole, in their order."""
        found = self._db.execute(
            "SELECT r.topic_id, r.partition, r.first, r.last, r.rows FROM ranges r"
            f" WHERE {_TOUCHING} ORDER BY r.first",
            _stretch(topic, generation, span),
        )
        return [OffsetRange(*row) for row in found]

    def empty_ranges(
        self, topic: str, generation: int, spans: Sequence[OffsetRange]
    ) -> list[OffsetRange]:
        """Ranges without a file that lie between some ranges of one partition, or before them.

        Before: back to the last range that has rows.
        """
        first, last = min(s.first for s in spans), max(s.last for s in spans)
        stretch = _stretch(topic, generation, spans[0])
        found = self._db.execute(
            "SELECT r.topic_id, r.partition, r.first, r.last, r.rows FROM ranges r"
            f" WHERE {_PLACE.format('r')} AND r.rows = 0 AND r.first < :last"
            " AND r.first > coalesce((SELECT b.last FROM ranges b"
            f"  WHERE {_PLACE.format('b')} AND b.rows > 0 AND b.first < :first"
            "  ORDER BY b.first DESC LIMIT 1), -1)"
            " AND NOT EXISTS (SELECT 1 FROM file_commits c WHERE c.commit_no = r.commit_no)",
            {**stretch, "first": first, "last": last},
        )
        return [OffsetRange(*row) for row in found]

    def files_within(self, topic: str, generation: int, span: OffsetRange) -> tuple[LakeFile, ...]:
        """The live files that may hold rows of a stretch."""
        return self._holding(topic, generation, span, _TOUCHING)

    def holders(self, topic: str, generation: int, span: OffsetRange) -> tuple[LakeFile, ...]:
        """The live files of the commit that brought just this range."""
        return self._holding(
            topic,
            generation,
            span,
            f"{_PLACE.format('r')} AND r.last = :last AND r.first = :first",
        )

    def _holding(
        self, topic: str, generation: int, span: OffsetRange, which: str
    ) -> tuple[LakeFile, ...]:
        return self._lake_files(
            "WHERE obsolete_at IS NULL AND file_id IN (SELECT file_id FROM ranges r"
            f"  JOIN file_commits USING (commit_no) WHERE {which})",
            _stretch(topic, generation, span),
        )

    def knows(self, path: Path) -> bool:
        """Whether a file is one of the lake's."""
        relative = self.paths.relative(path)
        found = self._db.execute("SELECT 1 FROM files WHERE path = ?", (relative,))
        return found.fetchone() is not None

    def known_paths(self, tier: str) -> frozenset[str]:
        """Relative paths of all files of a tier, replaced ones included."""
        found = self._db.execute("SELECT path FROM files WHERE tier = ?", (tier,))
        return frozenset(path for (path,) in found)

    # Reading -------------------------------------------------------------------------------

    def last_commit(self) -> int:
        """The newest commit that brought something; 0 where there is none."""
        row = self._db.execute(
            "SELECT commit_no FROM commits WHERE records > 0 ORDER BY commit_no DESC LIMIT 1"
        ).fetchone()
        return int(row[0]) if row else 0

    def new_rows(self, topic: str, after: int, up_to: int) -> tuple[NewRows, ...]:
        """Where the rows committed after one commit, up to and including another, are now.

        If the table was rebuilt in between, all rows of the new generation are new.
        """
        generation = self.generation(topic, up_to)
        if self.generation(topic, after) != generation:
            after = 0
        found = self._db.execute(
            "SELECT f.file_id, f.path, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM commits k JOIN file_commits c USING (commit_no) JOIN files f USING (file_id)"
            " JOIN ranges r USING (commit_no)"
            " WHERE k.topic = ? AND k.generation = ? AND k.commit_no > ? AND k.commit_no <= ?"
            " AND f.obsolete_at IS NULL ORDER BY f.file_id, r.partition, r.first",
            (topic, generation, after, up_to),
        )
        return tuple(
            NewRows(self.paths.root / path, joined(OffsetRange(*row[2:]) for row in rows))
            for (_, path), rows in groupby(found, itemgetter(0, 1))
        )

    def row_count(self, topic: str, up_to: int = NOW) -> int:
        """Rows committed to a table, by the ledger's own books."""
        count: int = self._db.execute(
            "SELECT coalesce(sum(rows), 0) FROM ranges"
            " WHERE topic = ? AND generation = ? AND commit_no <= ?",
            (topic, self.generation(topic, up_to), up_to),
        ).fetchone()[0]
        return count

    def dead_letters(self, up_to: int) -> list[tuple[object, ...]]:
        """Dead letters committed up to a commit: the columns of raw.dead_letters."""
        return self._db.execute(
            "SELECT topic, partition, offset, kafka_ts, source_table, reason, key, value, headers"
            " FROM dead_letters d WHERE commit_no <= :up_to AND generation = (SELECT g.generation"
            " FROM generations g WHERE g.topic = d.topic AND g.state <> 'building'"
            " AND g.since_commit <= :up_to ORDER BY g.since_commit DESC LIMIT 1)"
            " ORDER BY commit_no, partition, offset",
            {"up_to": up_to},
        ).fetchall()

    def dead_letter_count(self, topic: str) -> int:
        """Dead letters of a table."""
        count: int = self._db.execute(
            "SELECT count(*) FROM dead_letters JOIN lake_tables USING (topic, generation)"
            " WHERE topic = ?",
            (topic,),
        ).fetchone()[0]
        return count

    def dead_letter_offsets(self, topic: str, span: OffsetRange) -> list[int]:
        """Offsets within a range whose records are dead letters."""
        found = self._db.execute(
            "SELECT offset FROM dead_letters JOIN lake_tables t USING (topic, generation)"
            " WHERE topic = ? AND dead_letters.topic_id = ? AND partition = ?"
            " AND offset BETWEEN ? AND ? ORDER BY offset",
            (topic, span.topic_id, span.partition, span.first, span.last),
        )
        return [offset for (offset,) in found]

    def newest_commit_time(self, topic: str) -> float | None:
        """When the newest rows of a table were committed, in seconds since the epoch."""
        row = self._db.execute(
            "SELECT committed_at FROM commits JOIN lake_tables USING (topic, generation)"
            " WHERE topic = ? AND records > 0 ORDER BY commit_no DESC LIMIT 1",
            (topic,),
        ).fetchone()
        return None if row is None else float(row[0])

    # Readers that need files to stay, and the batch's diary -----------------------------------

    def pin(self, session: str) -> int:
        """Keep every file that is live now until `unpin`; returns the newest commit's number."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO pins VALUES (?, ?)", (session, self._moment(db)))
            return self.last_commit()

    def unpin(self, session: str) -> None:
        """Let go of the files that `pin` kept."""
        with self._write() as db:
            db.execute("DELETE FROM pins WHERE session = ?", (session,))

    def pins(self) -> list[tuple[str, float]]:
        """(session, moment) of every pin."""
        return self._db.execute("SELECT session, pinned_at FROM pins").fetchall()

    def record_cycle(
        self, started_at: float, seconds: float, first: int, last: int, summary: str
    ) -> int:
        """Write one line of the batch's diary."""
        with self._write() as db:
            cycle = db.execute(
                "INSERT INTO cycles (started_at, seconds, first_commit, last_commit, summary)"
                " VALUES (?, ?, ?, ?, ?)",
                (started_at, seconds, first, last, summary),
            ).lastrowid
        assert cycle is not None
        return cycle

    def last_cycle(self) -> tuple[int, float, float, int, str] | None:
        """(cycle, started at, seconds, last commit, summary as JSON) of the newest cycle."""
        row: tuple[int, float, float, int, str] | None = self._db.execute(
            "SELECT cycle, started_at, seconds, last_commit, summary FROM cycles"
            " ORDER BY cycle DESC LIMIT 1"
        ).fetchone()
        return row


@contextmanager
def pinned(ledger: ReadingLedger, session: Session) -> Iterator[int]:
    """Keep every file that is live now, for the time of the block; gives the newest commit."""
    try:
        yield ledger.pin(session.id)
    finally:
        ledger.unpin(session.id)


def joined(ranges: Iterable[OffsetRange]) -> tuple[OffsetRange, ...]:
    """Neighbouring ranges of a partition as one."""
    joined: list[OffsetRange] = []
    for span in ranges:
        last = joined[-1] if joined else None
        if last and last.partition == span.partition and last.next_offset == span.first:
            joined[-1] = OffsetRange(
                last.topic_id, last.partition, last.first, span.last, last.rows + span.rows
            )
        else:
            joined.append(span)
    return tuple(joined)
