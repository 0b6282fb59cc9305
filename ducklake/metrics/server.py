"""Serves the metrics over HTTP; a taken port stops nothing but itself."""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from lake.config import Config

TRIED = 50
"""Ports that are tried, from the configured one on."""


class MetricsServer:
    """The HTTP server, in threads of its own.

    Args:
        config: The configuration.
        registry: What it serves.

    Attributes:
        address: Where it listens; empty where it is off, or no port is free.
    """

    def __init__(self, config: Config, registry: CollectorRegistry) -> None:
        settings = config.settings.metrics
        self._host, self._port = settings.host, settings.port
        self._app = _Guarded(registry, settings.token.get_secret_value())
        self._server: Any = None
        self.address = ""

    @property
    def is_wanted(self) -> bool:
        """Whether it is to listen and does not."""
        return self._port != "off" and not self.address

    def start(self) -> None:
        """Listen, if it does not and is to; the next free port where one is taken."""
        if not isinstance(self._port, int) or self.address:
            return
        kind = _Server6 if ":" in self._host else _Server
        for port in range(self._port, min(self._port + TRIED, 65536)):
            try:
                self._server = make_server(self._host, port, self._app, kind, _Quiet)
            except OSError:
                continue
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.address = f"http://{host}:{port}/metrics"
            return

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Guarded:
    """The metrics for who knows the token; for everybody, where there is none.

    Args:
        registry: What is served.
        token: What `Authorization: Bearer` has to hold; empty: nothing is asked for.
    """

    def __init__(self, registry: CollectorRegistry, token: str) -> None:
        self._app: Any = make_wsgi_app(registry)
        self._wanted = f"Bearer {token}".encode() if token else b""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        given = str(environ.get("HTTP_AUTHORIZATION", "")).encode()
        if self._wanted and not hmac.compare_digest(given, self._wanted):
            headers = [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain")]
            start_response("401 Unauthorized", headers)
            return [b"metrics.token of ducklake.yml is needed, as Authorization: Bearer\n"]
        answer: Iterable[bytes] = self._app(environ, start_response)
        return answer


class _Server(ThreadingWSGIServer):
    """One thread for each request."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, format: str, *args: object) -> None:
        pass
