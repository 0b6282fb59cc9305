"""Parquet files of the lake: written in parts, whole and synced once closed, known by checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lake.failpoints import failpoint
from lake.storage.operations import disk_full_is_transient, remove_file

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
        remove_file(self.path)

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
