"""Argentina's public APIs: the dólar blue and the public holidays (feriados)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import pymysql
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ducklake.config import Config, Endpoints, MysqlEndpoint, Source
from ducklake.errors import ServiceUnreachable
from ducklake.records import Record, Reject
from producers.base import Batch, Connector, Cursors, record_key

TIMEOUT = (5.0, 30.0)
REJECT_BYTES = 1024 * 1024


class ArgentinaConnector(Connector):
    """dolar_blue: the history once, then each new current value. feriados: each changed year."""

    def __init__(self, name: str, source: Source, config: Config, endpoints: Endpoints) -> None:
        super().__init__(name, source, config, endpoints)
        self._http = requests.Session()
        again = Retry(total=3, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, HTTPAdapter(max_retries=again))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        """Fetch what may have changed; an answer with the same content is not sent again.

        Raises:
            ServiceUnreachable: After all answers that could be had, where one could not.
        """
        missed: ServiceUnreachable | None = None
        for table, unit, url in self._units():
            known = cursors.get(f"{table}:{unit}", {})
            if unit == "history" and known:
                continue  # from there on the current value tells what is new
            try:
                yield from self._answer(table, unit, url, known)
            except ServiceUnreachable as error:
                missed = error
        if missed is not None:
            raise missed

    def _units(self) -> Iterator[tuple[str, str, str]]:
        """(table, unit, URL) of everything to fetch."""
        if "dolar_blue" in self.source.tables:
            history = f"{self.endpoints.argentinadatos}/v1/cotizaciones/dolares/blue"
            yield "dolar_blue", "history", history
            yield "dolar_blue", "current", f"{self.endpoints.dolarapi}/v1/dolares/blue"
        if "feriados" in self.source.tables:
            for year in self._years():
                url = f"{self.endpoints.argentinadatos}/v1/feriados/{year}"
                yield "feriados", str(year), url

    def count(self) -> dict[str, int]:
        """Ask the APIs again and count the rows that they answer."""
        counts = dict.fromkeys(self.source.tables, 0)
        for table, _, url in self._units():
            counts[table] += len(_items(self._get(url)))
        return counts

    def _answer(self, table: str, unit: str, url: str, known: Mapping[str, Any]) -> Iterator[Batch]:
        response = self._get(url)
        digest = hashlib.sha256(response.content).hexdigest()
        if known.get("sha256") == digest:
            return
        about = {
            "url": url,
            "status": response.status_code,
            "fetched_at": datetime.now(UTC).isoformat(),
        }
        cursor = {"sha256": digest, "complete": True}
        try:
            items = _items(response)
        except ValueError:
            reject = Reject(table, response.content[:REJECT_BYTES], f"{url}: not JSON", about)
            yield Batch(table, unit, cursor, (), [reject])
            return
        yield Batch(
            table,
            unit,
            cursor,
            [self._record(table, item, about) for item in items if isinstance(item, dict)],
            [
                Reject(table, orjson.dumps(item), f"{url}, item {n}: not a JSON object", about)
                for n, item in enumerate(items, 1)
                if not isinstance(item, dict)
            ],
        )

    def _record(self, table: str, item: Mapping[str, Any], about: Mapping[str, Any]) -> Record:
        return Record(table, record_key(self.source.tables[table], item), item, about)

    def _get(self, url: str) -> requests.Response:
        try:
            response = self._http.get(url, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise ServiceUnreachable(
                f"GET {url}: {type(error).__name__}.", "It is asked again at the next poll."
            ) from None
        if response.status_code != requests.codes.ok:
            raise ServiceUnreachable(
                f"GET {url}: status {response.status_code}.",
                "It is asked again; if that stays, check services.api in ducklake.yml.",
            )
        return response

    def _years(self) -> range:
        """The years that have orders, asked of the shop; this year where there is no shop."""
        this_year = datetime.now(UTC).year
        query = self.source.tables["feriados"].options.get("years_query")
        if not query:
            return range(this_year, this_year + 1)
        first, last = _ask(self.endpoints.mysql, str(query))
        return range(first or this_year, (last or this_year) + 1)


def _items(response: requests.Response) -> list[Any]:
    document = orjson.loads(response.content)
    return document if isinstance(document, list) else [document]


def _ask(at: MysqlEndpoint, query: str) -> tuple[int | None, int | None]:
    try:
        with (
            pymysql.connect(
                host=at.host,
                port=at.port,
                user=at.user,
                password=at.password,
                database=at.database,
                connect_timeout=10,
            ) as db,
            db.cursor() as cursor,
        ):
            cursor.execute(query)
            row = cursor.fetchone()
    except pymysql.MySQLError as error:
        raise ServiceUnreachable(
            f"MySQL {at.host}:{at.port}: {type(error).__name__} {error.args[:1]}.",
            "The years of feriados are asked there (years_query); is it up?",
        ) from None
    return (row[0], row[1]) if row else (None, None)
