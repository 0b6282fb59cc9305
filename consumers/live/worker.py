"""The faust worker behind `ducklake live`: orders by the minute into the topic `live.kpis`.

Its state is memory alone. It commits no offsets: each start reads the topic of orders again, and so
neither a kill nor a gap that a transaction's marker left can make a figure wrong.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import faust
import orjson
import structlog
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaError as BrokerError
from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic
from faust.transport.drivers import aiokafka as driver

from consumers.live.figures import MinuteFigures, parse
from lake.config import Config, Endpoints
from lake.errors import ConfigError, ServiceUnreachable, TerminalError
from lake.kafka.topics import TIMEOUT, admin, identify, make_topics
from lake.processes.heartbeat import SILENT, Heartbeat
from lake.storage.operations import make_scratch_folder

log = structlog.get_logger()
KPI_TOPIC = "live.kpis"
ORDERS = "orders"
# Compacted, and what is older than the figures' window goes even if nobody takes it back.
_KPI_SETTINGS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "172800000",
    "segment.ms": "3600000",
}
PUBLISH_SECONDS = 1.0
LOOK_SECONDS = 0.2
MOVES_WITHIN = 120.0
"""Seconds within which the event loop moves, whatever Kafka does."""
SECOND_SECONDS = 15.0
_QUIET = ("faust", "mode", "aiokafka", "asyncio")


class _CommittedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust reads uncommitted records unless it is itself transactional, which this is not."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class _CommittedConsumer(driver.Consumer):  # type: ignore[misc]
    """Remembers no message and so commits no offset.

    With a marker after each of Debezium's transactions, faust's lists of acknowledgements and of
    gaps between them would only grow.
    """

    def track_message(self, message: Any) -> None:
        pass

    def ack(self, message: Any) -> bool:
        message.acked = True
        return True

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        pass

    async def seek_to_committed(self) -> Mapping[Any, int | None]:
        """Seek to the beginning, since nothing is committed.

        Faust drops what it has fetched while it hands out partitions, and then asks for this;
        without an offset to seek to, aiokafka would stay behind what was dropped.
        """
        await self._thread.seek_to_beginning()
        return dict.fromkeys(self.assignment())

    def _new_consumer_thread(self) -> _CommittedThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)


class _CommittedTransport(driver.Transport):  # type: ignore[misc]
    Consumer = _CommittedConsumer


def orders_topic(config: Config) -> str:
    """The topic of the shop's orders.

    Raises:
        ConfigError: No table of that name comes from MySQL.
    """
    for ref, _ in config.tables():
        if ref.table == ORDERS and config.kind(ref) == "cdc":
            return ref.topic
    raise ConfigError(
        f"No MySQL source has a table {ORDERS!r}, from which the live figures are" " counted.",
        "Add it in ducklake.yml, or leave `ducklake live` out.",
    )


class LiveWorker:
    """Counts orders by the minute; one per broker.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
    """

    def __init__(self, config: Config, endpoints: Endpoints) -> None:
        self._figures = MinuteFigures()
        self._unknown = 0
        self._kafka = endpoints.kafka
        self._source = orders_topic(config)
        self._partitions = _make_topics(config, endpoints, self._source)
        self._was_whole = False
        self._partial_since: float | None = None
        # faust makes its folders even where it keeps nothing
        folder = config.data_dir / "work" / "live"
        make_scratch_folder(folder)
        self.app = faust.App(
            f"ducklake.{config.settings.name}.live",
            broker=[f"kafka://{address.strip()}" for address in endpoints.kafka.split(",")],
            broker_credentials=_credentials(endpoints.kafka_options),
            broker_session_timeout=10.0,
            broker_heartbeat_interval=1.0,
            # a worker killed while it joined is waited for this long, not for a minute
            broker_rebalance_timeout=10.0,
            consumer_auto_offset_reset="earliest",
            store="memory://",
            datadir=folder,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            producer_max_request_size=1_000_000,
        )
        self.app.transport = _CommittedTransport(self.app.conf.broker, self.app)
        plain = {"key_serializer": "raw", "value_serializer": "raw"}
        self._orders = self.app.topic(self._source, key_type=bytes, value_type=bytes, **plain)
        self._kpis = self.app.topic(KPI_TOPIC, key_type=bytes, value_type=bytes, **plain)
        self.app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        self.app.agent(self._orders)(self._count)
        self.app.timer(PUBLISH_SECONDS)(self._publish)

    def run(self, stop: threading.Event, heartbeat: Heartbeat = SILENT) -> None:
        """Count until told to stop.

        Args:
            stop: Ends it.
            heartbeat: Told that the loop moves.

        Raises:
            ServiceUnreachable: The broker does not answer.
            TerminalError: Faust gave up.
        """
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            asyncio.run(self._run(stop, heartbeat))
        except KafkaError as error:
            raise ServiceUnreachable(
                f"Kafka at {self._kafka}: {type(error).__name__}.", "Is it up?"
            ) from None

    async def _run(self, stop: threading.Event, heartbeat: Heartbeat) -> None:
        await self.app.start()
        log.info(
            "live_figures_started",
            message="The live figures are being counted.",
            orders=self._source,
            figures=KPI_TOPIC,
        )
        try:
            while not stop.is_set() and not self.app.should_stop and not self._second():
                heartbeat.beat("counting", MOVES_WITHIN)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self.app.stop()
        if self._second():
            raise TerminalError(
                f"Another `ducklake live` counts {self._source}, and two would each count a part.",
                "Stop one of them.",
            )
        reason = self.app.crash_reason
        if isinstance(reason, KafkaError):
            raise reason
        if not stop.is_set():
            raise TerminalError(
                f"The live figures stopped ({type(reason).__name__}).", "Start them again."
            )

    async def _on_assigned(self, _app: Any, assigned: set[Any], **_: Any) -> None:
        if len(assigned) >= self._partitions:
            self._was_whole, self._partial_since = True, None
        elif self._partial_since is None:
            self._partial_since = time.monotonic()

    def _second(self) -> bool:
        """Whether this worker came later than another one that lives.

        One that had all partitions goes on, and one that was killed is gone after its session.
        """
        if self._was_whole or self._partial_since is None:
            return False
        return time.monotonic() - self._partial_since > SECOND_SECONDS

    async def _count(self, stream: Any) -> None:
        async for event in stream.events():
            change = parse(event.value)
            if change is not None:
                self._figures.apply(change, datetime.now(UTC))
                continue
            self._unknown += 1
            if self._unknown == 1:
                log.warning(
                    "record_skipped",
                    message="A record that is not an order was skipped; the lake has it.",
                    topic=self._source,
                    partition=event.message.partition,
                    offset=event.message.offset,
                )

    async def _publish(self) -> None:
        if self._partial_since is not None:
            return  # a part of the orders would be a wrong figure
        for minute, figure in self._figures.take_changes(datetime.now(UTC)).items():
            value = None if figure is None else orjson.dumps(figure)
            await self._kpis.send(key=minute.encode(), value=value)


def _make_topics(config: Config, endpoints: Endpoints, source: str) -> int:
    """Create what is missing; the number of partitions of the source."""
    make_topics(config, endpoints)
    client = admin(endpoints)
    replication = config.settings.topics.replication_factor
    topic = NewTopic(KPI_TOPIC, 1, replication, config=_KPI_SETTINGS)
    try:
        for made in client.create_topics([topic], operation_timeout=TIMEOUT).values():
            made.result(TIMEOUT)
    except KafkaException as error:
        if error.args[0].code() != BrokerError.TOPIC_ALREADY_EXISTS:
            raise ServiceUnreachable(
                f"Kafka at {endpoints.kafka}: {error.args[0].str()}.", "Is it up?"
            ) from None
    return identify(client, [source])[source].partitions


def _credentials(options: Mapping[str, str]) -> faust.Credentials | None:
    """Librdkafka's security settings as faust takes them (TLS, SASL PLAIN and SCRAM)."""
    protocol = options.get("security.protocol", "plaintext").lower()
    context = None
    if protocol.endswith("ssl"):
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        if options.get("ssl.endpoint.identification.algorithm", "https") == "none":
            context.check_hostname = False
    if protocol.startswith("sasl"):
        return faust.SASLCredentials(
            username=options.get("sasl.username", ""),
            password=options.get("sasl.password", ""),
            mechanism=options.get("sasl.mechanism") or options.get("sasl.mechanisms") or "PLAIN",
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
