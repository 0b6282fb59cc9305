"""All sources beside each other: one thread and one transactional producer for each."""

from __future__ import annotations

import importlib
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping

import structlog

from lake.config import FOREIGN, Config, Endpoints
from lake.errors import (
    ConfigError,
    DuckLakeError,
    ProducerFenced,
    SourceError,
    TransientError,
)
from lake.kafka.topics import make_topics
from producers.base import Connector
from producers.transactions import TransactionalWriter

log = structlog.get_logger()
RETRY_SECONDS = 5.0
ONCE_SECONDS = 0.2
ONCE_TRIES = 5
SOON_SECONDS = 1.0
JOIN_SECONDS = 0.1
DRAIN_SECONDS = 1.5

KINDS: Mapping[str, str] = {
    "argentina": "techstore.argentina:ArgentinaConnector",
    "mysql_cdc": "producers.mysql.cdc:MysqlCdcConnector",
    "sftp": "producers.sftp.connector:SftpConnector",
}

Progress = Callable[[str, int], None]


def connector(config: Config, endpoints: Endpoints, name: str) -> Connector:
    """Make the connector of a source: a built-in kind, or `package.module:Class`.

    Raises:
        ConfigError: There is no such class, or it is no connector.
    """
    source = config.settings.sources[name]
    if source.type == FOREIGN:
        raise ConfigError(
            f"sources.{name}: others write its topics.", "`ducklake consume` reads them."
        )
    module, _, attribute = KINDS.get(source.type, source.type).partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"sources.{name}.type: {source.type!r} cannot be loaded ({error}).",
            f"Use {', '.join([*KINDS, FOREIGN])} or package.module:Class.",
        ) from None
    if not (isinstance(found, type) and issubclass(found, Connector)):
        raise ConfigError(
            f"sources.{name}.type: {source.type!r} is no connector.",
            "Derive the class from producers.base.Connector.",
        )
    return found(name, source, config, endpoints)


class SourceRunner:
    """Polls the sources, each in its own thread.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        names: Sources to run; all by default.
        progress: Called with a topic and the number of records sent.

    Attributes:
        failed: What stopped a source, by its name.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        names: list[str] | None = None,
        progress: Progress = lambda topic, records: None,
    ) -> None:
        self.failed: dict[str, DuckLakeError] = {}
        self._config = config
        self._endpoints = endpoints
        self._progress = progress
        sources = config.settings.sources
        self._names = names or [n for n, source in sources.items() if source.type != FOREIGN]
        for name in self._names:
            if name not in config.settings.sources:
                known = ", ".join(config.settings.sources)
                raise ConfigError(f"There is no source {name!r}.", f"Known: {known}.")
        make_topics(config, endpoints)

    def run(self, stop: threading.Event, once: bool = False) -> None:
        """Run all sources until told to stop, or until each has been read to its end once.

        Args:
            stop: Ends it: a transaction that is being written is finished; a source that does not
                answer is not waited for.
            once: End at the end of what is there now.

        Raises:
            DuckLakeError: A source stopped; the others have run to their end.
        """
        # Daemons: whatever a thread is waiting for, it does not keep the process alive.
        threads = [
            threading.Thread(
                target=self._run_source, args=(name, stop, once), name=name, daemon=True
            )
            for name in self._names
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not stop.is_set():
            for thread in threads:
                thread.join(JOIN_SECONDS)
        deadline = time.monotonic() + DRAIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning(
                    "source_unresponsive",
                    message="A source does not end in time and is abandoned.",
                    source=thread.name,
                )
        failed = list(self.failed.values())
        if failed:
            # A fenced producer first: its exit code tells the supervisor not to start it again.
            raise next((e for e in failed if isinstance(e, ProducerFenced)), failed[0])

    def _run_source(self, name: str, stop: threading.Event, once: bool) -> None:
        try:
            source = connector(self._config, self._endpoints, name)
            try:
                self._poll_until(source, stop, once)
            finally:
                source.close()
        except DuckLakeError as error:
            self.failed[name] = error
            log.error(
                "source_stopped",
                message="The source is not read any more; the others are.",
                source=name,
                reason=str(error),
            )
        except Exception as error:  # a thread must not die unseen
            # Where it broke, not its message: that may quote a row.
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"Source {name}: {type(error).__name__} in {place.name}, line {place.lineno}."
            self.failed[name] = SourceError(what, "This is a defect of the connector.")
            log.error(
                "source_stopped",
                message="The source is not read any more; the others are.",
                source=name,
                reason=str(self.failed[name]),
            )

    def _poll_until(self, source: Connector, stop: threading.Event, once: bool) -> None:
        writer: TransactionalWriter | None = None
        tries = 0
        while not stop.is_set():
            try:
                if source.writes_records and writer is None:
                    writer = TransactionalWriter(self._config, self._endpoints, source.name)
                self._poll(source, writer, stop)
                tries = 0
                if once and not stop.is_set() and source.settled():
                    return
                stop.wait(self._pause(source, once))
            except TransientError as error:
                tries += 1
                if once and tries >= ONCE_TRIES:
                    raise
                log.warning(
                    "source_failed",
                    message="A source failed and is tried again.",
                    source=source.name,
                    reason=str(error),
                )
                # Only where this one is of no more use: a new one would fence a successor of it.
                writer = writer if writer and writer.usable else None
                stop.wait(RETRY_SECONDS)

    @staticmethod
    def _pause(source: Connector, once: bool) -> float:
        if once:
            return ONCE_SECONDS
        if source.writes_records and not source.settled():
            return min(SOON_SECONDS, source.source.poll_seconds)  # a file is still being written
        return source.source.poll_seconds

    def _poll(
        self, source: Connector, writer: TransactionalWriter | None, stop: threading.Event
    ) -> None:
        batches = source.poll(writer.view() if writer else {})
        try:
            for batch in batches:
                assert writer is not None, "a connector that yields batches writes records"
                if stop.is_set():
                    return
                writer.write(batch)
                if batch.records:
                    self._progress(f"{source.name}.{batch.table}", len(batch.records))
        finally:
            if isinstance(batches, Generator):
                batches.close()  # now, not some time: it may hold a session open
