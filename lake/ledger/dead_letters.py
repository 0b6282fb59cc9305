"""Records that could not be decoded: which ones, why, and what has become of them.

A dead letter is `dead` until somebody acts on it. One of a table whose record has been decoded
after all is a row, and no dead letter any more; a reject that was `redriven`, or any that was
`dropped`, stays known, so that its offset is never taken for a gap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lake.errors import CommitConflict
from lake.failpoints import failpoint
from lake.ledger.core import LedgerCore, now
from lake.ledger.payloads import MAX_VALUE_BYTES, Payload, PayloadReader, Payloads
from lake.ledger.statements import add_commit
from lake.records import REJECTS_TOPIC, OffsetRange

_COLUMNS = (
    "d.topic, d.topic_id, d.partition, d.offset, d.kafka_ts, d.source_table, d.reason,"
    " d.value_bytes, d.state"
)


@dataclass(frozen=True, slots=True)
class DeadLetterEntry:
    """A dead letter as the ledger lists it, without its bytes.

    Attributes:
        topic: From which it was read.
        topic_id: Kafka's id of that topic.
        kafka_ts: In seconds since the epoch.
        source_table: The topic for which it was meant.
        reason: Why it could not be decoded.
        value_bytes: Size of its value, which may be larger than what is kept of it.
        state: `dead`, `dropped` or `redriven`.
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    kafka_ts: float
    source_table: str
    reason: str
    value_bytes: int
    state: str = "dead"


@dataclass(frozen=True, slots=True)
class DeadLetterUsage:
    """What a table's dead letters take.

    Attributes:
        rows: How many are kept.
        bytes: Of what is kept of them.
        recent: How many came since some moment, whatever has become of them.
    """

    rows: int = 0
    bytes: int = 0
    recent: int = 0


class DeadLetterReader:
    """Answers which records are dead letters.

    Args:
        core: The connection.
        payloads: Where their bytes are; closed by whoever opened it.
    """

    def __init__(self, core: LedgerCore, payloads: PayloadReader) -> None:
        self._core = core
        self._payloads = payloads

    def up_to(self, commit: int, all_states: bool = False) -> list[DeadLetterEntry]:
        """Dead letters committed up to a commit, in the order of commits, partitions, offsets.

        Args:
            commit: The commit.
            all_states: Also those that were dropped or redriven.
        """
        found = self._core.db.execute(
            f"SELECT {_COLUMNS} {_UP_TO} AND (:all OR state = 'dead')"
            " ORDER BY commit_no, partition, offset",
            {"up_to": commit, "all": all_states},
        )
        return [DeadLetterEntry(*row) for row in found]

    def state_at(self, commit: int) -> str:
        """A text that differs whenever `up_to` gives something else than before."""
        [(count, dead, newest)] = self._core.db.execute(
            "SELECT count(*), coalesce(sum(state = 'dead'), 0), coalesce(max(commit_no), 0)"
            f" {_UP_TO}",
            {"up_to": commit},
        )
        return f"{self._core.identity()} {count} {dead} {newest}"

    def of_table(self, topic: str) -> list[DeadLetterEntry]:
        """Dead letters meant for a table, in the order of topics, partitions and offsets.

        Args:
            topic: Its topic: its own records are among them, and what its producer rejected.
        """
        found = self._core.db.execute(
            f"SELECT {_COLUMNS} FROM dead_letters d JOIN lake_tables USING (topic, generation)"
            " WHERE d.state = 'dead' AND source_table = ?"
            " ORDER BY d.topic, d.topic_id, partition, offset",
            (topic,),
        )
        return [DeadLetterEntry(*row) for row in found]

    def at(self, topic: str, partition: int, offset: int) -> list[DeadLetterEntry]:
        """The dead letter of a record; several where the topic was made anew."""
        found = self._core.db.execute(
            f"SELECT {_COLUMNS} FROM dead_letters d JOIN lake_tables USING (topic, generation)"
            " WHERE d.state = 'dead' AND topic = ? AND partition = ? AND offset = ?",
            (topic, partition, offset),
        )
        return [DeadLetterEntry(*row) for row in found]

    def counts(self) -> dict[str, int]:
        """Dead letters by the table for which they were meant."""
        return dict(
            self._core.db.execute(
                "SELECT source_table, sum(dead) FROM dead_letter_counts JOIN lake_tables"
                " USING (topic, generation) WHERE dead > 0 GROUP BY 1 ORDER BY 1"
            )
        )

    def dropped(self) -> dict[str, int]:
        """Dead letters that nobody keeps any more, by the table for which they were meant."""
        return dict(
            self._core.db.execute(
                "SELECT source_table, sum(dropped) FROM dead_letter_counts JOIN lake_tables"
                " USING (topic, generation) WHERE dropped > 0 GROUP BY 1 ORDER BY 1"
            )
        )

    def usage(self, topic: str, since: float) -> DeadLetterUsage:
        """What the dead letters meant for a table take.

        Args:
            topic: Its topic.
            since: The moment, in seconds since the epoch, from which on they are recent.
        """
        # Not what it has ever had: both cost the same on the first day and after years.
        [(rows, kept)] = self._core.db.execute(
            "SELECT coalesce(sum(c.dead), 0), coalesce(sum(c.dead_bytes), 0) FROM lake_tables"
            " JOIN dead_letter_counts c USING (topic, generation)"
            " WHERE topic IN (?, ?) AND source_table = ?",
            (topic, REJECTS_TOPIC, topic),
        )
        [(recent,)] = self._core.db.execute(
            "SELECT count(*) FROM lake_tables t JOIN dead_letters d INDEXED BY dead_letters_by_time"
            " ON d.topic = t.topic AND d.generation = t.generation"
            " WHERE t.topic IN (?, ?) AND d.source_table = ? AND d.kafka_ts >= ?",
            (topic, REJECTS_TOPIC, topic, since),
        )
        return DeadLetterUsage(rows, kept, recent)

    def rejected(self, topic: str) -> int:
        """How often a table's producer has rejected something, whatever has become of it."""
        [(count,)] = self._core.db.execute(
            "SELECT coalesce(sum(total), 0) FROM dead_letter_counts"
            " JOIN lake_tables USING (topic, generation) WHERE topic = ? AND source_table = ?",
            (REJECTS_TOPIC, topic),
        )
        return int(count)

    def count(self, topic: str) -> int:
        """Dead letters among the records of a topic."""
        [(count,)] = self._core.db.execute(
            "SELECT coalesce(sum(dead), 0) FROM dead_letter_counts"
            " JOIN lake_tables USING (topic, generation) WHERE topic = ?",
            (topic,),
        )
        return int(count)

    def offsets(self, topic: str, span: OffsetRange) -> list[int]:
        """Offsets within a range whose records are no rows, whatever has become of them."""
        found = self._core.db.execute(
            "SELECT offset FROM dead_letters JOIN lake_tables t USING (topic, generation)"
            " WHERE topic = ? AND dead_letters.topic_id = ? AND partition = ?"
            " AND offset BETWEEN ? AND ? ORDER BY offset",
            (topic, span.topic_id, span.partition, span.first, span.last),
        )
        return [offset for (offset,) in found]

    def payload(self, entry: DeadLetterEntry, most: int = MAX_VALUE_BYTES) -> Payload | None:
        """What is kept of a dead letter's record, or its first bytes; None: its bytes are lost."""
        return self._payloads.get(entry.topic_id, entry.partition, entry.offset, most)

    def payloads(
        self, entries: Sequence[DeadLetterEntry], most: int = MAX_VALUE_BYTES
    ) -> Iterator[Payload | None]:
        """The same for many, one after the other."""
        return (self.payload(entry, most) for entry in entries)

    def copy_to(self, path: Path) -> bool:
        """Write the bytes of all dead letters to a new file; False: there are none yet."""
        return self._payloads.copy_to(path)


