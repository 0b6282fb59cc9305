"""Old days on explicit demand: their many public files become few, in one swap of the folder.

The new files are written into a staging folder, the intent is recorded, and the two folders change
places in one call of the kernel: a glob sees the old day or the new one, each row once. Nobody may
have pinned files meanwhile, since the old ones go at once.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from consumers.compaction.compactor import Compactor
from lake.config import TableRef
from lake.failpoints import failpoint
from lake.formats import DateRewriteIntent, PlannedFile
from lake.ledger import LakeFile, TableState
from lake.recovery import finish_date_rewrites
from lake.storage.operations import link, make_folder, sync_folder
from lake.storage.paths import SealedName
from lake.storage.sql import rows_query


def rewrite_date(compactor: Compactor, ref: TableRef, day: date) -> int:
    """Merge the public files of one table's day.

    Args:
        compactor: Holds the lock under which public files are made.
        ref: The table.
        day: The date partition.

    Returns:
        How many files there are fewer; 0 where one is damaged, which the compactor names.

    Raises:
        ServiceUnreachable: A reader has pinned files; try again later.
        TerminalError: The file system cannot swap two folders.
    """
    ledger, paths = compactor.ledger, compactor.paths
    finish_date_rewrites(ledger, compactor.session)
    state = ledger.tables.get(ref.topic)
    if state is None:
        return 0
    folder = paths.day(ref, day, state.generation)
    groups = _groups(ledger.files.live(ref.topic), folder, compactor.public_bytes)
    merged = [group for group in groups if len(group) > 1]
    if not merged or any(len(compactor.damaged.sound(ref, group)) < len(group) for group in merged):
        return 0
    staging = compactor.session.folder / f"day-{secrets.token_hex(4)}"
    make_folder(staging)
    outputs = [_merge(compactor, ref, state, group, staging) for group in groups if len(group) > 1]
    for [alone] in (group for group in groups if len(group) == 1):
        link(alone.path, staging / alone.path.name)
    sync_folder(staging)
    sync_folder(staging.parent)
    inputs = tuple(file.file_id for group in merged for file in group)
    failpoint("days.before_intent")
    places = paths.relative(folder), paths.relative(staging)
    intent = DateRewriteIntent(*places, inputs, tuple(outputs))
    ledger.date_rewrites.record_intent(ref.topic, state.generation, intent)
    failpoint("days.after_intent")
    finish_date_rewrites(ledger, compactor.session)
    return len(inputs) - len(outputs)


def _merge(
    compactor: Compactor,
    ref: TableRef,
    state: TableState,
    group: Sequence[LakeFile],
    staging: Path,
) -> PlannedFile:
    """Neighbouring files of one partition as one, in staging."""
    columns = state.schema.relation(compactor.config.kind(ref))
    first, last = (SealedName.parse(f.path.name) for f in (group[0], group[-1]))
    name = SealedName(first.topic_id, first.partition, first.first, last.last).name()
    query = f"{rows_query(columns, [f.path for f in group])} ORDER BY _offset"
    own = [
        (number, offset_range)
        for number, offset_range in compactor.ledger.offsets.of_files(f.file_id for f in group)
        if offset_range.partition == first.partition
    ]
    ranges = [offset_range for _, offset_range in own]
    file = compactor.write(query, staging / name, compactor.footer(ref, state, ranges))
    numbers = tuple(number for number, _ in own)
    return compactor.planned(file, group[0].path.parent / name, numbers)


def _groups(live: Sequence[LakeFile], folder: Path, limit: float) -> list[list[LakeFile]]:
    """A day's files by topic and partition, in runs of neighbours up to the size of one file."""
    by_partition: dict[tuple[str, int], list[LakeFile]] = defaultdict(list)
    for file in live:
        if file.path.parent == folder:
            name = SealedName.parse(file.path.name)
            by_partition[name.topic_id, name.partition].append(file)
    groups = []
    for files in by_partition.values():
        files.sort(key=lambda file: SealedName.parse(file.path.name).first)
        group: list[LakeFile] = []
        for file in files:
            if group and sum(f.bytes for f in group) + file.bytes > limit:
                groups.append(group)
                group = []
            group.append(file)
        groups.append(group)
    return groups
