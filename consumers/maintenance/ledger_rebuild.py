"""A lost ledger made anew from what the lake's files say of themselves in their footers.

What the files cannot say is named, never guessed: dead letters, accepted losses, and offsets that
were read without a row (markers, aborted records) between two files. `ducklake replay` asks Kafka.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from consumers.replay.offset_ranges import Stretch, uncovered_ranges
from lake.errors import LedgerError
from lake.failpoints import failpoint
from lake.formats import Footer
from lake.kafka.topics import TopicIdentity
from lake.ledger.core import LedgerCore
from lake.ledger.replacing import at_rest, put_in_place
from lake.ledger.restoring import KnownTable, RestoredFile, restore
from lake.records import OffsetRange
from lake.storage.files import WrittenFile, footer_of, quarantine, sha256_of
from lake.storage.paths import LakePaths, SealedName
from lake.storage.schema import Schema

Progress = Callable[[int, int], None]
Key = tuple[str, int]
"""Topic and generation."""


@dataclass(slots=True, eq=False)
class FoundFile:
    """A file as it says itself.

    Attributes:
        replaces: A damaged file whose rows these are, relative to the lake.
        counts: Rows of each span that are in this file.
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


@dataclass(slots=True)
class Restored:
    """What a restoration came to.

    Attributes:
        unknown: What the files could not say, a sentence each, with the remedy.
        aside: Damaged files and those whose rows are in others, relative to the lake: moved to
            the orphans.
    """

    tables: int = 0
    files: int = 0
    rows: int = 0
    unknown: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)


def restore_ledger(
    paths: LakePaths,
    identities: Mapping[str, TopicIdentity],
    dry: bool = False,
    progress: Progress = lambda done, total: None,
) -> Restored:
    """Make the ledger anew from the files.

    Args:
        paths: The lake.
        identities: Kafka's topics, as far as it can be asked.
        dry: Only say what would be done.
        progress: Called with each file.

    Raises:
        LedgerError: A process is at work in the lake.
    """
    with at_rest(paths):
        return _restore(paths, identities, dry, progress)


def _restore(
    paths: LakePaths, identities: Mapping[str, TopicIdentity], dry: bool, progress: Progress
) -> Restored:
    result = Restored()
    by_key: dict[Key, list[FoundFile]] = defaultdict(list)
    listed = sorted(paths.lake_files())
    for done, path in enumerate(listed):
        found = _look(paths, path, result)
        if found is not None:
            by_key[found[0], found[1].generation].append(found[1])
        progress(done + 1, len(listed))
    damaged = [path for files in by_key.values() for path in _drop_replaced(paths, files)]
    tables, redundant = _choose(by_key, identities, result)
    result.aside += map(paths.relative, [*damaged, *(f.path for f in redundant)])
    result.tables = len(tables)
    if dry:
        return result
    for relative in result.aside:
        failpoint("restore.before_aside")
        quarantine(paths, paths.root / relative)
    newest = max((f.after for files in by_key.values() for f in files), default=0)
    _write(paths, tables, newest)
    return result


def _drop_replaced(paths: LakePaths, files: list[FoundFile]) -> list[Path]:
    """Take out damaged files that were written again; gives their paths."""
    replaced = {file.replaces for file in files}
    gone = {file for file in files if paths.relative(file.path) in replaced}
    files[:] = [file for file in files if file not in gone]
    return sorted(file.path for file in gone)


# Looking -------------------------------------------------------------------------------------


def _look(paths: LakePaths, path: Path, result: Restored) -> tuple[str, FoundFile] | None:
    relative = paths.relative(path)
    try:
        about = Footer.load(footer_of(path), relative)
        if about is None:
            result.unknown.append(f"{relative} is not the lake's: left where it is.")
            return None
        spans = list(about.ranges)
        places = _read_all(path)
    except (OSError, pa.ArrowInvalid) as error:
        result.aside.append(relative)
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
        spans = [span for span in spans if span.partition == partition or not span.rows]
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
        _count(places, spans),
        about.generation == generation and not about.building,
    )
    return about.table, found


def _read_all(path: Path) -> pa.Table:
    """The places of a file's rows; every page is read, and must have its checksum."""
    parts = []
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            parts.append(rows.select(["_partition", "_offset", "_topic_epoch"]))
    return pa.concat_tables(parts)


def _count(places: pa.Table, spans: Sequence[OffsetRange]) -> dict[OffsetRange, int]:
    """Rows of each span."""
    partitions = places.column("_partition").to_numpy()
    offsets = places.column("_offset").to_numpy()
    sorted_: dict[int, np.ndarray] = {}
    counts = {}
    for span in spans:
        if span.partition not in sorted_:
            sorted_[span.partition] = np.sort(offsets[partitions == span.partition])
        first, last = np.searchsorted(sorted_[span.partition], (span.first, span.next_offset))
        counts[span] = int(last - first)
    return counts


