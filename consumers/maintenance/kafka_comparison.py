"""The rows of a table in the lake against those that Kafka still holds, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import duckdb

from consumers.ingest.decoding import Decoded
from consumers.maintenance.difference import SHOWN, Difference
from consumers.replay.range_reader import KafkaReader
from consumers.replay.row_diff import RowDiff
from consumers.replay.tables import decoder_of
from lake.config import Config, Endpoints, Table, TableRef
from lake.kafka.topics import TopicIdentity, admin, identify
from lake.ledger import LedgerReader, TableState
from lake.records import OffsetRange
from lake.storage.sql import rows_query


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records of one partition as Kafka has them, and the offsets that they come from."""

    decoded: Decoded
    offset_range: OffsetRange


class KafkaComparison:
    """Decodes what Kafka holds again, and compares.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        ledger: Says where the lake's rows are.
        db: Where its queries run.

    Attributes:
        compared: Records compared so far.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        ledger: LedgerReader,
        db: duckdb.DuckDBPyConnection,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._ledger = ledger
        self._db = db
        self._topics: dict[str, TopicIdentity] = {}
        self.compared = 0
        with ExitStack() as opening:
            self._kafka = opening.enter_context(KafkaReader(endpoints))
            self._topics = identify(admin(endpoints), [ref.topic for ref, _ in config.tables()])
            self._opened = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def differences(self, ref: TableRef, table: Table, state: TableState) -> Iterator[Difference]:
        """Compare all records of a table below the lake's positions.

        Raises:
            ServiceUnreachable: Kafka stopped answering.
        """
        found = self._topics.get(ref.topic)
        if found is None or found.topic_id != state.topic_id:
            return  # the topic is another one by now: nothing to compare with
        with decoder_of(self._config, self._endpoints, ref, table) as decoder:
            for partition, position in state.positions.items():
                low = self._kafka.oldest(ref.topic, partition)
                for messages in self._kafka.read(ref.topic, partition, low, position):
                    decoded = decoder.decode(messages, state.schema, state.epoch)
                    self.compared += len(messages)
                    last, count = messages[-1].offset(), len(messages)
                    read = OffsetRange(state.topic_id, partition, low, last, count)
                    yield from self._compare(ref, state, _Batch(decoded, read))
                    low = last + 1

    def _compare(self, ref: TableRef, state: TableState, batch: _Batch) -> Iterator[Difference]:
        ledger, read, decoded = self._ledger, batch.offset_range, batch.decoded
        files = [f.path for f in ledger.files.within(ref.topic, state.generation, read)]
        # A column that the lake lacks counts as well: it would have values.
        columns = decoded.schema.relation(self._config.kind(ref))
        dead_letters = ledger.dead_letters.offsets(ref.topic, read)
        lake = rows_query(columns, files, [read])
        held = f"SELECT * FROM ({lake}) WHERE _topic_epoch = {state.epoch}"
        rows = RowDiff(self._db)
        rows.former = decoded.schema.former_types()
        rows.load(decoded.rows, columns, dead_letters, held, columns)
        unknown = sorted({d.offset for d in decoded.dead_letters} - set(dead_letters))
        for name, offsets, detail in (
            ("kafka-missing", rows.missing(), "in Kafka, neither in the lake nor a dead letter"),
            ("kafka-extra", rows.extra(), "in the lake, not in Kafka"),
            ("kafka-differs", rows.differing(), "the row has other values"),
            ("kafka-missing", unknown, "cannot be decoded, and is no dead letter"),
        ):
            for offset in offsets[:SHOWN]:
                where = f"partition {read.partition}, offset {offset}"
                yield Difference(ref.topic, name, where, detail)
