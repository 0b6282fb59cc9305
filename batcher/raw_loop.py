"""Raw rows to PostgreSQL as soon as they are committed, beside the cycles and not behind them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from batcher.held_back import HeldBack
from batcher.postgres import PostgresExport
from lake.config import Config, PostgresEndpoint
from lake.errors import DuckLakeError, UnexpectedError
from lake.opening import ReadableLake, open_lake
from lake.processes.heartbeat import RETRYING, Heartbeat, Part
from lake.processes.instruments import EXPORT_SECONDS

log = structlog.get_logger()
LOOK_SECONDS = 0.2
RETRY_SECONDS = 2.0
AGAIN_SECONDS = 60.0
"""A pass without anything new: tables that somebody emptied, and days that left their window."""
STATE_SECONDS = 10.0
IDLE_WITHIN = 120.0
PASS_WITHIN = 3600.0
"""Seconds that the first pass of a long history may take."""
STEP = "raw export"


class RawLoop:
    """Follows the ledger's commits in a thread of its own.

    Args:
        config: The configuration.
        endpoint: Where PostgreSQL is.
        heartbeat: Told that the loop moves, and what it cannot export.
    """

    def __init__(self, config: Config, endpoint: PostgresEndpoint, heartbeat: Heartbeat) -> None:
        self._config = config
        self._endpoint = endpoint
        self._heartbeat = heartbeat
        self._held = HeldBack(heartbeat)
        self._error: DuckLakeError | None = None
        self._ended = threading.Event()
        self.is_running = False

    @property
    def held_back(self) -> Mapping[str, DuckLakeError]:
        """Raw relation to the reason why PostgreSQL keeps its last state."""
        return self._held.relations

    @contextmanager
    def running(self, stop: threading.Event) -> Iterator[None]:
        """Export for the time of a block, until told to stop."""
        thread = threading.Thread(target=self._run, args=(stop,), name=STEP, daemon=True)
        self.is_running = True
        self._ended.clear()
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self.is_running = False

    def _run(self, stop: threading.Event) -> None:
        def goes_on() -> bool:
            return not (stop.is_set() or self._ended.is_set())

        while goes_on():
            try:
                with open_lake(self._config, for_writing=False) as lake:
                    self._follow(lake, goes_on)
            except Exception as error:  # the next attempt is a new try, whatever it was
                self._failed(error)
                self._ended.wait(RETRY_SECONDS)

    def _follow(self, lake: ReadableLake, goes_on: Callable[[], bool]) -> None:
        export = PostgresExport(self._config, self._endpoint, lake.ledger)
        done, next_at, state_at = -1, 0.0, 0.0
        while goes_on():
            now = time.monotonic()
            if lake.ledger.commits.last() != done or now >= next_at:
                self._moves(PASS_WITHIN)
                with EXPORT_SECONDS.labels("raw").time(), lake.pinned() as commit:
                    held = export.export_raw(commit, goes_on).held_back
                    if not held and goes_on() and now >= state_at:
                        lake.readers.state(STEP, commit)  # single commits may be forgotten
                        state_at = now + STATE_SECONDS
                self._succeeded(held)
                # What is held back is tried again; the others have everything up to here.
                done, next_at = commit, now + (RETRY_SECONDS if held else AGAIN_SECONDS)
            self._moves(IDLE_WITHIN)
            self._ended.wait(LOOK_SECONDS)

    def _moves(self, within: float) -> None:
        """The loop moves; what failed is told until it succeeds."""
        if self._error is None:
            self._heartbeat.part(STEP, Part("step", within=within))
        else:
            reason, remedy = self._error.what, self._error.remedy
            part = Part("step", RETRYING, reason=reason, remedy=remedy, within=within)
            self._heartbeat.part(STEP, part)

    def _succeeded(self, held: Mapping[str, DuckLakeError]) -> None:
        self._held.tell(held)
        if self._error is not None:
            self._error = None
            log.info("raw_export_resumed", message="Raw rows reach PostgreSQL again.")

    def _failed(self, error: Exception) -> None:
        remedy = "A defect of the batch."
        named = UnexpectedError.unless_named("the export of raw", error, remedy)
        before, self._error = self._error, named
        self._moves(PASS_WITHIN)
        if before is None or before.what != named.what:
            log.warning(
                "raw_export_failed",
                message="Raw rows wait in the lake; the export is attempted again.",
                reason=str(error),
            )
