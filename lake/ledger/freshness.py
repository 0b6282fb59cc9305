"""How far each table has come at each hop, as of the newest run that brought something there."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from lake.lags import Histogram
from lake.ledger.core import LedgerCore
from lake.records import OffsetRange

LAG_RUNS = 400
"""The newest runs whose rows are counted; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class HopState:
    """The newest of a table that has arrived at a hop; moments in seconds of the epoch.

    Attributes:
        topic: The table's topic.
        hop: One of `HOPS`.
        commit: The newest commit of the ledger that is there.
        source_at: When the source committed the newest row; None: it does not say.
        kafka_at: When the newest row was produced.
        reached_at: When it arrived.
    """

    topic: str
    hop: str
    commit: int
    source_at: float | None
    kafka_at: float | None
    reached_at: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What a run brought.

    Attributes:
        lags: Topic and hop to a histogram of seconds since the source's commit.
        hops: The newest of each table at each hop.
    """

    lags: Mapping[tuple[str, str], Histogram] = field(default_factory=dict)
    hops: tuple[HopState, ...] = ()


class FreshnessReader:
    """Answers how far tables have come.

    Args:
        core: The connection.
    """

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def all(self) -> list[HopState]:
        """What is known of all tables."""
        found = self._core.db.execute(
            "SELECT topic, hop, commit_no, source_at, kafka_at, reached_at FROM freshness"
            " ORDER BY topic, hop"
        )
        return [HopState(*row) for row in found]

    def lags(self) -> dict[tuple[str, str], dict[int, int]]:
        """Topic and hop to a histogram of seconds since the source's commit, of the newest runs."""
        found: dict[tuple[str, str], dict[int, int]] = {}
        for topic, hop, bucket, rows in self._core.db.execute(
            "SELECT topic, hop, bucket, sum(rows) FROM lags GROUP BY topic, hop, bucket"
        ):
            found.setdefault((topic, hop), {})[bucket] = rows
        return found

    def waiting_since(self, topic: str, after: int) -> float | None:
        """When the first records after a commit were committed; None: there are none."""
        row = self._core.db.execute(
            "SELECT committed_at FROM commits JOIN lake_tables USING (topic, generation)"
            " WHERE topic = ? AND commit_no > ? AND records > 0 ORDER BY commit_no LIMIT 1",
            (topic, after),
        ).fetchone()
        return None if row is None else float(row[0])

    def commit_moments(
        self, topic: str, after: int, up_to: int, most_rows: int
    ) -> list[tuple[OffsetRange, float]]:
        """The newest ranges of some commits with the moment of their commit.

        Args:
            topic: The table.
            after: The commit after which they came.
            up_to: The last one.
            most_rows: About so many rows, the newest ones; the others are left out.
        """
        found: list[tuple[OffsetRange, float]] = []
        rows = 0
        for *span, moment in self._core.db.execute(
            "SELECT r.topic_id, r.partition, r.first, r.last, r.rows, k.committed_at"
            " FROM commits k JOIN lake_tables t USING (topic, generation)"
            " JOIN ranges r USING (commit_no) WHERE k.topic = ? AND k.commit_no > ?"
            " AND k.commit_no <= ? AND r.rows > 0 ORDER BY k.commit_no DESC",
            (topic, after, up_to),
        ):
            found.append((OffsetRange(*span), moment))
            rows += span[4]
            if rows >= most_rows:
                break
        return found


def keep_arrivals(db: sqlite3.Connection, run: int, arrivals: Arrivals) -> None:
    """Take note of what a run brought; within a transaction. A row that came late is not newer."""
    db.executemany(
        "INSERT INTO lags VALUES (?, ?, ?, ?, ?)",
        [
            (run, topic, hop, bucket, rows)
            for (topic, hop), histogram in arrivals.lags.items()
            for bucket, rows in histogram.items()
        ],
    )
    db.execute("DELETE FROM lags WHERE run <= ?", (run - LAG_RUNS,))
    db.executemany(
        "INSERT INTO freshness VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " commit_no = max(commit_no, excluded.commit_no), reached_at = excluded.reached_at,"
        " source_at = max(coalesce(source_at, excluded.source_at),"
        "  coalesce(excluded.source_at, source_at)),"
        " kafka_at = max(coalesce(kafka_at, excluded.kafka_at),"
        "  coalesce(excluded.kafka_at, kafka_at))",
        [(h.topic, h.hop, h.commit, h.source_at, h.kafka_at, h.reached_at) for h in arrivals.hops],
    )
