"""Files that suppliers drop on an SFTP server: read once for each content, never half-written."""

from __future__ import annotations

import hashlib
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import paramiko
import structlog

from ducklake.config import Config, Endpoints, SftpEndpoint, Source, Table
from ducklake.errors import ConfigError, ServiceUnreachable, SourceError
from ducklake.records import Record, Reject
from producers.base import Batch, Connector, Cursors, record_key
from producers.formats import READERS, BadRow, Reader
from producers.formats.row import UnreadableFile

log = structlog.get_logger()
CONNECT_SECONDS = 15.0
SETTLE_SECONDS = 2.0
BATCH_ROWS = 20_000
REJECT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileState:
    """What the server says of a file: its size in bytes and when it was modified (epoch)."""

    size: int
    mtime: int


class SftpConnector(Connector):
    """Reads one file for each table; `poll` sees new content under the same name."""

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self._seen: dict[str, tuple[FileState, float]] = {}
        self._missing: set[str] = set()
        self._unsettled = False
        for table, spec in source.tables.items():
            if not spec.file or Path(spec.file).suffix.lower() not in READERS:
                raise ConfigError(
                    f"Source {name}, table {table}: file {spec.file!r} has no known format.",
                    f"Name a file that ends in {', '.join(READERS)}.",
                )

    def settled(self) -> bool:
        """False while a file has not held still long enough to be read."""
        return not self._unsettled

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Read the files whose content is new and that have held still."""
        self._unsettled = False
        with self._session() as sftp:
            for table, spec in self.source.tables.items():
                assert spec.file is not None, "checked at the start"
                state = self._look(sftp, spec.file)
                cursor = cursors.get(f"{table}:{spec.file}", {})
                if state is None or self._is_read(state, cursor):
                    continue
                if not self._holds_still(spec.file, state):
                    self._unsettled = True
                    continue
                yield from self._read(sftp, table, spec, state, cursor)

    def count(self) -> dict[str, int]:
        """Read every file again and count its rows."""
        counts = {}
        with self._session() as sftp:
            for table, spec in self.source.tables.items():
                assert spec.file is not None, "checked at the start"
                state = self._look(sftp, spec.file)
                if state is None:
                    counts[table] = 0
                    continue
                with self._downloaded(sftp, spec.file) as (content, _):
                    rows = self._reader(spec)(content, spec.options)
                    counts[table] = sum(not isinstance(row, BadRow) for row in rows)
        return counts

    # Looking -------------------------------------------------------------------------------

    def _path(self, file: str) -> str:
        return str(PurePosixPath(self.source.directory) / file)

    def _look(self, sftp: paramiko.SFTPClient, file: str) -> FileState | None:
        try:
            found = sftp.stat(self._path(file))
        except FileNotFoundError:
            if file not in self._missing:
                self._missing.add(file)
                log.warning("file not there yet", source=self.name, file=self._path(file))
            return None
        self._missing.discard(file)
        if found.st_size is None or found.st_mtime is None or not stat.S_ISREG(found.st_mode or 0):
            return None
        return FileState(found.st_size, int(found.st_mtime))

    @staticmethod
    def _is_read(state: FileState, cursor: Mapping[str, Any]) -> bool:
        return (
            bool(cursor.get("complete"))
            and cursor.get("size") == state.size
            and cursor.get("mtime") == state.mtime
        )

    def _holds_still(self, file: str, state: FileState) -> bool:
        """Whether two looks, some seconds apart, saw the same: a writer may still be at it."""
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
        with self._downloaded(sftp, spec.file) as (content, digest):
            if self._look(sftp, spec.file) != state:
                self._seen.pop(spec.file, None)
                self._unsettled = True
                return
            known = {"sha256": digest, "size": state.size, "mtime": state.mtime}
            if cursor.get("sha256") == digest and cursor.get("complete"):
                yield Batch(table, spec.file, {**cursor, **known})
                return
            done = int(cursor.get("done", 0)) if cursor.get("sha256") == digest else 0
            about = {
                "file": spec.file,
                "file_sha256": digest,
                "source_ts": datetime.fromtimestamp(state.mtime, UTC).isoformat(),
            }
            try:
                # Counted first: each row says how many its file has, so that whoever reads the
                # lake can tell a whole file from one that is still arriving.
                total = sum(
                    not isinstance(row, BadRow) for row in self._reader(spec)(content, spec.options)
                )
                content.seek(0)
                yield from self._batches(table, spec, content, known, about, total, done)
            except UnreadableFile as error:
                content.seek(0)
                reason = f"file {spec.file}: {error}"
                log.warning("file rejected", source=self.name, reason=reason)
                reject = Reject(table, content.read(REJECT_BYTES), reason, about)
                yield Batch(table, spec.file, {**known, "complete": True}, (), [reject])

    def _batches(
        self,
        table: str,
        spec: Table,
        content: BinaryIO,
        known: Mapping[str, Any],
        about: Mapping[str, Any],
        total: int,
        done: int,
    ) -> Iterator[Batch]:
        assert spec.file is not None, "checked at the start"
        records: list[Record] = []
        rejects: list[Reject] = []
        seen = 0
        for row in self._reader(spec)(content, spec.options):
            seen += 1
            if seen <= done:
                continue
            where = {**about, "file_row": row.number, "file_rows": total}
            if isinstance(row, BadRow):
                reason = f"file {spec.file}, row {row.number}: {row.reason}"
                rejects.append(Reject(table, row.payload[:REJECT_BYTES], reason, where))
            else:
                key = record_key(spec, row.values)
                records.append(Record(table, key, row.values, where))
            if len(records) + len(rejects) >= BATCH_ROWS:
                cursor = {**known, "done": seen, "complete": False}
                yield Batch(table, spec.file, cursor, records, rejects)
                records, rejects = [], []
        cursor = {**known, "done": seen, "complete": True}
        yield Batch(table, spec.file, cursor, records, rejects)

    @staticmethod
    def _reader(spec: Table) -> Reader:
        return READERS[Path(spec.file or "").suffix.lower()]

    @contextmanager
    def _downloaded(self, sftp: paramiko.SFTPClient, file: str) -> Iterator[tuple[BinaryIO, str]]:
        """A file's content in a temporary file on disk, and its SHA-256."""
        digest = hashlib.sha256()
        with tempfile.TemporaryFile() as content:
            with sftp.open(self._path(file), "rb") as remote:
                remote.prefetch()
                while block := remote.read(1 << 18):
                    digest.update(block)
                    content.write(block)
            content.seek(0)
            # Readers wrap the stream and close it with them: they get one that stays open.
            yield cast(BinaryIO, _Kept(content)), digest.hexdigest()

    # The connection --------------------------------------------------------------------------

    @contextmanager
    def _session(self) -> Iterator[paramiko.SFTPClient]:
        at = self.endpoints.sftp
        client = paramiko.SSHClient()
        try:
            _trust(client, at)
            client.connect(
                at.host,
                at.port,
                at.user,
                at.password or None,
                key_filename=str(at.private_key) if at.private_key else None,
                allow_agent=False,
                look_for_keys=False,
                timeout=CONNECT_SECONDS,
                banner_timeout=CONNECT_SECONDS,
                auth_timeout=CONNECT_SECONDS,
            )
            with client.open_sftp() as sftp:
                yield sftp
        except paramiko.BadHostKeyException:
            raise SourceError(
                f"SFTP {at.host}:{at.port}: the server's key is not the one in {at.known_hosts}.",
                "If it was changed on purpose, replace its line there.",
            ) from None
        except paramiko.AuthenticationException:
            raise SourceError(
                f"SFTP {at.host}:{at.port}: the server refuses the user {at.user!r}.",
                "Check services.sftp.password or private_key.",
            ) from None
        except paramiko.SSHException as error:
            if "not found in known_hosts" in str(error):
                raise SourceError(
                    f"SFTP {at.host}:{at.port}: its key is unknown.",
                    f"Add it: ssh-keyscan -p {at.port} {at.host} >> {at.known_hosts}",
                ) from None
            raise ServiceUnreachable(
                f"SFTP {at.host}:{at.port}: {error}.",
                "An old server may offer only algorithms that are no longer safe; update it.",
            ) from None
        except (OSError, EOFError) as error:
            raise ServiceUnreachable(
                f"SFTP {at.host}:{at.port}: {error or type(error).__name__}.", "Is it up?"
            ) from None
        finally:
            client.close()


class _Kept:
    """A binary stream whose `close` leaves the file open."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def close(self) -> None:
        """Keep it open."""


def _trust(client: paramiko.SSHClient, at: SftpEndpoint) -> None:
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    if at.known_hosts is not None and at.known_hosts.exists():
        client.load_host_keys(str(at.known_hosts))
    else:
        client.load_system_host_keys()
