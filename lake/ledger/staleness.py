"""A ledger that is older than the lake's files is not to be believed."""

from __future__ import annotations

import pyarrow as pa

from lake.errors import LedgerError
from lake.formats import Footer
from lake.ledger import LakeFile, LedgerReader
from lake.records import OffsetRange
from lake.storage.parquet_files import footer_of


def assert_ledger_current(ledger: LedgerReader) -> None:
    """Make sure that the ledger is as new as the files: a restored backup of it may not be.

    What a killed process left is unknown to the ledger as well, but was written after a commit
    that the ledger has, and holds no row whose file is gone.

    Raises:
        LedgerError: There are files that an older ledger would not know.
    """
    paths = ledger.paths
    found = {paths.relative(path) for path in paths.lake_files()}
    # Intents before known files: what flips in between is in both.
    known = ledger.intended_paths()
    known |= ledger.files.known_paths("hot") | ledger.files.known_paths("sealed")
    for relative in sorted(found - known):
        try:
            about = Footer.load(footer_of(paths.root / relative), relative)
        except (OSError, pa.ArrowInvalid):
            continue
        proof = "" if about is None else _proof(ledger, relative, about)
        if proof:
            raise LedgerError(
                f"{paths.ledger} is older than the lake's files: {proof}.",
                "`ducklake ledger rebuild` rebuilds it from the files. Nothing was deleted.",
            )


def _proof(ledger: LedgerReader, relative: str, about: Footer) -> str:
    """What a file that the ledger does not know proves; empty: nothing."""
    newest = ledger.commits.newest_number()  # asked now: others are at work
    if about.after > newest:
        return f"it ends at commit {newest}, and {relative} was written after commit {about.after}"
    is_public = not relative.startswith("hot/")
    for span in [span for span in about.ranges if span.rows]:
        for file in ledger.files.holders(about.table, about.generation, span):
            if is_public and file.tier == "hot":
                return f"rows of {relative} are not public yet by its books"
            if _is_missing(ledger, about, span, file):
                was = ledger.paths.relative(file.path)
                return f"{was} is gone, and rows of it are in {relative}"
    return ""


def _is_missing(ledger: LedgerReader, about: Footer, span: OffsetRange, file: LakeFile) -> bool:
    """Whether a live file is not there, and was not replaced at this moment."""
    if file.path.exists():
        return False
    return file in ledger.files.holders(about.table, about.generation, span)
