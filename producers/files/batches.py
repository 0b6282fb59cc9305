"""The rows of one file as batches, each with the cursor that says how far they go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

import structlog

from lake.config import Table
from lake.records import Record, Reject
from producers.base import BATCH_ROWS, REJECT_BYTES, Batch, record_key
from producers.files.folder import FileState
from producers.files.last_line import end_of_last_line
from producers.files.reading import FileForm, count_rows, file_rows
from producers.files.spool import Fetched
from producers.files.version import FileVersion, now
from producers.formats import BadRow, UnfinishedFile, UnreadableFile
from producers.formats.delimited import OPEN_QUOTE

log = structlog.get_logger()
BATCH_BYTES = 16 * 1024 * 1024
_BLOCK = 1 << 20


class Unsettled(Exception):
    """The file changes, or ends too early: it is looked at again later."""


class FileReader:
    """Reads one file of a table.

    Args:
        source: The source's name, for the log.
        table: The table.
        spec: Its configuration.
        form: How its files are read.
        options: The digest of the options in force.
        again: When its files were last asked for again, ISO; empty for never.

    Attributes:
        version: What was read, once it was.
    """

    def __init__(
        self,
        source: str,
        table: str,
        spec: Table,
        form: FileForm,
        options: str,
        again: str = "",
    ) -> None:
        self.version: FileVersion | None = None
        self._source = source
        self._table = table
        self._spec = spec
        self._form = form
        self._options = options
        self._again = again
        self._may_be_early = False

    def batches(
        self,
        file: Fetched,
        name: str,
        state: FileState,
        before: FileVersion | None,
        may_be_early: bool,
    ) -> Iterator[Batch]:
        """The rows that are not in Kafka yet.

        Args:
            file: Its content.
            name: Its name, as it is shown.
            state: What was said of it.
            before: What has been read of it.
            may_be_early: Whether to wait where it ends in the middle.

        Raises:
            Unsettled: It ends in the middle, and a writer may still be at it.
        """
        content, size = file.content, self._settled(file, may_be_early)
        self._may_be_early = may_be_early and self._form.options.mode == "append"
        version = self._begun(file, size, state, before)
        if version.complete:  # the same content under a new time
            yield Batch(self._table, name, version.dump())
            self.version = version
            return
        about: dict[str, Any] = {
            "file": name,
            "file_sha256": file.sha256,
            "source_ts": version.source_ts,
        }
        try:
            # Counted first: each row says how many its file has, so that whoever reads the lake
            # can tell a whole file from one that is still arriving.
            content.seek(0)
            about["file_rows"] = count_rows(self._form, content, size)
            content.seek(0)
            yield from self._rows(content, size, name, version, about)
        except UnfinishedFile as error:
            if may_be_early:
                raise Unsettled from None
            yield self._rejected(content, name, version, about, error)
        except UnreadableFile as error:
            yield self._rejected(content, name, version, about, error)

    def _settled(self, file: Fetched, may_be_early: bool) -> int:
        """How many bytes are read now: of a file that grows, only whole lines.

        Raises:
            Unsettled: It ends in mid-line, and a writer may still be at it.
        """
        options, has_lines = self._form.options, self._form.format.has_lines
        if options.mode == "snapshot" and (not may_be_early or not has_lines or self._form.packing):
            return file.size
        whole = end_of_last_line(file.content, file.size, options)
        if options.mode == "snapshot":
            if whole < file.size:
                raise Unsettled
            return file.size
        if may_be_early and whole == 0 < file.size:
            raise Unsettled
        file.content.truncate(whole)
        return whole

    def _begun(
        self, file: Fetched, size: int, state: FileState, before: FileVersion | None
    ) -> FileVersion:
        """The version that these bytes are, with what of it has been read."""
        changed = datetime.fromtimestamp(state.mtime, UTC).isoformat()
        if before is not None and before.sha256 == file.sha256:
            if self._is_current(before):
                return replace(
                    before,
                    size=state.size,
                    mtime=state.mtime,
                    source_ts=before.source_ts or changed,
                )
            log.info(
                "file_read_again",
                message="A file is read again, as asked, or since its reader's options changed.",
                source=self._source,
                table=self._table,
            )
            changed = now()  # a version of its own, newer than the first
        fresh = FileVersion(
            file.sha256,
            state.size,
            state.mtime,
            options=self._options,
            source_ts=changed,
            seen_at=now(),
        )
        if self._form.options.mode == "snapshot":
            return fresh
        fresh = replace(fresh, prefix=size, prefix_sha256=_hash(file.content, size))
        if before is not None and before.prefix and self._is_current(before):
            if _hash(file.content, before.prefix) == before.prefix_sha256:
                return replace(fresh, done=before.done, rows=before.rows, rejects=before.rejects)
            log.warning(
                "file_rewritten",
                message="A file did not only grow: it is read from its start.",
                source=self._source,
                table=self._table,
            )
        return fresh

    def _is_current(self, version: FileVersion) -> bool:
        """Whether it was read as it would be read now."""
        return version.read_with(self._options) and version.seen_at >= self._again

    def _rows(
        self, content: BinaryIO, size: int, name: str, version: FileVersion, about: dict[str, Any]
    ) -> Iterator[Batch]:
        """The rows from `done` on, a transaction's worth at a time."""
        records: list[Record] = []
        rejects: list[Reject] = []
        seen = held = 0
        done = version.done
        for row in file_rows(self._form, content, size):
            seen += 1
            if seen <= done:
                continue
            where = {**about, "file_row": row.number}
            if isinstance(row, BadRow):
                if self._may_be_early and row.reason == OPEN_QUOTE:
                    raise Unsettled  # the rest of the row may be on its way
                at = f"row {row.number} (line {row.line})" if row.line else f"row {row.number}"
                reason = f"file {name}, {at}: {row.reason}"
                where |= {"file_line": row.line} if row.line else {}
                rejects.append(Reject(self._table, row.payload[:REJECT_BYTES], reason, where))
                held += len(row.payload)
            else:
                _, values, encoded = row
                key = record_key(self._spec, values)
                records.append(Record(self._table, key, values, where, encoded))
                held += len(encoded)
            if len(records) + len(rejects) >= BATCH_ROWS or held >= BATCH_BYTES:
                version = _advanced(version, seen, records, rejects)
                yield Batch(self._table, name, version.dump(), records, rejects)
                records, rejects, held = [], [], 0
        version = _advanced(version, seen, records, rejects).ended()
        if not (version.rows or version.rejects) and self._form.options.mode == "snapshot":
            records.append(self._end_of_file(about))
        yield Batch(self._table, name, version.dump(), records, rejects)
        self.version = version

    def _end_of_file(self, about: dict[str, Any]) -> Record:
        """Of a snapshot without a row: else nobody would know that it has replaced the last one."""
        return Record(self._table, "", {}, {**about, "file_row": 0})

    def _rejected(
        self,
        content: BinaryIO,
        name: str,
        version: FileVersion,
        about: dict[str, Any],
        error: UnreadableFile,
    ) -> Batch:
        reason = f"file {name}: {error}"
        log.warning(
            "file_rejected",
            message="A file cannot be parsed and is rejected.",
            source=self._source,
            reason=reason,
        )
        content.seek(0)
        reject = Reject(self._table, content.read(REJECT_BYTES), reason, about)
        version = replace(version, rejects=version.rejects + 1).ended(str(error))
        self.version = version
        return Batch(self._table, name, version.dump(), (), [reject])


def _advanced(
    version: FileVersion, seen: int, records: list[Record], rejects: list[Reject]
) -> FileVersion:
    return replace(
        version,
        done=max(seen, version.done),
        rows=version.rows + len(records),
        rejects=version.rejects + len(rejects),
    )


def _hash(content: BinaryIO, size: int) -> str:
    """The hash of the first bytes."""
    content.seek(0)
    digest, left = hashlib.sha256(), size
    while left and (block := content.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest() if not left else ""
