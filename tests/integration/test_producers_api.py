from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from lake.config import Config
from lake.errors import ServiceUnreachable
from producers.mysql.query import ask
from tests.integration.producers_lab import Lab, make_lab, poll, shop_server

pytestmark = pytest.mark.stack
ROOT = Path(__file__).resolve().parents[2]
HISTORY = "/v1/cotizaciones/dolares/blue"
CURRENT = "/v1/dolares/blue"
YEARS = "SELECT 2024, 2025"


def demo_tables() -> dict[str, Any]:
    """The demo's own tables, whose servers are those of a test."""
    file = yaml.safe_load((ROOT / "ducklake.yml").read_text(encoding="utf-8"))
    tables: dict[str, Any] = file["sources"]["api"]["tables"]
    tables["dolar_blue"]["options"]["requests"]["current"]["connection"] = "api"
    tables["feriados"]["options"]["each"]["year"] |= {
        "first_and_last": YEARS,
        "connection": "mysql",
    }
    return tables


TABLES = demo_tables()


def holidays(year: int) -> list[dict[str, str]]:
    return [
        {"fecha": f"{year}-01-01", "tipo": "inamovible", "nombre": "Año nuevo"},
        {"fecha": f"{year}-05-01", "tipo": "inamovible", "nombre": "Día del Trabajador"},
    ]


def quote(at: str, sale: float) -> dict[str, Any]:
    about = {"moneda": "USD", "casa": "blue", "nombre": "Blue", "compra": 1490}
    return {**about, "venta": sale, "fechaActualizacion": at}


