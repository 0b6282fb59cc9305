"""Where everything of the lake lies, below one data folder.

raw/{source}/{table}/year=YYYY/month=MM/day=DD/…   sealed: final, public
generations/{n}/{source}/{table}/…                  sealed, of a table that was rebuilt
hot/{source}/{table}/{session}-{commit id}.parquet  fresh, private
staging/{session}/…                                 being written; same file system
orphans/…                                           quarantine: what a killed session left
ledger.db                                           the truth
dead_letters.db                                     the bytes of dead letters
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from lake.config import TableRef

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
    def dead_letters(self) -> Path:
        """The bytes of dead letters."""
        return self.root / "dead_letters.db"

    @property
    def ledger_lock(self) -> Path:
        """Locked by all who have the ledger open, and alone by whoever replaces it."""
        return self.root / "ledger.lock"

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
    def run(self) -> Path:
        """What supervisors and roles tell of themselves, and the locks that say who lives."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Logs of the roles of `ducklake run`."""
        return self.root / "logs"

    @property
    def reconciliation(self) -> Path:
        """The last comparison of each table with its source."""
        return self.root / "reconciliation"

    @property
    def accepted_schemas(self) -> Path:
        """Which definition of each table with a drift policy is accepted."""
        return self.root / "schemas"

    @property
    def published(self) -> Path:
        """Immutable Parquet snapshots of the models."""
        return self.root / "published"

    @property
    def lineage(self) -> Path:
        """Which model reads which relations, as of the last cycle."""
        return self.root / "lineage.json"

    @property
    def definitions(self) -> Path:
        """What each model was last built from, as fingerprints."""
        return self.root / "definitions.json"

    @property
    def project_docs(self) -> Path:
        """What the dbt project says of its models and exposures, as of the last cycle."""
        return self.root / "project_docs.json"

    @property
    def alerts(self) -> Path:
        """Which alerts have begun, and which messages about them wait."""
        return self.root / "alerts.json"

    @property
    def disk_use(self) -> Path:
        """What the lake took of its disk when somebody looked."""
        return self.root / "disk_use.json"

    @property
    def iceberg(self) -> Path:
        """The metadata of the Iceberg tables; their data files are the public ones."""
        return self.root / "iceberg"

    @property
    def ducklake(self) -> Path:
        """The DuckLake catalogue of the public files, which is read only."""
        return self.root / "catalog.ducklake"

    @property
    def lake_db(self) -> Path:
        """The DuckDB file that people open."""
        return self.root / "lake.duckdb"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file in which dbt works."""
        return self.root / "work" / "warehouse.duckdb"

    @property
    def dbt_packages(self) -> Path:
        """Where the packages of the dbt project are installed."""
        return self.root / "work" / "dbt_packages"

    def hot(self, table: TableRef) -> Path:
        """Folder of a table's hot files."""
        return self.root / "hot" / table.source / table.table

    def raw(self, table: TableRef, generation: int = 0) -> Path:
        """Folder of a table's public files; each rebuilt generation has a tree of its own."""
        tree = self.root / "generations" / str(generation) if generation else self.root / "raw"
        return tree / table.source / table.table

    def day(self, table: TableRef, day: date, generation: int) -> Path:
        """Folder of one date partition."""
        return (
            self.raw(table, generation)
            / f"year={day.year:04}"
            / f"month={day.month:02}"
            / f"day={day.day:02}"
        )

    @staticmethod
    def day_of(file: Path) -> date:
        """The day whose rows a public file holds.

        Raises:
            ValueError: It does not lie in the folder of a day.
        """
        year, month, day = (int(part.partition("=")[2]) for part in file.parent.parts[-3:])
        return date(year, month, day)

    def lake_files(self) -> Iterator[Path]:
        """All Parquet files of the raw lake, whoever wrote them: hot and public ones."""
        for tree in ("hot", "raw", "generations"):
            yield from files_below(self.root / tree, ".parquet")

    def holds_files(self) -> bool:
        """Whether there is any file of the raw lake."""
        return next(self.lake_files(), None) is not None

    def relative(self, path: Path) -> str:
        """A path as the ledger stores it: relative to the data folder."""
        return path.relative_to(self.root).as_posix()


def files_below(folder: Path, suffix: str = "") -> Iterator[Path]:
    """The files of a tree from which others may remove folders meanwhile.

    pathlib's own search ends with an error there, up to Python 3.12.

    Raises:
        OSError: A folder that is there cannot be read.
    """

    def unless_gone(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for parent, _, names in os.walk(folder, onerror=unless_gone):
        yield from (Path(parent, name) for name in names if name.endswith(suffix))


def unknown_files(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """Files on disk that the ledger does not know, in order."""
    return sorted(set(found) - set(known))
