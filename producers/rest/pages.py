"""The pages of an answer, fetched one after the other onto the disk, and what they say of more."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast
from urllib.parse import urljoin

from producers.formats.json import JsonOptions, read, value_at
from producers.formats.row import BadRow, Row
from producers.http.answer import Answer, HttpRequest
from producers.http.client import HttpClient
from producers.rest.answer_checks import page_problem
from producers.rest.links import next_link
from producers.rest.options import LinkHeader, NextUrl, Offsets, PageCursors, PageNumbers
from producers.rest.paging import (
    PageContent,
    PagingFailed,
    Repeats,
    last_page,
    next_value,
    warn_where_full,
)
from producers.rest.sections import FileSection

MOST_BYTES = 4 * 1024**3
"""Of all pages of one answer: they lie on the disk until they are in Kafka."""


CONDITIONS = ("If-None-Match", "If-Modified-Since")


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        url: Where it came from, as it may be shown.
        start: Where it begins in the file of all pages.
        size: Its bytes.
        problem: Why it is not what was asked for; empty where it is.
    """

    url: str
    start: int
    size: int
    problem: str = ""


class Walk:
    """All pages of one answer; one that was interrupted goes on where it was.

    Args:
        client: Asks.
        first: The first page's request.
        unit: What is asked for: its `records`, its `paging`.

    Attributes:
        pages: What has been fetched.
        done: Whether that is all.
        status: Of the first answer.
        etag: Of the only page; empty where there are several.
        last_modified: The same.
        asked_if_changed: Whether an answer that is known was not asked for.
    """

    def __init__(self, client: HttpClient, first: HttpRequest, unit: Any) -> None:
        self.pages: list[Page] = []
        self.done = False
        self.status = 0
        self.etag = self.last_modified = ""
        self.asked_if_changed = any(name in first.headers for name in CONDITIONS)
        self._client = client
        self._records: str | None = unit.records
        self._paging = unit.paging
        self._file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - closed by `close`
        self._digest = hashlib.sha256()
        self._size = 0
        self._number = self._paging.start if isinstance(self._paging, PageNumbers | Offsets) else 0
        self._seen: set[str] = set()
        self._repeats = Repeats()
        self._next: HttpRequest = self._sized(first)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of all pages."""
        return self._digest.hexdigest()

    @property
    def problem(self) -> Page | None:
        """A page that is not what was asked for."""
        return next((page for page in self.pages if page.problem), None)

    @property
    def is_one_object(self) -> bool:
        """Whether the answer is one object, where no array was asked for."""
        return len(self.pages) == 1 and value_at(self._section(self.pages[0]), self._records) == "{"

    def fetch(self, most: int | None = None) -> None:
        """Fetch the pages that are missing.

        Args:
            most: Of all pages; by default there is no limit of this kind.

        Raises:
            NotAnswered: One could not be had now; call it again later.
            RequestRefused: One will not be had.
            PagingFailed: They do not end.
        """
        while not self.done and (most is None or len(self.pages) < most):
            answer = self._client.send(self._next)
            try:
                self._take(answer)
            finally:
                answer.body.close()

    def rows(self) -> Iterator[tuple[int, Page, Row | BadRow]]:
        """Every record with the number of its page, from 1."""
        options = JsonOptions(path=self._records)
        for number, page in enumerate(self.pages, 1):
            if page.size:
                for row in read(self._section(page), options):
                    yield number, page, row

    def content(self, page: Page, most: int) -> bytes:
        """The beginning of a page, without secrets."""
        return self._client.mask.content(self._section(page).read(min(most, page.size)))

    def _section(self, page: Page) -> BinaryIO:
        return cast(BinaryIO, FileSection(self._file, page.start, page.size))

    def _take(self, answer: Answer) -> None:
        self.status = self.status or answer.status
        if answer.status == 404 and self.pages:
            raise PagingFailed(
                f"GET {answer.url}: page {len(self.pages) + 1} answers 404.",
                "Choose another `paging`, such as `next_url`, or name its `pages`.",
            )
        if answer.status == 304 and self.pages:
            raise PagingFailed(
                f"GET {answer.url}: page {len(self.pages) + 1} answers 304, and nothing of it is"
                " known.",
                "Tell whoever runs the API.",
            )
        if answer.status != 200:
            self.done = True  # nothing there, or nothing new
            return
        own = {name: v for name, v in self._next.headers.items() if name not in CONDITIONS}
        self._next = replace(self._next, headers=own)  # what is known is the first page
        page = self._kept(answer)
        self.pages.append(page)
        if page.problem or self._paging is None:
            self.done = True
        else:
            self._go_on(answer, page)
        only = self.done and len(self.pages) == 1
        self.etag = answer.headers.get("etag", "") if only else ""
        self.last_modified = answer.headers.get("last-modified", "") if only else ""

    def _kept(self, answer: Answer) -> Page:
        start = self._size
        self._size += answer.size
        if self._size > MOST_BYTES:
            raise PagingFailed(
                f"GET {answer.url}: all pages have more than {MOST_BYTES >> 30} GB.",
                "Ask for less at a time: `incremental`, or `backfill` by ranges.",
            )
        self._file.seek(start)
        shutil.copyfileobj(answer.body, self._file, 1 << 20)
        # Of one page it is the hash of its bytes alone, as earlier releases kept it.
        self._seek_digest(start, answer.size)
        page = Page(answer.url, start, answer.size)
        problem = page_problem(lambda: self._section(page), self._records, self._paging is not None)
        return replace(page, problem=problem)

    def _seek_digest(self, start: int, size: int) -> None:
        section = FileSection(self._file, start, size)
        while block := section.read(1 << 20):
            self._digest.update(block)

    def _go_on(self, answer: Answer, page: Page) -> None:
        paging = self._paging
        if len(self.pages) >= paging.max_pages:
            raise PagingFailed(
                f"GET {answer.url}: more than {paging.max_pages:,} pages.",
                "Ask for less at a time, or raise `max_pages`.",
            )
        content = PageContent(answer.url, lambda: self._section(page), self._records)
        match paging:
            case PageNumbers() | Offsets():
                self._count(paging, content)
            case PageCursors() | NextUrl():
                found = next_value(content, paging, is_first=len(self.pages) == 1)
                self._turn(answer, content, found, paging)
            case LinkHeader():
                if len(self.pages) == 1 and "link" not in answer.headers:
                    warn_where_full(content, self._next.params)
                self._turn(answer, content, next_link(answer.headers.get("link", "")), paging)

    def _count(self, paging: PageNumbers | Offsets, page: PageContent) -> None:
        """The next number; the end is a page without records, as a short one proves nothing."""
        last = None
        if isinstance(paging, PageNumbers):
            last = last_page(page, paging, is_first=len(self.pages) == 1)
        count = page.count()
        if not count or (last and self._number >= last):
            self.done = True
            return
        self._repeats.look_at(page, paging.parameter, has_cursor=False)
        self._number += 1 if isinstance(paging, PageNumbers) else count
        self._next = self._sized(self._next)

    def _turn(
        self,
        answer: Answer,
        page: PageContent,
        found: Any,
        paging: PageCursors | NextUrl | LinkHeader,
    ) -> None:
        if found in (None, "", False):
            self.done = True
            return
        if not isinstance(found, str | int):
            raise PagingFailed(f"GET {answer.url}: what should name the next page is no text.")
        is_cursor = isinstance(paging, PageCursors)
        try:
            token = str(found) if is_cursor else urljoin(answer.address, str(found))
        except ValueError:
            raise PagingFailed(
                f"GET {answer.url}: what should name the next page is no address.",
                "Mend `paging.next`, or tell whoever runs the API.",
            ) from None
        if token in self._seen or (not is_cursor and token == answer.address):
            raise PagingFailed(
                f"GET {answer.url}: the next page is one that was read already: a loop.",
                "Mend `paging.next`, or tell whoever runs the API.",
            )
        self._seen.add(token)
        if isinstance(paging, PageCursors):
            self._repeats.look_at(page, paging.parameter, has_cursor=True)
            self._next = _with(self._next, paging.place, {paging.parameter: found})
        else:
            self._repeats.look_at(page, paging.type, has_cursor=True)
            self._next = replace(self._next, url=token, params={})

    def _sized(self, request: HttpRequest) -> HttpRequest:
        paging = self._paging
        if not isinstance(paging, PageNumbers | Offsets):
            return request
        values: dict[str, Any] = {paging.parameter: self._number}
        if paging.size_parameter is not None and paging.size is not None:
            values[paging.size_parameter] = paging.size
        return _with(request, paging.place, values)


def _with(request: HttpRequest, place: str, values: dict[str, Any]) -> HttpRequest:
    if place == "body":
        return replace(request, body={**(request.body or {}), **values})
    return replace(request, params={**request.params, **{n: str(v) for n, v in values.items()}})
