"""Debezium's life: made, updated and watched through Kafka Connect's REST API.

The rows travel from MySQL through Connect; this class sees to it that the connector exists as
configured and runs, and it knows when everything committed in MySQL has reached Kafka.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

import structlog
from pydantic import AfterValidator, ConfigDict

from lake.config import (
    Config,
    Endpoints,
    MysqlConnection,
    Section,
    Source,
    is_reference,
    names_a_secret,
)
from lake.errors import SourceError
from lake.openlineage.datasets import Dataset
from lake.processes.heartbeat import STOPPED
from producers.base import Batch, Connector, Cursors, Problem, TableState
from producers.connections import connect_as
from producers.mysql.backfill import Backfills
from producers.mysql.changed_tables import ChangedTables
from producers.mysql.connect_rest import ConnectRest
from producers.mysql.encryption import write_stores
from producers.mysql.neighbours import server_id, server_id_problems, table_problems
from producers.mysql.notices import Notices
from producers.mysql.preflight import Preflight
from producers.mysql.progress import DebeziumProgress
from producers.mysql.query import GTIDS_ON, ask
from producers.mysql.server_checks import NOTE, server_problems
from producers.mysql.server_state import server_state
from producers.mysql.settings import connector_settings
from producers.mysql.snapshot_select import SETTING, snapshot_settings
from producers.mysql.table_sizes import estimated_rows
from producers.mysql.tables import MysqlTable, captured, mysql_tables
from producers.mysql.watch import ConnectorWatch

log = structlog.get_logger()
BACKFILL_DELAY_SECONDS = 5.0
"""For so long, `ducklake backfill` itself may send the signal."""


_MADE_OF: Mapping[str, str] = {
    **dict.fromkeys(("name", "connector.class", "topic.prefix"), "the source's name and type"),
    **dict.fromkeys(("table.include.list", "table.exclude.list", "ducklake.topics"), "`tables`"),
    **dict.fromkeys(
        ("database.include.list", "database.exclude.list"),
        "`database` of the connection and of each table",
    ),
    "topic.naming.strategy": "the tables' names in the lake",
}
"""Settings that follow from others: with another value, rows would vanish without a word."""


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("expected a text, a number, true or false")
    return value


class DebeziumSettings(Section):
    """Any setting of Debezium or of Kafka Connect; it goes before the one in connect/mysql.json."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_scalar)]]

    def texts(self) -> dict[str, str]:
        """The settings as Connect takes them."""
        return {key: _text(value) for key, value in self.__pydantic_extra__.items()}


