"""Draws pages from templates on the server: everything escaped, good without any script."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ducklake.dashboard.access import Access
from ducklake.dashboard.texts import LANGUAGES, language_of, texts
from ducklake.monitoring.printable import printable
from lake.config import Config
from lake.lags import HOPS

NOTHING = "-"
PAGES = ("trust", "flow", "shop", "tables", "runs", "dead-letters")
PARENTS = {"table": "tables", "model": "tables", "dead-letter": "dead-letters"}
"""Pages that are reached from another one."""


class Drawing:
    """The templates, and what all pages have.

    Args:
        config: The configuration.
        access: Who may do what.

    Attributes:
        zone: In which times are shown.
    """

    def __init__(self, config: Config, access: Access) -> None:
        self._config = config
        self._access = access
        self.zone = ZoneInfo(config.settings.batch.time_zone)
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
            "seconds": seconds,
            "size": _size,
            "number": number,
            "money": money,
        }
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # compiled now, not while the first reader waits

    def page(self, request: Request, name: str, /, **values: Any) -> HTMLResponse:
        """A page in the reader's language."""
        language = language_of(
            request.query_params.get("lang") or request.cookies.get("lang"),
            request.headers.get("accept-language", ""),
        )
        known = self._access.is_known(request)
        text = self._templates.get_template(f"{name}.html").render(
            t=texts(language),
            language=language,
            languages=LANGUAGES,
            pages=PAGES,
            page=name,
            parent=PARENTS.get(name, name),
            lake=self._config.settings.name,
            csrf=self._access.csrf if known else "",
            known=known,
            hops=HOPS,
            **values,
        )
        response = HTMLResponse(text)
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie("lang", language, samesite="strict")
        return response

    def _moment(self, at: float | None, full: bool = False) -> str:
        if at is None:
            return NOTHING
        moment = datetime.fromtimestamp(at, UTC).astimezone(self.zone)
        is_today = moment.date() == datetime.now(self.zone).date()
        return moment.strftime("%H:%M:%S" if is_today and not full else "%Y-%m-%d %H:%M")


def _shown(value: Any) -> Any:
    """A value before it is escaped as HTML: what is markup of ours stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def seconds(value: float | None) -> str:
    """A duration in a unit that suits it."""
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


def number(value: float | None) -> str:
    """A count, with separators."""
    return NOTHING if value is None else f"{value:,.0f}"


def money(value: Any) -> str:
    """An amount, shortened."""
    amount = float(value or 0)
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(amount) >= size:
            return f"{amount / size:,.1f} {unit}"
    return f"{amount:,.0f}"
