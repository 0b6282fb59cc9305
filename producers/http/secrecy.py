"""Addresses and answers as they may be shown: without what logs in."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit

from lake.config.secrecy import HIDDEN, names_a_secret

_SHORTEST = 4
"""Characters: a shorter secret would be found everywhere, and is hidden by its name alone."""
_NAMES = frozenset({"key", "sig", "signature", "auth", "code", "access_key", "appid", "apikey"})


class Mask:
    """Hides secrets in what is shown.

    Args:
        secrets: The secrets.
        parameters: Names of query parameters that hold one.
    """

    def __init__(self, secrets: Iterable[str] = (), parameters: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._names = _NAMES | {name.lower() for name in parameters}
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """One more secret, such as a token that was handed out."""
        for form in (secret, quote(secret, safe=""), quote_plus(secret)):
            if len(secret) >= _SHORTEST and form not in self._secrets:
                self._secrets.append(form)
        self._secrets.sort(key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without them."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def content(self, content: bytes) -> bytes:
        """The same for bytes."""
        for secret in self._secrets:
            content = content.replace(secret.encode(), HIDDEN.encode())
        return content

    def url(self, url: str) -> str:
        """An address without user, password, and parameters that hold a secret."""
        parts = urlsplit(url)
        pairs = [pair.partition("=") for pair in parts.query.split("&")] if parts.query else []
        query = "&".join(
            f"{name}={HIDDEN}" if value and self._hides(name) else f"{name}{equals}{value}"
            for name, equals, value in pairs
        )
        host = parts.netloc.rpartition("@")[2]
        return self.text(urlunsplit(parts._replace(netloc=host, query=query, fragment="")))

    def _hides(self, name: str) -> bool:
        return name.lower() in self._names or names_a_secret(name)
