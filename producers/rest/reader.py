"""Reads the parts of one table: asks, looks whether the answer is one, and makes batches of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import orjson
import structlog

from lake.config import Table
from lake.errors import ServiceUnreachable
from lake.records import Reject
from producers.base import REJECT_BYTES, Batch, Cursors
from producers.http.answer import NotAnswered
from producers.http.client import HttpClient
from producers.rest.incremental import incremental_batches
from producers.rest.options import RestRequest
from producers.rest.order import before, later
from producers.rest.pages import Page, Walk
from producers.rest.requests import Backfill
from producers.rest.rows import RowForm, in_days, misnamed, nothing_good, problem_of
from producers.rest.snapshot import snapshot_batches
from producers.rest.units import BACKFILL, Unit

log = structlog.get_logger()


class UnitProblem(ServiceUnreachable):
    """An address answers with status 200, and not with what was asked for."""


class TableReader:
    """Reads one table.

    Args:
        source: The source's name, for the log.
        table: The table.
        spec: Its section.

    Attributes:
        was_asked: Whether the last part was asked for at all.
        was_absent: Whether there was nothing at its address.
    """

    def __init__(self, source: str, table: str, spec: Table) -> None:
        self.was_asked = self.was_absent = False
        self._source = source
        self._table = table
        self._spec = spec
        self._begun: dict[tuple[str, Any], Walk] = {}
        self._absent: set[str] = set()

    def close(self) -> None:
        """Let go of answers that were not read to their end."""
        for walk in self._begun.values():
            walk.close()
        self._begun.clear()

    def form(self, unit: Unit) -> RowForm:
        """What the records of a part are."""
        return RowForm(self._table, self._spec, unit.request.paging is not None)

    def batches(
        self,
        client: HttpClient,
        base_url: str,
        unit: Unit,
        cursors: Cursors,
        wanted: Sequence[Backfill],
    ) -> Iterator[Batch]:
        """What is new of one part, after what was requested to be read again.

        Args:
            client: Asks.
            base_url: Where addresses begin.
            unit: The part.
            cursors: As Kafka has them.
            wanted: Requests to read the table again.

        Raises:
            NotAnswered: There is no answer now.
            UnitProblem: There is one that is not what was asked for.
            SourceError: There will be none.
        """
        self.was_asked = self.was_absent = False
        ask = _Asking(client, base_url)
        incremental = unit.request.incremental
        for request in wanted:
            if incremental is not None or not _reads_as_a_whole(unit, request):
                yield from self._again(ask, unit, cursors, request)
        if incremental is None:
            yield from self._snapshot(ask, unit, cursors, wanted)
            return
        known = cursors.get(f"{self._table}:{unit.name}", {})
        since = known.get("value", incremental.start)
        if incremental.lag is not None and "value" in known:
            since = later(before(since, incremental.lag), incremental.start)
        with closing(self._answer(ask, unit, since)) as walk:
            if self._is_answer(walk, unit):
                yield from self._checked(walk, unit, unit.name, known)
                form = self.form(unit)
                yield from incremental_batches(form, unit.name, walk, incremental, known)

    def asked(
        self, client: HttpClient, base_url: str, unit: Unit
    ) -> tuple[Walk, tuple[Page, str] | None]:
        """The answer to a part as a whole, and what is wrong with it."""
        walk = self._answer(_Asking(client, base_url), unit, None)
        return walk, problem_of(walk, self.form(unit))

    def _snapshot(
        self, ask: _Asking, unit: Unit, cursors: Cursors, wanted: Sequence[Backfill]
    ) -> Iterator[Batch]:
        known = cursors.get(f"{self._table}:{unit.name}", {})
        moments = [
            request.at
            for request in wanted
            if _reads_as_a_whole(unit, request) and unit.overlaps(request.first, request.last)
        ]
        asked = max([str(known.get("asked", "")), *moments])
        fresh = {"options": options_digest(self._spec, unit.request), "asked": asked}
        current = (
            bool(known.get("complete"))
            and str(known.get("asked", "")) >= asked
            and known.get("options", "") in ("", fresh["options"])
        )
        if current and not unit.open:
            return
        conditions = _conditions(known) if current else {}
        with closing(self._answer(ask, unit, None, conditions)) as walk:
            if self._is_answer(walk, unit):
                yield from self._checked(walk, unit, unit.name, known)
                yield from snapshot_batches(self.form(unit), unit.name, walk, known, fresh)

    def _again(
        self, ask: _Asking, unit: Unit, cursors: Cursors, request: Backfill
    ) -> Iterator[Batch]:
        """Records of some days, once more."""
        name = f"{unit.name}{BACKFILL}"
        known = cursors.get(f"{self._table}:{name}", {})
        done = str(known.get("asked", ""))
        if done > request.at or (done == request.at and known.get("complete")):
            return
        incremental = unit.request.incremental
        column = unit.request.date_column or (incremental.cursor if incremental else None)
        if column is None:
            return
        since = incremental.start if incremental else None
        if incremental is not None and request.first and not isinstance(since, int):
            since = request.first.isoformat()
        with closing(self._answer(ask, unit, since)) as walk:
            if self._is_answer(walk, unit):
                yield from self._checked(walk, unit, name, known)
                keep = None if request.is_whole else in_days(column, request.first, request.last)
                fresh = {"asked": request.at}
                yield from snapshot_batches(self.form(unit), name, walk, known, fresh, keep)

    # Answers -------------------------------------------------------------------------------

    def _answer(
        self, ask: _Asking, unit: Unit, since: Any, conditions: Mapping[str, str] | None = None
    ) -> Walk:
        """All pages of an answer; those that were fetched before one was missing are kept."""
        self.was_asked = True
        first = ask.request(unit, since)
        first = replace(first, headers={**first.headers, **(conditions or {})})
        key = (unit.name, since)
        walk = self._begun.pop(key, None) or Walk(ask.client, first, unit.request)
        try:
            walk.fetch()
        except NotAnswered:
            if walk.pages:
                self._begun[key] = walk
            else:
                walk.close()
            raise
        except BaseException:
            walk.close()
            raise
        return walk

    def _is_answer(self, walk: Walk, unit: Unit) -> bool:
        """Whether there is one, and not the one that is known.

        Raises:
            UnitProblem: It is said to be the known one, and none is.
        """
        if walk.status == 304 and not walk.asked_if_changed:
            raise UnitProblem(
                f"{self._table}:{unit.name}: status 304, though nothing of it is known.",
                "It is asked again; if that stays, tell whoever runs the API.",
            )
        if walk.status == 404 or (walk.status == 204 and unit.request.incremental is None):
            self.was_absent = True
            if unit.name not in self._absent:
                log.warning(
                    "url_not_found",
                    message="The API has nothing at this address yet.",
                    source=self._source,
                    url=f"{self._table}:{unit.name}",
                )
            self._absent.add(unit.name)
            return False
        self._absent.discard(unit.name)
        return walk.status != 304

    def _checked(
        self, walk: Walk, unit: Unit, name: str, known: Mapping[str, Any]
    ) -> Iterator[Batch]:
        """An answer that is none as one reject, once; it never counts as complete.

        Raises:
            UnitProblem: It is none.
        """
        form = self.form(unit)
        found = problem_of(walk, form)
        incremental = unit.request.incremental
        if found is None and incremental is None:
            found = nothing_good(walk, form)
        if found is None:
            column = incremental.cursor if incremental is not None else None
            is_first = "value" not in known and not known.get("complete")
            found = misnamed(walk, form, column, is_first)
        if found is None:
            return
        page, problem = found
        if known.get("bad") != walk.sha256:
            about = {"url": page.url, "status": 200}
            payload = walk.content(page, REJECT_BYTES)
            reject = Reject(self._table, payload, f"{page.url}: {problem}", about)
            cursor = {"complete": False, **known, "bad": walk.sha256}
            yield Batch(self._table, name, cursor, (), [reject])
        raise UnitProblem(
            f"GET {page.url}: {problem}.",
            "It is asked again; if that stays, check `url`, `records`, `key` and"
            " `incremental.cursor` of the table.",
        )


class _Asking:
    """Who asks, and where addresses begin."""

    def __init__(self, client: HttpClient, base_url: str) -> None:
        self.client = client
        self._base_url = base_url

    def request(self, unit: Unit, since: Any) -> Any:
        """The first page of a part."""
        return unit.http_request(self._base_url, since)


def _reads_as_a_whole(unit: Unit, request: Backfill) -> bool:
    """Whether a part is asked for again as it is, and not for some of its days only."""
    return request.is_whole or unit.first is not None


def _conditions(known: Mapping[str, Any]) -> dict[str, str]:
    """Headers that ask for an answer only if it is another one than the known."""
    found = {}
    if known.get("etag"):
        found["If-None-Match"] = str(known["etag"])
    elif known.get("last_modified"):
        found["If-Modified-Since"] = str(known["last_modified"])
    return found


def options_digest(spec: Table, request: RestRequest) -> str:
    """What decides which rows an answer has: if it changes, the answer is read again."""
    asked = request.model_dump(mode="json", include={"url", "params", "body", "records", "method"})
    about = [asked, sorted(spec.key), spec.columns]
    return hashlib.sha256(orjson.dumps(about, default=str)).hexdigest()[:16]
