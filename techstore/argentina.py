"""Argentina's public APIs: the dólar blue and the public holidays (feriados)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import requests
import structlog

from lake.config import Config, Endpoints, Source
from lake.errors import ConfigError, ServiceUnreachable
from lake.records import Record, Reject
from producers.base import REJECT_BYTES, Batch, Connector, Cursors, record_key
from producers.mysql.query import ask

log = structlog.get_logger()
TIMEOUT = (5.0, 20.0)
ANSWER_SECONDS = 60.0
ANSWER_BYTES = 64 * 1024 * 1024
BLOCK = 1 << 16
TABLES = ("dolar_blue", "feriados")


@dataclass(frozen=True, slots=True)
class Unit:
    """One address, and the table that its answer belongs to."""

    table: str
    name: str
    url: str


class ArgentinaConnector(Connector):
    """dolar_blue: the history once, then each new current value. feriados: each changed year."""

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        for table in source.tables:
            if table not in TABLES:
                raise ConfigError(
                    f"Source {name}: this API has no table {table!r}.",
                    f"Known: {', '.join(TABLES)}.",
                )
        # No retries here: they would wait where nobody can stop them. The next poll asks again.
        self._http = requests.Session()
        self._absent: set[str] = set()

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
        for unit in self._units():
            known = cursors.get(f"{unit.table}:{unit.name}", {})
            if unit.name == "history" and known.get("complete"):
                continue  # from there on the current value tells what is new
            asked += 1
            try:
                content = self._get(unit.url)
            except ServiceUnreachable as error:
                missed = error
                continue
            if content is None:
                absent += 1
            elif batch := self._batch(unit, content, known):
                yield batch
        if asked and absent == asked:
            raise ServiceUnreachable(
                "All addresses of the APIs answer 404.", "Check services.api in ducklake.yml."
            )
        if missed is not None:
            raise missed

    def count(self) -> dict[str, int]:
        """Ask the APIs again and count the rows that they answer."""
        counts = dict.fromkeys(self.source.tables, 0)
        for unit in self._units():
            try:
                items = _items(self._get(unit.url) or b"[]")
            except ValueError:
                continue
            counts[unit.table] += sum(isinstance(item, dict) for item in items)
        return counts

    def _units(self) -> Iterator[Unit]:
        """Everything to fetch; the shop is asked for its years last."""
        if "dolar_blue" in self.source.tables:
            history = f"{self.endpoints.argentinadatos}/v1/cotizaciones/dolares/blue"
            yield Unit("dolar_blue", "history", history)
            yield Unit("dolar_blue", "current", f"{self.endpoints.dolarapi}/v1/dolares/blue")
        if "feriados" in self.source.tables:
            for year in self._years():
                url = f"{self.endpoints.argentinadatos}/v1/feriados/{year}"
                yield Unit("feriados", str(year), url)

    def _years(self) -> range:
        """The years that have orders, asked of the shop; this year where there is no shop."""
        this_year = datetime.now(UTC).year
        query = self.source.tables["feriados"].options.get("years_query")
        if not query:
            return range(this_year, this_year + 1)
        row = ask(self.endpoints.mysql, str(query))
        if len(row) != 2 or not all(year is None or isinstance(year, int) for year in row):
            raise ConfigError(
                f"sources.{self.name}.tables.feriados.options.years_query answers no two years.",
                "It has to SELECT the first and the last year, as whole numbers.",
            )
        first, last = row
        return range(first or this_year, (last or this_year) + 1)

    # One answer ----------------------------------------------------------------------------

    def _batch(self, unit: Unit, content: bytes, known: Mapping[str, Any]) -> Batch | None:
        digest = hashlib.sha256(content).hexdigest()
        if known.get("sha256") == digest:
            return None
        table = unit.table
        about = {
            "url": unit.url,
            "status": requests.codes.ok,
            "fetched_at": datetime.now(UTC).isoformat(),
        }
        try:
            items = _items(content)
        except ValueError:
            # Its digest, so that it is not rejected at every poll; but it is not complete.
            cursor = {"sha256": digest, "complete": False}
            reject = Reject(table, content[:REJECT_BYTES], f"{unit.url}: not JSON", about)
            return Batch(table, unit.name, cursor, (), [reject])
        key = self.source.tables[table]
        return Batch(
            table,
            unit.name,
            {"sha256": digest, "complete": True},
            [
                Record(table, record_key(key, item), item, about)
                for item in items
                if isinstance(item, dict)
            ],
            [
                Reject(table, orjson.dumps(item), f"{unit.url}, item {n}: no JSON object", about)
                for n, item in enumerate(items, 1)
                if not isinstance(item, dict)
            ],
        )

    def _get(self, url: str) -> bytes | None:
        """The answer's bytes; None where there is nothing at that address."""
        try:
            with self._http.get(url, timeout=TIMEOUT, stream=True) as response:
                status = response.status_code
                content = _content(response) if status == requests.codes.ok else b""
        except requests.RequestException as error:
            raise ServiceUnreachable(
                f"GET {url}: {type(error).__name__}.", "It is asked again."
            ) from None
        if status == requests.codes.not_found:
            if url not in self._absent:
                log.warning(
                    "url_not_found",
                    message="The API has nothing at this address yet.",
                    source=self.name,
                    url=url,
                )
            self._absent.add(url)
            return None
        if status != requests.codes.ok:
            raise ServiceUnreachable(
                f"GET {url}: status {status}.",
                "It is asked again; if that stays, check services.api in ducklake.yml.",
            )
        self._absent.discard(url)
        return content


def _content(response: requests.Response) -> bytes:
    """The body, within limits of size and time: a server may drip, or never end."""
    deadline = time.monotonic() + ANSWER_SECONDS
    content = bytearray()
    for block in response.iter_content(BLOCK):
        content += block
        if len(content) > ANSWER_BYTES or time.monotonic() > deadline:
            raise requests.Timeout
    return bytes(content)


def _items(content: bytes) -> list[Any]:
    document = orjson.loads(content)
    return document if isinstance(document, list) else [document]
