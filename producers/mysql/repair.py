"""Deletes of rows that MySQL does not have and the lake does: no change event was ever written.

Records in the connector's shape, in one Kafka transaction. Each goes to the partition in which the
lake has the row, and so comes after all versions of its key: live, in a replay and in a rebuild.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
from confluent_kafka import KafkaException, Producer

from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.storage.canonical import Form, SourceColumn, SourceTable
from producers.mysql.table_reader import Position
from producers.mysql.tables import MysqlTable

SECONDS = 30.0
HEADER = "ducklake.repair"
"""A header of each record: when the repair was, in milliseconds of the epoch."""


@dataclass(frozen=True, slots=True)
class SurplusRow:
    """A row that only the lake has.

    Attributes:
        key: Canonical forms of the columns of its key.
        partition: Of the topic, where its versions are.
    """

    key: tuple[str | None, ...]
    partition: int


class RepairWriter:
    """Writes deletes into the topics of one source.

    Args:
        endpoints: Where Kafka is.
        source: The source.
    """

    def __init__(self, endpoints: Endpoints, source: str) -> None:
        self._source = source
        self._producer = kafka_client(
            Producer,
            endpoints,
            transactional_id=f"ducklake.repair.{source}",
            transaction_timeout_ms=int(SECONDS * 1000),
            compression_type="lz4",
        )
        self._named(lambda: self._producer.init_transactions(SECONDS))

    def delete(
        self,
        table: SourceTable,
        named: MysqlTable,
        rows: Sequence[SurplusRow],
        position: Position,
    ) -> None:
        """Write a delete for each row, all or none.

        Args:
            table: The table.
            named: Its names.
            rows: What the lake has and MySQL had not at the position.
            position: Of the binlog: a record says that it stands there.

        Raises:
            ServiceUnreachable: Kafka did not take them; none is visible.
        """
        now = int(time.time() * 1000)
        self._named(self._producer.begin_transaction)
        try:
            for row in rows:
                values = zip(table.key, row.key, strict=True)
                before = {column.name: _json(column, value) for column, value in values}
                self._producer.produce(
                    f"{self._source}.{named.name}",
                    key=orjson.dumps(before),
                    value=orjson.dumps(self._event(named, before, position, now)),
                    partition=row.partition,
                    headers=[(HEADER, str(now).encode())],
                )
                self._producer.poll(0)
            self._named(lambda: self._producer.commit_transaction(SECONDS))
        except (KafkaException, BufferError, ServiceUnreachable) as error:
            with suppress(KafkaException):  # else the broker ends it after its timeout
                self._producer.abort_transaction(SECONDS)
            if isinstance(error, ServiceUnreachable):
                raise
            raise _unreachable(error) from None

    def _event(
        self, named: MysqlTable, before: dict[str, Any], position: Position, now: int
    ) -> dict[str, Any]:
        source = {
            "version": "ducklake-repair",
            "connector": "mysql",
            "name": self._source,
            "ts_ms": now,
            "snapshot": "false",
            "db": named.database,
            "table": named.table,
            "server_id": 0,
            "gtid": None,
            "file": position.file,
            "pos": position.position,
            "row": 0,
            "thread": None,
            "query": None,
        }
        return {"before": before, "after": None, "source": source, "op": "d", "ts_ms": now}

    @staticmethod
    def _named(step: Callable[[], object]) -> None:
        try:
            step()
        except KafkaException as error:
            raise _unreachable(error) from None


def _unreachable(error: Exception) -> ServiceUnreachable:
    said = error.args[0].str() if isinstance(error, KafkaException) else "its queue is full"
    return ServiceUnreachable(
        f"Kafka did not take the deletes of a repair: {said}.",
        "None of them is visible; repair the table again.",
    )


def _json(column: SourceColumn, value: str | None) -> Any:
    """A canonical value as it stands in a record of the connector."""
    if value is None:
        return None
    if column.form is Form.BYTES:
        return f"X'{value}'"
    if column.form is Form.BIT:
        return value == "1"
    if column.form is Form.NUMBER and not column.scale and column.data_type != "decimal":
        return int(value)
    return value