class MysqlCdcConnector(Connector):
    """One Debezium connector for all tables of a source, of any databases of one server.

    Attributes:
        tables: The tables by their names in the lake.
        followed: Those of them that the connector follows.
    """

    Options = DebeziumSettings
    Connection = MysqlConnection
    embedded_service = "mysql"
    writes_records = False
    options: DebeziumSettings
    connection: MysqlConnection

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self.connector = f"{config.settings.name}-{name}"
        secrets = (self.connection.plain_password,)
        self.rest = ConnectRest(endpoints.connect, self.connector, secrets, self.connection.place)
        self.tables = mysql_tables(source, self.connection.database)
        self.followed = self.tables
        self.backfills = Backfills(config, endpoints, name, self.connection, self.tables)
        self._progress = DebeziumProgress(self.connection, self.rest)
        self._preflight = Preflight(
            self.connection, name, source, self.tables, server_id(config, name)
        )
        self._not_added: list[TableState] = []
        self._goal: str | None = None
        self._watch = ConnectorWatch(name, self.rest, self.connection, self._progress)
        self._notices = Notices(config.settings.name, name, self.tables, endpoints)
        self._changed = ChangedTables(name, source, endpoints, self._notices, self.backfills)

    @classmethod
    def problems(cls, source: Source) -> Iterator[Problem]:
        """Secrets that Connect would show to everybody, and settings that follow from others."""
        for key, value in source.options.items():
            if key in _MADE_OF:
                what = f"it is made of {_MADE_OF[key]}: change these, and leave it out"
                yield Problem(("options", key), what)
            if value and names_a_secret(key) and not is_reference(str(value)):
                yield Problem(
                    ("options", key),
                    "Connect would show this secret to everybody who asks: name a variable of"
                    " Connect's own environment, $${env:NAME}",
                )

    @classmethod
    def project_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """Tables and server ids that two have."""
        yield from table_problems(config, name)
        yield from server_id_problems(config, name)

    @classmethod
    def server_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """Settings, grants, tables and columns that the server lacks."""
        source = config.settings.sources[name]
        [own, *_] = cls.connections_used(name, source)
        at = connect_as(config, own, MysqlConnection)
        tables = mysql_tables(source, at.database)
        state = server_state(at, tables.values())
        for problem in server_problems(state, source, tables, server_id(config, name)):
            yield Problem(problem.at, problem.what, problem.remedy, problem.level != NOTE)

    def origin(self, table: str) -> Sequence[Dataset]:
        """The table on its server."""
        return (self.tables[table].dataset(self.connection),)

    def close(self) -> None:
        """Close the connections; the connector goes on in Connect."""
        self.backfills.close()
        self.rest.close()
        self._notices.close()

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Make the connector what it should be; restart what has failed.

        Raises:
            ServiceUnreachable: Connect does not answer, or a task failed for a passing reason.
            SourceError: Connect refuses the configuration, or the server's log was lost.
        """
        current = self.rest.configuration()
        is_streaming = current is not None and self._progress.delivered() is not None
        self._preflight.look(is_streaming)
        known = captured(current or {})
        self.followed = self._addable(self._preflight.to_follow(known), known)
        wanted = self._snapshot_settings(current, is_streaming) | self.configuration()
        if current != wanted:
            self.rest.configure(wanted)
            log.info(
                "connector_configured",
                message="The connector has a new configuration.",
                connector=self.connector,
            )
            self._watch.await_start()
        self._progress.check_log(self.name)
        self._watch.look()
        self.backfills.advance(self.rest, BACKFILL_DELAY_SECONDS)
        self._changed.look(self.followed)
        yield from ()

    def table_states(self) -> Sequence[TableState]:
        """Tables that are not read, or not as configured, and what rows do not tell of tables."""
        checked = self._preflight.states
        stopped = {state.table for state in checked if state.state == STOPPED}
        added = {s.table: s for s in self._not_added if s.table not in stopped}
        others = [state for state in checked if state.table not in added]
        return [*self._notices.states(), *others, *added.values()]

    def progress(self) -> Mapping[str, Any]:
        """How far the binlog was read; before, the rows of each table that the snapshot reads."""
        behind = self._progress.behind()
        if behind is not None:
            return {"binlog_behind_s": round(behind, 1)}
        return {"snapshot": estimated_rows(self.connection, self.followed)}

    def settled(self) -> bool:
        """Whether all that MySQL had committed when this was first asked is in Kafka.

        Raises:
            SourceError: The server numbers no transactions, so that nobody could know.
        """
        if self._goal is None:
            mode, executed = ask(self.connection, "SELECT @@gtid_mode, @@gtid_executed")
            if mode != "ON":
                raise SourceError(
                    f"MySQL has gtid_mode={mode}: the end of the changes cannot be determined.",
                    GTIDS_ON,
                )
            self._goal = str(executed).replace("\n", "")
        delivered = self._progress.delivered()
        if delivered is None:
            return False
        if not self._progress.holds(delivered, self._goal):
            return False
        self._changed.look(self.followed)  # what was told by then
        return not self.backfills.pending()

    def has_read_all(self) -> bool:
        """Whether the first snapshot is over.

        Raises:
            ServiceUnreachable: Connect does not answer, or a task has failed and is restarted.
        """
        self._watch.look()
        return self._progress.delivered() is not None

    def count(self) -> dict[str, int]:
        """Ask MySQL for the rows of each table that is there."""
        there = server_state(self.connection, self.tables.values()).tables
        return {
            name: int(ask(self.connection, f"SELECT COUNT(*) FROM {table.sql}")[0])
            for name, table in self.tables.items()
            if (state := there.get((table.database, table.table))) and state.is_readable
        }

    def configuration(self) -> dict[str, str]:
        """The connector's configuration: the template with this source's addresses filled in.

        Raises:
            SourceError: The template cannot be read.
        """
        tables = self.followed.values()
        write_stores(self.config, self.connection)
        settings = connector_settings(
            self.config, self.endpoints, self.name, self.connection, tables
        )
        return settings | self.options.texts()

    def _snapshot_settings(
        self, current: Mapping[str, str] | None, is_streaming: bool
    ) -> dict[str, str]:
        """How the snapshot selects; once it is over, as it did: a change would only restart it."""
        if current and is_streaming:
            return {key: value for key, value in current.items() if key.startswith(SETTING)}
        return snapshot_settings(self.connection, self.followed.values())

    def _addable(
        self, tables: Mapping[str, MysqlTable], known: Collection[tuple[str, str]]
    ) -> dict[str, MysqlTable]:
        """Tables without those that came later and cannot be read whole; these stop alone.

        Debezium takes its snapshot once: the rows of a table added later are read by request. The
        request comes first: killed in between, the table is read twice rather than never.
        """
        chosen = dict(tables)
        self._not_added = []
        for name, table in tables.items():
            if not known or (table.database, table.table) in known:
                continue
            try:
                self.backfills.request(name)
            except SourceError as error:
                del chosen[name]
                self._not_added.append(TableState(name, STOPPED, error.what, error.remedy))
        return chosen


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
