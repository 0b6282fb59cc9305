"""What a cursor says of a file: which content of it was read, how, and with what result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from lake.config import Table
from producers.files.folder import FileState
from producers.formats import FileOptions


@dataclass(frozen=True, slots=True)
class FileVersion:
    """One content of a file, as far as it has been read.

    Attributes:
        sha256: Of the content.
        size: In bytes.
        mtime: When it was modified (epoch).
        done: How many of its rows, good and bad, are in Kafka.
        complete: Whether these are all.
        rows: How many of them were good.
        rejects: How many were not.
        reason: Why the whole file was rejected.
        options: A digest of the options with which it was read; empty for what an earlier release
            read.
        source_ts: The time of this version: of the change, or of the decision to read it again.
        seen_at: When it was seen first, ISO.
        read_at: When it was read, ISO.
        prefix: In append mode, how many bytes have been read.
        prefix_sha256: Their hash.
    """

    sha256: str
    size: int
    mtime: int
    done: int = 0
    complete: bool = False
    rows: int = 0
    rejects: int = 0
    reason: str = ""
    options: str = ""
    source_ts: str = ""
    seen_at: str = ""
    read_at: str = ""
    prefix: int = 0
    prefix_sha256: str = ""

    @classmethod
    def load(cls, cursor: Mapping[str, Any]) -> FileVersion | None:
        """From a cursor; None where there is none."""
        if "sha256" not in cursor:
            return None
        known = {name: cursor[name] for name in cls.__slots__ if name in cursor}
        return cls(**known)

    def dump(self) -> dict[str, Any]:
        """As a cursor."""
        return asdict(self)

    def has_state(self, state: FileState) -> bool:
        """Whether the file still looks as it did when it was read."""
        return (self.size, self.mtime) == (state.size, state.mtime)

    def read_with(self, options: str) -> bool:
        """Whether the same options were in force."""
        return self.options in ("", options)

    def ended(self, reason: str = "") -> FileVersion:
        """The same, read to its end now."""
        return replace(self, complete=True, reason=reason, read_at=now())


def now() -> str:
    """This moment, ISO, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def options_digest(spec: Table, options: FileOptions) -> str:
    """What decides which rows a file has: if it changes, the file is read again."""
    about = [options.reading(), options.mode, sorted(spec.key), spec.columns]
    return hashlib.sha256(orjson.dumps(about, default=str)).hexdigest()[:16]
