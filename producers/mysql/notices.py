"""What the binlog does not tell of a table: where its rows in the lake may differ from MySQL's.

The connector (`connect/converter/`) writes a notice where it leaves rows out, and where a statement
changed rows that the binlog does not hold. Notices are the records of a compacted topic, one for
each table and kind, so they outlive every process; whoever has made the table equal again (a
backfill, a reconciliation) settles them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import orjson
import structlog
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from lake.config import Endpoints
from lake.errors import ServiceUnreachable
from lake.kafka.clients import kafka_client
from lake.kafka.logs import log_consumer
from lake.kafka.sending import Outgoing, send
from lake.processes.heartbeat import DIFFERS, STOPPED
from lake.records import notices_topic
from producers.base import TableState
from producers.mysql.notice_texts import (
    ADDED_KIND,
    ANY_TABLE,
    CHANGED_KIND,
    NOTED_ONLY,
    OTHERWISE,
    READ_AGAIN_KINDS,
    STOPPED_KIND,
    TEXTS,
)
from producers.mysql.tables import MysqlTable

log = structlog.get_logger()
READ_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the rows of a table do not tell.

    Attributes:
        kind: Which; see `docs/DESIGN.md`.
        database: Where the table is.
        table: Its name in MySQL; empty where nobody knows which table it is.
        statement: The statement that is the reason, without its texts; may be empty.
        rows: How many rows were left out.
        file: The binlog's file.
        pos: The place in it.
        ts_ms: When it happened, in milliseconds of the epoch.
    """

    kind: str
    database: str
    table: str
    statement: str
    rows: int
    file: str
    pos: int
    ts_ms: int

    @property
    def is_open(self) -> bool:
        """Whether something is to be done about it."""
        return self.kind not in NOTED_ONLY

    @property
    def stops(self) -> bool:
        """Whether rows of the table are left out until somebody has settled it."""
        return self.kind == STOPPED_KIND

    def describe(self, name: str) -> tuple[str, str]:
        """What happened, and what to do, for a reader who knows the table as `source.table`."""
        what, remedy = TEXTS.get(self.kind, OTHERWISE)
        if not self.table:
            remedy = ANY_TABLE
        words = {
            "rows": self.rows,
            "place": f"{self.file}:{self.pos}",
            "statement": self.statement or "a change that nobody announced",
            "name": name,
        }
        return what.format(**words), remedy.format(**words)


