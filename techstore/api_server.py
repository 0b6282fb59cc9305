"""The embedded API server: the shapes of argentinadatos.com and dolarapi.com, without leaving home.

    python -m techstore.api_server --port N [--host 127.0.0.1] [--today YYYY-MM-DD]

Every answer is a function of the date alone. The quotes are made up: the order of magnitude is that
of the blue dollar since 2011, the single value is not. The current quote is the one of the last
business day before today, published at 17:55 UTC, and so holds still for the whole day.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

ARGENTINA = timedelta(hours=-3)
FIRST_QUOTE = date(2011, 1, 3)
FIRST_YEAR, LAST_YEAR = 2011, 2100
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = range(7)

# The blue dollar's selling price at the start of a month; between them it moves evenly in percent.
_LEVELS = (
    (date(2011, 1, 1), 4.0),
    (date(2012, 1, 1), 4.7),
    (date(2013, 1, 1), 6.8),
    (date(2014, 1, 1), 10.1),
    (date(2015, 1, 1), 13.7),
    (date(2016, 1, 1), 14.3),
    (date(2017, 1, 1), 16.8),
    (date(2018, 1, 1), 19.5),
    (date(2018, 9, 1), 38.5),
    (date(2019, 8, 1), 45.0),
    (date(2020, 1, 1), 77.0),
    (date(2020, 10, 1), 155.0),
    (date(2021, 6, 1), 158.0),
    (date(2022, 1, 1), 207.0),
    (date(2023, 1, 1), 350.0),
    (date(2023, 8, 1), 570.0),
    (date(2024, 1, 1), 1010.0),
    (date(2024, 7, 1), 1390.0),
    (date(2025, 1, 1), 1215.0),
    (date(2026, 1, 1), 1480.0),
    (date(2027, 1, 1), 1540.0),
    (date(2101, 1, 1), 60000.0),
)

# casa, nombre, share of the blue's price, spread between buying and selling
_HOUSES = (
    ("oficial", "Oficial", 0.958, 0.034),
    ("blue", "Blue", 1.0, 0.0137),
    ("bolsa", "Bolsa", 0.984, 0.004),
    ("contadoconliqui", "Contado con liquidación", 0.997, 0.006),
    ("mayorista", "Mayorista", 0.942, 0.0062),
    ("cripto", "Cripto", 1.006, 0.0008),
    ("tarjeta", "Tarjeta", 1.2454, 0.034),
)

_FIXED = (
    (1, 1, "Año nuevo"),
    (3, 24, "Día Nacional de la Memoria por la Verdad y la Justicia"),
    (4, 2, "Día del Veterano y de los Caídos en la Guerra de Malvinas"),
    (5, 1, "Día del Trabajador"),
    (5, 25, "Día de la Revolución de Mayo"),
    (6, 20, "Paso a la Inmortalidad del General Manuel Belgrano"),
    (7, 9, "Día de la Independencia"),
    (12, 8, "Día de la Inmaculada Concepción de María"),
    (12, 25, "Navidad"),
)
_MOVABLE = (
    (6, 17, "Paso a la Inmortalidad del General Martín Miguel de Güemes"),
    (8, 17, "Paso a la Inmortalidad del General José de San Martín"),
    (10, 12, "Día del Respeto a la Diversidad Cultural"),
    (11, 20, "Día de la Soberanía Nacional"),
)
_BRIDGED = {(3, 24), (5, 25), (6, 20), (7, 9), (12, 8)}
_BRIDGES_A_YEAR = 3  # what the law allows
_BRIDGE_NAME = "Puente turístico no laborable"


def easter(year: int) -> date:
    """Easter Sunday (the anonymous Gregorian algorithm)."""
    golden, century = year % 19, year // 100
    moon = (19 * golden + century - century // 4 - (8 * century + 13) // 25 + 15) % 30
    moon -= (moon // 28) * (1 - (moon // 28) * (29 // (moon + 1)) * ((21 - golden) // 11))
    weekday = (year + year // 4 + moon + 2 - century + century // 4) % 7
    offset = moon - weekday
    month = 3 + (offset + 40) // 44
    return date(year, month, offset + 28 - 31 * (month // 4))


def observed(day: date) -> date:
    """Where a movable holiday goes: to Monday, back from midweek and on from Thursday or Friday."""
    if day.weekday() in {TUESDAY, WEDNESDAY}:
        return day - timedelta(days=day.weekday())
    if day.weekday() in {THURSDAY, FRIDAY}:
        return day + timedelta(days=7 - day.weekday())
    return day


@lru_cache
def holidays(year: int) -> tuple[dict[str, str], ...]:
    """Argentina's holidays of a year, ascending, as argentinadatos.com tells them."""
    found = [(date(year, month, day), "inamovible", name) for month, day, name in _FIXED]
    sunday = easter(year)
    found += [(sunday - timedelta(days=n), "inamovible", "Carnaval") for n in (48, 47)]
    found.append((sunday - timedelta(days=2), "inamovible", "Viernes Santo"))
    found += [
        (observed(date(year, month, day)), "trasladable", name) for month, day, name in _MOVABLE
    ]
    bridges = []
    for day, _, _ in sorted(found):
        step = {TUESDAY: -1, THURSDAY: 1}.get(day.weekday())
        if (day.month, day.day) in _BRIDGED and step:
            bridges.append((day + timedelta(days=step), "puente", _BRIDGE_NAME))
    taken = {day for day, _, _ in found}
    found += [bridge for bridge in bridges if bridge[0] not in taken][:_BRIDGES_A_YEAR]
    return tuple(
        {"fecha": day.isoformat(), "tipo": kind, "nombre": name}
        for day, kind, name in sorted(found)
    )


