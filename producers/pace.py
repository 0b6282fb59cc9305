"""When each table of a source is asked for again, and what is wrong with it meanwhile."""

from __future__ import annotations

import random
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Mapping

import structlog

from lake.errors import DeadLetterLimit, DuckLakeError, TransientError, UnexpectedError
from lake.processes.backoff import Backoff
from lake.processes.heartbeat import RETRYING, STOPPED
from producers.base import Batch, Connector, Cursors, TableState

log = structlog.get_logger()
FIRST_SECONDS, MOST_SECONDS = 2.0, 300.0
EARLY_SECONDS = 0.05
AGAIN_SECONDS = 600.0


class PacedConnector(Connector):
    """A connector whose tables each have their own times; what is wrong with one stops no other.

    Whoever derives from it sets `_pace`, and gives the batches of a table.
    """

    _pace: Pace

    def table_states(self) -> list[TableState]:
        """Tables that could not be read."""
        return self._pace.states()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for the next poll, or until a table is due before."""
        stop.wait(self._pace.wait_seconds(seconds))

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Read the tables that are due, a part of each in turn.

        Raises:
            TransientError: No table at all could be read.
        """
        due = {table: self._table_batches(table, cursors) for table in self._pace.due()}
        yield from self._pace.take_turns(due)

    @abstractmethod
    def _table_batches(self, table: str, cursors: Cursors) -> Generator[Batch | None]:
        """The batches of a table, and None after each part that has none."""


class Pace:
    """The times of one source's tables.

    Args:
        source: The source's name, for the log.
        every: By table, how many seconds lie between two polls; None: the source's own.
        dice: Decides how pauses vary.
    """

    def __init__(
        self, source: str, every: Mapping[str, float | None], dice: random.Random | None = None
    ) -> None:
        self._source = source
        self._every = every
        self._due = dict.fromkeys(every, 0.0)
        self._all_due = 0.0  # after a wait that was cut short, for the tables that it was not for
        self._backoff = {table: Backoff(FIRST_SECONDS, MOST_SECONDS, dice=dice) for table in every}
        self._wrong: dict[str, tuple[DuckLakeError, float]] = {}
        self._said: dict[str, tuple[str, float]] = {}

    def due(self) -> list[str]:
        """The tables that are asked now."""
        now = time.monotonic() + EARLY_SECONDS
        return [
            table
            for table, every in self._every.items()
            if now >= self._due[table]
            and (now >= self._all_due or every is not None or table in self._wrong)
        ]

    def take_turns(self, running: Mapping[str, Generator[Batch | None]]) -> Iterator[Batch]:
        """The batches of several tables, a part of each in turn; what one raises stops it alone.

        Args:
            running: By table, its batches; None where a part has none.

        Raises:
            TransientError: No table at all could be read.
        """
        turns = deque(running.items())
        try:
            while turns:
                table, batches = turns.popleft()
                try:
                    batch = next(batches)
                except StopIteration:
                    self.went_well(table)
                    continue
                except DuckLakeError as error:
                    self.failed(table, error)
                    continue
                except Exception as error:  # whatever it is, it is this table's
                    where = f"Table {self._source}.{table}"
                    remedy = "This is a defect; the table is asked for again."
                    self.failed(table, UnexpectedError.of(where, error, remedy))
                    continue
                turns.append((table, batches))
                if batch is None:
                    continue
                try:
                    yield batch
                except DeadLetterLimit as error:  # what came of it may not be written
                    turns.pop()
                    batches.close()
                    self.failed(table, error)
        finally:
            for _, batches in turns:
                batches.close()
        outage = self.outage()
        if outage is not None:
            raise outage

    def went_well(self, table: str) -> None:
        """A table has been read to its end."""
        self._backoff[table].reset()
        self._said.pop(table, None)
        if self._wrong.pop(table, None) is not None:
            log.info(
                "table_resumed",
                message="A table can be read again.",
                source=self._source,
                table=table,
            )
        self._due[table] = time.monotonic() + (self._every[table] or 0.0)

    def failed(self, table: str, error: DuckLakeError) -> None:
        """A table could not be read; it is asked again later, by itself."""
        pause = self._backoff[table].pause()
        retry_after = getattr(error, "retry_after", None)
        if retry_after is not None:
            pause = max(retry_after, EARLY_SECONDS)
        self._due[table] = time.monotonic() + pause
        self._wrong[table] = (error, time.time() + pause)
        reason, said = self._said.get(table, ("", 0.0))
        if reason == error.what and time.monotonic() - said < AGAIN_SECONDS:
            return
        self._said[table] = (error.what, time.monotonic())
        log.warning(
            "table_failed",
            message="A table cannot be read now and is asked for again.",
            source=self._source,
            table=table,
            reason=str(error),
            seconds=round(pause, 1),
        )

    def states(self) -> list[TableState]:
        """What is wrong now."""
        return [
            TableState(
                table,
                RETRYING if isinstance(error, TransientError) else STOPPED,
                error.what,
                error.remedy,
                next_attempt,
            )
            for table, (error, next_attempt) in self._wrong.items()
        ]

    def outage(self) -> TransientError | None:
        """Why no table at all can be read now, if that is so."""
        errors = [self._wrong[table][0] for table in self._every if table in self._wrong]
        if len(errors) < len(self._every):
            return None
        first = errors[0] if errors else None
        all_transient = all(isinstance(error, TransientError) for error in errors)
        return first if all_transient and isinstance(first, TransientError) else None

    def wait_seconds(self, seconds: float) -> float:
        """How long to wait at most, where the next poll of all tables is so many seconds away."""
        now = time.monotonic()
        self._all_due = now + seconds
        own = [
            self._due[table]
            for table, every in self._every.items()
            if every is not None or table in self._wrong
        ]
        return max(0.0, min([seconds, *(due - now for due in own)]))
