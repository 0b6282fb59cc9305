"""Requests within limits: of time, of size, and of where redirects may lead."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from lake.certificates import UNTRUSTED
from producers.http.answer import (
    Answer,
    Body,
    BodyBroken,
    BodyTooLarge,
    HttpRequest,
    NotAnswered,
    RequestRefused,
    received,
    retry_after,
    says_later,
)
from producers.http.charset import in_utf8
from producers.http.connection import ApiKeyAuth, OAuth2Auth, RestConnection
from producers.http.gate import AddressRefused, Gate, GatedAdapter, origin_of
from producers.http.login import Login
from producers.http.secrecy import Mask

MOST_REDIRECTS = 10
AGENT = "ducklake-stream"
_ANSWERS = {200, 204, 304, 404}
_REDIRECTS = {301, 302, 303, 307, 308}
_PAUSE_SECONDS = 60.0
"""How long nothing is asked after a 429 that does not say how long."""


class _OwnAuth(AuthBase):
    """Keeps requests from taking a password out of ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class HttpClient:
    """Asks one API; it does not try again, which is for whoever polls.

    Args:
        connection: The API.

    Attributes:
        mask: Hides its secrets.
    """

    def __init__(self, connection: RestConnection) -> None:
        auth = connection.auth
        parameter = auth.parameter if isinstance(auth, ApiKeyAuth) else None
        self.mask = Mask(connection.secrets(), [parameter] if parameter else [])
        self._connection = connection
        origins = {connection.origin}
        if isinstance(auth, OAuth2Auth):
            origins.add(origin_of(auth.token_url))
        self._gate = Gate(frozenset(origins), connection.allow_private_addresses)
        self._login = Login(connection, self.mask, self._post_form)
        self._paused_until, self._paused_by = 0.0, ""
        self._http = requests.Session()
        self._http.auth = _OwnAuth()
        self._http.headers.update({"User-Agent": AGENT, "Accept-Encoding": "gzip, deflate"})
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, GatedAdapter(self._gate))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, request: HttpRequest) -> Answer:
        """Send a request, and follow its redirects.

        Returns:
            An answer of status 200, 204, 304 or 404.

        Raises:
            NotAnswered: No answer in time, a broken one, or one that says to come back later.
            RequestRefused: Another status, a redirect to where none may lead, or too large a body.
        """
        left = self._paused_until - time.monotonic()
        if left > 0:
            raise NotAnswered(self._paused_by, retry_after=left)
        answer = self._followed(request)
        if answer.status == 401 and self._login.renews:
            answer.body.close()
            self._login.forget()
            answer = self._followed(request)
        if answer.status in _ANSWERS:
            return answer
        answer.body.close()
        self._refuse(request, answer)
        raise AssertionError("every other status is refused")

    def _refuse(self, request: HttpRequest, answer: Answer) -> None:
        what = f"{request.method} {answer.url}: status {answer.status}."
        if says_later(answer.status):
            wanted = retry_after(answer.headers.get("retry-after"))
            if answer.status == 429 and wanted is None:
                wanted = _PAUSE_SECONDS
            if wanted is not None:
                what = f"{what[:-1]}, asked again in {wanted:.0f} s."
                self._paused_until = time.monotonic() + wanted
                self._paused_by = what
            check = f"It is retried; if that stays, check {self._connection.place}."
            raise NotAnswered(what, check, wanted)
        place = self._connection.place
        remedy = f"Check `url` and `params` of the table, and {place}."
        if answer.status in (401, 403):
            remedy = f"Check {place}.auth, and what the account may read."
        raise RequestRefused(what, remedy)

    def _followed(self, request: HttpRequest) -> Answer:
        url, method, body = request.url, request.method, request.body
        params: Mapping[str, str] = request.params
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._once(HttpRequest(url, params, method, body, request.headers))
            if answer.status not in _REDIRECTS or "location" not in answer.headers:
                return answer
            answer.body.close()
            before, url = url, urljoin(answer.address, answer.headers["location"])
            self._check_redirect(before, url)
            params = {}
            if answer.status in (301, 302, 303):
                method, body = "GET", None
        raise RequestRefused(
            f"GET {self.mask.url(request.url)}: more than {MOST_REDIRECTS} redirects.",
            "Use the address to which they lead.",
        )

    def _check_redirect(self, before: str, url: str) -> None:
        try:
            downgraded = origin_of(url)[0] == "http" and origin_of(before)[0] == "https"
        except ValueError:
            raise RequestRefused(
                f"GET {self.mask.url(before)}: a redirect to what is no address of HTTP.",
                "Use the address to which it should lead.",
            ) from None
        if downgraded:
            raise RequestRefused(
                f"GET {self.mask.url(before)}: a redirect to an address without TLS.",
                "Use the address to which it leads.",
            )

    def _once(self, request: HttpRequest) -> Answer:
        headers = {"Accept": "application/json"}
        params = dict(request.params)
        url = request.url
        try:
            if origin_of(url) == self._connection.origin:
                # Only here: what logs in must not follow a redirect to another host.
                headers |= {**request.headers, **self._login.headers()}
                params |= self._login.parameters()
            with self._gate.until(self._connection.total_seconds):
                return self._exchange(request, url, params, headers)
        except AddressRefused:
            raise RequestRefused(
                f"GET {self.mask.url(url)}: it leads to a private address.",
                f"If that is meant, set {self._connection.place}.allow_private_addresses.",
            ) from None
        except ValueError:
            raise RequestRefused(
                f"GET {self.mask.url(url)}: it is no address.", "Mend `url` of the table."
            ) from None

    def _exchange(
        self, request: HttpRequest, url: str, params: dict[str, str], headers: dict[str, str]
    ) -> Answer:
        shown = f"{request.method} {self.mask.url(url)}"
        self._gate.check_url(url)
        try:
            with self._http.request(
                request.method,
                url,
                params=params,
                json=request.body,
                headers=headers,
                timeout=(self._connection.connect_seconds, self._connection.read_seconds),
                stream=True,
                allow_redirects=False,
            ) as response:
                body = self._received(response)
        except requests.exceptions.SSLError:
            raise NotAnswered(f"{shown}: its certificate is not trusted.", UNTRUSTED) from None
        except (requests.RequestException, HTTPError, OSError) as error:
            why = type(error).__name__
            if self._gate.expired:
                why = f"no whole answer within {self._connection.total_seconds:g} s"
            raise NotAnswered(f"{shown}: {why}.") from None
        except BodyBroken as error:
            raise NotAnswered(f"{shown}: its body is broken: {error}.") from None
        except BodyTooLarge:
            most = self._connection.max_mb
            raise RequestRefused(
                f"{shown}: more than {most:g} MB.",
                f"Ask for it in pages, or raise {self._connection.place}.max_mb.",
            ) from None
        if self._gate.expired:  # it was cut off, which may look like its end
            body.content.close()
            seconds = self._connection.total_seconds
            raise NotAnswered(f"{shown}: no whole answer within {seconds:g} s.")
        found = {name.lower(): value for name, value in response.headers.items()}
        address = response.url or url
        return Answer(
            self.mask.url(address),
            address,
            response.status_code,
            found,
            body.content,
            body.size,
            body.sha256,
        )

    def _received(self, response: Any) -> Body:
        most = int(self._connection.max_mb * 1024 * 1024)
        encoding = response.headers.get("Content-Encoding", "")
        body = received(response.raw, encoding, most)
        return in_utf8(body, response.headers.get("Content-Type", ""))

    def _post_form(
        self, url: str, form: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, Body]:
        with self._gate.until(self._connection.total_seconds):
            try:
                with self._http.post(
                    url,
                    data=form,
                    headers=headers,
                    timeout=(self._connection.connect_seconds, self._connection.read_seconds),
                    stream=True,
                    allow_redirects=False,
                ) as response:
                    return response.status_code, self._received(response)
            except (requests.RequestException, HTTPError, OSError, BodyBroken, BodyTooLarge) as e:
                shown = self.mask.url(url)
                raise NotAnswered(f"POST {shown}: {type(e).__name__}.") from None
