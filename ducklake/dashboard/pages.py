"""The pages Trust and Shop, the login, and the way to all others."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from ducklake.dashboard import charts
from ducklake.dashboard.answers import drawn_once
from ducklake.dashboard.drawing import Drawing, money
from ducklake.dashboard.flow_page import FlowPage
from ducklake.dashboard.lake_pages import LakePages
from ducklake.dashboard.shop import ShopFigures, ShopFilter
from ducklake.monitoring.light import COLOURS, worst
from lake.storage.paths import LakePaths

if TYPE_CHECKING:
    from ducklake.dashboard.app import Dashboard

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
        self._drawing = Drawing(shared.config, shared.access)
        self._zone = self._drawing.zone
        self._figures = ShopFigures(LakePaths(shared.config.data_dir), self._zone)
        self.router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        add = self.router.add_api_route
        add("/", lambda: RedirectResponse("/trust", 303), response_class=RedirectResponse)
        add("/login", self.login)
        add("/health", lambda: HTMLResponse("ok"))
        once = drawn_once(lambda: (shared.watcher.latest(), shared.live.latest()))
        add("/trust", once(self.trust))
        add("/shop", once(self.shop))
        add("/shop/live", once(self.live))
        add("/flow", once(FlowPage(shared, self._drawing).flow))
        lake = LakePages(shared, self._drawing)
        add("/tables", once(lake.tables))
        add("/tables/{table}", lake.table)
        add("/models/{model}", lake.model)
        add("/runs", once(lake.runs))
        add("/dead-letters", lake.dead_letters)
        add("/dead-letters/{table}", lake.dead_letters)
        add("/dead-letters/{table}/{topic}/{partition}/{offset}", lake.dead_letter)

    def login(self, request: Request) -> HTMLResponse:
        """Where the token is given."""
        return self._drawing.page(request, "login")

    def trust(self, request: Request) -> HTMLResponse:
        """One light per table, and what to do."""
        seen = self._shared.watcher.latest().seen
        counts = {c: sum(light.colour == c for light in seen.lights) for c in reversed(COLOURS)}
        overall = worst(seen.lights).colour if seen.lights else "unknown"
        if seen.condition.problems:
            overall = "critical"
        return self._drawing.page(
            request,
            "trust",
            seen=seen,
            counts=counts,
            overall=overall,
            headline=_HEADLINES[overall],
            freshness={table.table: table for table in seen.freshness},
        )

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
            [f"ARS {money(row['revenue_ars'])} · {row['orders']}" for row in found.days],
        )
        hours = charts.lines(
            [row["today"] for row in found.hours[: datetime.now(self._zone).hour + 1]]
            + [None] * (23 - datetime.now(self._zone).hour),
            [row["yesterday"] for row in found.hours],
            [f"{hour}:00" for hour in range(24)],
            str(max((max(r["today"], r["yesterday"]) for r in found.hours), default=0)),
        )
        return self._drawing.page(
            request, "shop", shop=found, wanted=wanted, days=days, hours=hours, **self._live()
        )

    def live(self, request: Request) -> HTMLResponse:
        """The live figures alone, to be put in their place on the page."""
        return self._drawing.page(request, "live", **self._live())

    def _live(self) -> dict[str, Any]:
        counts = self._shared.config.settings.live is not None
        return {"live": self._shared.live.latest(), "counts_live": counts}