# Choosing ------------------------------------------------------------------------------------


def _choose(
    by_key: Mapping[Key, list[FoundFile]],
    identities: Mapping[str, TopicIdentity],
    result: Restored,
) -> tuple[list[KnownTable], list[FoundFile]]:
    """The tables that the files make up, and the files that are not needed for them."""
    tables, redundant = [], []
    for topic in sorted({topic for topic, _ in by_key}):
        generations: dict[int, list[FoundFile]] = {}
        for number in sorted(number for name, number in by_key if name == topic):
            kept, left = chosen_files(by_key[topic, number])
            generations[number] = kept
            redundant += left
        current = _current(generations)
        for number in [n for n in generations if n > current]:
            redundant += generations.pop(number)
            result.unknown.append(
                f"{topic}: generation {number} was not complete: a rebuild that was interrupted."
            )
        table = _table(topic, generations, current, identities.get(topic), result)
        tables.append(table)
        result.files += sum(len(files) for files in generations.values())
        result.rows += sum(f.rows for f in generations[current])
    return tables, redundant


def chosen_files(files: Sequence[FoundFile]) -> tuple[list[FoundFile], list[FoundFile]]:
    """The files of a generation that hold each row once, and those that only repeat rows.

    A compaction that was interrupted leaves the same rows in public and in hot files: the public
    ones are taken where they have all of a commit's rows, else the hot ones.
    """
    sealed = [f for f in files if f.tier == "sealed"]
    hot = sorted(
        (f for f in files if f.tier == "hot"), key=lambda f: (-len(f.counts), -f.after, f.path)
    )
    whole = {s for f in hot for s, n in f.counts.items() if n == s.rows}
    while True:
        have = _sums(sealed)
        # A hot file with a row that is not public is taken, and then with all its rows.
        needed = [f for f in hot if any(n and have[s] < s.rows for s, n in f.counts.items())]
        taken = {s for f in needed for s, n in f.counts.items() if n and s in whole}
        half = {
            f
            for f in sealed
            if any(n and s in taken for s, n in f.counts.items())
            and all(s in whole for s, n in f.counts.items() if n)
        }
        if not half:
            break
        sealed = [f for f in sealed if f not in half]
    kept = set(sealed)
    have = _sums(sealed)
    for file in hot:
        if any(n and have[s] + n <= s.rows for s, n in file.counts.items()):
            kept.add(file)
            for span, count in file.counts.items():
                have[span] += count
    return [f for f in files if f in kept], [f for f in files if f not in kept]


def _sums(files: Iterable[FoundFile]) -> dict[OffsetRange, int]:
    sums: dict[OffsetRange, int] = defaultdict(int)
    for file in files:
        for span, count in file.counts.items():
            sums[span] += count
    return sums


def _current(generations: Mapping[int, Sequence[FoundFile]]) -> int:
    """The newest generation that was switched to, or that might have been: it lacks no row."""
    current = min(generations)
    for number, files in sorted(generations.items()):
        if any(f.live for f in files) or not _lacks_rows(files, generations[current]):
            current = number
    return current


def _lacks_rows(files: Sequence[FoundFile], older: Sequence[FoundFile]) -> bool:
    """Whether older files have rows at offsets that the files do not speak of, or only half."""
    spans = [span for span, n in _sums(files).items() if n >= span.rows]
    for file in older:
        for span in [s for s, n in file.counts.items() if n]:
            around = [s for s in spans if _overlap(s, span)]
            open_ = uncovered_ranges(around, Stretch(span.partition, span.first, span.next_offset))
            if open_ and _rows_at(file, span, open_):
                return True
    return False


def _rows_at(file: FoundFile, span: OffsetRange, stretches: Sequence[Stretch]) -> int:
    places = pq.read_table(file.path, columns=["_partition", "_offset"])
    parts = [OffsetRange(span.topic_id, s.partition, s.first, s.end - 1, 0) for s in stretches]
    return sum(_count(places, parts).values())