# Of the generation that was current at a commit.
_UP_TO = (
    "FROM dead_letters d WHERE commit_no <= :up_to AND generation = ("
    "SELECT g.generation FROM generations g WHERE g.topic = d.topic AND g.state <> 'building'"
    " AND g.since_commit <= :up_to ORDER BY g.since_commit DESC LIMIT 1)"
)


class DeadLetters(DeadLetterReader):
    """Lets go of dead letters.

    Args:
        core: The connection.
        payloads: Where their bytes are.
    """

    def __init__(self, core: LedgerCore, payloads: Payloads) -> None:
        super().__init__(core, payloads)
        self.store = payloads

    def drop(self, entries: Sequence[DeadLetterEntry], session: str) -> int:
        """Count records as dead no longer: they are known as dropped.

        Returns:
            The number of the commit from which on they are gone.

        Raises:
            CommitConflict: One of them is no dead letter any more.
        """
        return self._settle(entries, session, "dropped")

    def redriven(self, entries: Sequence[DeadLetterEntry], session: str) -> int:
        """The same of rejects whose input was read again: they are known as redriven."""
        return self._settle(entries, session, "redriven")

    def _settle(self, entries: Sequence[DeadLetterEntry], session: str, state: str) -> int:
        with self._core.write() as db:
            number = 0
            for topic in dict.fromkeys(entry.topic for entry in entries):
                mine = [entry for entry in entries if entry.topic == topic]
                [(generation,)] = db.execute(
                    "SELECT generation FROM lake_tables WHERE topic = ?", (topic,)
                )
                key = (topic, int(generation))
                changed = db.executemany(
                    "UPDATE dead_letters SET state = ? WHERE topic = ? AND generation = ?"
                    " AND topic_id = ? AND partition = ? AND offset = ? AND state = 'dead'",
                    [(state, *key, e.topic_id, e.partition, e.offset) for e in mine],
                ).rowcount
                if changed != len(mine):
                    raise CommitConflict(
                        f"Dead letters of {topic} have changed in the meantime.",
                        "Run the same command again.",
                    )
                # Whoever looks for what is new by commit number must hear of it.
                number = add_commit(db, key, session, now(), len(mine))
            failpoint("settle.in_ledger")
        self.store.clear([(e.topic_id, e.partition, e.offset) for e in entries])
        return number
