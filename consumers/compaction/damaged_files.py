"""Files that a compaction leaves alone, since they are not as they were written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from lake.config import TableRef
from lake.errors import LedgerError
from lake.ledger import LakeFile, Ledger
from lake.storage.parquet_files import is_whole

log = structlog.get_logger()


class DamagedFiles:
    """Finds them, and names each of them once.

    Args:
        ledger: Knows which files are live, and their checksums.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._names: dict[int, str] = {}

    def left_out(self, files: Iterable[LakeFile]) -> tuple[LakeFile, ...]:
        """Those that were not found to be damaged before."""
        return tuple(file for file in files if file.file_id not in self._names)

    def sound(self, ref: TableRef, files: Sequence[LakeFile]) -> list[LakeFile]:
        """Those that are as they were written; another is named once, and left where it is.

        Rows that were read from a damaged file would get a checksum as if they were right.
        """
        whole = [f for f in files if is_whole(f.path, f.sha256)]
        if len(whole) < len(files):
            live = {f.file_id for f in self._ledger.files.live(ref.topic)}  # not replaced meanwhile
            for file in files:
                if file not in whole and file.file_id in live:
                    self._name(ref, file)
        return whole

    def _name(self, ref: TableRef, file: LakeFile) -> None:
        name = self._names[file.file_id] = self._ledger.paths.relative(file.path)
        log.error(
            "file_damaged",
            message="A file is missing or damaged and is left out of the compaction;"
            " `ducklake replay` rewrites it.",
            table=ref.topic,
            file=name,
        )

    def must_be_none(self) -> None:
        """Say which files were left out.

        Raises:
            LedgerError: There are some.
        """
        if self._names:
            raise LedgerError(
                f"Missing or damaged, and left as they are: {', '.join(self._names.values())}.",
                "`ducklake replay` rewrites them from Kafka.",
            )
