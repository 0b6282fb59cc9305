"""The role that looks at the lake all the time, serves its metrics and tells who wants to know."""

from __future__ import annotations

import threading
import time

import structlog

from ducklake.metrics.exposition import registry
from ducklake.metrics.server import TRIED, MetricsServer
from ducklake.monitoring.snapshot import Looker, Snapshot
from lake.config import Config
from lake.processes.heartbeat import RETRYING, RUNNING, Heartbeat, Part

log = structlog.get_logger()
LOOK_SECONDS = 2.0
LOOKS_WITHIN = 120.0
PORT_SECONDS = 30.0
"""Until a port is tried again, where none was free."""
METRICS = "metrics"


class Monitor:
    """Looks every few seconds.

    Args:
        config: The configuration.
        heartbeat: Told that it looks, and where it serves metrics.
    """

    def __init__(self, config: Config, heartbeat: Heartbeat) -> None:
        self._config = config
        self._heartbeat = heartbeat
        self._looker = Looker(config)
        self._newest: Snapshot | None = None
        self._server = MetricsServer(config, registry(config, lambda: self._newest))
        self._next_port = 0.0

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        self._looker.start()
        try:
            while not stop.is_set():
                self._serve()
                self._heartbeat.beat("looking", LOOKS_WITHIN)
                self._newest = self._looker.look()
                stop.wait(LOOK_SECONDS)
        finally:
            self._looker.stop()
            self._server.stop()

    def _serve(self) -> None:
        """Serve metrics, as far as a port is free; looks and alerts need none."""
        if not self._server.is_wanted or time.monotonic() < self._next_port:
            return
        self._server.start()
        if self._server.address:
            part = Part("step", RUNNING, reason=f"They are at {self._server.address}.")
            self._heartbeat.part(METRICS, part)
            log.info("metrics_served", message="Metrics.", address=self._server.address)
            return
        self._next_port = time.monotonic() + PORT_SECONDS
        first = self._config.settings.metrics.port
        reason = f"None of {TRIED} ports from {first} on is free."
        remedy = "Free one, or set metrics.port."
        attempt = time.time() + PORT_SECONDS
        self._heartbeat.part(METRICS, Part("step", RETRYING, 0.0, reason, remedy, attempt))