class Notices:
    """The notices of one source, read as far as somebody asked.

    Args:
        lake: The lake's name.
        source: The source's name.
        tables: The source's tables, by their names in the lake.
        endpoints: Where Kafka is.
    """

    def __init__(
        self, lake: str, source: str, tables: Mapping[str, MysqlTable], endpoints: Endpoints
    ) -> None:
        self._endpoints = endpoints
        self._source = source
        self._names = {(t.database, t.table): name for name, t in tables.items()}
        self._topic = notices_topic(lake, source)
        self._consumer = log_consumer(
            endpoints,
            group_id="ducklake.notices",
            fetch_wait_max_ms=20,
        )
        self._open: dict[bytes, Notice] = {}  # by the keys of the records
        self._added: dict[bytes, list[Notice]] = {}
        self._position = 0

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def read(self) -> list[Notice]:
        """The notices that came since this was last asked.

        Raises:
            ServiceUnreachable: The topic cannot be read to its end.
        """
        try:
            partition = TopicPartition(self._topic, 0)
            newest = self._consumer.get_watermark_offsets(partition, READ_SECONDS)[1]
            if newest <= self._position:
                return []
            self._consumer.assign([TopicPartition(self._topic, 0, self._position)])
            try:
                return list(self._read_to_the_end())
            finally:
                self._consumer.unassign()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return []
            raise ServiceUnreachable(
                f"The notices in topic {self._topic} cannot be read: {error.args[0].str()}.",
                "It is retried.",
            ) from None

    def open(self) -> list[Notice]:
        """Those that nobody has settled, as of the last `read`."""
        return [notice for notice in self._open.values() if notice.is_open]

    def to_read_again(self) -> list[tuple[str, Notice]]:
        """Tables whose old rows are others in MySQL, by their names in the lake, and why."""
        found = [notice for notice in self.open() if notice.kind in READ_AGAIN_KINDS]
        return [(self._name_of(notice), notice) for notice in found]

    def judge_added(self, is_back: Callable[[Notice], bool]) -> None:
        """Settle columns that were added without a value, but for those that had one before.

        Args:
            is_back: Whether the lake has values of an earlier column of that name.

        Raises:
            ServiceUnreachable: Kafka does not answer, or `is_back` could not tell.
        """
        for key, added in list(self._added.items()):
            back = next(filter(is_back, added), None)
            if back is not None:
                changed = key.replace(ADDED_KIND.encode(), CHANGED_KIND.encode())
                told = asdict(replace(back, kind=CHANGED_KIND))
                self._write([Outgoing(self._topic, orjson.dumps(told), changed)])
            self._write([Outgoing(self._topic, None, key)])
            del self._added[key]

    def states(self) -> list[TableState]:
        """The same, as the states of their tables."""
        states = []
        for notice in self.open():
            table = self._name_of(notice)
            what, remedy = notice.describe(f"{self._source}.{table}")
            state = STOPPED if notice.stops else DIFFERS
            states.append(TableState(table, state, what, remedy))
        return states

    def settle(self, table: str, until: tuple[str, int] | None = None) -> None:
        """Say that a table is equal to MySQL's again.

        Args:
            table: Its name in the lake; `*` for what concerns nobody knows which table.
            until: The place in the binlog at which it was; later notices stay. None: all go.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        self.read()
        settled = [
            key
            for key, notice in self._open.items()
            if self._name_of(notice) == table
            and (until is None or _order(notice) <= _binlog_order(*until))
        ]
        if not settled:
            return
        self._write([Outgoing(self._topic, None, key) for key in settled])

    def settle_all(self, places: Iterable[tuple[str, int]]) -> None:
        """Settle what concerns nobody knows which table, as all tables are equal to MySQL's.

        Args:
            places: Where in the binlog each of the source's tables was equal.

        Raises:
            ServiceUnreachable: Kafka does not answer.
        """
        self.settle("*", min(places, key=lambda place: _binlog_order(*place)))

    def _write(self, records: Sequence[Outgoing]) -> None:
        producer = kafka_client(Producer, self._endpoints, acks="all")
        try:
            send(producer, records)
        except KafkaException as error:
            raise ServiceUnreachable(
                f"The notices in topic {self._topic} cannot be settled: {error.args[0].str()}.",
                "Is Kafka up?",
            ) from None

    def _name_of(self, notice: Notice) -> str:
        if not notice.table:
            return "*"
        return self._names.get((notice.database, notice.table), notice.table)

    def _read_to_the_end(self) -> Iterator[Notice]:
        deadline = time.monotonic() + READ_SECONDS
        while True:
            message = self._consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                raise ServiceUnreachable(
                    f"The notices in topic {self._topic} could not be read to their end within"
                    f" {READ_SECONDS:.0f} s.",
                    "It is retried.",
                )
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._position = max(self._position, message.offset())
                    return
                raise KafkaException(error)
            self._position = message.offset() + 1
            key, value = message.key() or b"", message.value()
            if value is None:
                self._open.pop(key, None)
                self._added.pop(key, None)
                continue
            notice = Notice(**orjson.loads(value))
            self._open[key] = notice
            if notice.kind == ADDED_KIND:
                self._added.setdefault(key, []).append(notice)
            elif not notice.is_open:
                self._log(notice)
            yield notice

    def _log(self, notice: Notice) -> None:
        log.info(
            "statement_passed_over",
            message="A statement that Debezium does not understand was passed over.",
            source=self._source,
            statement=notice.statement,
            position=f"{notice.file}:{notice.pos}",
        )


def _binlog_order(file: str, pos: int) -> tuple[int, int]:
    number = file.rpartition(".")[2]
    return (int(number) if number.isdecimal() else 0, pos)


def _order(notice: Notice) -> tuple[int, int]:
    return _binlog_order(notice.file, notice.pos)
