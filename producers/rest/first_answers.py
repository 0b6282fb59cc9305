"""Whether the first page of each table is what its configuration says, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from lake.config import Table
from lake.errors import ServiceUnreachable, SourceError
from producers.base import Problem
from producers.http.client import HttpClient
from producers.rest.pages import Walk
from producers.rest.paging import PagingFailed
from producers.rest.rows import RowForm, misnamed, problem_of
from producers.rest.units import Unit


def answer_problems(
    table: str, spec: Table, client: HttpClient, base_url: str, unit: Unit
) -> Iterator[Problem]:
    """What is wrong with the first page of a part of a table.

    Args:
        table: The table.
        spec: Its section.
        client: Asks.
        base_url: Where addresses begin.
        unit: The part.
    """
    at = ("tables", table)
    incremental = unit.request.incremental
    since = incremental.start if incremental is not None else None
    form = RowForm(table, spec, unit.request.paging is not None)
    with closing(Walk(client, unit.http_request(base_url, since), unit.request)) as walk:
        try:
            walk.fetch(most=1)
        except PagingFailed as error:
            yield Problem(at, error.what, error.remedy)
            return
        except (ServiceUnreachable, SourceError) as error:
            yield Problem(at, f"not checked against its answer: {error.what}", is_error=False)
            return
        if not walk.pages:
            what = f"not checked against its answer: there is none yet (status {walk.status})"
            yield Problem(at, what, is_error=False)
            return
        cursor = incremental.cursor if incremental is not None else None
        found = problem_of(walk, form) or misnamed(walk, form, cursor, is_first=True)
        if found is not None:
            page, what = found
            yield Problem(at, f"GET {page.url}: {what}", "Mend `url`, `records` or `key`.")
