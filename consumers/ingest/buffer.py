"""Records of one table between Kafka and a flush: hands out rows and positions together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from consumers.ingest.planning import BufferSize
from lake.ledger import TableState
from lake.records import OffsetRange


class TableBuffer:
    """What was read of a table since its last commit; refuses offsets that are already committed.

    Args:
        state: The table as the ledger has it now.
        firsts: Where reading began in partitions that the ledger has never seen.
    """

    def __init__(self, state: TableState, firsts: Mapping[int, int] | None = None) -> None:
        self.state = state
        self.firsts = dict(firsts or {})
        self._runs: dict[int, list[Message]] = {}
        self._rows = 0
        self._bytes = 0
        self._oldest: float | None = None
        self._next: dict[int, int] = {**self.firsts, **state.positions}
        self._moved_at: float | None = None

    def start_at(self, partition: int, offset: int) -> None:
        """Remember from where a partition is read that the ledger has never seen."""
        if partition not in self._next:
            self._next[partition] = self.firsts[partition] = offset

    def position(self, partition: int) -> int | None:
        """The next offset that this buffer takes."""
        return self._next.get(partition)

    def add(self, messages: Sequence[Message], now: float) -> int:
        """Take records of this table, in the order in which they came; gives their bytes.

        Those whose offset is behind the position are dropped: a seek alone is not enough.
        """
        before = self._bytes
        for partition, group in groupby(messages, Message.partition):
            run = list(group)
            position = self._next.get(partition, 0)
            if run[0].offset() < position:
                run = [message for message in run if message.offset() >= position]
                if not run:
                    continue
            self._runs.setdefault(partition, []).extend(run)
            self._next[partition] = run[-1].offset() + 1
            self._rows += len(run)
            self._bytes += sum(map(len, run))
        if self._rows and self._oldest is None:
            self._oldest = now
        return self._bytes - before

    def messages(self) -> list[Message]:
        """All records, ordered by partition and offset."""
        return [message for partition in sorted(self._runs) for message in self._runs[partition]]

    def end_of_partition(self, partition: int, offset: int, now: float) -> None:
        """Move past markers and aborted records at the end of a partition."""
        if offset > self._next.get(partition, -1):
            self._next[partition] = offset
            self._moved_at = now

    def size(self, now: float) -> BufferSize:
        """Rows, bytes and age at a moment (seconds)."""
        return BufferSize(
            self._rows, self._bytes, 0.0 if self._oldest is None else now - self._oldest
        )

    def idle_move(self, now: float) -> float:
        """For how many seconds a position has moved with no record to flush; 0 where none has."""
        if self._rows or self._moved_at is None:
            return 0.0
        return now - self._moved_at

    def starts(self) -> Mapping[int, int | None]:
        """The ledger's position of each partition that this buffer moves."""
        committed = self.state.positions
        return {p: committed.get(p) for p, n in self._next.items() if n != committed.get(p)}

    def ranges(self, rows: pa.Table | None) -> Sequence[OffsetRange]:
        """One range for each partition that moved, with the number of its decoded rows."""
        counts: dict[int, int] = {}
        if rows is not None:
            counted = pc.value_counts(rows.column("_partition")).to_pylist()
            counts = {entry["values"]: entry["counts"] for entry in counted}
        ranges = []
        for partition, start in self.starts().items():
            first = self.firsts[partition] if start is None else start
            last = self._next[partition] - 1
            if last >= first:
                found = counts.get(partition, 0)
                ranges.append(OffsetRange(self.state.topic_id, partition, first, last, found))
        return ranges
