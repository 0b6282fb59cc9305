"""What one page says of the next one, and how it is seen that pages do not follow each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import structlog

from lake.errors import SourceError
from producers.formats.json import JsonOptions, read, value_at
from producers.formats.json_text import Window
from producers.rest.answer_checks import value_in
from producers.rest.options import NextUrl, PageCursors, PageNumbers

log = structlog.get_logger()
_SAME_BY_CURSOR = 3
"""Equal pages in a row, each with a cursor of its own, after which it is a loop."""


class PagingFailed(SourceError):
    """The pages do not end, or do not follow each other."""


class PageContent:
    """The records of one page; each question reads it anew.

    Args:
        url: Where it came from, as it may be shown.
        section: Opens it.
        records: The keys that lead to its records.
    """

    def __init__(self, url: str, section: Callable[[], BinaryIO], records: str | None) -> None:
        self.url = url
        self.section = section
        self._records = records

    def count(self) -> int:
        """How many records it has."""
        return sum(1 for _ in read(self.section(), JsonOptions(path=self._records)))

    def digest(self) -> str:
        """Of its records, as they stand there; empty for none.

        Whatever else stands in the answer, such as its time, does not count.
        """
        window = Window(self.section())
        value_at(window, self._records)
        text, _ = window.skip_value()
        if not text.strip("[] \t\r\n"):
            return ""
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


class Repeats:
    """Notices pages that come again."""

    def __init__(self) -> None:
        self._before = ""
        self._same = 1

    def look_at(self, page: PageContent, parameter: str, has_cursor: bool) -> None:
        """Take note of a page.

        Args:
            page: The page.
            parameter: What asked for it.
            has_cursor: Whether the API itself said how; then a few equal pages may be right.

        Raises:
            PagingFailed: It is the one before once more.
        """
        digest = page.digest()
        self._same = self._same + 1 if digest and digest == self._before else 1
        self._before = digest
        if self._same >= (_SAME_BY_CURSOR if has_cursor else 2):
            several = f"{self._same} pages" if self._same > 2 else "two pages"
            raise PagingFailed(
                f"GET {page.url}: {several} in a row are the same.",
                f"Does the API know the parameter {parameter!r}?",
            )


def next_value(page: PageContent, paging: PageCursors | NextUrl, is_first: bool) -> Any:
    """What a page says of the next one; None where it says that there is none.

    Raises:
        PagingFailed: The first page has records, and nothing at the path at all.
    """
    is_there, value = value_in(page.section(), paging.next)
    if not is_there and is_first and not paging.next_is_optional and page.digest():
        raise PagingFailed(
            f"GET {page.url}: its first page has no {paging.next}, which `paging.next` names.",
            "Mend the path; if the API leaves it out of an answer of one page, set"
            " `paging.next_is_optional: true`.",
        )
    return value


def last_page(page: PageContent, paging: PageNumbers, is_first: bool) -> int | None:
    """The number of pages that a page tells; None where it does not, as by 0 or -1.

    Raises:
        PagingFailed: `pages` leads to something else.
    """
    if paging.pages is None:
        return None
    is_there, value = value_in(page.section(), paging.pages)
    if value is None and (is_there or not is_first):
        return None
    if isinstance(value, bool) or not re.fullmatch(r"\s*[-+]?\d{1,18}\s*", str(value)):
        what = "no whole number at" if is_there else "no"
        raise PagingFailed(
            f"GET {page.url}: it has {what} {paging.pages}, which `paging.pages` names.",
            "Mend the path, or leave it out.",
        )
    return max(int(value), 0) or None


def warn_where_full(page: PageContent, params: Mapping[str, str]) -> None:
    """Say of an only page that has as many records as were asked for that more may be missing.

    Args:
        page: A page without a header `Link`, which is right where there is one page only.
        params: Of its request; one of them may be the size of a page.
    """
    count = page.count()
    if count and str(count) in params.values():
        log.warning(
            "link_header_missing",
            message="A full page has no header Link; if the API pages in another way, choose"
            " another `paging`.",
            url=page.url,
            records=count,
        )
