"""Which files of a table hold each row once, and which of its generations is the current one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow.parquet as pq

from consumers.maintenance.ledger_rebuild.found_files import FoundFile, count_rows, sums_of
from consumers.maintenance.ledger_rebuild.ranges import overlap
from consumers.replay.offset_ranges import OffsetSpan, uncovered
from lake.records import OffsetRange


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
        have = sums_of(sealed)
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
    have = sums_of(sealed)
    for file in hot:
        if any(n and have[s] + n <= s.rows for s, n in file.counts.items()):
            kept.add(file)
            for span, count in file.counts.items():
                have[span] += count
    return [f for f in files if f in kept], [f for f in files if f not in kept]


def current_generation(generations: Mapping[int, Sequence[FoundFile]]) -> int:
    """The newest generation that was switched to, or that might have been: it lacks no row."""
    current = min(generations)
    for number, files in sorted(generations.items()):
        if any(f.live for f in files) or not _lacks_rows(files, generations[current]):
            current = number
    return current


def _lacks_rows(files: Sequence[FoundFile], older: Sequence[FoundFile]) -> bool:
    """Whether older files have rows at offsets that the files do not speak of, or only half."""
    spans = [span for span, n in sums_of(files).items() if n >= span.rows]
    for file in older:
        for span in [s for s, n in file.counts.items() if n]:
            around = [s for s in spans if overlap(s, span)]
            open_ = uncovered(around, OffsetSpan(span.partition, span.first, span.next_offset))
            if open_ and _rows_at(file, span, open_):
                return True
    return False


def _rows_at(file: FoundFile, span: OffsetRange, open_spans: Sequence[OffsetSpan]) -> int:
    places = pq.read_table(file.path, columns=["_partition", "_offset"])
    parts = [OffsetRange(span.topic_id, s.partition, s.first, s.end - 1, 0) for s in open_spans]
    return sum(count_rows(places, parts).values())
