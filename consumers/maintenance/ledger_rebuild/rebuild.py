"""Look at all files, choose, and write the new ledger in the place of the old one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from consumers.maintenance.ledger_rebuild.found_files import FoundFile, look_at
from consumers.maintenance.ledger_rebuild.result import Restored
from consumers.maintenance.ledger_rebuild.tables import Key, tables_of
from lake.failpoints import failpoint
from lake.kafka.topics import TopicIdentity
from lake.ledger.core import LedgerCore
from lake.ledger.replacing import at_rest, put_in_place
from lake.ledger.restoring import KnownTable, restore
from lake.storage.operations import remove_file
from lake.storage.paths import LakePaths
from lake.storage.quarantine import quarantine

Progress = Callable[[int, int], None]


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
        LedgerError: A process has the lake open.
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
        found = look_at(paths, path, result)
        if found is not None:
            by_key[found[0], found[1].generation].append(found[1])
        progress(done + 1, len(listed))
    damaged = [path for files in by_key.values() for path in _drop_replaced(paths, files)]
    tables, redundant = tables_of(by_key, identities, result)
    result.quarantined += map(paths.relative, [*damaged, *(f.path for f in redundant)])
    result.tables = len(tables)
    if dry:
        return result
    for relative in result.quarantined:
        failpoint("restore.before_quarantine")
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


def _write(paths: LakePaths, tables: Sequence[KnownTable], newest: int) -> None:
    """Write the new ledger, and put it in the place of the old one, which is kept."""
    fresh = paths.root / "ledger.db.restored"
    for suffix in ("", "-wal", "-shm"):
        remove_file(fresh.with_name(fresh.name + suffix))
    with LedgerCore(paths, fresh) as core:
        restore(core, tables, newest)
    put_in_place(paths, fresh)
