"""Reads tables from APIs that answer JSON: adding one is a matter of `ducklake.yml` alone."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from lake.config import NOWHERE, Config, Endpoints, Source, Table
from lake.errors import DuckLakeError, ServiceUnreachable
from lake.openlineage.datasets import Dataset, web_address
from producers.base import Batch, Cursors, Problem
from producers.connections import ConnectionUse, connect_as
from producers.cursors import committed_cursors
from producers.http.answer import NotAnswered
from producers.http.client import HttpClient
from producers.http.connection import RestConnection
from producers.pace import Pace, PacedConnector
from producers.rest.first_answers import answer_problems
from producers.rest.options import RestRequest, RestTable, YearsOf
from producers.rest.parameters import mysql_use, values_of
from producers.rest.reader import TableReader, UnitProblem
from producers.rest.requests import backfills
from producers.rest.rows import GoodRow
from producers.rest.units import Unit, below, units_of

_SERVICE = "api"
_FAILURES = 3
"""Units in a row without an answer: then the other ones of the table are not asked, either."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A unit, and who is asked for it."""

    unit: Unit
    client: HttpClient
    base_url: str


class RestConnector(PacedConnector):
    """Asks each table's addresses; what is wrong with one table stops no other."""

    Connection = RestConnection
    TableOptions = RestTable
    embedded_service = _SERVICE
    connection: RestConnection

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self._clients: dict[str, tuple[HttpClient, str]] = {}
        self._readers = {
            table: TableReader(name, table, spec) for table, spec in source.tables.items()
        }
        self._pace = Pace(name, {table: self._spec(table).seconds for table in source.tables})

    @classmethod
    def connections_used(cls, name: str, source: Source) -> Sequence[ConnectionUse]:
        """The source's own, those that requests name, and the MySQL that knows years."""
        found = list(super().connections_used(name, source))
        for table, spec in source.tables.items():
            for at, request in _raw_requests(table, spec):
                entry = request.get("connection")
                if isinstance(entry, str):
                    place = ("sources", name, *at, "connection")
                    found.append(ConnectionUse(place, entry, RestConnection, _SERVICE))
                each = request.get("each")
                for word, values in each.items() if isinstance(each, dict) else ():
                    if isinstance(values, dict) and isinstance(values.get("connection"), str):
                        years = YearsOf(first_and_last="", connection=values["connection"])
                        found.append(mysql_use(("sources", name, *at, "each", str(word)), years))
        return found

    @classmethod
    def server_problems(cls, config: Config, name: str) -> Iterator[Problem]:
        """What the first page of each table's newest part has against its configuration."""
        source = config.settings.sources[name]
        with closing(cls(name, source, config, NOWHERE)) as made:
            for table, spec in source.tables.items():
                newest = {id(part.unit.request): part for part in made._units(table)}
                for part in newest.values():
                    asked = (part.client, part.base_url, part.unit)
                    yield from answer_problems(table, spec, *asked)

    def close(self) -> None:
        """Close the connections."""
        for client, _ in self._clients.values():
            client.close()
        for reader in self._readers.values():
            reader.close()

    def origin(self, table: str) -> Sequence[Dataset]:
        """The addresses of its requests, with their placeholders."""
        found = []
        for name, request in self._spec(table).all_requests().items():
            _, base_url = self._client(self._place(table, name), request)
            found.append(web_address(below(base_url, str(request.url))))
        return found

    # Polling -------------------------------------------------------------------------------

    def _table_batches(self, table: str, cursors: Cursors) -> Generator[Batch | None]:
        """The batches of a table, and None after each part that has none."""
        wanted = backfills(self.config, self.name, table)
        reader = self._readers[table]
        first: DuckLakeError | None = None
        asked = absent = failures = 0
        for part in self._units(table):
            try:
                read = False
                for batch in reader.batches(part.client, part.base_url, part.unit, cursors, wanted):
                    read = True
                    yield batch
                asked += reader.was_asked
                absent += reader.was_absent
                failures = 0 if reader.was_asked else failures
                if not read:
                    yield None
            except NotAnswered as error:
                first, failures = first or error, failures + 1
                if error.retry_after is not None or failures >= _FAILURES:
                    raise
            except UnitProblem as error:
                first = first or error
        if first is not None:
            raise first
        if asked and absent == asked:
            raise ServiceUnreachable(
                f"All addresses of {self.name}.{table} answer 404 or 204.",
                f"Check `url` of the table, and {self.connection.place}.",
            )

    # Asking --------------------------------------------------------------------------------

    def _spec(self, table: str) -> RestTable:
        options = self.table_options[table]
        assert isinstance(options, RestTable)
        return options

    def _units(self, table: str) -> Iterator[_Asked]:
        today = datetime.now(UTC).date()
        for name, request in self._spec(table).all_requests().items():
            place = self._place(table, name)
            values = values_of(self.config, place, request)
            client, base_url = self._client(place, request)
            for unit in units_of(name, request, values, today):
                yield _Asked(unit, client, base_url)

    def _place(self, table: str, request: str) -> str:
        place = f"sources.{self.name}.tables.{table}.options"
        return f"{place}.requests.{request}" if request else place

    def _client(self, place: str, request: RestRequest) -> tuple[HttpClient, str]:
        key = request.connection or ""
        if key not in self._clients:
            connection = self.connection
            if request.connection is not None:
                at = (*place.split("."), "connection")
                use = ConnectionUse(at, request.connection, RestConnection, _SERVICE)
                connection = connect_as(self.config, use, RestConnection)
            self._clients[key] = HttpClient(connection), connection.base_url
        return self._clients[key]

    # Counting ------------------------------------------------------------------------------

    def count(self) -> dict[str, int]:
        """Ask again and count; of what is asked only once, what was read."""
        counts: dict[str, int] = {}
        known: Cursors | None = None
        for table in self.source.tables:
            counts[table] = 0
            for part in self._units(table):
                request = part.unit.request
                if request.incremental is None and request.backfill is None:
                    counts[table] += self._count(table, part)
                    continue
                if known is None:
                    known = committed_cursors(self.endpoints, self.name)
                cursor = known.get(f"{table}:{part.unit.name}", {})
                counts[table] += int(cursor.get("rows", 0))
        return counts

    def _count(self, table: str, part: _Asked) -> int:
        reader = self._readers[table]
        walk, problem = reader.asked(part.client, part.base_url, part.unit)
        try:
            if problem is not None:
                return 0
            return sum(isinstance(row, GoodRow) for row in reader.form(part.unit).read(walk))
        finally:
            walk.close()


def _raw_requests(table: str, spec: Table) -> Iterator[tuple[tuple[str, ...], dict[str, object]]]:
    """The requests as they stand in the file, which may be wrong."""
    at = ("tables", table, "options")
    yield at, spec.options
    several = spec.options.get("requests")
    for name, request in several.items() if isinstance(several, dict) else ():
        if isinstance(request, dict):
            yield (*at, "requests", str(name)), request
