"""What has happened lately, and what the lake takes: for people who look, never for decisions."""

from __future__ import annotations

from dataclasses import dataclass

from lake.ledger.core import LedgerCore


@dataclass(frozen=True, slots=True)
class RecentCommit:
    """A commit as the ledger lists it.

    Attributes:
        number: Of the commit; those that were joined have the number of the last one.
        at: When it was committed, in seconds of the epoch.
        records: Rows and dead letters in it.
    """

    number: int
    at: float
    records: int


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The live files of a table in one tier.

    Attributes:
        topic: The table's topic.
        tier: `hot` or `sealed`.
        files: How many.
        rows: In them.
        bytes: Their size.
    """

    topic: str
    tier: str
    files: int
    rows: int
    bytes: int


class ActivityReader:
    """Answers what has happened lately.

    Args:
        core: The connection.
    """

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def rows_by_minute(self, since: float) -> dict[str, dict[int, int]]:
        """Topic to records committed in each minute, by the minute's number since the epoch.

        Args:
            since: Seconds of the epoch; the cost follows what was committed after it.
        """
        found: dict[str, dict[int, int]] = {}
        for topic, at, records in self._core.db.execute(
            "SELECT topic, committed_at, records FROM commits ORDER BY commit_no DESC"
        ):
            if at < since:
                break
            minutes = found.setdefault(topic, {})
            minutes[int(at // 60)] = minutes.get(int(at // 60), 0) + records
        return found

    def commits(self, topic: str, limit: int) -> list[RecentCommit]:
        """The newest commits of a table's current generation, newest first."""
        found = self._core.db.execute(
            "SELECT commit_no, committed_at, records FROM commits"
            " JOIN lake_tables USING (topic, generation)"
            " WHERE topic = ? AND records > 0 ORDER BY commit_no DESC LIMIT ?",
            (topic, limit),
        )
        return [RecentCommit(*row) for row in found]

    def commit_of(
        self, topic: str, epoch: int, partition: int, offset: int
    ) -> tuple[int, float] | None:
        """The commit that brought a record into the current generation, and its moment.

        Of commits that were joined it is the last one. None: no commit has brought it.

        Args:
            topic: The table.
            epoch: Of the topic, as the row has it.
            partition: Of the topic.
            offset: Of the record.
        """
        found = self._core.db.execute(
            "SELECT k.commit_no, k.committed_at FROM ranges r"
            " JOIN lake_tables t USING (topic, generation)"
            " JOIN epochs e ON e.topic = r.topic AND e.topic_id = r.topic_id AND e.epoch = ?"
            " JOIN commits k USING (commit_no) WHERE r.topic = ? AND r.partition = ?"
            " AND r.first <= ? AND r.last >= ? ORDER BY r.first DESC LIMIT 1",
            (epoch, topic, partition, offset, offset),
        ).fetchone()
        return None if found is None else (int(found[0]), float(found[1]))

    def storage(self) -> list[StoredFiles]:
        """What each table takes in each tier, in the current generation."""
        found = self._core.db.execute(
            "SELECT topic, tier, count(*), sum(f.rows), sum(bytes) FROM files f"
            " JOIN lake_tables USING (topic, generation) WHERE obsolete_at IS NULL"
            " GROUP BY topic, tier ORDER BY topic, tier"
        )
        return [StoredFiles(*row) for row in found]
