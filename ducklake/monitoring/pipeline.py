"""The way from the sources to PostgreSQL as a whole: speed, lag at each hop, snapshots with ETA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ducklake.monitoring.flow import LagSample, TableFlow
from ducklake.monitoring.observation import Observation
from lake.config import Config
from lake.lags import HOPS
from lake.processes.heartbeat import RUNNING

RATE_MINUTES = 5
"""Speed is that of so many minutes that are over."""
_WORST = ("unknown", "idle", "current", "arriving", "stopped", "stalled")
"""The words of `ducklake status`, the worst last."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A source's first reading of its tables, as far as it is.

    Attributes:
        left: Tables of which rows are still to come.
        rows_left: How many, by the server's own estimate.
        eta_s: Seconds until they are here, at the speed so far; None: not known yet.
    """

    left: tuple[str, ...]
    rows_left: int
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class SourceFlow:
    """A source.

    Attributes:
        source: Its name.
        type: As in the configuration.
        state: `running` or how it is otherwise; or of its tables: `idle`, `arriving`, `stalled`, …
        reason: What happened, where it does not run.
        rows_per_s: Records of it that came into raw.
        binlog_behind_s: For how long a change has waited in MySQL's binlog; None: no binlog, or
            nobody knows.
        snapshot: Its first reading; None: it is over.
    """

    source: str
    type: str
    state: str
    reason: str
    rows_per_s: float
    binlog_behind_s: float | None
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True)
class PipelineHop:
    """All tables at a hop.

    Attributes:
        hop: One of `topic`, `raw`, `staging`, `consume`, `postgres`.
        state: The worst of all tables.
        lag_rows: Offsets that have not come here; known of `raw` only.
        lag_s: For how long the oldest row has waited to come here.
        troubled: Tables that are stalled or stopped before it.
    """

    hop: str
    state: str
    lag_rows: int | None
    lag_s: float
    troubled: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The picture of everything that flows.

    Attributes:
        sources: In the configuration's order.
        hops: In their order.
        rows_per_s: Records that came into raw.
        lag: Of all tables over the last hour: offsets together, seconds of the worst.
    """

    sources: tuple[SourceFlow, ...]
    hops: tuple[PipelineHop, ...]
    rows_per_s: float
    lag: tuple[LagSample, ...]


class SnapshotClock:
    """Remembers how far each snapshot was when it was first seen: its speed follows."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def look(
        self, source: str, wanted: Mapping[str, int], arrived: Mapping[str, int], at: float
    ) -> Snapshot:
        """How far a snapshot is.

        Args:
            source: The source.
            wanted: Table to its rows, by the server's estimate.
            arrived: Table to the rows that are in Kafka.
            at: Seconds of the epoch.
        """
        came = sum(min(arrived.get(table, 0), rows) for table, rows in wanted.items())
        left = {t: rows - arrived.get(t, 0) for t, rows in wanted.items()}
        left = {table: rows for table, rows in left.items() if rows > 0}
        since, before = self._first.setdefault(source, (at, came))
        speed = (came - before) / (at - since) if at > since else 0.0
        rows_left = sum(left.values())
        return Snapshot(tuple(left), rows_left, rows_left / speed if speed > 0 else None)

    def forget(self, source: str) -> None:
        """A snapshot is over; another one begins anew."""
        self._first.pop(source, None)


def pipeline(
    config: Config, seen: Observation, flows: Sequence[TableFlow], clock: SnapshotClock
) -> Pipeline:
    """Everything that flows, as of a look.

    Args:
        config: The configuration.
        seen: The look.
        flows: The way of each table.
        clock: Knows the speed of snapshots.
    """
    parts = {
        name: part
        for role in seen.condition.roles
        for name, part in role.parts.items()
        if part.kind == "source"
    }
    sources = []
    for name, source in config.settings.sources.items():
        own = [flow for flow in flows if flow.source == name]
        part = parts.get(name)
        told = part.progress if part is not None else {}
        behind = told.get("binlog_behind_s")
        is_well = part is None or part.state == RUNNING
        sources.append(
            SourceFlow(
                name,
                source.type,
                _worst(flow.state for flow in own) if is_well or part is None else part.state,
                part.reason if part is not None else "",
                sum(map(_rate, own)),
                float(behind) if isinstance(behind, int | float) else None,
                _snapshot(name, told.get("snapshot"), seen, clock),
            )
        )
    hops = tuple(_hop(hop, flows) for hop in HOPS)
    return Pipeline(tuple(sources), hops, sum(map(_rate, flows)), _lag(flows))


def _snapshot(
    source: str, wanted: object, seen: Observation, clock: SnapshotClock
) -> Snapshot | None:
    if not isinstance(wanted, Mapping) or seen.ends is None:
        clock.forget(source)
        return None
    arrived = {
        table: sum(seen.ends[f"{source}.{table}"].now.values())
        for table in wanted
        if f"{source}.{table}" in seen.ends
    }
    return clock.look(source, wanted, arrived, seen.at)


def _rate(flow: TableFlow) -> float:
    """Of the last minutes that are over."""
    over = flow.rows_per_minute[-1 - RATE_MINUTES : -1]
    return sum(over) / (60.0 * len(over)) if over else 0.0


def _worst(states: Iterable[str]) -> str:
    return max(states, key=_WORST.index, default="unknown")


def _hop(name: str, flows: Sequence[TableFlow]) -> PipelineHop:
    here = [(flow.table, hop) for flow in flows for hop in flow.hops if hop.hop == name]
    behind = [f.lag_offsets for f in flows if f.lag_offsets is not None]
    return PipelineHop(
        name,
        _worst(hop.state for _, hop in here),
        sum(behind) if name == "raw" and behind else None,
        max((hop.waiting_s or 0.0 for _, hop in here), default=0.0),
        tuple(table for table, hop in here if hop.state in ("stalled", "stopped")),
    )


def _lag(flows: Sequence[TableFlow]) -> tuple[LagSample, ...]:
    sums: dict[float, tuple[int, float]] = {}
    for flow in flows:
        for sample in flow.lag:
            rows, seconds = sums.get(sample.at, (0, 0.0))
            sums[sample.at] = rows + sample.offsets, max(seconds, sample.seconds)
    return tuple(LagSample(at, *sums[at]) for at in sorted(sums))
