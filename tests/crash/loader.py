"""Produces what the lake has to hold, and remembers it: nothing else knows the truth."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

Kind = Literal["plain", "cdc"]
Ending = Literal["commit", "abort", "hang"]
DATABASE = "shop"
"""Of the tables whose types are announced, as Debezium names it in every record."""


def announce_types(bootstrap: Mapping[str, str], topic: str, tables: list[str]) -> None:
    """Write the source's own types where Debezium does: its topic of schema changes."""
    admin = AdminClient({**bootstrap, "log_level": 0})
    if topic not in admin.list_topics(timeout=30).topics:
        admin.create_topics([NewTopic(topic, 1, 1)], operation_timeout=30)[topic].result(30)
    types = {"id": "BIGINT", "text": "VARCHAR", "amount": "DECIMAL", "flag": "TINYINT"}
    columns = [
        {"name": n, "typeName": t, "length": 12 if t == "DECIMAL" else None, "scale": 2}
        for n, t in types.items()
    ]
    producer = Producer({**bootstrap, "log_level": 0})
    changes = [{"id": f'"{DATABASE}"."{t}"', "table": {"columns": columns}} for t in tables]
    producer.produce(topic, json.dumps({"tableChanges": changes}).encode(), DATABASE)
    assert producer.flush(30) == 0


@dataclass
class Truth:
    """Of one topic: what was produced and committed, by (partition, offset)."""

    rows: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    dead_letters: dict[tuple[int, int], bytes] = field(default_factory=dict)

    def place(self, partition: int, offset: int, row: dict[str, Any] | None, value: bytes) -> None:
        """Expect a record here: a row, or a dead letter with this value."""
        if row is None:
            self.dead_letters[partition, offset] = value
        else:
            self.rows[partition, offset] = row

    def ends(self) -> dict[int, int]:
        """The offset after the last remembered record of each partition."""
        ends: dict[int, int] = {}
        for partition, offset in (*self.rows, *self.dead_letters):
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        return ends

    def forget(self, partition: int, first: int, end: int) -> None:
        """Records that are gone from Kafka, and were not read, are not expected any more."""
        for held in (self.rows, self.dead_letters):
            for key in [k for k in held if k[0] == partition and first <= k[1] < end]:
                del held[key]


