"""The ledger, composed: one connection, and a part for each thing that it knows of.

SQLite in WAL mode with full sync. Whoever only asks takes a `LedgerReader`: it has no part that
writes, and SQLite refuses every write through its connection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from lake.ledger.activity import ActivityReader
from lake.ledger.commits import CommitReader, Commits
from lake.ledger.compactions import Compactions
from lake.ledger.core import LedgerCore
from lake.ledger.date_rewrites import DateRewrites
from lake.ledger.dead_letters import DeadLetterReader, DeadLetters
from lake.ledger.files import FileReader, Files
from lake.ledger.freshness import FreshnessReader
from lake.ledger.generations import GenerationReader, Generations
from lake.ledger.intents import intended_paths
from lake.ledger.joining import Joins
from lake.ledger.offsets import OffsetReader
from lake.ledger.payloads import PayloadReader, Payloads
from lake.ledger.pins import Pins
from lake.ledger.readers import ReaderList, Readers
from lake.ledger.runs import RunHistory, RunReader
from lake.ledger.sealed import SealedReader
from lake.ledger.tables import TableReader, Tables
from lake.storage.paths import LakePaths


class LedgerReader:
    """Answers; changes nothing.

    Args:
        paths: The lake.
        file: The database, where it is not (yet) the lake's own.

    Raises:
        LedgerError: There are files, and no ledger; or it is one of an earlier release, and a
            process is at work in the lake.
        UnsupportedFormatVersion: A later release wrote it.
        ServiceUnreachable: It is being replaced now.
    """

    tables: TableReader
    files: FileReader
    commits: CommitReader
    generations: GenerationReader
    runs: RunReader
    dead_letters: DeadLetterReader
    readers: ReaderList
    freshness: FreshnessReader
    activity: ActivityReader

    def __init__(self, paths: LakePaths, file: Path | None = None) -> None:
        payloads = PayloadReader(paths)
        self._compose(LedgerCore(paths, file, read_only=True), payloads)
        self.tables = TableReader(self._core)
        self.files = FileReader(self._core, self.tables)
        self.commits = CommitReader(self._core)
        self.generations = GenerationReader(self._core)
        self.runs = RunReader(self._core)
        self.readers = ReaderList(self._core)
        self.dead_letters = DeadLetterReader(self._core, payloads)

    def _compose(self, core: LedgerCore, payloads: PayloadReader) -> None:
        self._core = core
        self._payloads = payloads
        self.paths = core.paths
        self.offsets = OffsetReader(core)
        self.freshness = FreshnessReader(core)
        self.activity = ActivityReader(core)
        self.sealed = SealedReader(core)

    def identity(self) -> str:
        """A name that this ledger keeps for life and no other has."""
        return self._core.identity()

    def intended_paths(self) -> frozenset[str]:
        """Relative paths, old and new, of the files that open intents name."""
        return intended_paths(self._core.db)

    def copy_to(self, path: Path) -> int:
        """Write the whole ledger, as of one moment, to a new file; others go on meanwhile.

        Returns:
            The highest commit number in it.
        """
        return self._core.copy_to(path)

    def close(self) -> None:
        """Close the connections."""
        self._payloads.close()
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Ledger(LedgerReader):
    """The same, with the parts that write.

    Args:
        paths: The lake.
        file: The database, where it is not (yet) the lake's own.
    """

    tables: Tables
    files: Files
    commits: Commits
    generations: Generations
    runs: RunHistory
    dead_letters: DeadLetters
    readers: Readers

    def __init__(self, paths: LakePaths, file: Path | None = None) -> None:
        core, payloads = LedgerCore(paths, file), Payloads(paths)
        self._compose(core, payloads)
        self.tables = Tables(core)
        self.files = Files(core, self.tables)
        self.commits = Commits(core, payloads)
        self.generations = Generations(core, payloads)
        self.dead_letters = DeadLetters(core, payloads)
        self.runs = RunHistory(core)
        self.compactions = Compactions(core)
        self.date_rewrites = DateRewrites(core)
        self.pins = Pins(core)
        self.readers = Readers(core)
        self.joins = Joins(core)
