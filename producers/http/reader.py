"""GET within limits of size and time; every way in which an API does not answer has a name."""

from __future__ import annotations

import time

import requests
import structlog

from lake.config import without_login
from lake.errors import ServiceUnreachable

log = structlog.get_logger()
TIMEOUT = (5.0, 20.0)
ANSWER_SECONDS = 60.0
ANSWER_BYTES = 64 * 1024 * 1024
BLOCK = 1 << 16


class HttpReader:
    """Reads the addresses of one source.

    It does not try again: that would wait where nobody could stop it. The next poll asks again.

    Args:
        source: The source's name, for its log.
        remedy: What to check where an address refuses, such as a key of `ducklake.yml`.
    """

    def __init__(self, source: str, remedy: str = "") -> None:
        self._source = source
        self._remedy = remedy
        self._http = requests.Session()
        self._absent: set[str] = set()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, url: str) -> bytes | None:
        """The answer's bytes; None where there is nothing at that address (404), said once.

        Raises:
            ServiceUnreachable: No answer, another status than 200, or beyond `ANSWER_BYTES` or
                `ANSWER_SECONDS`.
        """
        shown = without_login(url)
        try:
            with self._http.get(url, timeout=TIMEOUT, stream=True) as response:
                status = response.status_code
                content = _content(response) if status == requests.codes.ok else b""
        except requests.RequestException as error:
            raise ServiceUnreachable(
                f"GET {shown}: {type(error).__name__}.", "It is retried."
            ) from None
        if status == requests.codes.not_found:
            if url not in self._absent:
                log.warning(
                    "url_not_found",
                    message="The API has nothing at this address yet.",
                    source=self._source,
                    url=shown,
                )
            self._absent.add(url)
            return None
        if status != requests.codes.ok:
            check = f"; if that stays, check {self._remedy}" if self._remedy else ""
            raise ServiceUnreachable(f"GET {shown}: status {status}.", f"It is retried{check}.")
        self._absent.discard(url)
        return content


def _content(response: requests.Response) -> bytes:
    """The body, within limits of size and time: a server may drip, or never end."""
    deadline = time.monotonic() + ANSWER_SECONDS
    content = bytearray()
    for block in response.iter_content(BLOCK):
        content += block
        if len(content) > ANSWER_BYTES or time.monotonic() > deadline:
            raise requests.Timeout
    return bytes(content)
