"""Who may do what: the token, the cookie that stands for it, and requests from other sites.

Everything needs it, reading on loopback too: other users of the machine reach loopback as well.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import Request

from lake.errors import ConfigError
from lake.storage.json_files import read_json, write_json
from lake.storage.paths import LakePaths

TOKEN = "DUCKLAKE_DASHBOARD_TOKEN"
COOKIE = "ducklake_session"
CSRF_HEADER = "x-ducklake-csrf"
MIN_TOKEN = 16
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Access:
    """What requests need.

    Attributes:
        token: Whoever knows it may do everything.
        local: Whether the page listens on loopback only: other names of the host are refused.
    """

    token: str
    local: bool

    @classmethod
    def of(cls, paths: LakePaths, host: str, given: str | None) -> Access:
        """The rules for an address.

        Args:
            paths: The lake; a token that nobody has set is made and kept in `token_file`.
            host: The address to listen on.
            given: The token of the environment.

        Raises:
            ConfigError: It is no loopback address and there is no token, or it is too short.
        """
        if given and len(given) < MIN_TOKEN:
            raise ConfigError(
                f"The token in {TOKEN} has fewer than {MIN_TOKEN} characters.",
                "Take a long random one, such as that of `openssl rand -hex 24`.",
            )
        local = is_loopback(host)
        if not local and not given:
            raise ConfigError(
                f"{host} can be reached from elsewhere, and there is no token.",
                f"Set {TOKEN} to a long random text, or omit --host to listen on loopback only.",
            )
        return cls(given or _kept(token_file(paths)), local)

    def _sign(self, what: str) -> str:
        return hmac.new(self.token.encode(), what.encode(), hashlib.sha256).hexdigest()

    @property
    def cookie(self) -> str:
        """The value of the cookie of whoever has given the token."""
        return self._sign("session")

    @property
    def csrf(self) -> str:
        """What a page of ours sends along with each change."""
        return self._sign("csrf")

    def is_token(self, text: str) -> bool:
        """Whether a text is the token."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_known(self, request: Request) -> bool:
        """Whether a request comes from somebody who has given the token."""
        cookie = request.cookies.get(COOKIE, "")
        return self._bears(request) or hmac.compare_digest(cookie.encode(), self.cookie.encode())

    def _bears(self, request: Request) -> bool:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.is_token(text.strip())

    def may_change(self, request: Request) -> bool:
        """Whether somebody may change something: not another site in the name of a visitor."""
        if self._bears(request):
            return True  # no other site knows the token, nor may send this header
        sent = request.headers.get(CSRF_HEADER, "")
        return self.is_known(request) and hmac.compare_digest(sent.encode(), self.csrf.encode())

    def is_ours(self, request: Request) -> bool:
        """Whether the host is ours, and a request that sends something comes from our own page."""
        host = request.headers.get("host", "")
        if self.local and urlsplit(f"//{host}").hostname not in _LOCAL_NAMES:
            return False  # a name of another site that now leads here
        if request.method in ("GET", "HEAD"):
            return True
        origin = request.headers.get("origin")
        return origin is None or urlsplit(origin).netloc == host


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_file(paths: LakePaths) -> Path:
    """Where the token is kept that was made because nobody has set one; private to its owner."""
    return paths.root / "work" / "dashboard.json"


def _kept(path: Path) -> str:
    found = read_json(path).get("token")
    if isinstance(found, str) and len(found) >= MIN_TOKEN:
        return found
    token = secrets.token_urlsafe(24)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"token": token})
    return token
