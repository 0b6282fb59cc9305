"""Redrive of what a producer rejected in files: the files are read again with the present options.

Bytes of whole files are not kept, and a row alone does not say how its file is to be read. So the
file is asked for again, as `ducklake backfill` does, and all its rows arrive as a new version; what
was rejected in the version before is resolved then. What cannot be read in the new version either
is a dead letter of that version.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import orjson

from lake.config import Config
from lake.ledger import DeadLetterEntry, LedgerReader
from lake.opening import open_lake
from lake.processes.heartbeat import role_reports
from lake.storage.paths import LakePaths
from producers.cursors import committed_cursors
from producers.files.connector import FileConnector
from producers.files.folder import FileUnavailable, shown
from producers.files.matching import matching_files
from producers.files.requests import request_again
from producers.registry import connector

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
"""Without a file that was read, after which nobody waits any longer."""


@dataclass(slots=True)
class RedrivenFiles:
    """What became of the rejects of one table.

    Attributes:
        table: Its topic.
        resolved: Rejects of files of which another version has been read since.
        waiting: Rejects of files that were asked for and are not read again yet.
        gone: Rejects of files that are no longer there.
        appended: Rejects of files of which only new rows are read.
    """

    table: str
    resolved: int = 0
    waiting: int = 0
    gone: int = 0
    appended: int = 0
    files: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_done(self) -> bool:
        """Whether none of them is left."""
        return not (self.waiting or self.gone or self.appended)


def redrive_files(
    config: Config, topic: str, rejects: Sequence[DeadLetterEntry], stop: threading.Event
) -> RedrivenFiles:
    """Resolve the rejects of files that were read again, and ask for the others.

    While a producer runs, it waits until these have been read.

    Args:
        config: The configuration, as it is now.
        topic: A table of files.
        rejects: Its rejects that are meant.
        stop: Ends the waiting; what was asked for is read all the same.

    Raises:
        ServiceUnreachable: Kafka, or the files' server, does not answer.
        CommitConflict: Another process has resolved them in the meantime.
    """
    source, _, table = topic.partition(".")
    found = RedrivenFiles(topic)
    left = _resolved(config, topic, rejects, found)
    spec = config.settings.sources[source].tables[table]
    if spec.options.get("mode") == "append":
        # Of such a file only the new rows are read: reading it again would repeat the good ones.
        found.appended = len(left)
        return found
    there = _files_there(config, source, spec.file or "") if left else frozenset()
    found.gone = sum(file not in there for _, file in left)
    left = [(entry, file) for entry, file in left if file in there]
    if left:
        found.files = frozenset(file for _, file in left)
        request_again(config, source, table, found.files)
        left = _await(config, topic, left, found, stop)
    found.waiting = len(left)
    return found


_Left = list[tuple[DeadLetterEntry, str]]
"""Rejects with the names of their files."""


def _await(
    config: Config, topic: str, left: _Left, found: RedrivenFiles, stop: threading.Event
) -> _Left:
    """Wait until the files have been read, as long as somebody reads them."""
    until = time.monotonic() + PATIENCE_SECONDS
    while left and is_produced(config) and time.monotonic() < until:
        if stop.wait(LOOK_SECONDS):
            break
        before = len(left)
        left = _resolved(config, topic, [entry for entry, _ in left], found)
        if len(left) < before:
            until = time.monotonic() + PATIENCE_SECONDS
    return left


def _resolved(
    config: Config, topic: str, rejects: Sequence[DeadLetterEntry], found: RedrivenFiles
) -> _Left:
    """Resolve those of files of which another version is in Kafka; gives the others."""
    source, _, table = topic.partition(".")
    cursors = committed_cursors(config.endpoints(), source)
    over, left = [], []
    with open_lake(config, for_writing=True) as lake:
        for entry, about in _with_provenance(lake.ledger, rejects):
            file = str(about.get("file", ""))
            if _is_superseded(about, cursors.get(f"{table}:{file}", {})):
                over.append(entry)
            else:
                left.append((entry, file))
        if over:
            lake.ledger.dead_letters.redriven(over, lake.session.id)
    found.resolved += len(over)
    return left


def _is_superseded(about: Mapping[str, Any], cursor: Mapping[str, Any]) -> bool:
    """Whether what was read last of a file is whole, and another version than a reject's."""
    if not cursor.get("complete"):
        return False
    read = cursor.get("sha256"), cursor.get("source_ts")
    return read != (about.get("file_sha256"), about.get("source_ts"))


def _with_provenance(
    ledger: LedgerReader, rejects: Sequence[DeadLetterEntry]
) -> Iterator[tuple[DeadLetterEntry, Mapping[str, Any]]]:
    for entry, payload in zip(rejects, ledger.dead_letters.payloads(rejects), strict=True):
        yield entry, orjson.loads(payload.headers) if payload is not None else {}


def _files_there(config: Config, source: str, file: str) -> frozenset[str]:
    with closing(connector(config, config.endpoints(), source)) as made:
        assert isinstance(made, FileConnector)
        try:
            with made.open_folder() as folder:
                return frozenset(shown(path) for path in matching_files(folder, file))
        except FileUnavailable:
            return frozenset()


def is_produced(config: Config) -> bool:
    """Whether a producer runs on this machine."""
    reports = role_reports(LakePaths(config.data_dir).run)
    return any(report.alive and report.role.startswith("produce") for report in reports)
