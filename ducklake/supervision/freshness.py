"""How fresh each table is at each hop: how long rows take, and whether something waits or stops.

A hop that has all that the hop before it has is current, however old that is: nothing new came. One
where something new has waited for long is stalled.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from batcher.lineage import read_lineage
from batcher.waiting_rows import waiting_rows
from ducklake.supervision.condition import Condition, Problem
from ducklake.supervision.kafka_ends import STALLED_SECONDS, TopicEnds
from lake.config import Config, TableRef
from lake.errors import DuckLakeError
from lake.lags import HOPS, Histogram, quantile
from lake.ledger import LedgerReader
from lake.ledger.entries import Run
from lake.ledger.freshness import HopState
from lake.ledger.migrations import is_older
from lake.storage.paths import LakePaths

CURRENT, ARRIVING, STALLED, STOPPED, UNKNOWN = (
    "current",
    "arriving",
    "stalled",
    "stopped",
    "unknown",
)
IDLE = "idle"
STATES = (IDLE, ARRIVING, STALLED, STOPPED, UNKNOWN)
Lags = Mapping[tuple[str, str], Histogram]
_known_lags: dict[Path, tuple[tuple[int, float], Lags]] = {}
_ROLES = {"topic": "produce", "raw": "consume"}


@dataclass(frozen=True, slots=True)
class HopFreshness:
    """A table at a hop.

    Attributes:
        state: `current`, `arriving`, `stalled`, `stopped` (whoever brings it does not run, and
            something waits), `unknown` (Kafka does not answer).
        p50_s: Seconds from the source's commit within which half of the rows were here.
        p95_s: The same of 95 %.
        now_s: For how many seconds something has waited to come here; 0: everything is here.
        source_at: When the source committed the newest row here, in seconds of the epoch.
        kafka_at: When that row was produced.
        reached_at: When it came here.
        reason: What stands in the way, where that is known.
        is_held_back: Whether a model that reads the table is held back: `held_back` tells that.
    """

    state: str
    p50_s: float | None = None
    p95_s: float | None = None
    now_s: float | None = 0.0
    source_at: float | None = None
    kafka_at: float | None = None
    reached_at: float | None = None
    reason: str = ""
    is_held_back: bool = False


@dataclass(frozen=True, slots=True)
class TableFreshness:
    """A table at all hops, in their order.

    Attributes:
        table: Its topic.
        hops: By name; `state` is `idle` where every hop is current, else the worst of their states.
    """

    table: str
    hops: Mapping[str, HopFreshness]

    @property
    def state(self) -> str:
        """In one word."""
        found = {hop.state for hop in self.hops.values()}
        for state in (STALLED, STOPPED, UNKNOWN, ARRIVING):
            if state in found:
                return state
        return IDLE

    def dump(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {"state": self.state, "hops": {hop: asdict(one) for hop, one in self.hops.items()}}

    def problem(self) -> Problem | None:
        """What should arrive and does not; None where nothing of that kind is known.

        What a model holds back is told of that model.
        """
        for hop in HOPS[1:]:
            found = self.hops[hop]
            if found.state == STALLED and not found.is_held_back:
                return Problem(
                    f"table {self.table}",
                    STALLED,
                    time.time() - (found.now_s or 0.0),
                    f"New rows have waited for {found.now_s or 0:.0f} s, and are not in {hop}."
                    + (f" {found.reason}" if found.reason else ""),
                    f"The log of `{_ROLES.get(hop, 'batch')}` says why; `ducklake report` shows"
                    " what is held back.",
                )
        return None


def look_at_freshness(
    config: Config, condition: Condition, ends: Mapping[str, TopicEnds] | None
) -> tuple[TableFreshness, ...]:
    """Ask the ledger how far each table is; nothing where there is no ledger yet.

    Args:
        config: The configuration.
        condition: What runs, and what of it is not well.
        ends: Where the topics end; None: Kafka does not answer, and raw is `unknown`.
    """
    paths = LakePaths(config.data_dir)
    if not can_be_read(paths):
        return ()
    try:
        with LedgerReader(paths) as ledger:
            view = _View(config, ledger, condition, ends)
            return tuple(view.table(ref) for ref, _ in config.tables())
    except DuckLakeError:
        return ()  # replaced at this moment; `verify` and the roles say what is wrong with it


def with_freshness(condition: Condition, tables: Sequence[TableFreshness]) -> Condition:
    """The condition, with what stalls among its problems."""
    troubled = {problem.subject for problem in condition.problems}
    stalled = [problem for table in tables if (problem := table.problem())]
    more = tuple(problem for problem in stalled if problem.subject not in troubled)
    return replace(condition, problems=(*condition.problems, *more))


def can_be_read(paths: LakePaths) -> bool:
    """Whether there is a ledger of this release: to look is no reason to migrate one."""
    if not paths.ledger.exists():
        return False
    with closing(sqlite3.connect(f"file:{paths.ledger}?mode=ro", uri=True)) as db:
        try:
            return not is_older(db)
        except sqlite3.Error:
            return False


def _lags(ledger: LedgerReader, newest: Run | None) -> Lags:
    """What runs have measured: added up once for each run, whoever looks and how often."""
    if newest is None:
        return {}
    known = _known_lags.get(ledger.paths.root)
    at = (newest.number, newest.started_at)
    if known is None or known[0] != at:
        known = (at, ledger.freshness.lags())
        _known_lags[ledger.paths.root] = known
    return known[1]


class _View:
    """One look at all tables."""

    def __init__(
        self,
        config: Config,
        ledger: LedgerReader,
        condition: Condition,
        ends: Mapping[str, TopicEnds] | None,
    ) -> None:
        self._now = time.time()
        self._ledger = ledger
        self._ends = ends
        self._interval = config.settings.batch.interval_seconds
        self._stated = {(state.topic, state.hop): state for state in ledger.freshness.all()}
        self._roles = {role.name.partition("-")[0] for role in condition.roles if role.pid}
        self._problems = {problem.subject: problem for problem in condition.problems}
        readers = {reader.name: reader.commit for reader in ledger.readers.all()}
        newest = ledger.runs.last()
        self._lags = _lags(ledger, newest)
        last = newest.last_commit if newest else 0
        self._passed = {"staging": last, "consume": last, "postgres": readers.get("batch", 0)}
        self._patience = STALLED_SECONDS + self._interval + 3 * (newest.seconds if newest else 0)
        held = newest.summary.held_back if newest else {}
        not_exported = newest.summary.not_exported if newest else {}
        lineage = read_lineage(ledger.paths)
        self._held_back = waiting_rows(lineage, held, {})
        self._not_exported = waiting_rows(lineage, {}, not_exported)
        self._export_error = newest.summary.export_error if newest else None
        self._relation = config.relation

    def table(self, ref: TableRef) -> TableFreshness:
        """One table."""
        hops = {"topic": self._topic(ref), "raw": self._raw(ref)}
        for hop, passed in self._passed.items():
            hops[hop] = self._behind_raw(ref, hop, passed)
        return TableFreshness(ref.topic, {hop: self._known(ref, hop, hops[hop]) for hop in HOPS})

    def _known(self, ref: TableRef, hop: str, found: HopFreshness) -> HopFreshness:
        """With what runs have measured."""
        histogram = self._lags.get((ref.topic, hop), {})
        state: HopState | None = self._stated.get((ref.topic, hop))
        return replace(
            found,
            p50_s=quantile(histogram, 0.5),
            p95_s=quantile(histogram, 0.95),
            source_at=state.source_at if state else None,
            kafka_at=state.kafka_at if state else None,
            reached_at=state.reached_at if state else None,
        )

    def _topic(self, ref: TableRef) -> HopFreshness:
        """Whether the source is read: what it has that is new only its producer knows."""
        for subject in (f"table {ref.topic}", f"source {ref.source}"):
            problem = self._problems.get(subject)
            if problem is not None:
                waited = self._now - problem.since
                return HopFreshness(STALLED, now_s=waited, reason=problem.reason)
        return HopFreshness(CURRENT)

    def _raw(self, ref: TableRef) -> HopFreshness:
        if self._ends is None:
            return HopFreshness(UNKNOWN, now_s=None, reason="Kafka does not answer.")
        ends, state = self._ends.get(ref.topic), self._ledger.tables.get(ref.topic)
        positions = state.positions if state else {}
        if ends is None or not ends.beyond(positions):
            return HopFreshness(CURRENT)
        waited = float(STALLED_SECONDS) if ends.waits_for_long(positions) else 0.0
        return self._waiting("raw", waited, STALLED_SECONDS)

    def _behind_raw(self, ref: TableRef, hop: str, passed: int) -> HopFreshness:
        relation = f"raw.{self._relation(ref)}"
        held = self._held_back.get(relation, {}).get(hop)
        refused = self._not_exported.get(relation, {}).get(hop)
        if hop == "postgres" and refused is None:
            refused = self._export_error
        if held is not None or refused is not None:
            # The last cycle has not brought them here.
            state = self._stated.get((ref.topic, hop))
            passed = min(passed, state.commit) if state is not None else 0
        since = self._ledger.freshness.waiting_since(ref.topic, passed)
        if since is None:
            return HopFreshness(CURRENT)
        patience = 0.0 if held is not None else self._patience
        found = self._waiting(hop, max(0.0, self._now - since), patience)
        return replace(found, reason=held or refused or "", is_held_back=held is not None)

    def _waiting(self, hop: str, waited: float, patience: float) -> HopFreshness:
        if _ROLES.get(hop, "batch") not in self._roles:
            return HopFreshness(STOPPED, now_s=waited)
        return HopFreshness(STALLED if waited >= patience else ARRIVING, now_s=waited)
