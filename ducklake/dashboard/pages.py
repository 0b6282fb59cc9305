"""The pages, drawn on the server: HTML with everything escaped, good without any script."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ducklake.dashboard import charts
from ducklake.dashboard.answers import drawn_once
from ducklake.dashboard.shop import ShopFigures, ShopFilter
from ducklake.dashboard.texts import LANGUAGES, language_of, texts
from ducklake.monitoring.cycles import cycles
from ducklake.monitoring.dead_letters import (
    dead_letter_content,
    dead_letter_counts,
    dead_letters_of,
)
from ducklake.monitoring.light import COLOURS, worst
from ducklake.monitoring.observation import opened_ledger
from ducklake.monitoring.printable import printable
from ducklake.monitoring.tables import schema_timeline, table_detail, table_storage
from lake.errors import DuckLakeError
from lake.lags import HOPS
from lake.storage.paths import LakePaths

if TYPE_CHECKING:
    from ducklake.dashboard.app import Dashboard

NOTHING = "-"
PAGES = ("trust", "flow", "shop", "tables", "runs", "dead-letters")
_HEADLINES = {
    "good": "all_good",
    "unknown": "not_sure",
    "warning": "with_warnings",
    "critical": "not_trusted",
}


class Pages:
    """All pages.

    Args:
        shared: What all routes share.
    """

    def __init__(self, shared: Dashboard) -> None:
        self._shared = shared
        self._paths = LakePaths(shared.config.data_dir)
        self._zone = ZoneInfo(shared.config.settings.batch.time_zone)
        self._figures = ShopFigures(self._paths, self._zone)
        self._templates = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "moment": self._moment,
            "seconds": _seconds,
            "size": _size,
            "number": _number,
            "money": _money,
        }
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # compiled now, not while the first reader waits
        self.router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        add = self.router.add_api_route
        add("/", lambda: RedirectResponse("/trust", 303), response_class=RedirectResponse)
        add("/login", self.login)
        once = drawn_once(lambda: (shared.watcher.latest(), shared.live.latest()))
        add("/trust", once(self.trust))
        add("/flow", once(self.flow))
        add("/shop", once(self.shop))
        add("/shop/live", once(self.live))
        add("/tables", once(self.tables))
        add("/tables/{table}", self.table)
        add("/runs", once(self.runs))
        add("/dead-letters", self.dead_letters)
        add("/dead-letters/{table}", self.dead_letters)
        add("/dead-letters/{table}/{topic}/{partition}/{offset}", self.dead_letter)
        add("/health", lambda: HTMLResponse("ok"))

    def _page(self, request: Request, name: str, /, **values: Any) -> HTMLResponse:
        language = language_of(
            request.query_params.get("lang") or request.cookies.get("lang"),
            request.headers.get("accept-language", ""),
        )
        access = self._shared.access
        known = access.is_known(request)
        text = self._templates.get_template(f"{name}.html").render(
            t=texts(language),
            language=language,
            languages=LANGUAGES,
            pages=PAGES,
            page=name,
            lake=self._shared.config.settings.name,
            csrf=access.csrf if known else "",
            known=known,
            hops=HOPS,
            **values,
        )
        response = HTMLResponse(text)
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie("lang", language, samesite="strict")
        return response

    def login(self, request: Request) -> HTMLResponse:
        """Where the token is given."""
        return self._page(request, "login")

    def trust(self, request: Request) -> HTMLResponse:
        """One light per table, and what to do."""
        seen = self._shared.watcher.latest().seen
        counts = {c: sum(light.colour == c for light in seen.lights) for c in reversed(COLOURS)}
        overall = worst(seen.lights).colour if seen.lights else "unknown"
        if seen.condition.problems:
            overall = "critical"
        return self._page(
            request,
            "trust",
            seen=seen,
            counts=counts,
            overall=overall,
            headline=_HEADLINES[overall],
            freshness={table.table: table for table in seen.freshness},
        )

    def flow(self, request: Request) -> HTMLResponse:
        """Sources to PostgreSQL, with what waits where."""
        look = self._shared.watcher.latest()
        drawn = [
            (
                flow,
                charts.bars(
                    flow.rows_per_minute,
                    [f"-{59 - at} min" for at in range(60)],
                    [_number(rows) for rows in flow.rows_per_minute],
                    48.0,
                ),
                charts.lines([s.seconds for s in flow.lag], (), (), "", 48.0),
            )
            for flow in look.flows
        ]
        return self._page(request, "flow", drawn=drawn, seen=look.seen)

    def shop(
        self,
        request: Request,
        first: date | None = None,
        last: date | None = None,
        category: str = "",
    ) -> HTMLResponse:
        """The shop's figures."""
        wanted = ShopFilter.of(first, last, category, self._zone)
        found = self._figures.get(wanted)
        days = charts.bars(
            [float(row["revenue_ars"] or 0) for row in found.days],
            [row["day"].isoformat() for row in found.days],
            [f"ARS {_money(row['revenue_ars'])} · {row['orders']}" for row in found.days],
        )
        hours = charts.lines(
            [row["today"] for row in found.hours[: datetime.now(self._zone).hour + 1]]
            + [None] * (23 - datetime.now(self._zone).hour),
            [row["yesterday"] for row in found.hours],
            [f"{hour}:00" for hour in range(24)],
            str(max((max(r["today"], r["yesterday"]) for r in found.hours), default=0)),
        )
        return self._page(
            request, "shop", shop=found, wanted=wanted, days=days, hours=hours, **self._live()
        )

    def live(self, request: Request) -> HTMLResponse:
        """The live figures alone, to be put in their place on the page."""
        return self._page(request, "live", **self._live())

    def _live(self) -> dict[str, Any]:
        counts = self._shared.config.settings.live is not None
        return {"live": self._shared.live.latest(), "counts_live": counts}

    def tables(self, request: Request) -> HTMLResponse:
        """All tables, and the SQL box."""
        seen = self._shared.watcher.latest().seen
        lights = {table.table: table.light for table in seen.tables}
        with opened_ledger(self._paths) as ledger:
            stored = table_storage(self._shared.config, ledger)
        return self._page(request, "tables", stored=stored, lights=lights, models=seen.models)

    def table(self, request: Request, table: str) -> HTMLResponse:
        """One table from near."""
        seen = self._shared.watcher.latest().seen
        config = self._shared.config
        with opened_ledger(self._paths) as ledger:
            found = table_detail(config, ledger, seen, table)
        if found is None:
            raise HTTPException(404, "There is no such table.")
        ref = next(ref for ref, _ in config.tables() if ref.topic == table)
        try:
            versions = schema_timeline(config, ref) if seen.ends is not None else ()
        except DuckLakeError:
            versions = ()
        trust = next((one for one in seen.tables if one.table == table), None)
        return self._page(request, "table", table=found, versions=versions, trust=trust)

    def runs(self, request: Request) -> HTMLResponse:
        """Cycles, and tests that fail."""
        with opened_ledger(self._paths) as ledger:
            newest = cycles(ledger)
        shown = tuple(reversed(newest))
        drawn = charts.bars(
            [cycle.seconds for cycle in shown],
            [f"{cycle.number}" for cycle in shown],
            [f"{cycle.seconds:.1f} s" for cycle in shown],
        )
        seen = self._shared.watcher.latest().seen
        return self._page(
            request, "runs", cycles=newest, drawn=drawn, shown=shown, failures=seen.failures
        )

    def dead_letters(self, request: Request, table: str = "") -> HTMLResponse:
        """How many each table has; of one table, which."""
        with opened_ledger(self._paths) as ledger:
            counts = dead_letter_counts(ledger)
            letters = dead_letters_of(ledger, table) if table else ()
        return self._page(request, "dead-letters", counts=counts, letters=letters, table=table)

    def dead_letter(
        self, request: Request, table: str, topic: str, partition: int, offset: int
    ) -> HTMLResponse:
        """One dead letter with its bytes."""
        with opened_ledger(self._paths) as ledger:
            found = dead_letter_content(ledger, topic, partition, offset)
        if found is None:
            raise HTTPException(404, "There is no such dead letter.")
        return self._page(request, "dead-letter", content=found, table=table)

    def _moment(self, seconds: float | None, full: bool = False) -> str:
        if seconds is None:
            return NOTHING
        moment = datetime.fromtimestamp(seconds, UTC).astimezone(self._zone)
        is_today = moment.date() == datetime.now(self._zone).date()
        return moment.strftime("%H:%M:%S" if is_today and not full else "%Y-%m-%d %H:%M")


def _shown(value: Any) -> Any:
    """A value before it is escaped as HTML: what is markup of ours stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _seconds(value: float | None) -> str:
    if value is None:
        return NOTHING
    for limit, size, unit in ((1, 0.001, "ms"), (120, 1, "s"), (7200, 60, "min"), (2e5, 3600, "h")):
        if value < limit:
            return f"{value / size:.1f} {unit}" if 1 <= value < 10 else f"{value / size:.0f} {unit}"
    return f"{value / 86_400:.0f} d"


def _size(value: int) -> str:
    amount = float(value)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"


def _money(value: Any) -> str:
    amount = float(value or 0)
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(amount) >= size:
            return f"{amount / size:,.1f} {unit}"
    return f"{amount:,.0f}"
