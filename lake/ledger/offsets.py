"""Which offsets the lake has, has lost, and lacks: ranges in the order of their offsets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from lake.errors import CommitsJoined
from lake.ledger.core import LedgerCore
from lake.ledger.entries import NOW, Break
from lake.records import OffsetRange

PLACE = (
    "{0}.topic = :topic AND {0}.generation = :generation"
    " AND {0}.topic_id = :topic_id AND {0}.partition = :partition"
)
# Ranges do not overlap: all that touch a stretch begin within it, but for the last one before it.
# Asked for the ends alone, SQLite would look at every range from the beginning of the topic.
TOUCHING = (
    f"{PLACE.format('r')} AND r.first BETWEEN coalesce((SELECT max(b.first) FROM ranges b"
    f" WHERE {PLACE.format('b')} AND b.first <= :first), :first) AND :last AND r.last >= :first"
)
_SPANS = (
    "SELECT r.topic_id, partition, first, last, {1} AS rows FROM {0} r JOIN lake_tables t"
    " USING (topic, generation) WHERE r.topic = :topic"
)
# What is known of a table's offsets: what was read, and what was accepted as lost.
_KNOWN = f"({_SPANS.format('ranges', 'rows')} UNION ALL {_SPANS.format('losses', 0)})"


GENERATION_AT = (
    "(SELECT g.generation FROM generations g WHERE g.topic = :topic AND g.state <> 'building'"
    " AND g.since_commit <= :up_to ORDER BY g.since_commit DESC LIMIT 1)"
)


def stretch(topic: str, generation: int, span: OffsetRange) -> dict[str, object]:
    """The parameters of `_PLACE` and `_TOUCHING`."""
    return {
        "topic": topic,
        "generation": generation,
        "topic_id": span.topic_id,
        "partition": span.partition,
        "first": span.first,
        "last": span.last,
    }


def tells_apart(db: sqlite3.Connection, topic: str, generation: int | None, commit: int) -> bool:
    """Whether the ledger knows which rows came after a commit: it may lie among joined ones."""
    return (
        commit <= 0
        or not db.execute(
            "SELECT 1 FROM commits WHERE topic = ? AND generation = ? AND commit_no > ?"
            " AND since BETWEEN 1 AND ? AND records > 0",
            (topic, generation, commit, commit),
        ).fetchone()
    )


def must_tell_apart(
    db: sqlite3.Connection, topic: str, generation: int | None, commit: int
) -> None:
    """Refuse a question that has no answer any more.

    Raises:
        CommitsJoined: The commit lies among commits that were joined since.
    """
    if not tells_apart(db, topic, generation, commit):
        raise CommitsJoined(
            f"The ledger no longer knows which rows of {topic} came after commit {commit}: its"
            " readers had passed it, and its commits were joined.",
            "Take all rows of the table. The batch does so by itself in its next cycle.",
        )


def breaks_of(db: sqlite3.Connection, topic: str) -> list[Break]:
    """Where neighbouring ranges, losses among them, do not meet; in their order."""
    found = db.execute(
        "SELECT * FROM (SELECT topic_id, partition, lag(last) OVER (PARTITION BY topic_id,"
        f" partition ORDER BY first) + 1 AS before, first FROM {_KNOWN}) WHERE before <> first"
        " ORDER BY topic_id, partition, first",
        {"topic": topic},
    )
    return [Break(*row) for row in found]


class OffsetReader:
    """Answers what the ledger knows of offsets, of the current generation unless it is named."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def history(self, topic: str) -> Iterator[OffsetRange]:
        """Every range committed to a table, in the order of topic id, partition and offset."""
        return self._spans("ranges", "rows", topic)

    def losses(self, topic: str) -> list[OffsetRange]:
        """Every range that was lost, and accepted as lost, in the same order."""
        return list(self._spans("losses", "0", topic))

    def _spans(self, relation: str, rows: str, topic: str) -> Iterator[OffsetRange]:
        found = self._core.db.execute(
            f"{_SPANS.format(relation, rows)} ORDER BY r.topic_id, partition, first",
            {"topic": topic},
        )
        return (OffsetRange(*span) for span in found)

    def breaks(self, topic: str) -> list[Break]:
        """Where neighbouring ranges, losses among them, do not meet; in their order."""
        return breaks_of(self._core.db, topic)

    def ends(self, topic: str) -> dict[tuple[str, int], int]:
        """By topic id and partition: the offset after the last one that is known of."""
        found = self._core.db.execute(
            f"SELECT topic_id, partition, max(last) + 1 FROM {_KNOWN} GROUP BY 1, 2",
            {"topic": topic},
        )
        return {(topic_id, partition): end for topic_id, partition, end in found}

    def committed(
        self, topic: str, generation: int, after: int, up_to: int
    ) -> dict[int, list[OffsetRange]]:
        """The ranges of each commit after one, up to and including another."""
        found: dict[int, list[OffsetRange]] = {}
        for number, *span in self._core.db.execute(
            "SELECT r.commit_no, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM commits k JOIN ranges r USING (commit_no)"
            " WHERE k.topic = ? AND k.generation = ? AND k.commit_no > ? AND k.commit_no <= ?"
            " ORDER BY r.commit_no, r.partition",
            (topic, generation, after, up_to),
        ):
            found.setdefault(number, []).append(OffsetRange(*span))
        return found

    def of_files(self, files: Iterable[int]) -> list[tuple[int, OffsetRange]]:
        """(commit number, range) of all commits whose rows these files hold."""
        ids = json.dumps(list(files))
        found = self._core.db.execute(
            "SELECT DISTINCT r.commit_no, r.topic_id, r.partition, r.first, r.last, r.rows"
            " FROM file_commits c JOIN ranges r USING (commit_no)"
            " WHERE c.file_id IN (SELECT value FROM json_each(?)) ORDER BY r.partition, r.first",
            (ids,),
        )
        return [(number, OffsetRange(*rest)) for number, *rest in found]

    def within(self, topic: str, generation: int, span: OffsetRange) -> list[OffsetRange]:
        """The committed ranges that have offsets in a stretch, whole, in their order."""
        found = self._core.db.execute(
            "SELECT r.topic_id, r.partition, r.first, r.last, r.rows FROM ranges r"
            f" WHERE {TOUCHING} ORDER BY r.first",
            stretch(topic, generation, span),
        )
        return [OffsetRange(*row) for row in found]

    def without_rows(
        self, topic: str, generation: int, spans: Sequence[OffsetRange]
    ) -> list[OffsetRange]:
        """Ranges without a file that lie between some ranges of one partition, or before them.

        Before: back to the last range that has rows.
        """
        first, last = min(s.first for s in spans), max(s.last for s in spans)
        place = stretch(topic, generation, spans[0])
        found = self._core.db.execute(
            "SELECT r.topic_id, r.partition, r.first, r.last, r.rows FROM ranges r"
            f" WHERE {PLACE.format('r')} AND r.rows = 0 AND r.first < :last"
            " AND r.first > coalesce((SELECT b.last FROM ranges b"
            f"  WHERE {PLACE.format('b')} AND b.rows > 0 AND b.first < :first"
            "  ORDER BY b.first DESC LIMIT 1), -1)"
            " AND NOT EXISTS (SELECT 1 FROM file_commits c WHERE c.commit_no = r.commit_no)",
            {**place, "first": first, "last": last},
        )
        return [OffsetRange(*row) for row in found]

    def row_count(self, topic: str, up_to: int = NOW) -> int:
        """Rows committed to a table, by the ledger's own books.

        Raises:
            CommitsJoined: The commit lies among commits that were joined since.
        """
        with self._core.reading() as db:
            wanted = {"topic": topic, "up_to": up_to}
            [(generation,)] = db.execute(f"SELECT {GENERATION_AT}", wanted)
            must_tell_apart(db, topic, generation, up_to)
            # All of them but the newest: what it costs does not grow with the table.
            count: int = db.execute(
                "SELECT coalesce((SELECT rows FROM row_counts"
                "  WHERE topic = :topic AND generation = :generation), 0)"
                " - (SELECT coalesce(sum(r.rows), 0) FROM commits k JOIN ranges r USING (commit_no)"
                "  WHERE k.topic = :topic AND k.generation = :generation AND k.commit_no > :up_to)",
                {**wanted, "generation": generation},
            ).fetchone()[0]
        return count
