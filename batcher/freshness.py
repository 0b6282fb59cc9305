"""How long what a cycle brought took from its source to each place, and how new it is there.

Only the new rows' moments are read. The run history keeps counts in buckets, so that runs can be
added up.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from contextlib import closing

import duckdb
import pyarrow as pa
import structlog

from batcher.catalog import opened_warehouse
from lake.config import Config, TableRef
from lake.errors import CommitsJoined
from lake.lags import bucket_sql
from lake.ledger import LedgerReader
from lake.ledger.freshness import Arrivals, HopState
from lake.records import OffsetRange
from lake.storage.sql import rows_query

log = structlog.get_logger()
RAW = "raw"
MOST_ROWS = 1_000_000
"""Of a table and a run; of a rebuild, the newest rows speak for all of them."""
_COLUMNS = [
    ("_source_ts", "TIMESTAMP WITH TIME ZONE"),
    ("_kafka_ts", "TIMESTAMP WITH TIME ZONE"),
    ("_partition", "INTEGER"),
    ("_offset", "BIGINT"),
]


class FreshnessMeter:
    """Measures the runs of one lake.

    Args:
        config: The configuration.
        ledger: Says where the new rows are; pinned.
    """

    def __init__(self, config: Config, ledger: LedgerReader) -> None:
        self._config = config
        self._ledger = ledger

    def measure(
        self,
        commit: int,
        ends: Mapping[str, float],
        waiting: Mapping[str, Container[str]] | None = None,
    ) -> Arrivals:
        """Measure what has arrived since the last time at each hop.

        Args:
            commit: Up to which the hops have everything now.
            ends: By hop, when it had it; hops that the run did not reach are left out.
            waiting: Raw relation to the hops that its new rows have not reached.

        Returns:
            What could be measured: a file that cannot be read costs no cycle.
        """
        lags: dict[tuple[str, str], dict[int, int]] = {}
        hops: list[HopState] = []
        with closing(duckdb.connect(config={"threads": 1})) as db:
            db.execute("SET TimeZone = 'UTC'")
            known = {(s.topic, s.hop): s.commit for s in self._ledger.freshness.all()}
            for ref, _ in self._config.tables():
                behind = (waiting or {}).get(f"raw.{self._config.relation(ref)}", ())
                hops_here = [RAW, *(hop for hop in ends if hop not in behind)]
                after = {hop: known.get((ref.topic, hop), 0) for hop in hops_here}
                for start in sorted(set(after.values()), reverse=True):
                    mine = {hop: ends.get(hop, 0.0) for hop in hops_here if after[hop] == start}
                    try:
                        hops += self._table(db, ref, (start, commit), mine, lags)
                    except (CommitsJoined, duckdb.Error) as error:
                        log.warning(
                            "freshness_not_measured",
                            message="The age of a table's new rows could not be measured.",
                            table=ref.topic,
                            reason=str(error),
                        )
        return Arrivals(lags, tuple(hops))

    def _table(
        self,
        db: duckdb.DuckDBPyConnection,
        ref: TableRef,
        commits: tuple[int, int],
        ends: Mapping[str, float],
        lags: dict[tuple[str, str], dict[int, int]],
    ) -> list[HopState]:
        """Count one table's new rows, and give how far it has come."""
        moments = self._ledger.freshness.commit_moments(ref.topic, *commits, MOST_ROWS)
        if not moments:
            return []
        wanted = {span for span, _ in moments}
        parts = [
            rows_query(_COLUMNS, [new.path], list(new.ranges))
            for new in self._ledger.files.new_rows(ref.topic, *commits)
            if any(_share_offsets(span, own) for span in wanted for own in new.ranges)
        ]
        if not parts:
            return []
        db.register("spans", _as_table(moments))
        db.execute(
            "CREATE OR REPLACE TEMP TABLE arrived AS SELECT epoch(_source_ts) AS s,"
            f" epoch(_kafka_ts) AS k, c.committed FROM ({' UNION ALL BY NAME '.join(parts)}) r"
            " ASOF JOIN spans c ON r._partition = c.p AND r._offset >= c.first"
            " WHERE r._offset <= c.last"
        )
        db.unregister("spans")
        places = {hop: repr(end) for hop, end in ends.items()}
        if RAW in ends:  # whoever has reached raw has come through the topic
            places |= {"topic": "k", RAW: "committed"}
        for hop, moment in places.items():
            counted = db.execute(
                f"SELECT {bucket_sql(f'{moment} - s')}, count(*) FROM arrived WHERE s IS NOT NULL"
                " GROUP BY 1 ORDER BY 1"
            ).fetchall()
            lags[ref.topic, hop] = dict(counted)
        [(source_at, kafka_at, raw_at)] = db.execute(
            "SELECT max(s), max(k), max(committed) FROM arrived"
        ).fetchall()
        reached = {**ends, "topic": kafka_at, RAW: raw_at}
        return [
            HopState(ref.topic, hop, commits[1], source_at, kafka_at, reached[hop])
            for hop in places
            if reached[hop] is not None
        ]


def write_source_freshness(config: Config, ledger: LedgerReader) -> None:
    """Write for `dbt source freshness` when the newest row of each raw relation was produced.

    It asks this table (`loaded_at_query`), and not all rows that there are.
    """
    known = {s.topic: s.kafka_at for s in ledger.freshness.all() if s.hop == "raw"}
    rows = [(config.relation(ref), known.get(ref.topic)) for ref, _ in config.tables()]
    with opened_warehouse(ledger.paths.warehouse) as warehouse:
        warehouse.execute("CREATE SCHEMA IF NOT EXISTS ducklake")
        warehouse.execute("BEGIN")
        warehouse.execute(
            "CREATE OR REPLACE TABLE ducklake.source_freshness"
            " (relation VARCHAR, loaded_at TIMESTAMP WITH TIME ZONE)"
        )
        for relation, moment in rows:
            if moment is not None:
                warehouse.execute(
                    "INSERT INTO ducklake.source_freshness VALUES (?, to_timestamp(?))",
                    [relation, moment],
                )
        warehouse.execute("COMMIT")


def _share_offsets(one: OffsetRange, other: OffsetRange) -> bool:
    return one.partition == other.partition and one.first <= other.last and other.first <= one.last


def _as_table(moments: list[tuple[OffsetRange, float]]) -> pa.Table:
    spans = [span for span, _ in moments]
    return pa.table(
        {
            "p": pa.array([s.partition for s in spans], pa.int32()),
            "first": pa.array([s.first for s in spans], pa.int64()),
            "last": pa.array([s.last for s in spans], pa.int64()),
            "committed": pa.array([moment for _, moment in moments], pa.float64()),
        }
    )
