"""One source, polled for ever: whatever it raises stops it alone, and it is asked again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import structlog

from lake.config import TableRef
from lake.errors import (
    BinlogLost,
    DuckLakeError,
    ProducerFenced,
    ServiceUnreachable,
    SourceError,
    SourcePaused,
    TransientError,
    UnexpectedError,
)
from lake.openlineage.recording import produced, stopped
from lake.processes.backoff import Backoff
from lake.processes.heartbeat import PAUSED, RETRYING, RUNNING, STOPPED, Heartbeat, Part
from lake.processes.instruments import SOURCE_FAILURES
from producers.base import Connector, TableState
from producers.reject_limits import RejectLimits
from producers.transactions import TransactionalWriter

log = structlog.get_logger()
RETRY_SECONDS = 2.0
MOST_SECONDS = 300.0
"""The longest pause between two tries: so long a source that somebody has mended may still wait."""
TRANSIENT_MOST_SECONDS = 60.0
"""The same for what mends itself, such as a server that restarts."""
PAUSED_SECONDS = 5.0
"""The same for what somebody has paused, who will look whether it goes on."""
ONCE_SECONDS = 0.2
ONCE_TRIES = 5
SOON_SECONDS = 1.0
MOVES_WITHIN = 1800.0
"""Seconds within which a poll yields a batch or ends: servers time out far earlier, but an
`extract()` may fetch whole tables in one go."""

Progress = Callable[[str, int], None]


class SourceLoop:
    """Polls one source and writes what it yields.

    Args:
        name: The source.
        make: Makes its connector; called anew after an error that is not transient.
        open_writer: Opens its transactional producer.
        heartbeat: Told in which state the source is.
        progress: Called with a topic and the number of records sent.
        limits: Say what of its rejects may be written.

    Attributes:
        failed: What ended it for good.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Connector],
        open_writer: Callable[[], TransactionalWriter],
        heartbeat: Heartbeat,
        progress: Progress,
        limits: RejectLimits,
    ) -> None:
        self._limits = limits
        self.name = name
        self.failed: DuckLakeError | None = None
        self._make = make
        self._open_writer = open_writer
        self._heartbeat = heartbeat
        self._progress = progress
        self._source: Connector | None = None
        self._writer: TransactionalWriter | None = None
        self._backoff = Backoff(RETRY_SECONDS, MOST_SECONDS)
        self._error: DuckLakeError | None = None  # of the last try
        self._progress_told: Mapping[str, Any] = {}
        self._told_tables: frozenset[str] = frozenset()
        self._troubled: frozenset[str] = frozenset()

    def run(self, stop: threading.Event, once: bool) -> None:
        """Poll until told to stop, or (once) until all that is there has been read.

        Only another producer that has taken over ends it for good, and in a `once` run any error
        that is not transient.
        """
        try:
            while not stop.is_set():
                try:
                    if self._poll(stop, once):
                        return
                except Exception as error:  # whatever a connector raises is its own affair
                    pause = self._failed(error, once)
                    if pause is None:
                        return
                    stop.wait(pause)
        finally:
            self._let_go()

    def _poll(self, stop: threading.Event, once: bool) -> bool:
        """Poll once, and wait for the next time; whether there is none."""
        self._tell(within=MOVES_WITHIN)
        source = self._source = self._source or self._make()
        if source.writes_records and self._writer is None:
            self._writer = self._open_writer()
        self._write_batches(source, stop)
        states = source.table_states()
        self._tell_lineage(source, states)
        self._progress_told = source.progress()
        self._tell_tables(states)
        self._tell_troubles(source)
        if once:
            _require_no_retry(states)
        if self._error is not None:
            log.info("source_resumed", message="The source responds again.", source=self.name)
        self._error = None
        self._backoff.reset()
        if once and not stop.is_set() and source.settled():
            # What is there has been read, but for these.
            stopped = [state for state in states if state.state == STOPPED]
            if stopped:
                what = " ".join(f"{self.name}.{s.table}: {s.reason}" for s in stopped)
                remedies = " ".join(dict.fromkeys(state.remedy for state in stopped))
                self.failed = SourceError(what, remedies)
            return True
        pause = _pause(source, once)
        self._tell(within=None)  # it waits, however long
        source.wait(stop, pause)
        return False

    def _write_batches(self, source: Connector, stop: threading.Event) -> None:
        found = source.poll(self._writer.view() if self._writer else {})
        with closing(self._limits.admitted(found)) as batches:
            for batch in batches:
                assert self._writer is not None, "a connector that yields batches writes records"
                if stop.is_set():
                    return
                self._writer.write(batch)
                self._tell(within=MOVES_WITHIN)
                if batch.records:
                    self._progress(f"{source.name}.{batch.table}", len(batch.records))
                    ref = TableRef(source.name, batch.table)
                    produced(ref, lambda ref: source.origin(ref.table), len(batch.records))
                del batch  # or it stays in memory while the next one is read

    def _failed(self, error: Exception, once: bool) -> float | None:
        """Note an error; the seconds to wait before the next try, or None if there is none."""
        named = self._error = self._named(error)
        for table in self._source.source.tables if self._source else ():
            stopped(f"produce.{self.name}.{table}", named)
        SOURCE_FAILURES.labels(self.name).inc()
        transient = isinstance(named, TransientError)
        fenced = isinstance(named, ProducerFenced)
        # Only where it is of no more use: a new one would fence a successor of this process.
        self._writer = self._writer if self._writer and self._writer.usable else None
        pause = self._backoff.pause()
        last_try = once and (not transient or self._backoff.failures >= ONCE_TRIES)
        if fenced or last_try:
            self.failed = named
            self._tell(STOPPED)
            log.error(
                "source_stopped",
                message="The source is stopped; the others continue.",
                source=self.name,
                reason=str(named),
            )
            return None
        if not transient:
            self._let_go()  # the next try begins afresh
        pause = min(pause, TRANSIENT_MOST_SECONDS) if transient else pause
        pause = min(pause, PAUSED_SECONDS) if isinstance(named, SourcePaused) else pause
        self._tell(next_attempt=time.time() + pause)
        log.warning(
            "source_failed",
            message="A source failed and is retried.",
            source=self.name,
            reason=str(named),
            seconds=round(pause, 1),
        )
        return pause

    def _named(self, error: Exception) -> DuckLakeError:
        source = self._source
        kind = f" ({type(source).__module__}.{type(source).__name__})" if source else ""
        return UnexpectedError.unless_named(
            f"Source {self.name}{kind}",
            error,
            "This is a defect of the connector, or something in the source that it does not"
            " expect; the source is asked again by itself.",
        )

    def _tell(
        self, state: str = "", within: float | None = None, next_attempt: float | None = None
    ) -> None:
        error = self._error
        if not state:  # one that is being asked again has not answered yet
            state = _state(error)
        reason, remedy = (error.what, error.remedy) if error else ("", "")
        told = self._progress_told
        part = Part("source", state, 0.0, reason, remedy, next_attempt, 0.0, within, told)
        self._heartbeat.part(self.name, part)

    def _tell_lineage(self, source: Connector, states: Sequence[TableState]) -> None:
        """Each table has been read, but for those that have stopped."""
        halted = {s.table: s for s in states if s.state == STOPPED}
        for table in source.source.tables:
            ref = TableRef(source.name, table)
            if table in halted:
                stopped(f"produce.{ref.topic}", SourceError(halted[table].reason))
            else:
                produced(ref, lambda ref: source.origin(ref.table))

    def _tell_tables(self, states: Sequence[TableState]) -> None:
        """The worst of each table, and nothing any more of a table that is well again."""
        worst = {f"{self.name}.{s.table}": s for s in sorted(states, key=lambda s: s.state)}
        self._told_tables = self._tell_parts(
            self._told_tables,
            {
                name: Part("table", told.state, 0.0, told.reason, told.remedy, told.next_attempt)
                for name, told in worst.items()
            },
        )

    def _tell_troubles(self, source: Connector) -> None:
        """Parts of the source that could not be read, and those that can be again."""
        self._troubled = self._tell_parts(
            self._troubled,
            {
                trouble.name: Part("file", RETRYING, trouble.since, trouble.reason, trouble.remedy)
                for trouble in source.troubles()
            },
        )

    def _tell_parts(self, told: frozenset[str], parts: Mapping[str, Part]) -> frozenset[str]:
        """Replace the parts that were told by these; gives their names."""
        for name in told - parts.keys():
            self._heartbeat.forget(name)
        for name, part in parts.items():
            self._heartbeat.part(name, part)
        return frozenset(parts)

    def _let_go(self) -> None:
        source, self._source = self._source, None
        if source is None:
            return
        try:
            source.close()
        except Exception as error:  # it is thrown away in any case
            log.warning(
                "source_not_closed",
                message="A connector failed while closing; it is discarded.",
                source=self.name,
                reason=type(error).__name__,
            )


def _require_no_retry(states: Sequence[TableState]) -> None:
    """Where one pass is all: tables that are asked again soon are asked again within it.

    Raises:
        ServiceUnreachable: There are some.
    """
    waiting = [state for state in states if state.state == RETRYING]
    if waiting:
        what = " ".join(state.reason for state in waiting)
        raise ServiceUnreachable(what, " ".join(dict.fromkeys(s.remedy for s in waiting)))


def _state(error: DuckLakeError | None) -> str:
    """How a source is that is asked again whatever its last error was.

    A connector that somebody has paused mends itself only when it is resumed, and changes that are
    lost do not come back: neither is "retrying".
    """
    if error is None:
        return RUNNING
    if isinstance(error, SourcePaused):
        return PAUSED
    return STOPPED if isinstance(error, BinlogLost) else RETRYING


def _pause(source: Connector, once: bool) -> float:
    if once:
        return ONCE_SECONDS
    if source.writes_records and not source.settled():
        return min(SOON_SECONDS, source.source.poll_seconds)  # a file is still being written
    return source.source.poll_seconds
