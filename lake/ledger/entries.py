"""What the ledger's rows are called: values that its parts take and give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lake.formats import CompactionIntent, DateRewriteIntent, RunSummary
from lake.records import DeadLetter, OffsetRange
from lake.storage.parquet_files import WrittenFile
from lake.storage.paths import SealedName
from lake.storage.schema import Schema

NOW = 1 << 62
"""A commit number after all others."""


@dataclass(frozen=True, slots=True)
class TableState:
    """A raw table as the ledger knows it.

    Attributes:
        generation: Which rebuild of the table is current.
        topic_id: Kafka's id of the topic, 32 hex digits.
        positions: Partition to the next offset to read.
        epoch: How often the topic was made anew and that was accepted: offsets began again.
    """

    topic: str
    generation: int
    topic_id: str
    partitions: int
    schema: Schema
    schema_version: int
    positions: Mapping[int, int]
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A file that exists: its row in the ledger, and the path made absolute."""

    file_id: int
    path: Path
    tier: str
    rows: int
    bytes: int
    created_at: float
    sha256: str


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
class NewRows:
    """Where rows committed after N up to M are now: a file, and the offsets to take from it.

    `ranges` is empty where the whole file is meant.
    """

    path: Path
    ranges: tuple[OffsetRange, ...]


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


@dataclass(frozen=True, slots=True)
class OpenCompaction:
    """A compaction whose intent is recorded and that has not flipped yet."""

    number: int
    topic: str
    intent: CompactionIntent


@dataclass(frozen=True, slots=True)
class OpenDateRewrite:
    """A date rewrite whose intent is recorded and that has not flipped yet.

    Attributes:
        claimed_by: The session that exchanges the folders now, or died while it did; empty: none.
    """

    number: int
    topic: str
    intent: DateRewriteIntent
    claimed_by: str


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

    def dead_letters_by_topic_id(self) -> dict[str, list[DeadLetter]]:
        """The dead letters, each with the topic id of its commit."""
        found: dict[str, list[DeadLetter]] = {}
        for index, letter in self.dead_letters:
            found.setdefault(self.topic_id(index), []).append(letter)
        return found

    def topic_id(self, index: int) -> str:
        """The topic id of a commit's ranges."""
        return self.commits[index][0].topic_id


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the batch, from the run history.

    Attributes:
        number: Counted from 1.
        started_at: In seconds since the epoch.
        seconds: How long it took.
        first_commit: The commit after which what it showed was new.
        last_commit: The commit that it shows.
    """

    number: int
    started_at: float
    seconds: float
    first_commit: int
    last_commit: int
    summary: RunSummary
