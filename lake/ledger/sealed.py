"""The public files of a table in the order in which they became public, for who lists them.

Within one generation their numbers only grow: a file that replaces others is added in the same
transaction, under a number after all before. Of what was listed up to a number, files may have gone
since; their count, rows and bytes tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lake.ledger.core import LedgerCore
from lake.ledger.entries import LakeFile

_LIVE = "WHERE topic = ? AND generation = ? AND tier = 'sealed' AND obsolete_at IS NULL"


@dataclass(frozen=True, slots=True)
class SealedPosition:
    """How far a list of public files has come.

    Attributes:
        ledger: The identity of the ledger whose numbers these are.
        generation: Of the table.
        file_id: All public files up to this number are in the list.
    """

    ledger: str
    generation: int
    file_id: int

    def is_comparable(self, other: SealedPosition) -> bool:
        """Whether both are numbers of the same ledger's same generation."""
        return (self.ledger, self.generation) == (other.ledger, other.generation)


@dataclass(frozen=True, slots=True)
class Totals:
    """How many files, rows and bytes; the bytes are those of the files."""

    files: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class SealedFiles:
    """The public files of a table at one moment.

    Attributes:
        position: That of a list which has all of them.
        known: What there is up to the position that was asked for; None where that position is
            another ledger's or another generation's.
        new: The files after it; all files where `known` is None.
    """

    position: SealedPosition
    known: Totals | None
    new: tuple[LakeFile, ...]


class SealedReader:
    """Lists public files."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def after(self, topic: str, position: SealedPosition | None) -> SealedFiles | None:
        """What a list that has come to a position lacks; None where there is no such table.

        Args:
            topic: The table.
            position: How far the list has come; None: it is to be compared as a whole.
        """
        with self._core.reading() as db:
            found = db.execute(
                "SELECT generation FROM lake_tables WHERE topic = ?", (topic,)
            ).fetchone()
            if found is None:
                return None
            now = SealedPosition(self._core.identity(), int(found[0]), 0)
            same = position is not None and position.is_comparable(now)
            after = position.file_id if position is not None and same else 0
            rows = db.execute(
                "SELECT file_id, path, tier, rows, bytes, created_at, sha256 FROM files"
                f" {_LIVE} AND file_id > ? ORDER BY file_id",
                (topic, now.generation, after),
            ).fetchall()
            known = None
            if same:
                totals = db.execute(
                    "SELECT count(*), coalesce(sum(rows), 0), coalesce(sum(bytes), 0) FROM files"
                    f" {_LIVE} AND file_id <= ?",
                    (topic, now.generation, after),
                ).fetchone()
                known = Totals(*totals)
        new = tuple(LakeFile(i, self._core.paths.root / p, *rest) for i, p, *rest in rows)
        last = new[-1].file_id if new else after
        return SealedFiles(replace(now, file_id=last), known, new)
