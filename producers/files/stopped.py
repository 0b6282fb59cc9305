"""Tables whose files are read no further: one more dead letter is more than their policy allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from lake.errors import DeadLetterLimit
from lake.processes.heartbeat import STOPPED
from producers.base import TableState
from producers.files.folder import FileState, FileUnavailable, Folder

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Stopped:
    error: DeadLetterLimit
    path: str
    state: FileState
    again: str


class StoppedTables:
    """What has stopped, and at which file.

    A table goes on once there is room again, its file has changed or is gone, or somebody asks for
    its files to be read again.

    Args:
        source: The source's name, for the log.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._stopped: dict[str, _Stopped] = {}

    def __contains__(self, table: str) -> bool:
        return table in self._stopped

    def stop(
        self, table: str, path: str, state: FileState, again: str, error: DeadLetterLimit
    ) -> None:
        """Read a table no further.

        Args:
            table: The table.
            path: The file at which it stops.
            state: What the file looks like.
            again: When its files were last asked for again.
            error: Why it stops.
        """
        self._stopped[table] = _Stopped(error, path, state, again)
        log.error(
            "table_halted",
            message="The table is stopped; the others continue.",
            table=f"{self._source}.{table}",
            reason=str(error),
        )

    def release(self, folder: Folder, table: str, again: Callable[[str, str], str]) -> None:
        """Let a table go on if what stopped it is over.

        Args:
            folder: Where its files are.
            table: The table.
            again: Says of a table and a path when it was last asked for again.
        """
        stopped = self._stopped.get(table)
        if stopped is None:
            return
        try:
            is_same = folder.state(stopped.path) == stopped.state
        except FileUnavailable:
            is_same = False
        if (
            is_same
            and again(table, stopped.path) == stopped.again
            and not stopped.error.has_ended()
        ):
            return
        del self._stopped[table]
        log.info(
            "table_resumed",
            message="What stopped the table was accepted; it resumes.",
            table=f"{self._source}.{table}",
        )

    def states(self) -> list[TableState]:
        """What `status` shows."""
        return [
            TableState(table, STOPPED, stopped.error.what, stopped.error.remedy)
            for table, stopped in self._stopped.items()
        ]
