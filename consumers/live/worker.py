"""The faust worker behind `ducklake live`: what a shop watches, into the topic `live.kpis`.

Its state is memory alone. It commits no offsets: each start reads its topics again, and so neither
a kill nor a gap that a transaction's marker left can make a figure wrong. Nothing is published
before it has read what was there when it started.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import faust
import orjson
import structlog
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaError as BrokerError
from confluent_kafka import KafkaException
from confluent_kafka.admin import NewTopic
from faust.transport.drivers import aiokafka as driver

from consumers.live.catching_up import Progress
from consumers.live.figures import LiveFigures
from consumers.live.records import Reader
from lake.certificates import context_of
from lake.config import Config, Endpoints
from lake.errors import ServiceUnreachable, TerminalError
from lake.failpoints import failpoint
from lake.kafka.topics import KPI_TOPIC, TIMEOUT, admin, identify, make_topics
from lake.processes.heartbeat import SILENT, Heartbeat, Part
from lake.storage.operations import make_scratch_folder

log = structlog.get_logger()
# Compacted, and what is older than the figures' window goes even if nobody takes it back.
_KPI_SETTINGS = {
    "cleanup.policy": "compact,delete",
    "retention.ms": "172800000",
    "segment.ms": "3600000",
}
PUBLISH_SECONDS = 1.0
LOOK_SECONDS = 0.2
PROGRESS_SECONDS = 1.0
MOVES_WITHIN = 120.0
"""Seconds within which the event loop moves, whatever Kafka does."""
LAGS_WITHIN = 60.0
"""Seconds without any progress, with records waiting, after which it counts as hanging."""
READING = "reading"
"""The step whose progress the heartbeat tells."""
SECOND_SECONDS = 15.0
_QUIET = ("faust", "mode", "aiokafka", "asyncio")


class _CommittedThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust reads uncommitted records unless it is itself transactional, which this is not."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer

    async def _fetch_records(self, *words: Any, **options: Any) -> Any:
        failpoint("live.fetch")
        return await super()._fetch_records(*words, **options)


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


class LiveWorker:
    """Counts what the section `live` names; one per broker.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
    """

    def __init__(self, config: Config, endpoints: Endpoints) -> None:
        self._reader = Reader(config)
        live = self._reader.live
        self._figures = LiveFigures(live, ZoneInfo(config.settings.batch.time_zone))
        self._counted: dict[tuple[str, int], int] = {}
        self._unknown = 0
        self._kafka = endpoints.kafka
        self._source = live.orders.table
        partitions = _make_topics(config, endpoints, live.topics())
        self._partitions = sum(partitions.values())
        self._progress = Progress(endpoints, partitions)
        self._looked = 0.0
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
        self._topics = self.app.topic(*live.topics(), key_type=bytes, value_type=bytes, **plain)
        self._kpis = self.app.topic(KPI_TOPIC, key_type=bytes, value_type=bytes, **plain)
        self.app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        self.app.agent(self._topics)(self._count)
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
                await self._look(heartbeat)
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

    async def _look(self, heartbeat: Heartbeat) -> None:
        """Tell whether anything moves: a supervisor ends a worker that lags and does not."""
        if time.monotonic() - self._looked < PROGRESS_SECONDS:
            return
        self._looked = time.monotonic()
        if await self._progress.moves(self.app.consumer, self._counted):
            heartbeat.part(READING, Part("step", within=LAGS_WITHIN))

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
            message = event.message
            topic, now = message.topic, datetime.now(UTC)
            changes = self._reader.read(topic, event.value, message.timestamp)
            for change in changes or ():
                self._figures.apply(change, now)
            self._counted[topic, message.partition] = message.offset
            self._unknown += changes is None
            if changes is None and self._unknown == 1:
                log.warning(
                    "record_skipped",
                    message="A record that is no row of its table was skipped; the lake has it.",
                    topic=topic,
                    partition=message.partition,
                    offset=message.offset,
                )

    async def _publish(self) -> None:
        if self._partial_since is not None or not self._progress.caught_up:
            return  # a part of the orders would be a wrong figure
        for key, figure in self._figures.take_changes(datetime.now(UTC)).items():
            value = None if figure is None else orjson.dumps(figure)
            await self._kpis.send(key=key.encode(), value=value)


def _make_topics(config: Config, endpoints: Endpoints, topics: tuple[str, ...]) -> dict[str, int]:
    """Create what is missing; the number of partitions of each topic that is read."""
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
    found = {name: topic.partitions for name, topic in identify(client, topics).items()}
    for name in topics:
        if name not in found:
            raise ServiceUnreachable(
                f"There is no topic {name} yet, which the live figures read.",
                "Start what writes it, or take it out of the section `live`.",
            )
    return found


def _credentials(options: Mapping[str, str]) -> faust.Credentials | None:
    """Librdkafka's security settings as faust takes them (TLS, SASL PLAIN and SCRAM)."""
    protocol = options.get("security.protocol", "plaintext").lower()
    context = None
    if protocol.endswith("ssl"):
        checks_name = options.get("ssl.endpoint.identification.algorithm", "https") != "none"
        if authority := options.get("ssl.ca.location"):
            context = context_of(Path(authority), checks_name)
        else:
            context = ssl.create_default_context()
            context.check_hostname = checks_name
        if certificate := options.get("ssl.certificate.location"):
            context.load_cert_chain(
                certificate, options.get("ssl.key.location"), options.get("ssl.key.password")
            )
    if protocol.startswith("sasl"):
        return faust.SASLCredentials(
            username=options.get("sasl.username", ""),
            password=options.get("sasl.password", ""),
            mechanism=options.get("sasl.mechanism") or options.get("sasl.mechanisms") or "PLAIN",
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
