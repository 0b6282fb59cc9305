"""What is written down for later releases to read: one type for each format, with its version.

Each reads what earlier releases wrote, and refuses by name what a later one wrote. What had no
version yet is version 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from lake.errors import UnsupportedFormatVersion
from lake.records import OffsetRange
from lake.storage.schema import Schema


def _must_be_known(found: object, known: int, what: str) -> int:
    version = int(str(found))
    if version > known:
        raise UnsupportedFormatVersion(
            f"{what} has format version {version}; this release reads up to {known}.",
            "Use the release that wrote it, or a newer one. Nothing was changed.",
        )
    return version


def _dumped(entry: Any, indent: int | None = None) -> str:
    return json.dumps({"version": entry.VERSION, **asdict(entry)}, indent=indent)


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file says of itself, so that a lost ledger can be rebuilt.

    Attributes:
        table: The topic.
        generation: Of the table.
        ranges: What its commits read; rows of other files may be among them.
        after: The newest commit number when it was written: a ledger that is older than its files
            is found out by that.
        schema: Of the table, in which the file's columns are; None: the first releases did not say.
        building: Whether the generation was not the current one yet: all others prove that it was.
        replaces: A damaged file whose rows these are, relative to the lake.
    """

    VERSION: ClassVar[int] = 3
    _PREFIX: ClassVar[str] = "ducklake."

    table: str
    generation: int
    ranges: tuple[OffsetRange, ...]
    after: int
    schema: Schema | None
    building: bool = False
    replaces: str = ""

    def dump(self) -> dict[str, str]:
        """As key-value metadata of a Parquet file."""
        spans = [[r.topic_id, r.partition, r.first, r.last, r.rows] for r in self.ranges]
        about = {
            "version": str(self.VERSION),
            "table": self.table,
            "generation": str(self.generation),
            "ranges": json.dumps(spans),
            "after": str(self.after),
        }
        if self.schema is not None:
            about["schema"] = self.schema.dump()
        if self.building:
            about["building"] = "yes"
        if self.replaces:
            about["replaces"] = self.replaces
        return {self._PREFIX + key: value for key, value in about.items()}

    @classmethod
    def load(cls, metadata: Mapping[str, str], where: str) -> Footer | None:
        """From a file's metadata; None where the file is not the lake's.

        Raises:
            UnsupportedFormatVersion: A later release wrote it.
        """
        about = {key.removeprefix(cls._PREFIX): value for key, value in metadata.items()}
        if cls._PREFIX + "ranges" not in metadata:
            return None
        _must_be_known(about.get("version", 1), cls.VERSION, f"The footer of {where}")
        schema = about.get("schema")
        return cls(
            about["table"],
            int(about["generation"]),
            tuple(OffsetRange(*span) for span in json.loads(about["ranges"])),
            int(about.get("after", 0)),
            None if schema is None else Schema.load(schema),
            "building" in about,
            about.get("replaces", ""),
        )


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file that is written and about to get its place.

    Attributes:
        staged: Where it is, relative to the lake.
        final: Its place, relative to the lake.
        rows: How many it has.
        size: In bytes.
        sha256: Of its bytes.
        commits: The numbers of the commits whose rows it holds.
    """

    staged: str
    final: str
    rows: int
    size: int
    sha256: str
    commits: tuple[int, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> PlannedFile:
        """From its JSON object."""
        return cls(**{**entry, "commits": tuple(entry["commits"])})

    @classmethod
    def of_positions(
        cls, moves: Sequence[Any], commits: Sequence[Sequence[int]]
    ) -> tuple[PlannedFile, ...]:
        """From what version 1 wrote: the moves of an intent, and the commits of each."""
        pairs = zip(moves, commits, strict=True)
        return tuple(cls(*[*move, tuple(numbers)]) for move, numbers in pairs)


@dataclass(frozen=True, slots=True)
class CompactionIntent:
    """What a compaction is about to do; recovery rolls it forward from here.

    Attributes:
        inputs: Ids of the hot files that it replaces.
        outputs: The files that it has written and will rename.
    """

    VERSION: ClassVar[int] = 2

    inputs: tuple[int, ...]
    outputs: tuple[PlannedFile, ...]

    def dump(self) -> str:
        """As JSON."""
        return _dumped(self)

    @classmethod
    def load(cls, text: str) -> CompactionIntent:
        """From JSON; version 1 was an array of inputs, moves, and the commits of each move.

        Raises:
            UnsupportedFormatVersion: A later release wrote it.
        """
        found = json.loads(text)
        if isinstance(found, list):
            inputs, moves, commits = found
            return cls(tuple(inputs), PlannedFile.of_positions(moves, commits))
        _must_be_known(found["version"], cls.VERSION, "A compaction's intent")
        return cls(tuple(found["inputs"]), tuple(map(PlannedFile.of, found["outputs"])))


@dataclass(frozen=True, slots=True)
class DateRewriteIntent:
    """Two folders that are about to change places; recovery rolls it forward from here.

    Attributes:
        folder: Of the date partition, relative to the lake.
        staging: The folder that takes its place, relative to the lake.
        inputs: Ids of the files that are gone afterwards.
        outputs: The files that are there instead; others are in both folders.
    """

    VERSION: ClassVar[int] = 2

    folder: str
    staging: str
    inputs: tuple[int, ...]
    outputs: tuple[PlannedFile, ...]

    def dump(self) -> str:
        """As JSON."""
        return _dumped(self)

    @classmethod
    def load(cls, text: str) -> DateRewriteIntent:
        """From JSON; version 1 was an array of folders, inputs, moves, and commits of each move.

        Raises:
            UnsupportedFormatVersion: A later release wrote it.
        """
        found = json.loads(text)
        if isinstance(found, list):
            folder, staging, inputs, moves, commits = found
            outputs = PlannedFile.of_positions(moves, commits)
            return cls(folder, staging, tuple(inputs), outputs)
        _must_be_known(found["version"], cls.VERSION, "A date rewrite's intent")
        outputs = tuple(map(PlannedFile.of, found["outputs"]))
        return cls(found["folder"], found["staging"], tuple(found["inputs"]), outputs)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What one run of the batch came to, as the run history keeps it.

    Attributes:
        commit: The ledger's commit that it shows.
        models: Number of models that were to be built.
        tests: Number of tests that were to run.
        failed: Number of models and tests that failed.
        warned: Number of tests of severity warn that found something.
        held_back: Relation to the reason why its last good state stays published.
        seconds: Duration of each step.
        export_error: Why PostgreSQL was not brought up to date, where it was not.
        not_exported: Relation to the reason why PostgreSQL keeps its last state.
        why: Relation to the reason why it was built; what is behind another one is not named.
        since: Relation to the commit after which rows were new to it; 0: it was built from nothing.
        model_seconds: How long dbt took for each model that was built.
        rows_written: Rows of each that were written: those that changed, or all of them.
        whole: Models that a cycle always computes as a whole.
        left_columns: `schema.name.column` to the statement that drops it: columns in PostgreSQL
            that the rows of their table have no longer.
    """

    VERSION: ClassVar[int] = 6

    commit: int
    models: int
    tests: int
    failed: int
    warned: int
    held_back: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    export_error: str | None = None
    not_exported: Mapping[str, str] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    since: Mapping[str, int] = field(default_factory=dict)
    model_seconds: Mapping[str, float] = field(default_factory=dict)
    rows_written: Mapping[str, int] = field(default_factory=dict)
    whole: Sequence[str] = ()
    left_columns: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """As JSON."""
        return _dumped(self)

    @classmethod
    def load(cls, text: str) -> RunSummary:
        """From JSON; version 1 had no version in it.

        Raises:
            UnsupportedFormatVersion: A later release wrote it.
        """
        found = json.loads(text)
        _must_be_known(found.pop("version", 1), cls.VERSION, "The run history")
        return cls(**{**found, "whole": tuple(found.get("whole", ()))})


