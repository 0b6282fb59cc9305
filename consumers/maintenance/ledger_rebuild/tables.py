"""The tables that the files make up, as the new ledger gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from consumers.maintenance.ledger_rebuild.choice import chosen_files, current_generation
from consumers.maintenance.ledger_rebuild.found_files import FoundFile, sums_of
from consumers.maintenance.ledger_rebuild.ranges import overlap, ranges_of
from consumers.maintenance.ledger_rebuild.result import Restored
from lake.kafka.topics import TopicIdentity
from lake.ledger.restoring import KnownTable, RestoredFile
from lake.records import OffsetRange
from lake.storage.parquet_files import WrittenFile, sha256_of
from lake.storage.schema import Schema

Key = tuple[str, int]
"""Topic and generation."""


def tables_of(
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
        current = current_generation(generations)
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
    all_ranges = {number: ranges_of(listed) for number, listed in generations.items()}
    for number, listed in generations.items():
        ranges = all_ranges[number]
        known = {_place(r): r for r in ranges}
        for file in listed:
            filled = [s for s, n in file.counts.items() if n]
            mine = [known[_place(s)] for s in filled if _place(s) in known]
            cut = [s for s in filled if _place(s) not in known]
            mine += [r for r in ranges if any(overlap(r, s) for s in cut) and r not in mine]
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


def _place(offset_range: OffsetRange) -> tuple[str, int, int, int]:
    return (offset_range.topic_id, offset_range.partition, offset_range.first, offset_range.last)


def _say_what_is_unknown(
    topic: str, ranges: Sequence[OffsetRange], files: Sequence[FoundFile], result: Restored
) -> None:
    have = sums_of(files)
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
