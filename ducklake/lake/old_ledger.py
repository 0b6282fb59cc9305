"""A ledger that is older than the lake's files is not to be believed."""

from __future__ import annotations

from ducklake.errors import LedgerError
from ducklake.lake.files import written_after
from ducklake.lake.ledger import Ledger


def refuse_an_old_ledger(ledger: Ledger) -> None:
    """Make sure that the ledger is as new as the files: a restored backup of it may not be.

    What a killed process left is unknown to the ledger as well, but was written after a commit
    that the ledger has.

    Raises:
        LedgerError: There are files that were written after commits that the ledger lacks.
    """
    paths = ledger.paths
    found = [paths.relative(path) for path in paths.lake_files()]
    known = ledger.known_paths("hot") | ledger.known_paths("sealed")
    for relative in sorted(set(found) - known):
        after = written_after(paths.root / relative)
        newest = ledger.newest_number()  # asked last: others are at work
        if after is not None and after > newest:
            raise LedgerError(
                f"{paths.ledger} is older than the lake's files: it ends at commit {newest}, and"
                f" {relative} was written after commit {after}.",
                "`ducklake ledger rebuild` makes it anew from the files. Nothing was changed.",
            )
