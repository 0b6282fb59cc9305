"""One run of a resource on the disk: its rows, and the state of dlt that follows them.

It is complete before the first row is sent. A process that is killed while it sends the rows
finds the file again and goes on; without the file, the run is made again from the same state.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import orjson

from lake.storage.operations import make_scratch_folder, remove_file, rename, sync_file

_ROW, _REJECT, _STATE = b"r", b"x", b"s"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class RunRow(NamedTuple):
    """A row as JSON, or what could not be made one, with the reason."""

    encoded: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run.

    Attributes:
        path: Its file.
        sha256: The hash of rows and state.
        state: The state of dlt after it.
        rows: How many rows and rejects there are.
    """

    path: Path
    sha256: str
    state: str
    rows: int

    def read(self) -> Iterator[RunRow]:
        """Its rows."""
        with self.path.open("rb") as file:
            for line in file:
                if line[:1] == _ROW:
                    yield RunRow(line[1:-1])
                elif line[:1] == _REJECT:
                    said = orjson.loads(line[1:])
                    yield RunRow(base64.b64decode(said["payload"]), said["reason"])

    def prefix(self, count: int) -> str:
        """The hash of its first rows."""
        digest = hashlib.sha256()
        if not count:
            return digest.hexdigest()
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if number == count or line[:1] == _STATE:
                    break
                digest.update(line)
        return digest.hexdigest()

    def remove(self) -> None:
        """All of it has been sent."""
        remove_file(self.path)


def write_run(path: Path, rows: Iterable[RunRow], state: Any) -> Run:
    """Write a run, durably, in place of an older one.

    Args:
        path: Its file.
        rows: Its rows.
        state: Tells the state of dlt once all rows are there.
    """
    make_scratch_folder(path.parent)
    part = path.with_name(f".{path.name}.part")
    digest, count = hashlib.sha256(), 0
    with os.fdopen(os.open(part, _FLAGS, 0o600), "wb") as file:
        for row in rows:
            _put(file, digest, line_of(row))
            count += 1
        text = str(state())
        _put(file, digest, _STATE + orjson.dumps(text) + b"\n")
    sync_file(part)
    rename(part, path)
    return Run(path, digest.hexdigest(), text, count)


def found_run(path: Path, sha256: str) -> Run | None:
    """The run of which rows have been sent, if it is still there and whole."""
    digest, count, state = hashlib.sha256(), 0, ""
    try:
        with path.open("rb") as file:
            for line in file:
                digest.update(line)
                if line[:1] == _STATE:
                    state = orjson.loads(line[1:])
                else:
                    count += 1
    except (OSError, ValueError):
        return None
    return Run(path, sha256, state, count) if digest.hexdigest() == sha256 else None


def line_of(row: RunRow) -> bytes:
    """A row as it stands in the file."""
    if not row.reason:
        return _ROW + row.encoded + b"\n"
    said = {"payload": base64.b64encode(row.encoded).decode(), "reason": row.reason}
    return _REJECT + orjson.dumps(said) + b"\n"


def _put(file: BinaryIO, digest: Any, line: bytes) -> None:
    digest.update(line)
    file.write(line)