def _table(
    topic: str,
    generations: Mapping[int, list[FoundFile]],
    current: int,
    identity: TopicIdentity | None,
    result: Restored,
) -> KnownTable:
    files = generations[current]
    schema = Schema()
    for file in sorted(files, key=lambda f: f.after):
        schema = schema.united(file.schema)
    epochs = {
        s.topic_id: f.epoch for listed in generations.values() for f in listed for s in f.counts
    }
    topic_id = max(epochs, key=lambda i: epochs[i])
    partitions = 1 + max(s.partition for f in files for s in f.counts)
    if identity is not None and identity.topic_id == topic_id:
        partitions = identity.partitions
    else:
        result.unknown.append(
            f"{topic}: Kafka could not be asked for the number of its partitions; the files show"
            f" {partitions}. If it has more, `ducklake accept-loss {topic}` goes on."
        )
    restored = []
    all_ranges = {number: _ranges(listed) for number, listed in generations.items()}
    for number, listed in generations.items():
        ranges = all_ranges[number]
        known = {_place(r): r for r in ranges}
        for file in listed:
            filled = [s for s, n in file.counts.items() if n]
            mine = [known[_place(s)] for s in filled if _place(s) in known]
            cut = [s for s in filled if _place(s) not in known]
            mine += [r for r in ranges if any(_overlap(r, s) for s in cut) and r not in mine]
            written = WrittenFile(
                file.path, file.path.stat().st_size, sha256_of(file.path), file.rows
            )
            restored.append(RestoredFile(number, file.tier, written, tuple(mine)))
        if number == current:
            _say_what_is_unknown(topic, ranges, listed, result)
    return KnownTable(
        topic,
        current,
        topic_id,
        partitions,
        schema,
        epochs,
        tuple(restored),
        {number: tuple(found) for number, found in all_ranges.items()},
    )


def _ranges(files: Sequence[FoundFile]) -> list[OffsetRange]:
    """The ranges that the files cover: what was filled in later cuts what was there before."""
    have = _sums(files)
    spans = sorted(have, key=lambda r: (r.topic_id, r.partition, r.first, r.last))
    if any(_overlap(one, other) for one, other in pairwise(spans)):
        spans = _cut(files)
    return [
        OffsetRange(
            r.topic_id, r.partition, r.first, r.last, have[r] if r in have else _rows(r, files)
        )
        for r in spans
    ]


def _cut(files: Sequence[FoundFile]) -> list[OffsetRange]:
    """Ranges that overlap: the newer one cuts the older one."""
    written: dict[OffsetRange, int] = {}
    for file in files:
        for span in file.counts:
            written[span] = min(written.get(span, file.after), file.after)
    placed: list[OffsetRange] = []
    for span in sorted(written, key=lambda s: (written[s], s.first)):
        for old in [p for p in placed if _overlap(p, span)]:
            placed.remove(old)
            placed += _parts(old, span)
        placed.append(span)
    return sorted(placed, key=lambda r: (r.topic_id, r.partition, r.first))


def _rows(span: OffsetRange, files: Iterable[FoundFile]) -> int:
    """Rows at the offsets of a range that no footer names."""
    found = 0
    for file in files:
        if any(_overlap(span, known) and n for known, n in file.counts.items()):
            places = pq.read_table(file.path, columns=["_partition", "_offset"])
            found += _count(places, [span])[span]
    return found


def _place(span: OffsetRange) -> tuple[str, int, int, int]:
    return (span.topic_id, span.partition, span.first, span.last)


def _overlap(one: OffsetRange, other: OffsetRange) -> bool:
    return (
        (one.topic_id, one.partition) == (other.topic_id, other.partition)
        and one.first <= other.last
        and other.first <= one.last
    )


def _parts(old: OffsetRange, new: OffsetRange) -> list[OffsetRange]:
    """What is left of a range around a newer one; its rows are not known."""
    sides = ((old.first, new.first - 1), (new.last + 1, old.last))
    return [
        OffsetRange(old.topic_id, old.partition, first, last, -1)
        for first, last in sides
        if first <= last
    ]


def _say_what_is_unknown(
    topic: str, ranges: Sequence[OffsetRange], files: Sequence[FoundFile], result: Restored
) -> None:
    have = _sums(files)
    halves = [s for s, n in have.items() if n < s.rows]
    lacking = sum(s.rows - have[s] for s in halves)
    if lacking:
        result.unknown.append(
            f"{topic}: {lacking} rows of {len(halves)} commits are in no file."
            f" `ducklake replay {topic}` fills what Kafka still holds."
        )
    gaps = sum(
        (one.topic_id, one.partition) == (other.topic_id, other.partition)
        and other.first > one.next_offset
        for one, other in pairwise(ranges)
    )
    result.unknown.append(
        f"{topic}: dead letters, accepted losses, and what was read behind the last row are not in"
        f" files; {gaps} gaps between files. `ducklake replay {topic}` asks Kafka."
    )


# Writing -------------------------------------------------------------------------------------


def _write(paths: LakePaths, tables: Sequence[KnownTable], newest: int) -> None:
    """Write the new ledger, and put it in the place of the old one, which is kept."""
    fresh = paths.root / "ledger.db.restored"
    for suffix in ("", "-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    with LedgerCore(paths, fresh) as core:
        restore(core, tables, newest)
    put_in_place(paths, fresh)
