"""Waits until the lake holds everything that a source had committed at some moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from confluent_kafka import Consumer, KafkaException, TopicPartition

from lake.config import Config, Endpoints, TableRef
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.kafka.topics import admin, identify
from lake.ledger import LedgerReader
from producers.mysql.cdc import BACKFILL_DELAY_SECONDS, MysqlCdcConnector
from producers.registry import connector

PATIENCE = 120.0
"""Seconds without any progress after which waiting ends."""
LOOK_SECONDS = 0.2
_KAFKA_SECONDS = 10.0


class CaughtUp:
    """Says when the lake has passed what a source had committed.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        ledger: Says where each table stands.
        wait: Sleeps; raises to stop.
        patience: Seconds without progress after which it gives up; `PATIENCE` by default.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        ledger: LedgerReader,
        wait: Callable[[float], object] = time.sleep,
        patience: float | None = None,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._ledger = ledger
        self._wait = wait
        self._patience = PATIENCE if patience is None else patience

    def wait_for(self, ref: TableRef) -> None:
        """Wait until the lake has everything of a table that its source has committed by now.

        Raises:
            ServiceUnreachable: The source's connector, or the consumer, does not get there.
        """
        with closing(connector(self._config, self._endpoints, ref.source)) as source:
            deadline = time.monotonic() + self._patience
            while not source.settled():
                if isinstance(source, MysqlCdcConnector):
                    # What a repair that was killed has requested, if nobody else sees to it.
                    source.backfills.advance(source.rest, BACKFILL_DELAY_SECONDS)
                if time.monotonic() > deadline:
                    raise ServiceUnreachable(
                        f"Source {ref.source}: the changes that MySQL has committed did not reach"
                        f" Kafka within {self._patience:.0f} s.",
                        "`ducklake status` says how the source is; it is compared once it runs.",
                    )
                self._wait(LOOK_SECONDS)
        ends = self._ends(ref.topic)
        deadline, before = time.monotonic() + self._patience, -1
        while (left := self._left(ref.topic, ends)) > 0:
            if left != before:
                deadline, before = time.monotonic() + self._patience, left
            if time.monotonic() > deadline:
                raise ServiceUnreachable(
                    f"{ref.topic}: the lake lacks {left:,} offsets that Kafka holds, and did not"
                    f" move for {self._patience:.0f} s.",
                    "Run `ducklake consume` (or `ducklake run`), and compare again.",
                )
            self._wait(LOOK_SECONDS)

    def _left(self, topic: str, ends: dict[int, int]) -> int:
        state = self._ledger.tables.get(topic)
        positions = state.positions if state else {}
        return sum(max(0, end - positions.get(number, 0)) for number, end in ends.items())

    def _ends(self, topic: str) -> dict[int, int]:
        found = identify(admin(self._endpoints), [topic]).get(topic)
        if found is None:
            return {}
        client = kafka_client(
            Consumer,
            self._endpoints,
            group_id="ducklake.reconciliation",
            isolation_level="read_committed",
        )
        try:
            marks = {
                n: client.get_watermark_offsets(TopicPartition(topic, n), _KAFKA_SECONDS)
                for n in range(found.partitions)
            }
        except KafkaException as error:
            raise ServiceUnreachable(f"Kafka: {error.args[0].str()}.", "Is it up?") from None
        finally:
            client.close()
        return {n: int(end) for n, (low, end) in marks.items() if end > low}
