"""Everything that metrics tell, as of one moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from ducklake.monitoring.alert_state import NO_ALERTS, AlertState, alert_state
from ducklake.monitoring.dead_letters import DeadLetterCount, dead_letter_counts
from ducklake.monitoring.flow import TableFlow, table_flows
from ducklake.monitoring.lag_clock import LagClock
from ducklake.monitoring.observation import Ends, Observation, observe, opened_ledger
from ducklake.monitoring.tables import TableStorage, table_storage
from ducklake.supervision.freshness import can_be_read
from ducklake.supervision.kafka_ends import topic_ends
from lake.config import Config
from lake.errors import DuckLakeError
from lake.ledger import LedgerReader
from lake.storage.disk_use import NO_LOOK, DiskUse, disk_use
from lake.storage.paths import LakePaths

KAFKA_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the lake is behind a topic.

    Attributes:
        offsets: Partition to the offsets that Kafka has and the lake does not.
        seconds: For how long the oldest of them has waited.
    """

    offsets: Mapping[int, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The lake at a moment.

    Attributes:
        seen: One look at everything.
        flows: The way of each table.
        storage: What each table takes.
        dead_letters: How many each table has.
        lags: How far the lake is behind each topic; nothing where Kafka does not answer.
        free_bytes: Of the disk on which the lake lies.
        seconds: How long the look took.
        alerts: What has begun, and what waits to be told.
        disk: What the lake takes of its disk.
    """

    seen: Observation
    flows: tuple[TableFlow, ...] = ()
    storage: tuple[TableStorage, ...] = ()
    dead_letters: tuple[DeadLetterCount, ...] = ()
    lags: Mapping[str, Lag] = field(default_factory=dict)
    free_bytes: int = 0
    seconds: float = 0.0
    alerts: AlertState = NO_ALERTS
    disk: DiskUse = NO_LOOK


class Looker:
    """Takes snapshots; Kafka is asked beside them, since a silent one answers after seconds.

    Args:
        config: The configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._paths = LakePaths(config.data_dir)
        self._clock = LagClock()
        self._ends: Ends = None
        self._asked = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="kafka-ends", daemon=True)

    def start(self) -> None:
        """Ask Kafka from now on, every few seconds."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def once(self) -> Snapshot:
        """Look once, Kafka included."""
        self._ask_once()
        return self.look()

    def look(self) -> Snapshot:
        """Look at everything, with Kafka's last answer."""
        began = time.monotonic()
        # without its first answer nobody knows whether Kafka answers
        self._asked.wait(KAFKA_SECONDS)
        ends = self._ends
        seen = observe(self._config, lambda _: ends)
        free = psutil.disk_usage(str(self._paths.root)).free if self._paths.root.exists() else 0
        if not can_be_read(self._paths):
            return Snapshot(seen, free_bytes=free, seconds=time.monotonic() - began)
        try:
            with opened_ledger(self._paths) as ledger:
                return Snapshot(
                    seen,
                    table_flows(self._config, ledger, seen),
                    table_storage(self._config, ledger),
                    dead_letter_counts(ledger),
                    self._lags(ledger, ends, seen.at),
                    free,
                    time.monotonic() - began,
                    alert_state(self._paths),
                    disk_use(self._paths),
                )
        except DuckLakeError:
            return Snapshot(seen, free_bytes=free)  # replaced at this moment

    def _lags(self, ledger: LedgerReader, ends: Ends, now: float) -> Mapping[str, Lag]:
        found = {}
        for topic, at in (ends or {}).items():
            state = ledger.tables.get(topic)
            positions = state.positions if state is not None else {}
            behind = {p: max(0, end - positions.get(p, 0)) for p, end in at.now.items()}
            found[topic] = Lag(behind, self._clock.seconds(topic, at, positions, now))
        return found

    def _ask(self) -> None:
        while not self._stop.is_set():
            self._ask_once()
            self._stop.wait(KAFKA_SECONDS)

    def _ask_once(self) -> None:
        found = topic_ends(self._config)
        self._clock.add(found or {}, time.time())
        self._ends = found
        self._asked.set()
