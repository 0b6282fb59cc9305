"""The page Flow: from the sources to PostgreSQL, with what waits where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import HTMLResponse

from ducklake.dashboard import charts
from ducklake.dashboard.drawing import Drawing, number, seconds
from ducklake.dashboard.picture import picture
from ducklake.monitoring.flow import HISTORY_MINUTES, LagSample, TableFlow

if TYPE_CHECKING:
    from ducklake.dashboard.app import Dashboard

SPARK = 48.0


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
        """The picture, the lag of the last hour, and each table."""
        look = self._shared.watcher.latest()
        whole = look.pipeline
        lag = whole.lag if whole is not None else ()
        return self._drawing.page(
            request,
            "flow",
            seen=look.seen,
            drawn=[(flow, _rate(flow), _lag(flow.lag)) for flow in look.flows],
            whole=whole,
            picture=picture(whole) if whole is not None else None,
            lag_rows=self._over_time(lag, [float(one.offsets) for one in lag], number),
            lag_seconds=self._over_time(lag, [one.seconds for one in lag], seconds),
        )

    def _over_time(
        self, lag: Sequence[LagSample], values: Sequence[float], text: Callable[[float], str]
    ) -> charts.Chart:
        moments = [
            datetime.fromtimestamp(one.at, UTC).astimezone(self._drawing.zone).strftime("%H:%M")
            for one in lag
        ]
        return charts.lines(values, (), moments, text(max(values, default=0.0)), 120.0)


def _rate(flow: TableFlow) -> charts.Chart:
    labels = [f"-{HISTORY_MINUTES - 1 - at} min" for at in range(HISTORY_MINUTES)]
    texts = [number(rows) for rows in flow.rows_per_minute]
    return charts.bars(flow.rows_per_minute, labels, texts, SPARK)


def _lag(lag: Sequence[LagSample]) -> charts.Chart:
    return charts.lines([one.seconds for one in lag], (), (), "", SPARK)