def is_holiday(day: date) -> bool:
    """Whether nobody works on that day."""
    return any(holiday["fecha"] == day.isoformat() for holiday in holidays(day.year))


def business_day(day: date) -> bool:
    """Whether the exchange houses publish a new quote."""
    return day.weekday() < SATURDAY and not is_holiday(day)


def last_business_day(before: date) -> date:
    """The last business day before a day."""
    day = before - timedelta(days=1)
    while not business_day(day):
        day -= timedelta(days=1)
    return day


def _chance(day: date, what: str) -> float:
    """A number from 0 to 1 that a date always has."""
    digest = hashlib.blake2b(f"{day} {what}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _level(day: date) -> float:
    for (start, low), (end, high) in pairwise(_LEVELS):
        if start <= day < end:
            return low * math.pow(high / low, (day - start).days / (end - start).days)
    raise ValueError(f"no quote for {day}")


def _mixed(amount: float, step: float) -> int | float:
    """An amount as the houses write it: an integer where there is no fraction."""
    rounded = round(round(amount / step) * step, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def quote(day: date, share: float = 1.0, spread: float = 0.0137) -> tuple[int | float, int | float]:
    """Buying and selling price on a business day."""
    swing = 0.018 * math.sin(day.toordinal() / 9.7) + 0.011 * math.sin(day.toordinal() / 3.1)
    sell = _level(day) * share * (1 + swing + 0.012 * (_chance(day, "sell") - 0.5))
    # The street rounds: to cents at first, to five pesos once a dollar costs hundreds.
    step = 0.01 if sell < 20 or spread < 0.01 else 0.05 if sell < 60 else 0.5 if sell < 300 else 5
    if step == 5 and _chance(day, "odd") < 0.06:
        step = 0.5
    sell = round(sell / step) * step
    return _mixed(min(sell * (1 - spread), sell - step), step), _mixed(sell, step)


def _published(day: date) -> bool:
    """Whether the history has a row for the day; it has most weekends since 2014."""
    if is_holiday(day):
        return False
    if day.weekday() < SATURDAY:
        return _chance(day, "missing") > 0.004
    return day.year >= 2014 and _chance(day, "missing") > 0.12


@lru_cache(maxsize=2)
def history(today: date) -> tuple[dict[str, Any], ...]:
    """All quotes of the blue dollar before `today`, ascending."""
    rows = []
    for ordinal in range(FIRST_QUOTE.toordinal(), today.toordinal()):
        day = date.fromordinal(ordinal)
        if not _published(day):
            continue
        buy, sell = quote(day if business_day(day) else last_business_day(day))
        unknown = _chance(day, "null") < 0.0015
        rows.append(
            {
                "casa": "blue",
                "compra": None if unknown else buy,
                "venta": sell,
                "fecha": day.isoformat(),
            }
        )
    return tuple(rows)


def current(today: date) -> list[dict[str, Any]]:
    """The seven houses' current quotes."""
    day = last_business_day(today)
    answers = []
    for casa, nombre, share, spread in _HOUSES:
        buy, sell = quote(day, share, spread)
        at = "17:55" if casa == "blue" else f"{16 + int(_chance(day, casa) * 4)}:00"
        answers.append(
            {
                "moneda": "USD",
                "casa": casa,
                "nombre": nombre,
                "compra": buy,
                "venta": sell,
                "fechaActualizacion": f"{day}T{at}:00.000Z",
            }
        )
    return answers


def _answer(request: Request, content: Any) -> Response:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers={"etag": etag})
    return Response(body, media_type="application/json", headers={"etag": etag})


def create_app(today: date | None = None) -> FastAPI:
    """The server's paths.

    Args:
        today: The day on which the server thinks it is; None follows the clock, in Argentina.
    """
    app = FastAPI(title="TechStore's APIs", docs_url=None, redoc_url=None, openapi_url=None)

    def now() -> date:
        return today or (datetime.now(UTC) + ARGENTINA).date()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "today": now().isoformat()}

    @app.get("/v1/cotizaciones/dolares/blue")
    def blue_history(request: Request) -> Response:
        return _answer(request, history(now()))

    @app.get("/v1/dolares")
    def houses(request: Request) -> Response:
        return _answer(request, current(now()))

    @app.get("/v1/dolares/{casa}")
    def house(request: Request, casa: str) -> Response:
        for row in current(now()):
            if row["casa"] == casa:
                return _answer(request, row)
        return JSONResponse({"error": f"No hay cotización de {casa!r}"}, 404)

    @app.get("/v1/feriados/{year}")
    def year_holidays(request: Request, year: str) -> Response:
        if not (year.isascii() and year.isdigit() and FIRST_YEAR <= int(year) <= LAST_YEAR):
            return JSONResponse({"error": f"No hay feriados de {year!r}"}, 404)
        return _answer(request, holidays(int(year)))

    return app


def main() -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m techstore.api_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--today", type=date.fromisoformat, help="YYYY-MM-DD instead of the clock")
    options = parser.parse_args()
    uvicorn.run(
        create_app(options.today),
        host=options.host,
        port=options.port,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
