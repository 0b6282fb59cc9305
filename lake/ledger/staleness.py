"""A ledger that is older than the lake's files is not to be believed."""

from __future__ import annotations

import json

import pyarrow as pa

from lake.errors import LedgerError
from lake.ledger import LakeFile, Ledger
from lake.records import OffsetRange
from lake.storage.files import footer_of


def assert_ledger_current(ledger: Ledger) -> None:
    """Make sure that the ledger is as new as the files: a restored backup of it may not be.

    What a killed process left is unknown to the ledger as well, but was written after a commit
    that the ledger has, and holds no row whose file is gone.

    Raises:
        LedgerError: There are files that an older ledger would not know.
    """
    paths = ledger.paths
    found = {paths.relative(path) for path in paths.lake_files()}
    # Announced before known: what flips in between is in both.
    known = ledger.announced_paths() | ledger.known_paths("hot") | ledger.known_paths("sealed")
    for relative in sorted(found - known):
        try:
            about = footer_of(paths.root / relative)
        except (OSError, pa.ArrowInvalid):
            continue
        proof = _proof(ledger, relative, about) if "ducklake.ranges" in about else ""
        if proof:
            raise LedgerError(
                f"{paths.ledger} is older than the lake's files: {proof}.",
                "`ducklake ledger rebuild` makes it anew from the files. Nothing was deleted.",
            )


def _proof(ledger: Ledger, relative: str, about: dict[str, str]) -> str:
    """What a file that the ledger does not know proves; empty: nothing."""
    after = int(about.get("ducklake.after", 0))
    newest = ledger.newest_number()  # asked now: others are at work
    if after > newest:
        return f"it ends at commit {newest}, and {relative} was written after commit {after}"
    topic, generation = about["ducklake.table"], int(about["ducklake.generation"])
    is_public = not relative.startswith("hot/")
    spans = [OffsetRange(*span) for span in json.loads(about["ducklake.ranges"])]
    for span in [span for span in spans if span.rows]:
        for file in ledger.holders(topic, generation, span):
            if is_public and file.tier == "hot":
                return f"rows of {relative} are not public yet by its books"
            if _is_missing(ledger, topic, generation, span, file):
                was = ledger.paths.relative(file.path)
                return f"{was} is gone, and rows of it are in {relative}"
    return ""


def _is_missing(
    ledger: Ledger, topic: str, generation: int, span: OffsetRange, file: LakeFile
) -> bool:
    """Whether a live file is not there, and was not replaced at this moment."""
    return not file.path.exists() and file in ledger.holders(topic, generation, span)
