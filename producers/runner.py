"""All sources beside each other: one thread and one transactional producer for each."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping

import structlog

from ducklake.config import Config, Endpoints
from ducklake.errors import ConfigError, DuckLakeError, ProducerFenced, TransientError
from ducklake.topics import make_topics
from producers.base import Connector
from producers.transactions import TransactionalWriter

log = structlog.get_logger()
RETRY_SECONDS = 5.0
ONCE_SECONDS = 0.2
ONCE_TRIES = 5

KINDS: Mapping[str, str] = {
    "argentina": "producers.api:ArgentinaConnector",
    "mysql_cdc": "producers.mysql_cdc:MysqlCdcConnector",
    "sftp": "producers.sftp:SftpConnector",
}

Progress = Callable[[str, int], None]


def connector(config: Config, endpoints: Endpoints, name: str) -> Connector:
    """Make the connector of a source: a built-in kind, or `package.module:Class`.

    Raises:
        ConfigError: There is no such class, or it is no connector.
    """
    source = config.settings.sources[name]
    module, _, attribute = KINDS.get(source.type, source.type).partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"sources.{name}.type: {source.type!r} cannot be loaded ({error}).",
            f"Use {', '.join(KINDS)} or package.module:Class.",
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
        self._names = names or list(config.settings.sources)
        for name in self._names:
            if name not in config.settings.sources:
                known = ", ".join(config.settings.sources)
                raise ConfigError(f"There is no source {name!r}.", f"Known: {known}.")
        make_topics(config, endpoints)

    def run(self, stop: threading.Event, once: bool = False) -> None:
        """Run all sources until told to stop, or until each has been read to its end once.

        Raises:
            DuckLakeError: A source stopped; the others have run to their end.
        """
        threads = [
            threading.Thread(target=self._run_source, args=(name, stop, once), name=name)
            for name in self._names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failed:
            raise next(iter(self.failed.values()))

    def _run_source(self, name: str, stop: threading.Event, once: bool) -> None:
        try:
            source = connector(self._config, self._endpoints, name)
            try:
                self._poll_until(source, stop, once)
            finally:
                source.close()
        except DuckLakeError as error:
            self.failed[name] = error
            log.error("source stopped", source=name, reason=str(error))
        except Exception as error:  # a thread must not die unseen
            self.failed[name] = DuckLakeError(f"Source {name}: {type(error).__name__}: {error}.")
            log.exception("source stopped", source=name)

    def _poll_until(self, source: Connector, stop: threading.Event, once: bool) -> None:
        writer: TransactionalWriter | None = None
        tries = 0
        while not stop.is_set():
            try:
                if source.writes_records and writer is None:
                    writer = TransactionalWriter(self._config, self._endpoints, source.name)
                self._poll(source, writer)
                tries = 0
                if once and source.settled():
                    return
                stop.wait(ONCE_SECONDS if once else source.source.poll_seconds)
            except ProducerFenced:
                raise  # never again: two of them would fence each other for ever
            except TransientError as error:
                tries += 1
                if once and tries >= ONCE_TRIES:
                    raise
                log.warning("source will be asked again", source=source.name, reason=str(error))
                # After a failed transaction the producer's state is unknown: start from Kafka's.
                writer = None
                stop.wait(RETRY_SECONDS)

    def _poll(self, source: Connector, writer: TransactionalWriter | None) -> None:
        for batch in source.poll(writer.view() if writer else {}):
            assert writer is not None, "a connector that yields batches writes records"
            writer.write(batch)
            if batch.records:
                self._progress(f"{source.name}.{batch.table}", len(batch.records))
