"""The page Flow: from the sources to PostgreSQL, with what waits where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import HTMLResponse

from ducklake.dashboard import charts
from ducklake.dashboard.drawing import Drawing, number

if TYPE_CHECKING:
    from ducklake.dashboard.app import Dashboard


class FlowPage:
    """The page.

    Args:
        shared: What all routes share.
        drawing: Draws it.
    """

    def __init__(self, shared: Dashboard, drawing: Drawing) -> None:
        self._shared = shared
        self._drawing = drawing

    def flow(self, request: Request) -> HTMLResponse:
        """Sources to PostgreSQL, with what waits where."""
        look = self._shared.watcher.latest()
        drawn = [
            (
                flow,
                charts.bars(
                    flow.rows_per_minute,
                    [f"-{59 - at} min" for at in range(60)],
                    [number(rows) for rows in flow.rows_per_minute],
                    48.0,
                ),
                charts.lines([s.seconds for s in flow.lag], (), (), "", 48.0),
            )
            for flow in look.flows
        ]
        return self._drawing.page(request, "flow", drawn=drawn, seen=look.seen)
