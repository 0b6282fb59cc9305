"""Bytes on disk: written in staging, synced, renamed, and the folder synced; in one place.

A file is visible under its final name only when it is whole: the order is temporary file, fsync,
rename, fsync of the folder (and of the parents that had to be made).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lake.errors import DiskFull, LedgerError
from lake.failpoints import failpoint
from lake.storage.paths import LakePaths

ROW_GROUP_ROWS = 122_880
INTEGER_DIGITS = 18  # decimals of more do not fit an integer of 64 bits
_DELTAS = "DELTA_BINARY_PACKED"


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A whole file: where it lies, its size in bytes, SHA-256 and number of rows."""

    path: Path
    size: int
    sha256: str
    rows: int


@contextmanager
def disk_full_is_transient(path: Path) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into `DiskFull`, naming the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"No room left on the disk of {path}.", "Free some; writing goes on by itself."
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_durable: set[Path] = set()


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, durably.

    A folder that is there may have been made by a process that died before it synced the name:
    each process syncs the names of all parents once.
    """
    unsure = []
    at = folder
    while at != at.parent and not (at in _durable and at.is_dir()):
        unsure.append(at)
        at = at.parent
    for new in reversed(unsure):
        try:
            new.mkdir()
        except FileExistsError:
            with suppress(PermissionError):  # a parent of the lake that is not ours to open
                sync_folder(new.parent)
        else:
            failpoint("folder.before_sync")
            sync_folder(new.parent)
        _durable.add(new)


class ParquetSink:
    """A Parquet file that is written in parts; whole and synced once it is closed.

    Args:
        path: Where; in a session's staging folder.
        schema: Explicit types.

    Raises:
        DiskFull: There is no room; nothing is left behind.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        with disk_full_is_transient(path.parent):
            failpoint("file.before_write")
            self._file = path.open("wb")
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            use_dictionary=[field.name for field in schema if pa.types.is_string(field.type)],
            column_encoding={field.name: _DELTAS for field in schema if _is_stepping(field.type)},
            store_decimal_as_integer=True,
            write_page_checksum=True,  # damage is found without the ledger, too
        )

    @property
    def size(self) -> int:
        """Bytes written so far; what is gathered for the next row group is not among them."""
        return self._file.tell()

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Append rows."""
        with self._nothing_is_left():
            self._writer.write(rows, row_group_size=ROW_GROUP_ROWS)
        self.rows += rows.num_rows

    def close(self, metadata: dict[str, str] | None = None) -> WrittenFile:
        """Finish and sync; the folder is not synced.

        Args:
            metadata: Goes into the footer: the offset ranges, from which a lost ledger is rebuilt.
        """
        with self._nothing_is_left():
            failpoint("file.before_footer")
            self._writer.add_key_value_metadata(metadata or {})
            self._writer.close()
            self._file.flush()
            failpoint("file.before_sync")
            os.fsync(self._file.fileno())
            self._file.close()
            failpoint("file.after_sync")
        return WrittenFile(self.path, self.path.stat().st_size, sha256_of(self.path), self.rows)

    def discard(self) -> None:
        """Give up: nothing is left of it."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    @contextmanager
    def _nothing_is_left(self) -> Iterator[None]:
        with disk_full_is_transient(self.path.parent):
            try:
                yield
            except OSError:
                self.discard()
                raise


def write_parquet(
    table: pa.Table, path: Path, metadata: dict[str, str] | None = None
) -> WrittenFile:
    """Write a whole Parquet file and sync it; the folder is not synced.

    Args:
        table: The rows, with explicit types.
        path: Where; in a session's staging folder.
        metadata: Goes into the footer.

    Raises:
        DiskFull: There is no room; nothing is left behind.
    """
    sink = ParquetSink(path, table.schema)
    sink.write(table)
    return sink.close(metadata)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def is_whole(path: Path, sha256: str) -> bool:
    """Whether a file is there, and as it was written."""
    try:
        return sha256_of(path) == sha256
    except FileNotFoundError:
        return False


def footer_of(path: Path) -> dict[str, str]:
    """What the lake wrote into a file's footer; nothing where somebody else wrote the file.

    Raises:
        OSError: It cannot be read, or is gone.
        ArrowInvalid: It is damaged.
    """
    about = pq.read_metadata(path).metadata or {}
    return {k.decode(): v.decode() for k, v in about.items() if k.startswith(b"ducklake.")}


def _is_stepping(type_: pa.DataType) -> bool:
    """Whether Parquet keeps values of a type as integers, whose differences take little room."""
    if pa.types.is_decimal(type_):
        return bool(type_.precision <= INTEGER_DIGITS)
    return bool(
        pa.types.is_integer(type_) or pa.types.is_timestamp(type_) or pa.types.is_date32(type_)
    )


def move_into_place(source: Path, target: Path, intended: bool = False) -> None:
    """Give a file its place on one file system, and make the new name durable.

    Args:
        source: Where it is.
        target: Its place.
        intended: An intent in the ledger names both places, and recovery looks in both. A rename
            changes two folders, and a power cut may keep the one change and lose the other: the
            old name goes only once the new one is durable. Until then there are both.

    Raises:
        DiskFull: The target's folder cannot grow.
    """
    with disk_full_is_transient(target.parent):
        make_folder(target.parent)
        failpoint("move.before_rename")
        if intended:
            os.link(source, target)
        else:
            source.rename(target)
        failpoint("move.before_sync")
        sync_folder(target.parent)
        if intended:
            source.unlink()
        failpoint("move.after_sync")


class Session:
    """One writing process: its id, its staging folder and the lock that says that it lives.

    The lock is the kernel's (flock): it ends with the process, however that ends.
    """

    def __init__(self, paths: LakePaths) -> None:
        self.id = secrets.token_hex(6)
        self.folder = paths.staging / self.id
        # Locked before it has its name: recovery must never meet a session without its lock.
        unnamed = paths.staging / f".{self.id}"
        with disk_full_is_transient(paths.staging):
            make_folder(unnamed)
            self._lock = (unnamed / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            failpoint("session.before_name")
            unnamed.rename(self.folder)
            sync_folder(paths.staging)  # what an intent names must be found after a crash
            failpoint("session.after_name")

    def close(self) -> None:
        """Let go; what is left in the folder is for recovery."""
        # Locked while we look: recovery would take it for a dead one's, and remove it first. It may
        # finish what we begin here, once the lock has lost its name.
        if {entry.name for entry in self.folder.iterdir()} == {"lock"}:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def session_is_alive(paths: LakePaths, session: str) -> bool:
    """Whether the process of a session still holds its lock."""
    try:
        with (paths.staging / session / "lock").open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except FileNotFoundError:
        return False


def quarantine(paths: LakePaths, path: Path) -> Path:
    """Move what nobody knows out of the way, to `orphans/`; nothing is deleted.

    Raises:
        LedgerError: It lies outside of the lake.
    """
    if paths.root not in path.parents:
        raise LedgerError(f"{path} is not part of the lake {paths.root}.", "Leave it alone.")
    target = paths.orphans / paths.relative(path)
    if target.exists():
        target = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    move_into_place(path, target)
    return target
