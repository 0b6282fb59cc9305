"""MySQL without Kafka Connect: each table is asked for what is new since its cursor.

The records have the shape of Debezium's, so that the lake, staging and `ducklake verify` treat both
alike. Deletes are not seen: `ducklake backfill` and `ducklake verify --against-source` find them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from lake.config import Config, Endpoints, MysqlConnection, Source, Table
from lake.config.suggestions import sentence
from lake.errors import DuckLakeError, SourceError, TransientError
from lake.openlineage.datasets import Dataset
from lake.processes.heartbeat import DIFFERS, MISCONFIGURED, STOPPED
from producers.base import Batch, Connector, Cursors, Problem, TableState
from producers.connections import connect_as
from producers.mysql.neighbours import table_problems
from producers.mysql.polling.checks import advice, refusal
from producers.mysql.polling.options import PollOptions
from producers.mysql.polling.reader import PollReader
from producers.mysql.polling.requests import LOOK, READ, PollRequest, PollRequests
from producers.mysql.polling.table import FILLED, TablePoller
from producers.mysql.query import ask, check_condition
from producers.mysql.server_checks import table_access_problems
from producers.mysql.server_state import server_state
from producers.mysql.tables import MysqlTable, mysql_tables

NULLS_SECONDS = 60.0
WAIT_SECONDS = 0.5
_DOUBTS = {
    FILLED: (
        "A column was added for which MySQL gave the rows that were there a value: those that did"
        " not change since lack it."
    ),
}


class MysqlPollConnector(Connector):
    """Polls the tables of one MySQL server.

    Attributes:
        tables: The tables by their names in the lake.
        requests: What others ask for.
    """

    TableOptions = PollOptions
    Connection = MysqlConnection
    embedded_service = "mysql"
    connection: MysqlConnection

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self.tables = mysql_tables(source, self.connection.database)
        self.requests = PollRequests(config, name)
        self._pollers = {
            table: TablePoller(name, names, self._options(table), self.requests)
            for table, names in self.tables.items()
        }
        self._order = list(self.tables)
        self._states: dict[str, TableState] = {}
        self._nulls: dict[str, TableState] = {}
        self._next_nulls = 0.0
        self._polled = False
        self._look: PollRequest | None = None

    @classmethod
    def problems(cls, source: Source) -> Iterator[Problem]:
        """Settings of other kinds of sources."""
        for name, spec in source.tables.items():
            if spec.columns:
                yield Problem(
                    ("tables", name, "columns"), "columns of MySQL always have MySQL's types"
                )

    @classmethod
    def project_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """Tables that stand in the source twice."""
        yield from table_problems(config, name)

    @classmethod
    def server_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """Tables, grants, watermarks and indexes that the server lacks; deletes are not seen."""
        source = config.settings.sources[name]
        [own, *_] = cls.connections_used(name, source)
        at = connect_as(config, own, MysqlConnection)
        tables = mysql_tables(source, at.database)
        state = server_state(at, tables.values())
        missing = set()
        for problem in table_access_problems(state, tables.values()):
            missing.add(problem.table)
            yield Problem(problem.at, problem.what, problem.remedy)
        left = [names for table, names in tables.items() if table not in missing]
        if left:  # else the user may have no right to connect to the database
            with PollReader(at) as reader:
                for names in left:
                    yield from _table_problems(reader, source.tables[names.name], names)
        yield Problem(
            ("type",),
            "deletes are not seen by polling: a row that MySQL has deleted stays in the lake until"
            " its table is read again",
            "`ducklake verify --against-source` finds such rows, and `ducklake backfill"
            f" {name}.TABLE` or `--repair` removes them.",
            is_error=False,
        )

    def origin(self, table: str) -> Sequence[Dataset]:
        """The table on its server."""
        return (self.tables[table].dataset(self.connection),)

    # Polling -------------------------------------------------------------------------------

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Read what is new of each table, and what was asked for.

        Raises:
            ServiceUnreachable: MySQL does not answer.
            SourceError: It refuses the user.
        """
        looks = self.requests.all(LOOK)
        with PollReader(self.connection) as reader:
            for table in list(self._order):
                try:
                    yield from self._pollers[table].batches(reader, cursors)
                    self._states.pop(table, None)
                except SourceError as error:  # it stops alone
                    self._states[table] = TableState(
                        table, STOPPED, sentence(error.what), error.remedy
                    )
                except TransientError:
                    self._order.remove(table)  # the others go first next time
                    self._order.append(table)
                    raise
            self._look_for_nulls(reader)
        for look in looks:
            self.requests.served(look)
        self._polled = True

    def table_states(self) -> Sequence[TableState]:
        """Tables that stopped, and those whose rows may not be MySQL's."""
        states = [*self._states.values()]
        for table, poller in self._pollers.items():
            about = f"{self.name}.{table}"
            if poller.cursor.doubt:
                reason = _DOUBTS[poller.cursor.doubt]
                remedy = f"`ducklake backfill {about}` reads the table again and clears this."
                states.append(TableState(table, DIFFERS, reason, remedy))
            if poller.refused:
                remedy = f"Repeat `ducklake backfill {about} --where …` with a valid condition."
                states.append(TableState(table, MISCONFIGURED, poller.refused, remedy))
        return [*states, *self._nulls.values()]

    def settled(self) -> bool:
        """Whether everything that MySQL had committed when this was first asked is in Kafka.

        A connector that does not poll itself asks the one that does.
        """
        if self._polled:
            return True
        if self._look is None:
            self._look = self.requests.add(LOOK)
        return not self.requests.is_open(self._look)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for the next poll, or for a request."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.requests.all():
            if stop.wait(min(left, WAIT_SECONDS)):
                return

    def read_again(self, table: str, where: str = "") -> PollRequest:
        """Ask for rows to be read again by whoever polls the source.

        Args:
            table: The table's name in the lake.
            where: A condition in MySQL's SQL; empty for all rows, after which those that were not
                read are gone from the lake.

        Raises:
            SourceError: MySQL does not have the table, or refuses the condition.
            ServiceUnreachable: It does not answer.
        """
        sql = self.tables[table].sql
        ask(self.connection, f"SELECT 1 FROM {sql} LIMIT 0")
        if where:
            check_condition(self.connection, sql, where)
        return self.requests.add(READ, table, where)

    def count(self) -> dict[str, int]:
        """Ask MySQL for the rows of each table that is there."""
        counts = {}
        for name, table in self.tables.items():
            with suppress(SourceError):
                [rows] = ask(self.connection, f"SELECT COUNT(*) FROM {table.sql}")
                counts[name] = int(rows)
        return counts

    def _options(self, table: str) -> PollOptions:
        options = self.table_options[table]
        assert isinstance(options, PollOptions)
        return options

    def _look_for_nulls(self, reader: PollReader) -> None:
        """Rows without a watermark are never new: that must be said."""
        if time.monotonic() < self._next_nulls:
            return
        self._next_nulls, self._nulls = time.monotonic() + NULLS_SECONDS, {}
        for table, poller in self._pollers.items():
            definition, name = poller.definition, self._options(table).watermark
            column = definition.column(name) if definition else None
            if definition is None or column is None or not column.nullable:
                continue
            if table not in self._states and reader.has_null(definition, column):
                sql = self.tables[table].sql
                self._nulls[table] = TableState(
                    table,
                    DIFFERS,
                    f"Rows of {sql} in which {name} is NULL are not read.",
                    "Give them a value, and make the column NOT NULL; then they are read.",
                )


def _table_problems(reader: PollReader, spec: Table, names: MysqlTable) -> Iterator[Problem]:
    at, watermark = ("tables", names.name), str(spec.options.get("watermark", ""))
    try:
        definition = reader.definition(names)
    except DuckLakeError as error:
        yield Problem(at, error.what, error.remedy)
        return
    refused = refusal(definition, watermark)
    if refused is not None:
        yield Problem((*at, *refused.at), refused.what, refused.remedy)
        return
    for finding in advice(definition, watermark, spec.key):
        yield Problem((*at, *finding.at), finding.what, finding.remedy, is_error=False)
