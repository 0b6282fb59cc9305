"""How rows flow: from the source to Kafka, raw, dbt and PostgreSQL, with what waits where."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ducklake.monitoring.observation import Observation
from ducklake.supervision.freshness import TableFreshness
from lake.config import Config
from lake.lags import HOPS
from lake.ledger import LedgerReader

HISTORY_MINUTES = 60
SAMPLES = 720
"""Samples of lag that are kept: an hour of one every five seconds."""


@dataclass(frozen=True, slots=True)
class HopFlow:
    """A table at a hop.

    Attributes:
        hop: One of `topic`, `raw`, `staging`, `consume`, `postgres`.
        state: As in `ducklake status --json`: `current`, `arriving`, `stalled`, `stopped`,
            `unknown`.
        waiting_s: For how many seconds something has waited to come here.
        p50_s: Seconds from the source's commit within which half of the rows were here.
        p95_s: The same of 95 %.
        reason: What stands in the way.
    """

    hop: str
    state: str
    waiting_s: float | None
    p50_s: float | None
    p95_s: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class LagSample:
    """How far the lake was behind Kafka at a moment.

    Attributes:
        at: In seconds of the epoch.
        offsets: Between the end of the topic and the lake's position, transaction markers included.
        seconds: For how long the oldest of them has waited on the way to PostgreSQL.
    """

    at: float
    offsets: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TableFlow:
    """A table's way.

    Attributes:
        table: Its topic.
        source: The source's name.
        state: `idle`, `arriving`, `stalled`, `stopped` or `unknown`.
        rows: In raw.
        rows_per_minute: Of the last hour, oldest first; the last minute is not over.
        lag_offsets: Offsets that Kafka has and the lake does not; None: Kafka does not answer.
        hops: In their order.
        lag: Samples of the last hour, since somebody has looked.
    """

    table: str
    source: str
    state: str
    rows: int
    rows_per_minute: tuple[int, ...]
    lag_offsets: int | None
    hops: tuple[HopFlow, ...]
    lag: tuple[LagSample, ...] = ()


def table_flows(
    config: Config, ledger: LedgerReader, seen: Observation, now: float | None = None
) -> tuple[TableFlow, ...]:
    """The way of every table.

    Args:
        config: The configuration.
        ledger: The ledger.
        seen: What is known of each table's freshness.
        now: Seconds of the epoch.
    """
    minute = int((now or time.time()) // 60)
    first = minute - HISTORY_MINUTES + 1
    arrived = ledger.activity.rows_by_minute(first * 60.0)
    freshness = {table.table: table for table in seen.freshness}
    found = []
    for ref, _ in config.tables():
        known = ledger.tables.get(ref.topic)
        counts = arrived.get(ref.topic, {})
        found.append(
            TableFlow(
                ref.topic,
                ref.source,
                freshness[ref.topic].state if ref.topic in freshness else "unknown",
                ledger.offsets.row_count(ref.topic) if known is not None else 0,
                tuple(counts.get(number, 0) for number in range(first, minute + 1)),
                _behind(seen, ref.topic, known.positions if known is not None else {}),
                tuple(_hops(freshness.get(ref.topic))),
            )
        )
    return tuple(found)


def _behind(seen: Observation, topic: str, positions: Mapping[int, int]) -> int | None:
    ends = seen.ends.get(topic) if seen.ends is not None else None
    if ends is None:
        return 0 if seen.ends is not None else None
    return sum(max(0, end - positions.get(number, 0)) for number, end in ends.now.items())


def _hops(table: TableFreshness | None) -> Iterable[HopFlow]:
    for name in HOPS if table is not None else ():
        assert table is not None
        hop = table.hops[name]
        yield HopFlow(name, hop.state, hop.now_s, hop.p50_s, hop.p95_s, hop.reason)


class LagHistory:
    """The lag of each table over the last hour, for as long as this process has looked."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[LagSample]] = {}
        self._mutex = threading.Lock()

    def add(self, flows: Iterable[TableFlow], at: float) -> None:
        """Take a sample of every table whose lag is known."""
        with self._mutex:
            for flow in flows:
                if flow.lag_offsets is None:
                    continue
                waited = max((hop.waiting_s or 0.0 for hop in flow.hops), default=0.0)
                samples = self._samples.setdefault(flow.table, deque(maxlen=SAMPLES))
                samples.append(LagSample(at, flow.lag_offsets, waited))

    def shown_with(self, flows: Iterable[TableFlow]) -> tuple[TableFlow, ...]:
        """The same ways, each with its samples."""
        with self._mutex:
            return tuple(
                replace(flow, lag=tuple(self._samples.get(flow.table, ()))) for flow in flows
            )
