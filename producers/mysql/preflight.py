"""The checks of a source against its server: before it starts, and every minute while it runs."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import structlog

from lake.config import MysqlConnection, Source
from lake.config.suggestions import sentence
from lake.errors import SourceError
from lake.processes.heartbeat import MISCONFIGURED, STOPPED
from producers.base import TableState
from producers.mysql.server_checks import NOTE, STOPS, ServerProblem, server_problems
from producers.mysql.server_state import server_state
from producers.mysql.tables import MysqlTable

log = structlog.get_logger()
EVERY_SECONDS = 60.0


class Preflight:
    """What the server has to say against a source.

    Args:
        at: The server.
        name: The source.
        source: Its section.
        tables: Its tables by their names in the lake.
        server_id: The id as which its connector reads the binlog.

    Attributes:
        states: The tables that are not read, or not as configured.
        unreadable: Tables that the user may not read: Debezium would fail on them.
    """

    def __init__(
        self,
        at: MysqlConnection,
        name: str,
        source: Source,
        tables: Mapping[str, MysqlTable],
        server_id: int | str,
    ) -> None:
        self.states: tuple[TableState, ...] = ()
        self.unreadable: frozenset[str] = frozenset()
        self._at = at
        self._name = name
        self._source = source
        self._tables = tables
        self._server_id = server_id
        self._noted: set[str] = set()
        self._next = 0.0

    def look(self, snapshot_over: bool) -> None:
        """Ask the server, if that was not done lately or something was wrong then.

        Args:
            snapshot_over: Whether the tables have been read, and only changes are from now on.

        Raises:
            SourceError: The source cannot be read at all, with everything that is in the way.
            ServiceUnreachable: The server does not answer.
        """
        if time.monotonic() < self._next and not self.states:
            return
        state = server_state(self._at, self._tables.values())
        found = list(server_problems(state, self._source, self._tables, self._server_id))
        self._next = time.monotonic() + EVERY_SECONDS
        self._note(found)
        self.unreadable = frozenset(
            name
            for name, table in self._tables.items()
            if (known := state.tables.get((table.database, table.table))) and not known.is_readable
        )
        self.states = tuple(
            self._state(problem) for problem in found if problem.table and problem.level != NOTE
        )
        fatal = [
            problem
            for problem in found
            if not problem.table
            and problem.level == STOPS
            and not (problem.for_snapshot and snapshot_over)
        ]
        if fatal:
            self._next = 0.0
            raise self._error(fatal)

    def to_follow(self, followed: Collection[tuple[str, str]]) -> dict[str, MysqlTable]:
        """All tables but those that may not be read: Debezium's snapshot would end at them.

        Args:
            followed: (database, table) of those that the connector follows already. They stay:
                their changes come without the right to read them.

        Raises:
            SourceError: None is left.
        """
        chosen = {
            name: table
            for name, table in self._tables.items()
            if name not in self.unreadable or (table.database, table.table) in followed
        }
        if not chosen:  # an empty list would mean all tables of the server
            raise SourceError(self.states[0].reason, self.states[0].remedy)
        return chosen

    def _state(self, problem: ServerProblem) -> TableState:
        error = self._error([problem])
        state = STOPPED if problem.level == STOPS else MISCONFIGURED
        return TableState(problem.table, state, error.what, error.remedy)

    def _error(self, problems: list[ServerProblem]) -> SourceError:
        what = " ".join(
            sentence(problem.what[:1].upper() + problem.what[1:]) for problem in problems
        )
        remedies = " ".join(dict.fromkeys(problem.remedy for problem in problems))
        where = f"MySQL {self._at.host}:{self._at.port}"
        return SourceError(f"{where}: {what}", remedies)

    def _note(self, found: list[ServerProblem]) -> None:
        """Log what does not stop the whole source, once."""
        for problem in found:
            is_fatal = problem.level == STOPS and not problem.table
            if is_fatal or problem.what in self._noted:
                continue
            self._noted.add(problem.what)
            log.warning(
                "source_check",
                message="The source is read, with a limitation.",
                source=self._name,
                table=problem.table,
                reason=f"{sentence(problem.what)} {problem.remedy}",
            )
