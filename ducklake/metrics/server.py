"""Serves the metrics over HTTP; a taken port stops nothing but itself."""

from __future__ import annotations

from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

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
        self._registry = registry
        self._server: WSGIServer | None = None
        self.address = ""

    @property
    def is_wanted(self) -> bool:
        """Whether it is to listen and does not."""
        return self._port != "off" and not self.address

    def start(self) -> None:
        """Listen, if it does not and is to; the next free port where one is taken."""
        if not isinstance(self._port, int) or self.address:
            return
        for port in range(self._port, min(self._port + TRIED, 65536)):
            try:
                self._server, _ = start_http_server(port, self._host, self._registry)
            except OSError:
                continue
            host = f"[{self._host}]" if ":" in self._host else self._host
            self.address = f"http://{host}:{port}/metrics"
            return

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
