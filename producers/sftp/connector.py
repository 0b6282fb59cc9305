"""Files that suppliers drop on an SFTP server: read once for each content, never half-written."""

from __future__ import annotations

import errno
import hashlib
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import paramiko
import structlog

from lake.config import Config, Endpoints, Section, SftpConnection, Source, Table
from lake.errors import DiskFull
from lake.records import Record, Reject
from producers.base import (
    BATCH_ROWS,
    REJECT_BYTES,
    Batch,
    Connector,
    Cursors,
    Problem,
    record_key,
)
from producers.formats import FORMATS, BadRow, Row
from producers.formats.row import UnreadableFile
from producers.formats.sized import sized_rows
from producers.sftp.session import open_session

log = structlog.get_logger()
SETTLE_SECONDS = 2.0
BATCH_BYTES = 16 * 1024 * 1024
BLOCK = 1 << 18
REQUESTS = 64


@dataclass(frozen=True, slots=True)
class FileState:
    """What the server says of a file: its size in bytes and when it was modified (epoch)."""

    size: int
    mtime: int


class SftpConnector(Connector):
    """Reads one file for each table; `poll` sees new content under the same name."""

    Connection = SftpConnection
    embedded_service = "sftp"
    connection: SftpConnection

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self._seen: dict[str, tuple[FileState, float]] = {}
        self._warned: dict[str, str] = {}
        self._unsettled = False

    @classmethod
    def table_options_model(cls, table: str, spec: Table) -> type[Section]:
        """Those of the format that the file's suffix names."""
        return FORMATS[_suffix(spec)].options

    @classmethod
    def problems(cls, source: Source) -> Iterator[Problem]:
        """Tables without a file, or with one of an unknown format."""
        for table, spec in source.tables.items():
            at, suffixes = ("tables", table, "file"), ", ".join(FORMATS)
            if not spec.file:
                yield Problem(at, f"it is missing: name a file that ends in {suffixes}")
            elif _suffix(spec) not in FORMATS:
                yield Problem(at, f"{spec.file!r} has no known format; known: {suffixes}")

    def settled(self) -> bool:
        """False while a file has not held still long enough to be read."""
        return not self._unsettled

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Read the files whose content is new and that have held still.

        A file that is missing, or that the user may not read, stops no other.
        """
        self._unsettled = False
        with open_session(self.connection) as sftp:
            for table, spec in self.source.tables.items():
                assert spec.file is not None, "checked at the start"
                try:
                    state = self._look(sftp, spec.file)
                    cursor = cursors.get(f"{table}:{spec.file}", {})
                    if state is None or _is_read(state, cursor):
                        continue
                    if not self._holds_still(spec.file, state):
                        self._unsettled = True
                        continue
                    yield from self._read(sftp, table, spec, state, cursor)
                    self._warned.pop(spec.file, None)
                except (FileNotFoundError, PermissionError) as error:
                    self._warn(spec.file, error.strerror or type(error).__name__)

    def count(self) -> dict[str, int]:
        """Read every file again and count its rows; what cannot be read has none."""
        counts = dict.fromkeys(self.source.tables, 0)
        with open_session(self.connection) as sftp:
            for table, spec in self.source.tables.items():
                assert spec.file is not None, "checked at the start"
                try:
                    state = self._look(sftp, spec.file)
                    if state is not None:
                        with self._downloaded(sftp, spec.file, state) as (content, _):
                            counts[table] = self._count(table, spec, content)
                except (FileNotFoundError, PermissionError, UnreadableFile):
                    continue
        return counts

    # Looking -------------------------------------------------------------------------------

    def _path(self, file: str) -> str:
        return str(PurePosixPath(self.source.directory) / file)

    def _look(self, sftp: paramiko.SFTPClient, file: str) -> FileState | None:
        found = sftp.stat(self._path(file))
        if not stat.S_ISREG(found.st_mode or 0):
            self._warn(file, "it is no regular file")
            return None
        if found.st_size is None or found.st_mtime is None:
            self._warn(file, "the server does not tell its size and time")
            return None
        return FileState(found.st_size, int(found.st_mtime))

    def _warn(self, file: str, reason: str) -> None:
        """Once for each reason, not at every poll."""
        if self._warned.get(file) != reason:
            self._warned[file] = reason
            log.warning(
                "file_not_read",
                message="A file cannot be read yet.",
                source=self.name,
                file=self._path(file),
                reason=reason,
            )

    def _holds_still(self, file: str, state: FileState) -> bool:
        """Whether two looks, some seconds apart, saw the same: a writer may still be at it.

        The seconds are more than one, which is as fine as the server's clock tells times: a later
        change has a later time.
        """
        now = time.monotonic()
        seen, since = self._seen.get(file, (None, now))
        if seen != state:
            self._seen[file] = (state, now)
            return False
        return now - since >= SETTLE_SECONDS

    # Reading -------------------------------------------------------------------------------

    def _read(
        self,
        sftp: paramiko.SFTPClient,
        table: str,
        spec: Table,
        state: FileState,
        cursor: Mapping[str, Any],
    ) -> Iterator[Batch]:
        assert spec.file is not None, "checked at the start"
        with self._downloaded(sftp, spec.file, state) as (content, digest):
            if digest is None or self._look(sftp, spec.file) != state:
                self._seen.pop(spec.file, None)
                self._unsettled = True
                return
            known = {"sha256": digest, "size": state.size, "mtime": state.mtime}
            same = cursor.get("sha256") == digest
            if same and cursor.get("complete"):
                yield Batch(table, spec.file, {**cursor, **known})
                return
            about: dict[str, Any] = {
                "file": spec.file,
                "file_sha256": digest,
                "source_ts": datetime.fromtimestamp(state.mtime, UTC).isoformat(),
            }
            try:
                # Counted first: each row says how many its file has, so that whoever reads the
                # lake can tell a whole file from one that is still arriving.
                about["file_rows"] = self._count(table, spec, content)
                content.seek(0)
                done = int(cursor.get("done", 0)) if same else 0
                yield from self._batches(table, spec, content, known, about, done)
            except UnreadableFile as error:
                content.seek(0)
                reason = f"file {spec.file}: {error}"
                log.warning(
                    "file_rejected",
                    message="A file cannot be parsed and is rejected.",
                    source=self.name,
                    reason=reason,
                )
                reject = Reject(table, content.read(REJECT_BYTES), reason, about)
                yield Batch(table, spec.file, {**known, "complete": True}, (), [reject])

    def _batches(
        self,
        table: str,
        spec: Table,
        content: BinaryIO,
        known: Mapping[str, Any],
        about: Mapping[str, Any],
        done: int,
    ) -> Iterator[Batch]:
        """The rows from `done` on, a transaction's worth at a time."""
        assert spec.file is not None, "checked at the start"
        records: list[Record] = []
        rejects: list[Reject] = []
        seen = size = 0
        for row, length in self._rows(table, spec, content):
            seen += 1
            if seen <= done:
                continue
            where = {**about, "file_row": row.number}
            if isinstance(row, BadRow):
                reason = f"file {spec.file}, row {row.number}: {row.reason}"
                rejects.append(Reject(table, row.payload[:REJECT_BYTES], reason, where))
            else:
                key = record_key(spec, row.values)
                records.append(Record(table, key, row.values, where))
            size += length
            if len(records) + len(rejects) >= BATCH_ROWS or size >= BATCH_BYTES:
                cursor = {**known, "done": seen, "complete": False}
                yield Batch(table, spec.file, cursor, records, rejects)
                records, rejects, size = [], [], 0
        cursor = {**known, "done": seen, "complete": True}
        yield Batch(table, spec.file, cursor, records, rejects)

    def _rows(
        self, table: str, spec: Table, content: BinaryIO
    ) -> Iterator[tuple[Row | BadRow, int]]:
        return sized_rows(FORMATS[_suffix(spec)], content, self.table_options[table])

    def _count(self, table: str, spec: Table, content: BinaryIO) -> int:
        rows = self._rows(table, spec, content)
        return sum(not isinstance(row, BadRow) for row, _ in rows)

    @contextmanager
    def _downloaded(
        self, sftp: paramiko.SFTPClient, file: str, state: FileState
    ) -> Iterator[tuple[BinaryIO, str | None]]:
        """A file's content in a temporary file, and its SHA-256; None where it is not whole."""
        digest = hashlib.sha256()
        length = 0
        with tempfile.TemporaryFile() as content:
            with sftp.open(self._path(file), "rb") as remote:
                remote.prefetch(state.size, REQUESTS)
                while block := remote.read(BLOCK):
                    digest.update(block)
                    length += len(block)
                    _write(content, block)
            content.seek(0)
            whole = digest.hexdigest() if length == state.size else None
            yield cast(BinaryIO, content), whole


def _is_read(state: FileState, cursor: Mapping[str, Any]) -> bool:
    return (
        bool(cursor.get("complete"))
        and cursor.get("size") == state.size
        and cursor.get("mtime") == state.mtime
    )


def _suffix(spec: Table) -> str:
    return PurePosixPath(spec.file or "").suffix.lower()


def _write(content: Any, block: bytes) -> None:
    try:
        content.write(block)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(
            f"No room in {tempfile.gettempdir()} for a file from the SFTP server.",
            "Free some, or name another folder in TMPDIR.",
        ) from None
