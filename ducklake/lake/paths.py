"""Where everything of the lake lies, below one data folder.

raw/{source}/{table}/year=YYYY/month=MM/day=DD/…   sealed: final, public
hot/{source}/{table}/{session}-{commit id}.parquet  fresh, private
staging/{session}/…                                 being written; same file system
orphans/…                                           what a killed session left, moved aside
ledger.db                                           the truth
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ducklake.config import TableRef

_SEALED = re.compile(
    r"t(?P<topic_id>[0-9a-f]{32})-(?P<partition>\d+)-(?P<first>\d+)-(?P<last>\d+)\.parquet"
)


@dataclass(frozen=True, slots=True)
class SealedName:
    """The name of a public file.

    Attributes:
        topic_id: Kafka's topic id, 32 hex digits.
        partition: The one partition whose rows it holds.
        first: The ledger position from which the file starts.
        last: The offset of its last record.
    """

    topic_id: str
    partition: int
    first: int
    last: int

    def name(self) -> str:
        """The file name."""
        return f"t{self.topic_id}-{self.partition}-{self.first}-{self.last}.parquet"

    @classmethod
    def parse(cls, name: str) -> SealedName:
        """Read a file name back.

        Raises:
            ValueError: It is not the name of a public file.
        """
        match = _SEALED.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not the name of a public file")
        return cls(
            match["topic_id"], int(match["partition"]), int(match["first"]), int(match["last"])
        )


@dataclass(frozen=True, slots=True)
class LakePaths:
    """The folders of one lake; `root` is the data folder."""

    root: Path

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.root / "ledger.db"

    @property
    def staging(self) -> Path:
        """Folder of the sessions that are writing."""
        return self.root / "staging"

    @property
    def orphans(self) -> Path:
        """Where recovery puts what killed sessions left."""
        return self.root / "orphans"

    @property
    def workers(self) -> Path:
        """Locks of the numbers of running workers."""
        return self.root / "workers"

    @property
    def published(self) -> Path:
        """Immutable Parquet snapshots of the models."""
        return self.root / "published"

    @property
    def lake_db(self) -> Path:
        """The DuckDB file that people open."""
        return self.root / "lake.duckdb"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file in which dbt works."""
        return self.root / "work" / "warehouse.duckdb"

    def hot(self, table: TableRef) -> Path:
        """Folder of a table's hot files."""
        return self.root / "hot" / table.source / table.table

    def raw(self, table: TableRef) -> Path:
        """Folder of a table's public files."""
        return self.root / "raw" / table.source / table.table

    def day(self, table: TableRef, day: date) -> Path:
        """Folder of one date partition."""
        return (
            self.raw(table) / f"year={day.year:04}" / f"month={day.month:02}" / f"day={day.day:02}"
        )

    def relative(self, path: Path) -> str:
        """A path as the ledger stores it: relative to the data folder."""
        return path.relative_to(self.root).as_posix()
