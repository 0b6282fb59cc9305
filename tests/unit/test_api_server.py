from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
import requests

from techstore import api_server as api

TODAY = date(2026, 11, 24)  # after a long weekend: Monday was a holiday


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "techstore.api_server", "--port", str(port), "--today", str(TODAY)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    try:
        while True:
            try:
                requests.get(f"{url}/health", timeout=2).raise_for_status()
                break
            except requests.ConnectionError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=10)
        assert said == b"", "the server writes no access log"


def get(url: str) -> Any:
    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_history_ascends_from_2011_to_yesterday_with_missing_days(server: str) -> None:
    rows = get(f"{server}/v1/cotizaciones/dolares/blue")
    assert all(list(row) == ["casa", "compra", "venta", "fecha"] for row in rows)
    assert {row["casa"] for row in rows} == {"blue"}
    days = [date.fromisoformat(row["fecha"]) for row in rows]
    assert days == sorted(set(days))
    assert days[0] == date(2011, 1, 3)
    assert TODAY - timedelta(days=4) <= days[-1] < TODAY
    assert len(rows) > 5000
    assert (TODAY - days[0]).days - len(days) > 300
    unknown = [row for row in rows if row["compra"] is None]
    assert 2 <= len(unknown) <= 20
    known = [row for row in rows if row["compra"] is not None]
    assert all(0 < row["compra"] < row["venta"] for row in known)
    assert {type(row["venta"]) for row in rows} == {int, float}
    assert 3 < rows[0]["venta"] < 5
    assert 1300 < rows[-1]["venta"] < 1700


def test_history_only_grows_from_day_to_day() -> None:
    earlier, later = api.history(TODAY - timedelta(days=30)), api.history(TODAY)
    assert later[: len(earlier)] == earlier


def test_current_quote_is_of_the_last_business_day_and_holds_still(server: str) -> None:
    row = get(f"{server}/v1/dolares/blue")
    assert row == get(f"{server}/v1/dolares/blue")
    assert list(row) == ["moneda", "casa", "nombre", "compra", "venta", "fechaActualizacion"]
    assert (row["moneda"], row["casa"], row["nombre"]) == ("USD", "blue", "Blue")
    assert row["fechaActualizacion"] == "2026-11-20T17:55:00.000Z"  # Friday
    history = {r["fecha"]: r for r in get(f"{server}/v1/cotizaciones/dolares/blue")}
    assert history["2026-11-20"]["venta"] == row["venta"]


def test_seven_houses(server: str) -> None:
    rows = get(f"{server}/v1/dolares")
    assert [row["casa"] for row in rows] == (
        ["oficial", "blue", "bolsa", "contadoconliqui", "mayorista", "cripto", "tarjeta"]
    )
    assert get(f"{server}/v1/dolares/blue") == rows[1]


def test_holidays_of_2026_are_those_of_the_official_calendar(server: str) -> None:
    rows = get(f"{server}/v1/feriados/2026")
    assert all(list(row) == ["fecha", "tipo", "nombre"] for row in rows)
    by_kind: dict[str, str] = {}
    for row in rows:
        by_kind[row["tipo"]] = f"{by_kind.get(row['tipo'], '')} {row['fecha'][5:]}".strip()
    assert by_kind == {
        "inamovible": "01-01 02-16 02-17 03-24 04-02 04-03 05-01 05-25 06-20 07-09 12-08 12-25",
        "trasladable": "06-15 08-17 10-12 11-23",
        "puente": "03-23 07-10 12-07",
    }


@pytest.mark.parametrize(
    ("year", "sunday"),
    [(2011, "04-24"), (2024, "03-31"), (2025, "04-20"), (2027, "03-28"), (2038, "04-25")],
)
def test_easter(year: int, sunday: str) -> None:
    assert api.easter(year) == date.fromisoformat(f"{year}-{sunday}")


@pytest.mark.parametrize("year", range(2011, 2041))
def test_holiday_keys_are_unique_and_never_more_than_three_bridges(year: int) -> None:
    rows = api.holidays(year)
    keys = [(row["fecha"], row["nombre"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert sum(row["tipo"] == "puente" for row in rows) <= 3


@pytest.mark.parametrize(
    "path", ["/", "/v1/dolares/rojo", "/v1/feriados/1900", "/v1/feriados/x", "/v1/feriados/²"]
)
def test_what_is_not_there_is_a_404_in_json(server: str, path: str) -> None:
    answer = requests.get(server + path, timeout=10)
    assert answer.status_code == 404
    assert isinstance(answer.json(), dict)


def test_unchanged_answers_need_not_be_sent_again(server: str) -> None:
    url = f"{server}/v1/cotizaciones/dolares/blue"
    etag = requests.get(url, timeout=10).headers["etag"]
    again = requests.get(url, headers={"If-None-Match": etag}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")
