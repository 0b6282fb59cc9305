"""A file read by a process of its own, with limits of memory and of time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from producers.formats.row import UnreadableFile
from producers.isolated.worker import MEMORY_BYTES, TOO_LARGE

SILENT_SECONDS = 300.0
"""Without a row, after which a file is given up."""
_ROOT = Path(__file__).resolve().parents[2]


def isolated_lines(kind: str, stream: BinaryIO, options: dict[str, Any]) -> Iterator[list[Any]]:
    """What the process says of a file, line by line.

    Args:
        kind: `workbook` or `parquet`.
        stream: The file.
        options: Its options, as the process takes them.

    Raises:
        UnreadableFile: It cannot be read, or not within the limits.
    """
    command = [sys.executable, "-m", "producers.isolated.worker", kind, json.dumps(options)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment["OPENPYXL_LXML"] = "False"  # defusedxml then refuses entities
    environment["PYTHONPATH"] = os.pathsep.join([str(_ROOT), environment.get("PYTHONPATH", "")])
    with ExitStack() as stack:
        file = stack.enter_context(_as_file(stream))
        process = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        )
        stack.callback(process.kill)
        watch = _Watch(process)
        stack.callback(watch.end)
        for line in watch.lines():
            yield orjson.loads(line)
        _check(process.wait(), watch.expired)


class _as_file:  # noqa: N801 - a context manager
    """A stream as a file of the operating system: itself, or a copy of what it unpacks to."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._made: Any = None

    def __enter__(self) -> BinaryIO:
        if isinstance(self._stream, tempfile._TemporaryFileWrapper) or _is_real(self._stream):
            self._stream.flush() if self._stream.writable() else None
            return self._stream
        self._made = tempfile.TemporaryFile()
        shutil.copyfileobj(self._stream, self._made, 1 << 20)
        self._made.flush()
        return cast(BinaryIO, self._made)

    def __exit__(self, *error: object) -> None:
        if self._made is not None:
            self._made.close()


def _is_real(stream: BinaryIO) -> bool:
    """Whether what the descriptor shows is the stream's own content, not a compressed one."""
    if type(stream).__module__ not in ("_io", "io"):
        return False
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError):
        return False


class _Watch:
    """Ends a process that says nothing for too long while somebody waits for it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.expired = False
        self._process = process
        self._waiting: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def lines(self) -> Iterator[bytes]:
        assert self._process.stdout is not None
        while True:
            self._waiting = time.monotonic()
            line = self._process.stdout.readline()
            self._waiting = None
            if not line:
                return
            yield line

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            waiting = self._waiting
            if waiting is not None and time.monotonic() - waiting > SILENT_SECONDS:
                self.expired = True
                self._process.kill()
                return

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def _check(code: int, expired: bool) -> None:
    if code == 0:
        return
    if expired:
        raise UnreadableFile(f"no row of it could be read within {SILENT_SECONDS:.0f} s")
    if code in (TOO_LARGE, -6):
        raise UnreadableFile(
            f"reading it takes more than {MEMORY_BYTES >> 20} MB of memory",
            "Ask for it in parts, or as CSV.",
        )
    raise UnreadableFile(f"the process that reads it ended with code {code}")
