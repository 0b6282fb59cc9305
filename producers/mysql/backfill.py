"""Reading a MySQL table again while its changes keep flowing.

A request is a record in Kafka, and so is everything that becomes of it. Debezium reads the table in
chunks between two looks at the server's transactions and drops what has changed in between, so that
each row arrives, as `_op='r'`, in its place among the changes of its key. Nothing is written to
MySQL. Requests are served one after the other: Debezium names only one at a time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import structlog

from lake.config import Config, Endpoints, MysqlConnection
from lake.errors import SourceError
from producers.mysql.backfill_state import (
    MOST_ATTEMPTS,
    BackfillRequest,
    BackfillState,
    backfill_states,
)
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.emptying import tell_emptied
from producers.mysql.notices import Notices
from producers.mysql.query import GTIDS_ON, ask, ask_where, check_condition, one_term
from producers.mysql.signals import GIVEN_UP, REQUEST, SETTLED, SignalLog
from producers.mysql.tables import MysqlTable, captured

log = structlog.get_logger()
AGAIN_SECONDS = 15.0
"""After so long a silence, a signal is sent again: Debezium forgets it if it is killed early."""


class Backfills:
    """The backfills of one source.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        source: The source.
        server: Its MySQL server.
        tables: Its tables by their names in the lake.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        source: str,
        server: MysqlConnection,
        tables: Mapping[str, MysqlTable],
    ) -> None:
        self._source = source
        self._lake = config.settings.name
        self._endpoints = endpoints
        self._server = server
        self._tables = tables
        self._log = SignalLog(config, endpoints, source)

    def close(self) -> None:
        """Close the connections; what was requested goes on."""
        self._log.close()

    def request(self, table: str, where: str = "") -> BackfillRequest:
        """Ask for a table to be read again; one that is asked for already is not asked for twice.

        Args:
            table: Its name in the lake.
            where: A condition in MySQL's SQL; all rows by default.

        Returns:
            The request, durable in Kafka: whoever runs the source sees to it.

        Raises:
            SourceError: It cannot be read in this way, with the way out.
            ServiceUnreachable: MySQL or Kafka does not answer.
        """
        self._check(table, where)
        for state in self.states():
            known = state.request
            if not state.done and (known.table, known.where) == (table, where):
                return known
        request = BackfillRequest(uuid.uuid4().hex, table, where, time.time())
        self._log.write(REQUEST, {"id": request.id, "table": table, "where": where})
        return request

    def states(self) -> list[BackfillState]:
        """What has become of all requests of the last 30 days, in the order of their service.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        return backfill_states(self._source, self._log.read())

    def pending(self) -> bool:
        """Whether something that was requested is still to be read, or to have its last effect.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        return any(not state.done or state.is_to_settle for state in self.states())

    def is_reading(self, table: str) -> bool:
        """Whether a backfill of a table is still to have its last effect.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        states = (state for state in self.states() if state.request.table == table)
        return any(not state.done or state.is_to_settle for state in states)

    def state(self, request_id: str) -> BackfillState | None:
        """What has become of one request.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        return next((s for s in self.states() if s.request.id == request_id), None)

    def count(self, table: str, where: str = "") -> int:
        """How many rows there are to read.

        Raises:
            SourceError: MySQL refuses the condition.
            ServiceUnreachable: It does not answer.
        """
        condition = f" WHERE {one_term(where)}" if where else ""
        sql = f"SELECT COUNT(*) FROM {self._tables[table].sql}{condition}"
        return int(ask_where(self._server, sql)[0])

    def advance(self, connect: ConnectRest, delay: float = 0.0) -> bool:
        """Send the signal that is due, if one is; called again and again by whoever waits.

        Args:
            connect: The connector's REST.
            delay: Seconds for which somebody else may send a first signal.

        Returns:
            Whether requests are pending.

        Raises:
            SourceError: The table can no longer be read in this way.
            ServiceUnreachable: Kafka, Connect or MySQL does not answer.
        """
        states = self.states()
        for state in states:
            if state.is_to_settle:
                self._settle(state)
        pending = next((state for state in states if not state.done), None)
        if pending is None:
            return False
        if self._is_due(pending, delay) and self._listens(connect, pending.request):
            self._signal(pending)
        return True

    def _settle(self, state: BackfillState) -> None:
        """Declare gone what came before a whole table was read, and settle what was told of it.

        Twice does no harm, and a crash in between has it done again.
        """
        table = self._tables.get(state.request.table)
        if table is not None and state.started is not None:
            tell_emptied(self._endpoints, self._source, table, state.started)
            notices = Notices(self._lake, self._source, self._tables, self._endpoints)
            try:
                notices.settle(table.name, state.started)
            finally:
                notices.close()
        self._log.write(SETTLED, {"id": state.request.id})

    # Signals -------------------------------------------------------------------------------

    def _is_due(self, state: BackfillState, delay: float) -> bool:
        if state.attempts == 0:
            return time.time() - state.request.moment >= delay
        return time.time() - state.moment >= AGAIN_SECONDS

    def _listens(self, connect: ConnectRest, request: BackfillRequest) -> bool:
        """Whether the connector would hear a signal, and is not busy with an earlier one."""
        status = connect.status()
        parts = [status.get("connector", {}), *status.get("tasks", [])]
        if len(parts) < 2 or any(part.get("state") != "RUNNING" for part in parts):
            return False
        table = self._tables.get(request.table)
        known = captured(connect.configuration() or {})
        if table is None or (table.database, table.table) not in known:
            return False
        # the first snapshot is not over, or an incremental one goes on by itself
        busy = ("snapshot", "incremental_snapshot_collections")
        return not any(offset.get(key) for offset in connect.offsets() for key in busy)

    def _signal(self, state: BackfillState) -> None:
        request, attempt = state.request, state.attempts + 1
        if attempt > MOST_ATTEMPTS:
            # Else it would be in the way of all that are requested later.
            self._log.write(GIVEN_UP, {"id": request.id})
            raise SourceError(
                f"Debezium did not read the table {request.table} again, though it was told"
                f" {MOST_ATTEMPTS} times.",
                f"Kafka Connect's log says why. Then `ducklake backfill {self._source}"
                f".{request.table}` asks again.",
            )
        table = self._tables[request.table]
        data: dict[str, Any] = {"type": "INCREMENTAL", "data-collections": [table.pattern]}
        if request.where:
            # Debezium adds its own conditions to this one, with AND
            term = one_term(request.where)
            condition = {"data-collection": table.pattern, "filter": term}
            data["additional-conditions"] = [condition]
        signal = {"id": f"{request.id}/{attempt}", "type": "execute-snapshot", "data": data}
        self._log.write(self._source, signal)
        log.info(
            "backfill_signalled",
            message="Debezium was told to read a table again.",
            source=self._source,
            table=request.table,
            attempt=attempt,
        )

    # Checks --------------------------------------------------------------------------------

    def _check(self, table: str, where: str) -> None:
        mode = str(ask(self._server, "SELECT @@gtid_mode")[0])
        if mode != "ON":
            raise SourceError(
                f"MySQL has gtid_mode={mode}: a table can be read again only by GTIDs.",
                GTIDS_ON,
            )
        known = self._tables[table]
        [tables] = ask(
            self._server,
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s"
            " AND table_name = %s AND table_type = 'BASE TABLE'",
            known.database,
            known.table,
        )
        if not tables:
            raise SourceError(
                f"MySQL has no table {known.identifier}.",
                "Create it, or correct its name in ducklake.yml.",
            )
        [keys] = ask(
            self._server,
            "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = %s"
            " AND table_name = %s AND index_name = 'PRIMARY'",
            known.database,
            known.table,
        )
        if not keys:
            raise SourceError(
                f"The table {known.identifier} has no primary key: read again, its rows could not"
                " be told from those that are there.",
                "Give it one, such as ALTER TABLE … ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY"
                " KEY, and run this again.",
            )
        if where:
            check_condition(self._server, known.sql, where)
