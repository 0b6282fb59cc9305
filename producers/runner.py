"""All sources at the same time: one thread and one transactional producer for each."""

from __future__ import annotations

import threading
import time

import structlog

from lake.config import FOREIGN, Config, Endpoints, Source, nearest
from lake.errors import ConfigError, DuckLakeError, ProducerFenced
from lake.kafka.topics import make_topics
from lake.processes.heartbeat import SILENT, Heartbeat
from producers.registry import connector
from producers.reject_limits import RejectLimits
from producers.source_loop import Progress, SourceLoop
from producers.transactions import TransactionalWriter

log = structlog.get_logger()
MOVES_WITHIN = 60.0
"""Seconds within which the loop moves, which only waits for its threads."""
JOIN_SECONDS = 0.1
DRAIN_SECONDS = 1.5


class SourceRunner:
    """Polls the sources, each in its own thread.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        names: Sources to run; all by default.
        progress: Called with a topic and the number of records sent.
        heartbeat: Told that the loop moves, and in which state each source is.

    Attributes:
        failed: What ended a source for good, by its name.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        names: list[str] | None = None,
        progress: Progress = lambda topic, records: None,
        heartbeat: Heartbeat = SILENT,
    ) -> None:
        self.failed: dict[str, DuckLakeError] = {}
        self._config = config
        self._endpoints = endpoints
        self._progress = progress
        self._heartbeat = heartbeat
        sources = config.settings.sources
        self._names = names or [n for n, source in sources.items() if source.type != FOREIGN]
        for name in self._names:
            if name not in config.settings.sources:
                known = nearest(name, config.settings.sources)
                raise ConfigError(f"There is no source {name!r}{known}.")
            _refuse_foreign(name, config.settings.sources[name])
        make_topics(config, endpoints)

    def run(self, stop: threading.Event, once: bool = False) -> None:
        """Run all sources until told to stop, or until each has been read to its end once.

        A source that fails is asked again, and stops no other.

        Args:
            stop: Ends it: a transaction that is being written is finished; a source that does not
                answer is not waited for.
            once: End at the end of what is there now.

        Raises:
            DuckLakeError: A source has stopped for good; the others have run to their end.
        """
        loops = [self._loop(name) for name in self._names]
        # Daemons: whatever a thread is waiting for, it does not keep the process alive.
        threads = [
            threading.Thread(target=loop.run, args=(stop, once), name=loop.name, daemon=True)
            for loop in loops
        ]
        for thread in threads:
            thread.start()
        # Where others write all topics there is nothing to do, which is no reason to end: the
        # supervisor would start this role again and again.
        while not (threads or once) and not stop.wait(JOIN_SECONDS):
            self._heartbeat.beat("no source to read", MOVES_WITHIN)
        while any(thread.is_alive() for thread in threads) and not stop.is_set():
            for thread in threads:
                self._heartbeat.beat("polling", MOVES_WITHIN)
                thread.join(JOIN_SECONDS)
        deadline = time.monotonic() + DRAIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning(
                    "source_unresponsive",
                    message="A source did not stop in time and was abandoned.",
                    source=thread.name,
                )
        self.failed = {loop.name: loop.failed for loop in loops if loop.failed is not None}
        failed = list(self.failed.values())
        if failed:
            # A fenced producer first: its exit code tells the supervisor not to start it again.
            raise next((e for e in failed if isinstance(e, ProducerFenced)), failed[0])

    def _loop(self, name: str) -> SourceLoop:
        return SourceLoop(
            name,
            lambda: connector(self._config, self._endpoints, name),
            lambda: TransactionalWriter(self._config, self._endpoints, name),
            self._heartbeat,
            self._progress,
            RejectLimits(self._config, name),
        )


def _refuse_foreign(name: str, source: Source) -> None:
    if source.type == FOREIGN:
        raise ConfigError(
            f"sources.{name}: others write its topics.", "`ducklake consume` reads them."
        )
