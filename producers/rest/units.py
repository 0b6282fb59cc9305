"""The parts of a table's history: each has an address, and a cursor of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import quote

from producers.http.answer import HttpRequest
from producers.rest.options import SINCE, Ranges, RestRequest, filled

WHOLE = "all"
BACKFILL = ".backfill"


@dataclass(frozen=True, slots=True)
class Unit:
    """One part of a table.

    Attributes:
        name: The name of its cursor.
        request: How it is asked for.
        names: The values of the placeholders.
        first: The first day of its range; None where it has none.
        last: The last one.
        open: Whether it is asked again once it has been read.
        params: Parameters of its range.
    """

    name: str
    request: RestRequest
    names: Mapping[str, str]
    first: date | None
    last: date | None
    open: bool
    params: Mapping[str, str]

    def http_request(self, base_url: str, since: Any = None) -> HttpRequest:
        """Its first page."""
        request, names = self.request, dict(self.names)
        if since is not None:
            names[SINCE] = str(since)
        url: str = filled(
            request.url or "", {name: quote(text, safe="") for name, text in names.items()}
        )
        url = below(base_url, url)
        params = {name: _text(filled(value, names)) for name, value in request.params.items()}
        params |= self.params
        incremental = request.incremental
        if incremental is not None and incremental.parameter is not None and since is not None:
            params[incremental.parameter] = str(since)
        body = filled(request.body, names)
        return HttpRequest(url, params, request.method, body, request.headers)

    def overlaps(self, first: date | None, last: date | None) -> bool:
        """Whether some day of it is among these."""
        if self.first is None or self.last is None:
            return True
        return (first is None or self.last >= first) and (last is None or self.first <= last)


def units_of(
    name: str, request: RestRequest, values: Mapping[str, Sequence[str]], today: date
) -> Iterator[Unit]:
    """The parts of one request, the oldest first.

    Args:
        name: The request's name; may be empty.
        request: The request.
        values: The values of each placeholder of `each`.
        today: The day until which history goes.
    """
    ranges: list[tuple[date, date] | None] = [None]
    spec = request.backfill
    if spec is not None:
        ranges = list(ranges_of(spec, today))
    for chosen in itertools.product(*values.values()):
        given = dict(zip(values, chosen, strict=True))
        for number, span in enumerate(ranges, 1):
            words = [name, *chosen]
            names, params = given, {}
            if span is not None and spec is not None:
                words.append(_range_name(spec, span[0]))
                names, params = given | _range_names(span), _range_params(spec, span)
            unit = "/".join(word for word in words if word) or WHOLE
            is_open = not request.once
            if span is not None and spec is not None:
                is_open = number > len(ranges) - spec.recheck
            first, last = span or (None, None)
            yield Unit(unit, request, names, first, last, is_open, params)


def ranges_of(spec: Ranges, today: date) -> Iterator[tuple[date, date]]:
    """First and last day of each range, from the configured day to today."""
    end = spec.until or today
    first = spec.from_
    while first <= end:
        after = _next(first, spec.step)
        yield first, after - timedelta(days=1)
        first = after


def _next(day: date, step: str) -> date:
    if step == "day":
        return day + timedelta(days=1)
    if step == "month":
        return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return date(day.year + 1, 1, 1)


def _range_name(spec: Ranges, day: date) -> str:
    return day.isoformat()[: {"day": 10, "month": 7, "year": 4}[spec.step]]


def _range_names(span: tuple[date, date]) -> dict[str, str]:
    first, last = span
    return {
        "date": first.isoformat(),
        "from": first.isoformat(),
        "until": last.isoformat(),
        "year": f"{first.year:04d}",
        "month": f"{first.month:02d}",
        "day": f"{first.day:02d}",
    }


def _range_params(spec: Ranges, span: tuple[date, date]) -> dict[str, str]:
    first, last = span
    found = {}
    if spec.from_parameter is not None:
        found[spec.from_parameter] = first.strftime(spec.format)
    if spec.until_parameter is not None:
        end = last + timedelta(days=1) if spec.until_is_excluded else last
        found[spec.until_parameter] = end.strftime(spec.format)
    return found


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def below(base_url: str, url: str) -> str:
    """A whole address: a path lies below that of the connection."""
    return url if "://" in url else f"{base_url}/{url.lstrip('/')}"
