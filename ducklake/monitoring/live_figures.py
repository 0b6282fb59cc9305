"""The live figures as the topic `live.kpis` has them, read once for all pages."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from lake.config import Config
from lake.errors import DuckLakeError
from lake.kafka.logs import log_consumer
from lake.kafka.topics import KPI_TOPIC

POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0
STALE_SECONDS = 180.0
"""The window moves on each minute: one that has not for so long is not live."""
TODAY = "today"


@dataclass(frozen=True, slots=True)
class LiveView:
    """What the live figures were last.

    Attributes:
        version: Another one whenever a window changes.
        window: The window that moves on each minute; empty before the first one.
        today: The day so far.
    """

    version: int = 0
    window: Mapping[str, Any] = field(default_factory=dict)
    today: Mapping[str, Any] = field(default_factory=dict)

    def is_stale(self, now: float | None = None) -> bool:
        """Whether nobody counts any more."""
        until = self.window.get("until")
        if not isinstance(until, str):
            return True
        end = datetime.fromisoformat(until).timestamp()
        return (time.time() if now is None else now) - end > STALE_SECONDS


class LiveReader:
    """Follows the topic in a thread; a lake without live figures has nothing to follow.

    Args:
        config: The configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        live = config.settings.live
        self._key = f"last_{live.window_minutes}m" if live is not None else ""
        self._view = LiveView()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-figures", daemon=True)

    def start(self) -> None:
        """Follow from now on."""
        if self._key:
            self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def latest(self) -> LiveView:
        """The newest figures."""
        return self._view

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                consumer = log_consumer(self._config.endpoints(), "ducklake.live-figures")
                try:
                    self._follow(consumer)
                finally:
                    consumer.close()
            except (DuckLakeError, KafkaException):
                self._stop.wait(RETRY_SECONDS)  # no broker, or nothing was ever counted

    def _follow(self, consumer: Consumer) -> None:
        consumer.assign([TopicPartition(KPI_TOPIC, 0, 0)])
        while not self._stop.is_set():
            found: dict[str, Mapping[str, Any]] = {}
            for message in consumer.consume(500, POLL_SECONDS):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                key = (message.key() or b"").decode(errors="replace")
                if error is None and key in (self._key, TODAY):
                    found[key] = _figure(message.value())
            if found:
                old = self._view
                self._view = LiveView(
                    old.version + 1, found.get(self._key, old.window), found.get(TODAY, old.today)
                )


def _figure(value: bytes | None) -> Mapping[str, Any]:
    try:
        figure = orjson.loads(value or b"{}")
    except ValueError:
        return {}
    return figure if isinstance(figure, dict) else {}
