"""Records that could not be decoded, as the ledger keeps them."""

from __future__ import annotations

from lake.ledger.core import LedgerCore
from lake.records import OffsetRange


class DeadLetterReader:
    """Answers which records are dead letters."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def up_to(self, commit: int) -> list[tuple[object, ...]]:
        """Dead letters committed up to a commit: the columns of raw.dead_letters."""
        return self._core.db.execute(
            "SELECT topic, partition, offset, kafka_ts, source_table, reason, key, value, headers"
            " FROM dead_letters d WHERE commit_no <= :up_to AND generation = (SELECT g.generation"
            " FROM generations g WHERE g.topic = d.topic AND g.state <> 'building'"
            " AND g.since_commit <= :up_to ORDER BY g.since_commit DESC LIMIT 1)"
            " ORDER BY commit_no, partition, offset",
            {"up_to": commit},
        ).fetchall()

    def count(self, topic: str) -> int:
        """Dead letters of a table."""
        count: int = self._core.db.execute(
            "SELECT count(*) FROM dead_letters JOIN lake_tables USING (topic, generation)"
            " WHERE topic = ?",
            (topic,),
        ).fetchone()[0]
        return count

    def offsets(self, topic: str, span: OffsetRange) -> list[int]:
        """Offsets within a range whose records are dead letters."""
        found = self._core.db.execute(
            "SELECT offset FROM dead_letters JOIN lake_tables t USING (topic, generation)"
            " WHERE topic = ? AND dead_letters.topic_id = ? AND partition = ?"
            " AND offset BETWEEN ? AND ? ORDER BY offset",
            (topic, span.topic_id, span.partition, span.first, span.last),
        )
        return [offset for (offset,) in found]