class Api:
    """A server whose answers a test changes: path to status and body."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.say(
            HISTORY,
            [
                {"casa": "blue", "compra": 1410, "venta": 1430.5, "fecha": "2026-02-20"},
                {"casa": "blue", "compra": None, "venta": 1440, "fecha": "2026-02-21"},
            ],
        )
        self.say(CURRENT, quote("2026-06-29T17:55:00.000Z", 1510))
        for year in (2024, 2025):
            self.say(f"/v1/feriados/{year}", holidays(year))
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.asked.append(self.path)
                status, body = api.answers.get(self.path, (404, b"not found"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def say(self, path: str, document: Any, status: int = 200) -> None:
        body = document if isinstance(document, bytes) else orjson.dumps(document)
        self.answers[path] = (status, body)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    yield server
    server.close()


@pytest.fixture
def lab(tmp_path: Path, stack_config: Config, api: Api) -> Lab:
    return lab_of(tmp_path, stack_config, api, TABLES)


def lab_of(folder: Path, stack: Config, api: Api, tables: dict[str, Any]) -> Lab:
    return make_lab(
        folder, stack, {"type": "rest", "tables": tables}, {"api": {"base_url": api.url}}
    )


def test_the_history_once_then_what_is_new(lab: Lab, api: Api) -> None:
    source, writer = lab.connector(), lab.writer()
    assert source.count() == {"dolar_blue": 3, "feriados": 4}
    api.asked.clear()
    assert poll(source, writer) == 7
    assert poll(source, writer) == 0
    assert Counter(api.asked)[HISTORY] == 1
    api.say(CURRENT, quote("2026-06-30T17:55:00.000Z", 1515.5))
    assert poll(source, writer) == 1
    assert poll(lab.connector(), lab.writer()) == 0, "another process knows it too"
    rows = lab.rows("dolar_blue")
    assert sorted((seen.row["venta"], seen.row.get("fecha", "")) for seen in rows) == [
        (1430.5, "2026-02-20"),
        (1440, "2026-02-21"),
        (1510, ""),
        (1515.5, ""),
    ]
    assert {(seen.about["url"], seen.about["status"]) for seen in rows} == {
        (api.url + HISTORY, 200),
        (api.url + CURRENT, 200),
    }
    assert all(seen.about["fetched_at"].endswith("+00:00") for seen in rows)
    assert len(lab.rows("feriados")) == 4
    source.close()


def test_a_failing_address_stops_no_other_and_recovers(lab: Lab, api: Api) -> None:
    source, writer = lab.connector(), lab.writer()
    history = api.answers[HISTORY][1]
    api.say(HISTORY, b"<html>secret-body</html>", status=503)
    assert poll(source, writer) == 5
    [state] = source.table_states()
    assert (state.table, state.state) == ("dolar_blue", "retrying")
    assert "status 503" in state.reason
    assert "secret-body" not in str(state)
    assert len(lab.rows("dolar_blue")) == 1
    assert len(lab.rows("feriados")) == 4
    api.say(HISTORY, history)
    source.close()
    source = lab.connector()
    assert poll(source, writer) == 2
    assert poll(source, writer) == 0
    source.close()


def test_a_year_that_is_not_published_yet_is_asked_again(lab: Lab, api: Api) -> None:
    del api.answers["/v1/feriados/2025"]
    source, writer = lab.connector(), lab.writer()
    assert poll(source, writer) == 5
    assert source.count() == {"dolar_blue": 3, "feriados": 2}
    api.say("/v1/feriados/2025", holidays(2025))
    assert poll(source, writer) == 2
    api.answers.clear()
    source.close()
    source = lab.connector()
    with pytest.raises(ServiceUnreachable, match="All addresses"):
        poll(source, writer)
    source.close()


def test_an_answer_that_is_no_json_is_one_reject_and_read_once_it_is(lab: Lab, api: Api) -> None:
    source, writer = lab.connector(), lab.writer()
    history = api.answers[HISTORY][1]
    api.say(HISTORY, history[:30])
    api.say("/v1/feriados/2024", [*holidays(2024), "stray"])
    assert poll(source, writer) == 5
    assert poll(source, writer) == 0
    assert sorted((seen.value, seen.about["reason"]) for seen in lab.rejects()) == [
        (b'"stray"', f"{api.url}/v1/feriados/2024, item 3: it is not a JSON object"),
        (history[:30], f"{api.url}{HISTORY}: not JSON: it ends in the middle (line 1)"),
    ]
    api.say(HISTORY, history)
    source.close()
    source = lab.connector()
    assert poll(source, writer) == 2
    api.asked.clear()
    assert poll(source, writer) == 0
    assert HISTORY not in api.asked
    assert len(lab.rejects()) == 2
    source.close()


def test_the_years_are_those_that_have_orders(
    tmp_path: Path, stack_config: Config, api: Api
) -> None:
    own = stack_config.settings.sources["api"].tables["feriados"].options
    of_the_shop = {**own["each"]["year"], "connection": "mysql"}
    options = {**own, "each": {"year": of_the_shop}}
    lab = lab_of(tmp_path, stack_config, api, {"feriados": {"key": ["fecha"], "options": options}})
    found = ask(
        shop_server(stack_config), "SELECT GROUP_CONCAT(DISTINCT YEAR(ordered_at)) FROM orders"
    )
    years = sorted(int(year) for year in found[0].split(","))
    for year in years:
        api.say(f"/v1/feriados/{year}", holidays(year))
    source = lab.connector()
    assert poll(source, lab.writer()) == 2 * len(years)
    assert api.asked == [f"/v1/feriados/{year}" for year in years]
    source.close()


def test_a_wrong_password_of_the_shop_comes_after_what_needs_none(
    tmp_path: Path, stack_config: Config, api: Api
) -> None:
    servers = {"api": {"base_url": api.url}, "mysql": {"password": "hunter2"}}
    lab = make_lab(tmp_path, stack_config, {"type": "rest", "tables": TABLES}, servers)
    source, writer = lab.connector(), lab.writer()
    assert poll(source, writer) == 3
    [state] = source.table_states()
    assert (state.table, state.state) == ("feriados", "stopped")
    assert "Access denied" in state.reason
    assert "hunter2" not in str(state)
    assert "connections.mysql" in state.remedy
    assert len(lab.rows("dolar_blue")) == 3
    source.close()