PublishedLayer = tuple[int, int, str, str, int, int]


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A model's published state.

    Attributes:
        path: Its file, relative to the lake.
        rows: How many it has.
        digest: Hash of its contents.
        primary_key: The columns of its key.
        description: What it is.
        columns: What each described column is.
        cycle: The cycle up to which it shows changes; -1: it is compared by its contents.
        layers: What changed since the file was written: of each layer its first and last cycle, the
            files of its keys and rows, the number of both, and that of keys.
        recent: The same for each of the last cycles.
    """

    path: str
    rows: int
    digest: str
    primary_key: Sequence[str] = ()
    description: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    cycle: int = -1
    layers: Sequence[PublishedLayer] = ()
    recent: Sequence[PublishedLayer] = ()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> PublishedModel:
        """From its JSON object."""
        listed = {
            name: tuple(tuple(layer) for layer in entry.get(name, ()))
            for name in ("layers", "recent")
        }
        return cls(**{**entry, **listed, "primary_key": tuple(entry.get("primary_key", ()))})


@dataclass(frozen=True, slots=True)
class PublishedIndex:
    """What is published.

    Attributes:
        models: Relation (`schema.name`) to its state.
        views: Relation to a hash of its view's text in the published file.
    """

    VERSION: ClassVar[int] = 3

    models: Mapping[str, PublishedModel]
    views: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """As JSON."""
        return _dumped(self, indent=1)

    @classmethod
    def load(cls, text: str) -> PublishedIndex:
        """From JSON; version 1 was an object of relations, each with path, rows and digest.

        Raises:
            UnsupportedFormatVersion: A later release wrote it.
        """
        found = json.loads(text)
        if "version" not in found:  # a relation has a dot in its name
            return cls({name: PublishedModel(*entry) for name, entry in found.items()})
        _must_be_known(found["version"], cls.VERSION, "The index of what is published")
        models = {name: PublishedModel.of(entry) for name, entry in found["models"].items()}
        return cls(models, found.get("views", {}))


@dataclass(frozen=True, slots=True)
class BackupManifest:
    """What a backup says of itself.

    Attributes:
        lake: The lake's name.
        ledger: The ledger's identity.
        made_at: When, in UTC.
        commit: The newest commit in it.
        cursors: How many.
    """

    VERSION: ClassVar[int] = 2

    lake: str
    ledger: str
    made_at: str
    commit: int
    cursors: int

    def dump(self) -> str:
        """As JSON."""
        return _dumped(self, indent=1)

    @classmethod
    def load(cls, text: str) -> BackupManifest:
        """From JSON; version 1 had no version in it.

        Raises:
            UnsupportedFormatVersion: A later release wrote it.
        """
        found = json.loads(text)
        _must_be_known(found.pop("version", 1), cls.VERSION, "The backup")
        return cls(**found)
