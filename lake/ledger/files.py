"""The files that exist: which are live, what they hold, and where rows are now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from lake.errors import CommitConflict
from lake.ledger.core import LedgerCore, now
from lake.ledger.entries import CommittedFile, LakeFile, NewRows
from lake.ledger.intents import open_inputs
from lake.ledger.offsets import TOUCHING, must_tell_apart, stretch, tells_apart
from lake.ledger.statements import add_file, must_be_current
from lake.ledger.tables import TableReader
from lake.records import OffsetRange
from lake.storage.parquet_files import WrittenFile


class FileReader:
    """Answers what the ledger knows of files."""

    def __init__(self, core: LedgerCore, tables: TableReader) -> None:
        self._core = core
        self._tables = tables

    def hot(self, topic: str) -> tuple[LakeFile, ...]:
        """A table's live hot files, oldest first."""
        return self._files(topic, "AND tier = 'hot'")

    def live(self, topic: str) -> tuple[LakeFile, ...]:
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
        found = self._core.db.execute(
            "SELECT file_id, path, tier, f.rows, bytes, created_at, sha256 FROM files f " + which,
            values,
        )
        return tuple(LakeFile(i, self._core.paths.root / p, *rest) for i, p, *rest in found)

    def topic_ids(self, files: Iterable[int]) -> dict[int, str]:
        """The id of the topic from which the rows of each file came, by the file's id."""
        found = self._core.db.execute(
            "SELECT DISTINCT c.file_id, r.topic_id FROM file_commits c JOIN ranges r"
            " USING (commit_no) WHERE c.file_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(files)),),
        )
        return dict(found.fetchall())

    def contents(self, topic: str, generation: int, after: int, up_to: int) -> list[CommittedFile]:
        """The live files that hold rows of these commits, each with all its commits."""
        rows = self._core.db.execute(
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
                    self._core.paths.root / path,
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

    def new_rows(self, topic: str, after: int, up_to: int) -> tuple[NewRows, ...]:
        """Where the rows committed after one commit, up to and including another, are now.

        If the table was rebuilt in between, all rows of the new generation are new.

        Raises:
            CommitsJoined: One of them lies among commits that were joined since (`tells_apart`).
        """
        with self._core.reading() as db:
            generation = self._tables.generation_at(topic, up_to)
            if self._tables.generation_at(topic, after) != generation:
                after = 0
            for commit in (after, up_to):
                must_tell_apart(db, topic, generation, commit)
            found = db.execute(
                "SELECT f.file_id, f.path, r.topic_id, r.partition, r.first, r.last, r.rows"
                " FROM commits k JOIN file_commits c USING (commit_no) JOIN files f USING (file_id)"
                " JOIN ranges r USING (commit_no)"
                " WHERE k.topic = ? AND k.generation = ? AND k.commit_no > ? AND k.commit_no <= ?"
                " AND f.obsolete_at IS NULL ORDER BY f.file_id, r.partition, r.first",
                (topic, generation, after, up_to),
            ).fetchall()
        return tuple(
            NewRows(self._core.paths.root / path, joined(OffsetRange(*row[2:]) for row in rows))
            for (_, path), rows in groupby(found, itemgetter(0, 1))
        )

    def tells_apart(self, topic: str, after: int, up_to: int) -> bool:
        """Whether `new_rows` knows what came after a commit; where it does not, take everything.

        It does, but for a reader that comes back after it was away for long.
        """
        current = self._tables.generation_at(topic, up_to)
        if self._tables.generation_at(topic, after) != current:
            return True
        return tells_apart(self._core.db, topic, current, after)

    def within(self, topic: str, generation: int, span: OffsetRange) -> tuple[LakeFile, ...]:
        """The live files that may hold rows of a stretch."""
        return self._holding(topic, generation, span, TOUCHING)

    def holders(self, topic: str, generation: int, span: OffsetRange) -> tuple[LakeFile, ...]:
        """The live files of the commits that brought this range: by itself, joined, or in parts."""
        return self._holding(
            topic,
            generation,
            span,
            f"{TOUCHING} AND (r.first <= :first AND r.last >= :last"
            " OR r.first >= :first AND r.last <= :last)",
        )

    def _holding(
        self, topic: str, generation: int, span: OffsetRange, which: str
    ) -> tuple[LakeFile, ...]:
        return self._lake_files(
            "WHERE obsolete_at IS NULL AND file_id IN (SELECT file_id FROM ranges r"
            f"  JOIN file_commits USING (commit_no) WHERE {which})",
            stretch(topic, generation, span),
        )

    def knows(self, path: Path) -> bool:
        """Whether a file is one of the lake's."""
        relative = self._core.paths.relative(path)
        found = self._core.db.execute("SELECT 1 FROM files WHERE path = ?", (relative,))
        return found.fetchone() is not None

    def known_paths(self, tier: str) -> frozenset[str]:
        """Relative paths of all files of a tier, replaced ones included."""
        found = self._core.db.execute("SELECT path FROM files WHERE tier = ?", (tier,))
        return frozenset(path for (path,) in found)

    def obsolete(self, before: float) -> tuple[LakeFile, ...]:
        """Files that were replaced before a pin's moment."""
        return self._lake_files("WHERE obsolete_at < ?", (before,))


class Files(FileReader):
    """Forgets and replaces files."""

    def forget(self, file_id: int) -> None:
        """Drop the row of a replaced file, after the file itself."""
        with self._core.write() as db:
            db.execute(
                "DELETE FROM files WHERE file_id = ? AND obsolete_at IS NOT NULL", (file_id,)
            )

    def replace(self, topic: str, generation: int, lost: int, file: WrittenFile) -> None:
        """Put a file with the same rows in the place of one that is lost or damaged.

        Raises:
            CommitConflict: The lost one was replaced in the meantime, or a compaction is about to.
        """
        with self._core.write() as db:
            must_be_current(db, topic, generation)
            if any(lost in inputs for inputs in open_inputs(db)):
                raise CommitConflict(
                    f"A compaction that replaces a file of {topic} is incomplete.",
                    "`ducklake compact --now` completes it; then start the replay again.",
                )
            commits = [
                number
                for (number,) in db.execute(
                    "SELECT commit_no FROM file_commits WHERE file_id = ?", (lost,)
                )
            ]
            gone = db.execute(
                "UPDATE files SET obsolete_at = ? WHERE file_id = ? AND obsolete_at IS NULL",
                (self._core.moment(), lost),
            ).rowcount
            if not gone:
                raise CommitConflict(f"A file of {topic} was replaced in the meantime.")
            db.execute("DELETE FROM file_commits WHERE file_id = ?", (lost,))
            path = self._core.paths.relative(file.path)
            add_file(db, (topic, generation), "hot", path, file, commits, now())


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
