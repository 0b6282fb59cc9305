"""What every step of a replay works with."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from consumers.ingest.decoding import Decoder
from consumers.replay.offset_ranges import Bounds
from consumers.replay.range_reader import KafkaReader
from lake.config import Table, TableRef
from lake.ledger import Ledger, LedgerReader, TableState
from lake.opening import ReadableLake, WritableLake
from lake.records import Kind, OffsetRange
from lake.storage.session import Session
from lake.storage.sql import rows_query


@dataclass(frozen=True, slots=True)
class ReplayScope:
    """What is read again.

    Attributes:
        ref: The table.
        table: Its configuration: declared types.
        bounds: Which of its offsets.
    """

    ref: TableRef
    table: Table
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class ReplayContext:
    """What is open during a replay of one table.

    Attributes:
        ref: The table.
        kind: What its records are.
        lake: The lake; one that is only read changes nothing.
        kafka: Reads the topic.
        decoder: Decodes its records.
        db: Where rows are compared.
    """

    ref: TableRef
    kind: Kind
    lake: ReadableLake
    kafka: KafkaReader
    decoder: Decoder
    db: duckdb.DuckDBPyConnection

    @property
    def ledger(self) -> LedgerReader:
        """Answers."""
        return self.lake.ledger

    @property
    def session(self) -> Session:
        """This process's."""
        return self.lake.session

    @property
    def writing(self) -> Ledger | None:
        """The ledger with the parts that write; None: nothing may change."""
        return self.lake.ledger if isinstance(self.lake, WritableLake) else None

    def rows_held(self, state: TableState, offset_range: OffsetRange) -> str:
        """A query of the rows that the lake has of a range; lost files have none."""
        files = [
            f.path
            for f in self.ledger.files.within(state.topic, state.generation, offset_range)
            if f.path.exists()
        ]
        query = rows_query(state.schema.relation(self.kind), files, [offset_range])
        return f"SELECT * FROM ({query}) WHERE _topic_epoch = {state.epoch}"

    def offsets_held(self, state: TableState, offset_range: OffsetRange) -> list[int]:
        """The offsets of a range that the lake has rows of, ascending."""
        query = self.rows_held(state, offset_range)
        found = self.db.execute(f"SELECT _offset FROM ({query}) ORDER BY 1")
        return [offset for (offset,) in found.fetchall()]
