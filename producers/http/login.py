"""What a request carries to log in: only to the API itself, never to where it redirects."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO

from producers.http.answer import Body, NotAnswered, RequestRefused, says_later
from producers.http.connection import ApiKeyAuth, BasicAuth, BearerAuth, OAuth2Auth, RestConnection
from producers.http.secrecy import Mask

EARLY_SECONDS = 30.0
DEFAULT_SECONDS = 300.0

AskToken = Callable[[str, dict[str, str], dict[str, str]], tuple[int, Body]]
"""POST a form to an address, with headers: the status and the body."""


class Login:
    """Headers and parameters of one connection.

    Args:
        connection: The connection.
        mask: Told about tokens.
        ask: Sends a form.
    """

    def __init__(self, connection: RestConnection, mask: Mask, ask: AskToken) -> None:
        self._connection = connection
        self._mask = mask
        self._ask = ask
        self._token = ""
        self._ends = 0.0

    @property
    def renews(self) -> bool:
        """Whether a token that is refused can be replaced by a new one."""
        return isinstance(self._connection.auth, OAuth2Auth)

    def forget(self) -> None:
        """The token was refused."""
        self._token = ""

    def parameters(self) -> dict[str, str]:
        """What goes into the query."""
        auth = self._connection.auth
        if isinstance(auth, ApiKeyAuth) and auth.parameter:
            return {auth.parameter: auth.api_key.get_secret_value()}
        return {}

    def headers(self) -> dict[str, str]:
        """What goes into the headers.

        Raises:
            NotAnswered: The server of tokens does not answer.
            RequestRefused: It refuses the client.
        """
        found = {n: v.get_secret_value() for n, v in self._connection.headers.items()}
        match self._connection.auth:
            case BasicAuth(user=user, password=password):
                found["Authorization"] = _basic(user, password.get_secret_value())
            case BearerAuth(token=token):
                found["Authorization"] = f"Bearer {token.get_secret_value()}"
            case ApiKeyAuth(header=str(name), api_key=key):
                found[name] = key.get_secret_value()
            case OAuth2Auth() as auth:
                if not self._token or time.monotonic() > self._ends:
                    self._renew(auth)
                found["Authorization"] = f"Bearer {self._token}"
            case _:
                pass
        return found

    def _renew(self, auth: OAuth2Auth) -> None:
        form = {"grant_type": "client_credentials", **auth.parameters}
        headers = {}
        if auth.scope:
            form["scope"] = auth.scope
        secret = auth.client_secret.get_secret_value()
        if auth.client_auth == "basic":
            headers["Authorization"] = _basic(auth.client_id, secret)
        else:
            form |= {"client_id": auth.client_id, "client_secret": secret}
        status, body = self._ask(auth.token_url, form, headers)
        with closing(body.content) as content:
            self._keep(auth, status, content)

    def _keep(self, auth: OAuth2Auth, status: int, content: BinaryIO) -> None:
        place, shown = self._connection.place, self._mask.url(auth.token_url)
        if status != 200:
            what = f"POST {shown}: status {status}, no token."
            if says_later(status):
                raise NotAnswered(what)
            raise RequestRefused(what, f"Check {place}.auth.")
        try:
            answer = json.loads(content.read())
            token, seconds = str(answer["access_token"]), float(answer.get("expires_in") or 0)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NotAnswered(f"POST {shown}: no token in the answer.") from None
        self._mask.add(token)
        self._token = token
        self._ends = time.monotonic() + max(0.0, (seconds or DEFAULT_SECONDS) - EARLY_SECONDS)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
