"""GET for connectors of one's own: within the limits of `HttpClient`, an answer as bytes."""

from __future__ import annotations

import structlog

from producers.http.answer import HttpRequest
from producers.http.client import HttpClient
from producers.http.connection import RestConnection

log = structlog.get_logger()


class HttpReader:
    """Reads the addresses of one API.

    It does not try again: that would wait where nobody could stop it. The next poll asks again.

    Args:
        source: The source's name, for its log.
        connection: The API.
    """

    def __init__(self, source: str, connection: RestConnection) -> None:
        self._source = source
        self._base_url = connection.base_url
        self._http = HttpClient(connection)
        self._absent: set[str] = set()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, url: str) -> bytes | None:
        """The answer's bytes; None where there is nothing at that address (404), said once.

        Args:
            url: Below the connection's `base_url`, or a whole address.

        Raises:
            NotAnswered: No answer in time, a broken one, or one that says to come back later.
            RequestRefused: Another status, a redirect to where none may lead, or too large a body.
        """
        if "://" not in url:
            url = f"{self._base_url}/{url.lstrip('/')}"
        answer = self._http.send(HttpRequest(url))
        with answer.body as body:
            if answer.status != 404:
                self._absent.discard(url)
                return body.read()
        if url not in self._absent:
            log.warning(
                "url_not_found",
                message="The API has nothing at this address yet.",
                source=self._source,
                url=answer.url,
            )
        self._absent.add(url)
        return None
