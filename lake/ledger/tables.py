"""The tables of the lake: their topic, schema, generation and positions."""

from __future__ import annotations

from collections.abc import Mapping

from lake.errors import LedgerError, PartitionsChanged, TopicRecreated
from lake.ledger.core import LedgerCore, now
from lake.ledger.entries import TableState
from lake.ledger.offsets import breaks_of
from lake.ledger.statements import positions_of
from lake.records import OffsetRange
from lake.storage.schema import Schema


class TableReader:
    """Answers what the ledger knows of tables."""

    def __init__(self, core: LedgerCore) -> None:
        self._core = core

    def get(self, topic: str) -> TableState | None:
        """The state of a table, or None where it was never seen."""
        db = self._core.db
        row = db.execute(
            "SELECT generation, topic_id, partitions, schema, schema_version, epoch"
            " FROM lake_tables WHERE topic = ?",
            (topic,),
        ).fetchone()
        if row is None:
            return None
        positions = positions_of(db, topic, row[0], row[1])
        return TableState(
            topic, row[0], row[1], row[2], Schema.load(row[3]), row[4], positions, row[5]
        )

    def topics(self) -> tuple[str, ...]:
        """All tables that the ledger knows."""
        found = self._core.db.execute("SELECT topic FROM lake_tables ORDER BY topic")
        return tuple(topic for (topic,) in found)

    def generation_at(self, topic: str, up_to: int) -> int | None:
        """Which generation of a table was current at a commit; None where there was none."""
        row = self._core.db.execute(
            "SELECT generation FROM generations WHERE topic = ? AND state <> 'building'"
            " AND since_commit <= ? ORDER BY since_commit DESC LIMIT 1",
            (topic, up_to),
        ).fetchone()
        return None if row is None else int(row[0])

    def schema_at(self, topic: str, up_to: int) -> Schema | None:
        """A table's schema as of a commit; it has all columns that its files then had."""
        state = self.get(topic)
        if state is None:
            return None
        generation = self.generation_at(topic, up_to)
        if generation in (None, state.generation):
            return state.schema
        [(text,)] = self._core.db.execute(
            "SELECT schema FROM generations WHERE topic = ? AND generation = ?",
            (topic, generation),
        )
        return Schema.load(text)

    def epochs(self, topic: str) -> dict[str, int]:
        """The epoch of each id that a table's topic has had."""
        return dict(
            self._core.db.execute("SELECT topic_id, epoch FROM epochs WHERE topic = ?", (topic,))
        )


class Tables(TableReader):
    """Registers tables, and goes on after a loss."""

    def open(self, topic: str, topic_id: str, partitions: int) -> TableState:
        """The state of a table, registered at first sight.

        Raises:
            TopicRecreated: The topic's id is another one than the ledger's.
            PartitionsChanged: The topic has another number of partitions.
        """
        state = self.get(topic) or self._registered(topic, topic_id, partitions)
        if state.topic_id != topic_id:
            raise TopicRecreated(
                f"Topic {topic} was deleted and made again since the lake last read it.",
                f"Its old rows are safe. `ducklake accept-loss {topic}` continues with it.",
            )
        if state.partitions != partitions:
            raise PartitionsChanged(
                f"Topic {topic} had {state.partitions} partitions and now has {partitions}:"
                " the order of each key is no longer certain.",
                f"`ducklake accept-loss {topic}` continues anyway; recreating the topic is safer.",
            )
        return state

    def _registered(self, topic: str, topic_id: str, partitions: int) -> TableState:
        with self._core.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO lake_tables (topic, topic_id, partitions, schema)"
                " VALUES (?, ?, ?, '[]')",
                (topic, topic_id, partitions),
            )
            db.execute("INSERT OR IGNORE INTO epochs VALUES (?, 0, ?)", (topic, topic_id))
            db.execute(
                "INSERT OR IGNORE INTO generations VALUES (?, 0, 'current', '', ?, 0, '[]', 0)",
                (topic, now()),
            )
        state = self.get(topic)
        if state is None:
            raise LedgerError(f"Table {topic} vanished from the ledger.", "Run it again.")
        return state

    def accept_loss(self, topic: str, topic_id: str, lows: Mapping[int, int]) -> list[OffsetRange]:
        """Go on after a loss: take the topic as it is now, and remember what is missing.

        Args:
            topic: The table.
            topic_id: The topic's present id.
            lows: The oldest offset that each partition still has.

        Returns:
            What is lost for good, one range a partition; `rows` is not known and 0.

        Raises:
            LedgerError: The ledger does not know the table.
        """
        state = self.get(topic)
        if state is None:
            raise LedgerError(f"The lake has no table {topic}.", "`ducklake report` lists them.")
        renewed = state.topic_id != topic_id
        positions = {} if renewed else state.positions
        moved = [
            OffsetRange(topic_id, partition, positions[partition], low - 1, 0)
            for partition, low in lows.items()
            if positions.get(partition, low) < low
        ]
        lost = [*self._unknown_below(topic, topic_id, {} if renewed else lows), *moved]
        key = (topic, state.generation, topic_id)
        with self._core.write() as db:
            db.execute(
                "UPDATE lake_tables SET topic_id = ?, partitions = ?, epoch = epoch + ?"
                " WHERE topic = ?",
                (topic_id, len(lows), int(renewed), topic),
            )
            if renewed:
                db.execute(
                    "INSERT INTO epochs VALUES (?, ?, ?)", (topic, state.epoch + 1, topic_id)
                )
            db.executemany(
                "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*key, r.partition, r.first, r.last, now()) for r in lost],
            )
            db.executemany(
                "UPDATE positions SET next_offset = ? WHERE topic = ? AND generation = ?"
                " AND topic_id = ? AND partition = ?",
                [(r.next_offset, *key, r.partition) for r in moved],
            )
        return lost

    def _unknown_below(
        self, topic: str, topic_id: str, lows: Mapping[int, int]
    ) -> list[OffsetRange]:
        """Gaps that no file fills and Kafka cannot fill: a ledger made anew has forgotten why."""
        return [
            OffsetRange(topic_id, gap.partition, gap.before, gap.first - 1, 0)
            for gap in breaks_of(self._core.db, topic)
            if gap.topic_id == topic_id and gap.before < gap.first <= lows.get(gap.partition, 0)
        ]
