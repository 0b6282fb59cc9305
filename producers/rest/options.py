"""What a table of an API is: its addresses, its pages, its records, and what is new in them."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from lake.config import Section
from lake.config.section import Name

PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
OF_RANGES = frozenset({"date", "from", "until", "year", "month", "day"})
SINCE = "since"
_PATH = r"^[^.]+(\.[^.]+)*$"
Path = Annotated[str, Field(pattern=_PATH)]
"""Keys that lead to a value: `meta.next`."""
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]*[smhd]$")]
"""A number with `s`, `m`, `h` or `d`."""


class _Paging(Section):
    place: Literal["query", "body"] = "query"
    max_pages: Annotated[int, Field(ge=1)] = 10_000


class PageNumbers(_Paging):
    """`?page=1`, `?page=2`, … until a page has no records."""

    type: Literal["page"]
    parameter: str = "page"
    start: int = 1
    size_parameter: str | None = None
    size: Annotated[int, Field(ge=1)] | None = None
    pages: Path | None = None


class Offsets(_Paging):
    """`?offset=0`, `?offset=100`, … until a page has no records; it moves by what came."""

    type: Literal["offset"]
    parameter: str = "offset"
    start: int = 0
    size_parameter: str | None = "limit"
    size: Annotated[int, Field(ge=1)] | None = None


class PageCursors(_Paging):
    """A text in the answer that asks for the next page.

    Attributes:
        next_is_optional: Whether an answer of one page has nothing at `next`, not even null.
    """

    type: Literal["cursor"]
    parameter: str = "cursor"
    next: Path
    next_is_optional: bool = False


class LinkHeader(_Paging):
    """The header `Link` with `rel="next"`."""

    type: Literal["link_header"]


class NextUrl(_Paging):
    """The address of the next page in the answer; otherwise as `PageCursors`."""

    type: Literal["next_url"]
    next: Path
    next_is_optional: bool = False


Paging = Annotated[
    PageNumbers | Offsets | PageCursors | LinkHeader | NextUrl, Field(discriminator="type")
]


class Incremental(Section):
    """Only what is new since the last time.

    Attributes:
        cursor: The column whose greatest value is asked for the next time.
        parameter: The query's parameter that takes it; else `{since}` stands in the address.
        start: Its first value.
        lag: How late rows may come: so far before the greatest value is asked again, and what was
            sent is recognised. A duration for dates and times, a whole number for numbers.
    """

    cursor: str
    parameter: str | None = None
    start: Any = None
    lag: Annotated[int, Field(ge=1)] | Duration | None = None

    @field_validator("start")
    @classmethod
    def _is_a_value(cls, value: Any) -> Any:
        if isinstance(value, date):
            return value.isoformat()
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise ValueError("expected a date, a whole number or a text")
        return value


class Ranges(Section):
    """History that is asked for by days, months or years, each once.

    Attributes:
        from_: The first day.
        until: The last day; today by default.
        step: How much one request covers.
        from_parameter: The query's parameter for the first day of a range.
        until_parameter: That for the last one.
        until_is_excluded: Whether the API takes that for the day after the last.
        format: How a day is written there.
        recheck: How many of the newest ranges are asked again at each poll, for what comes late.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: Annotated[date, Field(alias="from")]
    until: date | None = None
    step: Literal["day", "month", "year"] = "day"
    from_parameter: str | None = None
    until_parameter: str | None = None
    until_is_excluded: bool = False
    format: str = "%Y-%m-%d"
    recheck: Annotated[int, Field(ge=1)] = 1


class YearsOf(Section):
    """Whole numbers from the first to the last that a query of MySQL answers; this year for none.

    Attributes:
        first_and_last: The query.
        connection: The MySQL that it asks, by its name under `connections`.
    """

    first_and_last: str
    connection: str


Values = Annotated[list[str | int], Field(min_length=1)] | YearsOf


class RestRequest(Section):
    """One kind of request of a table.

    Attributes:
        url: Below the connection's `base_url`, or a whole address; with placeholders.
        connection: Another API than the source's, by its name under `connections`.
        method: `GET`, or `POST` with a `body` of JSON.
        params: Parameters of the query.
        body: What is posted.
        headers: Headers of this request; what is secret belongs into the connection.
        records: The keys that lead to the records; the answer itself by default.
        paging: How one gets to the next page.
        incremental: How one asks for what is new.
        backfill: How one asks for history, range by range.
        each: Placeholders with the values for which the request is made.
        once: Whether a whole answer is never asked for again, except by `ducklake backfill`.
        date_column: The column by which `ducklake backfill --from --to` selects rows.
    """

    url: str | None = None
    connection: str | None = None
    method: Literal["GET", "POST"] = "GET"
    params: dict[str, str | int | bool] = {}
    body: Any = None
    headers: dict[str, str] = {}
    records: Path | None = None
    paging: Paging | None = None
    incremental: Incremental | None = None
    backfill: Ranges | None = None
    each: dict[str, Values] = {}
    once: bool = False
    date_column: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.incremental is not None and (self.backfill is not None or self.once):
            raise ValueError("`incremental` goes neither with `backfill` nor with `once`")
        if self.body is not None and self.method == "GET":
            raise ValueError("`body` needs `method: POST`")
        if self.paging is not None and self.paging.place == "body" and self.method == "GET":
            raise ValueError("`paging.place: body` needs `method: POST`")
        used = set(placeholders([self.url, self.params, self.body]))
        known = set(self.each)
        known |= OF_RANGES if self.backfill is not None else set()
        known |= {SINCE} if self.incremental is not None else set()
        for name in sorted(used - known):
            raise ValueError(f"nothing gives {{{name}}} a value: use `each`, or `backfill`")
        for name in sorted(set(self.each) - used):
            raise ValueError(f"`each` has values of {{{name}}}, which stands nowhere")
        return self


class RestTable(RestRequest):
    """A table: one request, or several under names.

    Attributes:
        requests: Several requests, whose records go into one table.
        every: How often it is asked; the source's `poll_seconds` by default.
    """

    requests: dict[Name, RestRequest] = {}
    every: Duration | None = None

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if bool(self.url) == bool(self.requests):
            raise ValueError("give either `url`, or `requests` with a `url` each")
        own = self.model_fields_set - {"requests", "every"}
        if self.requests and own:
            raise ValueError(f"{', '.join(sorted(own))}: give it to each of `requests`")
        for name, request in self.requests.items():
            if not request.url:
                raise ValueError(f"requests.{name} has no `url`")
        return self

    def all_requests(self) -> dict[str, RestRequest]:
        """The requests by name; the only one has none."""
        return dict(self.requests) or {"": self}

    @property
    def seconds(self) -> float | None:
        """How often it is asked."""
        if self.every is None:
            return None
        return float(self.every[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[self.every[-1]]


def placeholders(value: Any) -> list[str]:
    """The names in braces in a text, or in all texts of a structure."""
    if isinstance(value, str):
        return PLACEHOLDER.findall(value)
    if isinstance(value, dict):
        return [name for inner in value.values() for name in placeholders(inner)]
    if isinstance(value, list):
        return [name for inner in value for name in placeholders(inner)]
    return []


def filled(value: Any, names: dict[str, str]) -> Any:
    """The same with their values."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), value)
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, names) for inner in value]
    return value
