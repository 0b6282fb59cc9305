"""Argentina's public APIs: the dólar blue and the public holidays (feriados)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import field_validator, model_validator

from lake.config import (
    Config,
    Connection,
    Endpoints,
    MysqlConnection,
    Section,
    Source,
    Table,
    nearest,
)
from lake.errors import ConfigError, ServiceUnreachable
from producers.base import Batch, Connector, Cursors, NoOptions, Problem
from producers.connections import ConnectionUse, connect_as
from producers.http.answers import Address, answer_batch, json_items
from producers.http.reader import HttpReader
from producers.mysql.query import ask

DOLAR, FERIADOS = "dolar_blue", "feriados"


class ArgentinaConnection(Connection):
    """Where the two APIs are.

    Attributes:
        argentinadatos: History of the dólar blue, and feriados.
        dolarapi: Current rates.
    """

    argentinadatos: str = "https://api.argentinadatos.com"
    dolarapi: str = "https://dolarapi.com"

    @field_validator("argentinadatos", "dolarapi")
    @classmethod
    def _no_slash_at_the_end(cls, url: str) -> str:
        return url.rstrip("/")


class FeriadosOptions(Section):
    """Which years to fetch: this year, or those that a query names.

    Attributes:
        years_query: SQL for MySQL that answers the first and the last year, as whole numbers.
        years_connection: The connection of that MySQL, by its name.
    """

    years_query: str | None = None
    years_connection: str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.years_query is None) != (self.years_connection is None):
            raise ValueError(
                "years_query and years_connection go together: the query, and the MySQL that it"
                " asks"
            )
        return self


class ArgentinaConnector(Connector):
    """dolar_blue: the history once, then each new current value. feriados: each changed year."""

    Connection = ArgentinaConnection
    embedded_service = "api"
    known_connections = {"public": ArgentinaConnection()}  # noqa: RUF012 - nobody changes it
    connection: ArgentinaConnection

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self._http = HttpReader(name, self.connection.place)

    @classmethod
    def table_options_model(cls, table: str, spec: Table) -> type[Section]:
        """Only feriados has options."""
        return FeriadosOptions if table == FERIADOS else NoOptions

    @classmethod
    def connections_used(cls, name: str, source: Source) -> Sequence[ConnectionUse]:
        """In addition to the APIs, the MySQL that knows the years."""
        own = super().connections_used(name, source)
        spec = source.tables.get(FERIADOS)
        entry = spec.options.get("years_connection") if spec else None
        if not isinstance(entry, str):
            return own
        at = ("sources", name, "tables", FERIADOS, "options", "years_connection")
        return [*own, ConnectionUse(at, entry, MysqlConnection, "mysql")]

    @classmethod
    def problems(cls, source: Source) -> Iterator[Problem]:
        """Tables that these APIs do not have."""
        for table in source.tables:
            if table not in (DOLAR, FERIADOS):
                what = f"this API has no table {table!r}{nearest(table, (DOLAR, FERIADOS))}"
                yield Problem(("tables", table), what)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Fetch what may have changed; an answer with the same content is not sent again.

        An address that answers 404 (a year that is not published yet) is asked again next time.

        Raises:
            ServiceUnreachable: After all answers that could be had, where one could not.
        """
        missed: ServiceUnreachable | None = None
        asked = absent = 0
        for address in self._addresses():
            known = cursors.get(address.key, {})
            if address.unit == "history" and known.get("complete"):
                continue  # from there on the current value tells what is new
            asked += 1
            try:
                content = self._http.get(address.url)
            except ServiceUnreachable as error:
                missed = error
                continue
            if content is None:
                absent += 1
                continue
            batch = answer_batch(address, content, self.source.tables[address.table], known)
            if batch is not None:
                yield batch
        if asked and absent == asked:
            raise ServiceUnreachable(
                "All addresses of the APIs answer 404.", f"Check {self.connection.place}."
            )
        if missed is not None:
            raise missed

    def count(self) -> dict[str, int]:
        """Ask the APIs again and count the rows that they answer."""
        counts = dict.fromkeys(self.source.tables, 0)
        for address in self._addresses():
            try:
                items = json_items(self._http.get(address.url) or b"[]")
            except ValueError:
                continue
            counts[address.table] += sum(isinstance(item, dict) for item in items)
        return counts

    def _addresses(self) -> Iterator[Address]:
        """Everything to fetch; the shop is asked for its years last."""
        datos = self.connection.argentinadatos
        if DOLAR in self.source.tables:
            yield Address(DOLAR, "history", f"{datos}/v1/cotizaciones/dolares/blue")
            yield Address(DOLAR, "current", f"{self.connection.dolarapi}/v1/dolares/blue")
        if FERIADOS in self.source.tables:
            for year in self._years():
                yield Address(FERIADOS, str(year), f"{datos}/v1/feriados/{year}")

    def _years(self) -> range:
        """The years that have orders, asked of the shop; this year where there is no shop."""
        this_year = datetime.now(UTC).year
        options = self.table_options[FERIADOS]
        assert isinstance(options, FeriadosOptions)
        if options.years_query is None:
            return range(this_year, this_year + 1)
        [_, shop] = self.connections_used(self.name, self.source)
        row: tuple[Any, ...] = ask(
            connect_as(self.config, shop, MysqlConnection), options.years_query
        )
        if len(row) != 2 or not all(year is None or isinstance(year, int) for year in row):
            raise ConfigError(
                f"sources.{self.name}.tables.feriados.options.years_query returns no two years.",
                "It has to SELECT the first and the last year, as whole numbers.",
            )
        first, last = row
        return range(first or this_year, (last or this_year) + 1)
