"""The role that looks at the lake all the time, serves its metrics and tells who wants to know."""

from __future__ import annotations

import threading
import time

import structlog

from ducklake.alerts.notifier import Notifier
from ducklake.alerts.targets import targets
from ducklake.metrics.exposition import registry
from ducklake.metrics.server import TRIED, MetricsServer
from ducklake.monitoring.causes import ALERT_TARGET
from ducklake.monitoring.snapshot import Looker, Snapshot
from lake.config import Config
from lake.processes import lock
from lake.processes.heartbeat import MISCONFIGURED, RETRYING, RUNNING, Heartbeat, Part
from lake.storage.operations import make_scratch_folder
from lake.storage.paths import LakePaths

log = structlog.get_logger()
LOOK_SECONDS = 1.0
LOOKS_WITHIN = 120.0
PORT_SECONDS = 30.0
"""Until a port is tried again, where none was free."""
METRICS = "metrics"


class Monitor:
    """Looks every second.

    Args:
        config: The configuration.
        heartbeat: Told that it looks, where it serves metrics, and which target does not answer.
    """

    def __init__(self, config: Config, heartbeat: Heartbeat) -> None:
        self._config = config
        self._heartbeat = heartbeat
        self._looker = Looker(config)
        self._newest: Snapshot | None = None
        self._server = MetricsServer(config, registry(config, lambda: self._newest))
        self._next_port = 0.0
        self._notifier: Notifier | None = None
        self._lock_file = LakePaths(config.data_dir).run / "alerts.lock"
        self._descriptor: int | None = None

    def run(self, stop: threading.Event) -> None:
        """Look until told to stop."""
        self._looker.start()
        try:
            while not stop.is_set():
                self._serve()
                self._heartbeat.beat("looking", LOOKS_WITHIN)
                self._newest = self._looker.look()
                if (notifier := self._chosen()) is not None:
                    notifier.look(self._newest.seen, time.monotonic())
                stop.wait(LOOK_SECONDS)
        finally:
            self._looker.stop()
            self._server.stop()
            if self._notifier is not None:
                self._notifier.stop()
            if self._descriptor is not None:
                lock.release(self._lock_file, self._descriptor)

    def _chosen(self) -> Notifier | None:
        """What sends alerts; None while another monitor of this lake does."""
        if self._notifier is None:
            make_scratch_folder(self._lock_file.parent)
            self._descriptor = lock.take(self._lock_file)
            if self._descriptor is not None:
                found, wrong = targets(self._config)
                for error in wrong:
                    part = Part(ALERT_TARGET, MISCONFIGURED, 0.0, error.what, error.remedy)
                    self._heartbeat.part(error.what.partition(":")[0], part)
                self._notifier = Notifier(self._config, found, self._heartbeat)
                self._notifier.start()
        return self._notifier

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
