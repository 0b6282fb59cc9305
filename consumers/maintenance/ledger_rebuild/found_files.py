"""The lake's files as they say themselves: footer, rows, and rows at each range."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.maintenance.ledger_rebuild.result import Restored
from lake.errors import LedgerError
from lake.formats import Footer
from lake.records import OffsetRange
from lake.storage.parquet_files import footer_of
from lake.storage.paths import LakePaths, SealedName
from lake.storage.schema import Schema


@dataclass(slots=True, eq=False)
class FoundFile:
    """A file as it says itself.

    Attributes:
        replaces: A damaged file whose rows these are, relative to the lake.
        counts: Rows at each range that are in this file.
        after: The newest commit number when it was written.
        epoch: Of its rows.
        live: Whether it was written when its generation was the current one.
    """

    path: Path
    tier: str
    generation: int
    rows: int
    after: int
    schema: Schema
    epoch: int
    replaces: str
    counts: dict[OffsetRange, int]
    live: bool = True


def look_at(paths: LakePaths, path: Path, result: Restored) -> tuple[str, FoundFile] | None:
    """The topic of a file, and what it says; None where it cannot be used: the result says why.

    Raises:
        LedgerError: It was written by a release whose files do not name their columns.
    """
    relative = paths.relative(path)
    try:
        about = Footer.load(footer_of(path), relative)
        if about is None:
            result.unknown.append(f"{relative} is not the lake's: left where it is.")
            return None
        ranges = list(about.ranges)
        places = _read_places(path)
    except (OSError, pa.ArrowInvalid) as error:
        result.quarantined.append(relative)
        result.unknown.append(
            f"{relative} is damaged ({type(error).__name__}): its rows are missing, and it goes to"
            " orphans/. `ducklake replay` fills what Kafka still holds."
        )
        return None
    tier = "hot" if relative.startswith("hot/") else "sealed"
    if about.schema is None:
        raise LedgerError(
            f"{relative} was written by one of the first releases: it does not name its columns.",
            "Bring back a backup of the ledger with `ducklake restore`.",
        )
    generation = about.generation
    if tier == "sealed":
        generation = int(relative.split("/")[1]) if relative.startswith("generations/") else 0
        partition = SealedName.parse(path.name).partition
        # A range without a row stands in a neighbour's footer: no file is its own.
        ranges = [r for r in ranges if r.partition == partition or not r.rows]
    epoch = places.column("_topic_epoch")[0].as_py() if places.num_rows else 0
    found = FoundFile(
        path,
        tier,
        generation,
        places.num_rows,
        about.after,
        about.schema,
        epoch,
        about.replaces,
        count_rows(places, ranges),
        about.generation == generation and not about.building,
    )
    return about.table, found


def _read_places(path: Path) -> pa.Table:
    """The places of a file's rows; every page is read, and must have its checksum."""
    parts = []
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            parts.append(rows.select(["_partition", "_offset", "_topic_epoch"]))
    return pa.concat_tables(parts)


def count_rows(places: pa.Table, ranges: Sequence[OffsetRange]) -> dict[OffsetRange, int]:
    """Rows at each range."""
    partitions = places.column("_partition").to_numpy()
    offsets = places.column("_offset").to_numpy()
    sorted_: dict[int, np.ndarray] = {}
    counts = {}
    for offset_range in ranges:
        if offset_range.partition not in sorted_:
            sorted_[offset_range.partition] = np.sort(offsets[partitions == offset_range.partition])
        first, last = np.searchsorted(
            sorted_[offset_range.partition], (offset_range.first, offset_range.next_offset)
        )
        counts[offset_range] = int(last - first)
    return counts


def sums_of(files: Iterable[FoundFile]) -> dict[OffsetRange, int]:
    """Rows of each range in some files together."""
    sums: dict[OffsetRange, int] = defaultdict(int)
    for file in files:
        for offset_range, count in file.counts.items():
            sums[offset_range] += count
    return sums