class Loader:
    """Writes to some topics, with and without transactions.

    Args:
        bootstrap: Where Kafka is, and how to log in: settings of any client.
        topics: Topic to kind.
        seed: Makes the records repeatable.
    """

    def __init__(self, bootstrap: Mapping[str, str], topics: dict[str, Kind], seed: int) -> None:
        self.truths = {topic: Truth() for topic in topics}
        self._kinds = dict(topics)
        self._random = random.Random(seed)
        self._next = 0
        self._bootstrap = bootstrap
        self._unplaced: list[tuple[str, dict[str, Any] | None, bytes]] = []
        quiet = {"log_level": 0, "linger.ms": 1}
        # Idempotent: a retry after a broker's death must not write a record twice, unremembered.
        self._plain = Producer({**bootstrap, "enable.idempotence": True, **quiet})
        self._name = f"crash-{secrets.token_hex(6)}"
        self._in_transactions = self.transactional(name=self._name)

    def transactional(self, timeout_ms: int = 60_000, name: str = "") -> Producer:
        """A producer of its own transactions; what one of the same name left open is aborted."""
        producer = Producer(
            {
                **self._bootstrap,
                "transactional.id": name or f"crash-{secrets.token_hex(6)}",
                "transaction.timeout.ms": timeout_ms,
                "log_level": 0,
                "linger.ms": 1,
            }
        )
        producer.init_transactions(30)
        return producer

    def add_topic(self, topic: str, kind: Kind) -> None:
        """Load one more topic from now on."""
        self.truths[topic] = Truth()
        self._kinds[topic] = kind

    def sees(self, topic: str, partitions: int) -> bool:
        """Whether this producer knows of so many partitions."""
        return len(self._plain.list_topics(topic, 10).topics[topic].partitions) == partitions

    def forget(self, topic: str, partition: int, first: int, end: int) -> None:
        """Do not expect these records any more: they are gone from Kafka, unread."""
        self.truths[topic].forget(partition, first, end)

    def send(
        self,
        topic: str,
        count: int,
        partition: int | None = None,
        moment: Callable[[int], int] | None = None,
        bad: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Produce records without a transaction, and wait until Kafka has them.

        Args:
            topic: Where.
            count: How many.
            partition: Which one; None spreads them.
            moment: The timestamp of the nth record in milliseconds; None leaves it to Kafka.
            bad: Values that cannot be decoded.
            extra: Fields in addition to those that every record has.
        """
        sent: list[tuple[Message, dict[str, Any] | None]] = []
        self._produce(self._plain, topic, count, partition, moment, bad, sent, extra)
        assert self._plain.flush(120) == 0, "Kafka does not take records"
        self._remember(topic, sent)

    def transaction(
        self, topics: list[str], count: int, ending: Ending = "commit", producer: Any = None
    ) -> None:
        """Produce to several topics in one transaction, and commit it, or abort it, or neither."""
        if producer is None:
            try:
                self._transaction(self._in_transactions, topics, count, ending)
            except KafkaException as failed:  # a broker that was killed has lost its place
                if not failed.args[0].fatal():
                    raise
                self._in_transactions = self.transactional(name=self._name)
        else:
            self._transaction(producer, topics, count, ending)

    def _transaction(
        self, producer: Producer, topics: list[str], count: int, ending: Ending
    ) -> None:
        sent: dict[str, list[tuple[Message, dict[str, Any] | None]]] = {t: [] for t in topics}
        producer.begin_transaction()
        for topic in topics:
            self._produce(producer, topic, count, None, None, False, sent[topic])
        producer.flush(60)
        if ending == "hang":
            return
        if ending == "abort":
            _abort(producer)
            return
        try:
            committed = _commit(producer)
        except KafkaException:  # who knows: `settle` looks
            for topic, records in sent.items():
                self._unplaced += [(topic, row, message.value()) for message, row in records]
            raise
        if committed:
            for topic, records in sent.items():
                self._remember(topic, records)

    def burst(self) -> None:
        """A little of everything, as the seed has it."""
        topics = list(self._kinds)
        for topic in topics:
            self.send(topic, self._random.randint(1, 40))
        self.transaction(topics, self._random.randint(1, 20))
        if self._random.random() < 0.5:
            self.transaction(topics, self._random.randint(1, 20), "abort")
        if self._random.random() < 0.3:
            self.send(self._random.choice(topics), 1, bad=True)

    def _produce(
        self,
        producer: Any,
        topic: str,
        count: int,
        partition: int | None,
        moment: Callable[[int], int] | None,
        bad: bool,
        sent: list[tuple[Message, dict[str, Any] | None]],
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        for number in range(count):
            self._next += 1
            row: dict[str, Any] = {
                "id": self._next,
                "text": f"ñ{self._random.randbytes(self._random.randint(0, 30)).hex()}",
                "amount": f"{self._random.randint(-(10**9), 10**9) / 100:.2f}",
                "flag": self._random.random() < 0.5,
                **(extra or {}),
            }
            value = b"{" + row["text"].encode() if bad else self._value(topic, row)
            options: dict[str, Any] = {} if partition is None else {"partition": partition}
            if moment is not None:
                options["timestamp"] = moment(number)

            def delivered(
                error: object, message: Message, row: dict[str, Any] | None = None if bad else row
            ) -> None:
                if error is None:  # else: it belongs to a transaction that is aborted
                    sent.append((message, row))

            producer.produce(topic, value, str(self._next), on_delivery=delivered, **options)
            producer.poll(0)

    def _value(self, topic: str, row: dict[str, Any]) -> bytes:
        if self._kinds[topic] == "plain":
            return json.dumps(row).encode()
        place = {"db": DATABASE, "file": "bin.000001", "pos": row["id"], "row": 0}
        source = {"ts_ms": 1_700_000_000_000, **place}
        after = {**row, "flag": int(row["flag"])}
        return json.dumps({"op": "c", "source": source, "before": None, "after": after}).encode()

    def _remember(self, topic: str, sent: list[tuple[Message, dict[str, Any] | None]]) -> None:
        truth = self.truths[topic]
        for message, row in sent:
            offset = message.offset()
            if offset is None or offset < 0:
                self._unplaced.append((topic, row, message.value()))
            else:
                truth.place(message.partition(), offset, row, message.value())

    def settle(self) -> None:
        """Look up what Kafka took without saying where: it died between taking and answering."""
        wanted, self._unplaced = self._unplaced, []
        for topic in {topic for topic, *_ in wanted}:
            rows = {value: row for t, row, value in wanted if t == topic}
            for message in self._everything(topic):
                if message.value() in rows:
                    row = rows[message.value()]
                    place = (message.partition(), message.offset())
                    self.truths[topic].place(*place, row, message.value())

    def _everything(self, topic: str) -> Iterator[Message]:
        reader = Consumer(
            {
                **self._bootstrap,
                "group.id": "settle",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        partitions = set(reader.list_topics(topic, 30).topics[topic].partitions)
        reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        while partitions:
            message = reader.poll(30)
            assert message is not None, "Kafka does not answer"
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                partitions.discard(message.partition())
        reader.close()


def _commit(producer: Any) -> bool:
    """Commit, however often the broker dies meanwhile; False where only aborting was left."""
    while True:
        try:
            producer.commit_transaction(30)
            return True
        except KafkaException as failed:
            error = failed.args[0]
            if error.txn_requires_abort():
                _abort(producer)
                return False
            if not error.retriable():
                raise


def _abort(producer: Any) -> None:
    while True:
        try:
            producer.abort_transaction(30)
            return
        except KafkaException as failed:
            if not failed.args[0].retriable():
                raise
