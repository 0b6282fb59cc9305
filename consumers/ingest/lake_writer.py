"""The loop from Kafka to the lake: poll, decode, buffer, plan, write, commit.

The ledger's positions are the truth; Kafka's committed offsets are written as a hint for tools and
never read. A table that has lost data stops with a named error; the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import groupby

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumers.ingest.buffer import TableBuffer
from consumers.ingest.decoding import Decoder, make_decoder
from consumers.ingest.flush import commit_flush
from consumers.ingest.membership import KAFKA_SECONDS, Membership, retry_until_available
from consumers.ingest.memory import FetchSizer, GarbageCollection, keep_freed_memory
from consumers.ingest.planning import Watermarks, all_read, flush_is_due, lost_offsets, too_much
from consumers.ingest.schema_changes import SchemaChanges
from consumers.ingest.slots import WorkerSlot
from lake.config import Config, Endpoints, Table, TableRef
from lake.errors import (
    CommitConflict,
    DataLoss,
    DiskFull,
    ServiceUnreachable,
    TableHeld,
    TerminalError,
)
from lake.failpoints import failpoint
from lake.kafka.topics import admin, identify, make_topics
from lake.opening import open_lake
from lake.processes.heartbeat import SILENT, STOPPED, Heartbeat, Part
from lake.records import REJECTS_TOPIC, DeadLetter
from lake.recovery import recover
from lake.storage.paths import LakePaths

log = structlog.get_logger()
POLL_SECONDS = 0.1
POLL_MESSAGES, POLL_BYTES = 5_000, 16 * 1024 * 1024
IDLE_MOVE_SECONDS = 5.0
RETRY_SECONDS = 2.0
HELD_SECONDS = 0.1
HALTED_LOOK_SECONDS = 5.0
MOVES_WITHIN = 300.0
"""Seconds within which the loop moves: one step of it waits up to two minutes for Kafka."""

# Called without a lookup for each message: these run once for every record there is.
_topic, _error = Message.topic, Message.error

Progress = Callable[[int], None]


class LakeWriter:
    """One worker: reads its share of all topics and commits it to the lake.

    Args:
        config: The configuration.
        endpoints: Where Kafka is.
        once: End at what is in Kafka when `run` begins.
        progress: Called with the number of rows of each commit.
        heartbeat: Told that the loop moves, and which tables have stopped.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        once: bool = False,
        progress: Progress = lambda rows: None,
        heartbeat: Heartbeat = SILENT,
    ) -> None:
        self._heartbeat = heartbeat
        self._next_halted_look = 0.0
        self._once = once
        self._stop = threading.Event()
        self._garbage = GarbageCollection()
        self.config = config
        self.halted: dict[str, TerminalError] = {}
        self._limits = config.settings.consumer
        self._progress = progress
        self._changes: dict[str, SchemaChanges] = {}
        self._buffers: dict[str, TableBuffer] = {}
        self._behind: set[str] = set()
        self._fetch_sizer = FetchSizer(POLL_MESSAGES, POLL_BYTES)
        with ExitStack() as opening:
            self._open(opening, endpoints)
            self._opened = opening.pop_all()

    def _open(self, opening: ExitStack, endpoints: Endpoints) -> None:
        config = self.config
        self._slot = opening.enter_context(closing(WorkerSlot(LakePaths(config.data_dir).workers)))
        lake = opening.enter_context(open_lake(config, for_writing=True))
        self._ledger, self._session = lake.ledger, lake.session
        make_topics(config, endpoints)
        self._admin = admin(endpoints)
        opening.callback(self._close_changes)
        self._decoders = dict(self._make_decoders(endpoints))
        self._member = Membership(
            config,
            endpoints,
            self._admin,
            list(self._decoders),
            None if self._once else self._slot.number,
            self._on_assign,
            self._on_revoke,
            self._on_lost,
        )
        opening.callback(self._member.close)

    def _make_decoders(self, endpoints: Endpoints) -> list[tuple[str, Decoder]]:
        decoders = []
        for ref, table in self.config.tables():
            kind = self.config.kind(ref)
            if kind == "cdc" and ref.source not in self._changes:
                self._changes[ref.source] = SchemaChanges(endpoints, ref.source)
            decoder = make_decoder(ref, table, kind, self._changes.get(ref.source))
            decoders.append((ref.topic, decoder))
        rejects = TableRef(*REJECTS_TOPIC.split("."))
        return [*decoders, (REJECTS_TOPIC, make_decoder(rejects, Table(), "rejects"))]

    def close(self) -> None:
        """Leave the group and let go of the session; what is not committed is read again."""
        self._opened.close()

    def _close_changes(self) -> None:
        for changes in self._changes.values():
            changes.close()

    # The loop ------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Read and commit until told to stop, or (once) up to what is in Kafka now.

        Raises:
            TerminalError: In a `once` run, a table stopped; the others are committed.
        """
        keep_freed_memory()
        once = self._once
        self._stop = stop
        goals = self._high_watermarks() if once else {}
        self._member.join()
        while not stop.is_set() and not (once and self._reached(goals)):
            self._heartbeat.beat("reading", MOVES_WITHIN)
            self._take(self._member.consume(self._fetch_sizer.messages(), POLL_SECONDS))
            self._read_again()
            self._flush_due(hurry=once)
            self._read_again()
            self._look_at_halted()
            self._garbage.run_if_due()
        self._flush_all()
        if once and self.halted:
            raise next(iter(self.halted.values()))

    def _join_anew(self, reason: str) -> None:
        """Begin again as a new member; what was read is dropped, the ledger knows from where.

        Raises:
            ServiceUnreachable: It happens again and again.
        """
        self._begin_anew(lambda: self._member.join_anew(reason, self._stop))

    def _begin_anew(self, join: Callable[[], None]) -> None:
        self._buffers.clear()
        self._behind.clear()
        join()

    def _take(self, messages: Sequence[Message]) -> None:
        now = time.monotonic()
        size = 0
        for run in _runs(messages):
            error = run[0].error()
            if error is not None and (error.fatal() or error.code() == KafkaError._FATAL):
                self._join_anew(error.str())
                return
            if error is not None:
                self._take_event(run[0], now)
                continue
            for topic, records in groupby(run, _topic):
                if topic in self._buffers and not self._is_set_aside(topic):
                    size += self._buffers[topic].add(list(records), now)
        self._fetch_sizer.saw(len(messages), size)

    def _is_set_aside(self, topic: str) -> bool:
        return topic in self.halted or topic in self._behind

    def _take_event(self, message: Message, now: float) -> None:
        """An error or the end of a partition, which come in the place of a record."""
        error, topic = message.error(), message.topic() or ""
        if error.code() == KafkaError._PARTITION_EOF:
            if topic in self._buffers:
                self._buffers[topic].end_of_partition(message.partition(), message.offset(), now)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._halt(
                topic,
                DataLoss(
                    f"Topic {topic}, partition {message.partition()}: the records at the lake's"
                    " position are gone from Kafka.",
                    f"`ducklake accept-loss {topic}` goes on with what is left.",
                ),
            )
        else:
            log.warning(
                "kafka_error", message="Kafka reports an error.", table=topic, reason=error.str()
            )

    def _flush_due(self, hurry: bool) -> None:
        now = time.monotonic()
        left = {}
        for topic, buffer in self._buffers.items():
            size, idle = buffer.size(now), buffer.idle_move(now)
            if flush_is_due(size, self._limits) or (
                idle > 0 and (hurry or idle >= IDLE_MOVE_SECONDS)
            ):
                self._flush(topic)
            else:
                left[topic] = size
        self._flush_all(too_much(left, self._limits))

    def _flush_all(self, topics: Sequence[str] | None = None) -> None:
        for topic in list(topics if topics is not None else self._buffers):
            self._flush(topic)

    def _flush(self, topic: str) -> None:
        """Decode, write and commit one table's buffer; the buffer is emptied only afterwards."""
        buffer = self._buffers.get(topic)
        if buffer is None or self._is_set_aside(topic) or not buffer.starts():
            return
        self._heartbeat.beat(f"committing {topic}", MOVES_WITHIN)
        decoder, state = self._decoders[topic], buffer.state
        if not self._verify_topic_identity(topic):
            return
        try:
            decoded = decoder.decode(buffer.messages(), state.schema, state.epoch)
        except ServiceUnreachable as error:
            _log_waiting(topic, error)
            return
        ranges = buffer.ranges(decoded.rows)
        while ranges:
            try:
                commit_flush(
                    self._ledger,
                    self._session,
                    decoder.ref,
                    state,
                    decoded.rows,
                    ranges,
                    buffer.starts(),
                    decoded.schema,
                    decoded.dead_letters,
                )
                break
            except DiskFull as error:
                if self._is_told_to_stop_waiting(topic, error):
                    return  # nothing of it is committed: it is read again
            except TableHeld:
                if self._stop.wait(HELD_SECONDS):
                    return
            except CommitConflict as error:
                log.warning(
                    "commit_conflict",
                    message="Another process has committed these offsets;"
                    " reading goes on from the ledger's position.",
                    table=topic,
                    reason=str(error),
                )
                self._behind.add(topic)
                return
        _log_dead_letters(topic, decoded.dead_letters)
        if decoded.rows is not None:
            self._progress(decoded.rows.num_rows)
        self._reload(topic)
        failpoint("commit.before_advisory_offsets")
        self._member.hint(topic, {r.partition: r.next_offset for r in ranges})

    def _is_told_to_stop_waiting(self, topic: str, error: DiskFull) -> bool:
        log.error(
            "waiting_for_disk",
            message="A commit waits for room on the disk.",
            table=topic,
            reason=str(error),
        )
        self._heartbeat.beat("waiting for room on the disk", MOVES_WITHIN)
        return self._stop.wait(RETRY_SECONDS)

    def _reload(self, topic: str) -> TableBuffer:
        """Empty a table's buffer; it goes on from where the ledger stands."""
        state = self._ledger.tables.get(topic)
        assert state is not None, "a table with a buffer is in the ledger"
        known = self._buffers.get(topic)
        buffer = self._buffers[topic] = TableBuffer(state, known.firsts if known else {})
        return buffer

    def _verify_topic_identity(self, topic: str) -> bool:
        """Whether what was read comes from the topic that the ledger knows.

        Asked after reading and before each commit: a topic that was deleted and made again counts
        its offsets anew, and Kafka goes on delivering as if nothing had happened.
        """
        try:
            found = identify(self._admin, [topic], KAFKA_SECONDS).get(topic)
            if found is None:
                raise _deleted(topic)
            self._ledger.tables.open(topic, found.topic_id, found.partitions)
        except ServiceUnreachable as error:
            _log_waiting(topic, error)
            return False
        except TerminalError as error:
            self._halt(topic, error)
            return False
        return True

    def _read_again(self) -> None:
        """Drop what was read of tables that lost a race, and read from where the ledger stands.

        Not within a rebalance: messages that were fetched before it are still on their way to us,
        and taken for the first ones after the ledger's position they would leave a gap.
        """
        for topic in self._behind - set(self.halted):
            self._member.seek(topic, self._reload(topic).position)
        self._behind.clear()

    # Assignment ----------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        recover(self._ledger)
        identities = retry_until_available(
            lambda: identify(self._admin, {p.topic for p in partitions})
        )
        assigned, halted = [], []
        for wanted in partitions:
            self._heartbeat.beat("taking over partitions", MOVES_WITHIN)
            topic, number = wanted.topic, wanted.partition
            ask = partial(consumer.get_watermark_offsets, wanted, KAFKA_SECONDS)
            low, high = retry_until_available(ask)
            try:
                found = identities.get(topic)
                if found is None:
                    raise _deleted(topic)
                state = self._ledger.tables.open(topic, found.topic_id, found.partitions)
                self._check_loss(topic, number, state.positions.get(number), Watermarks(low, high))
                # The partition may come back from another worker: its position is the ledger's.
                self._flush(topic)
                buffer = self._reload(topic)
                buffer.start_at(number, low)
                offset = buffer.position(number)
            except TerminalError as error:
                self._halt(topic, error)
                offset = high
                halted.append(TopicPartition(topic, number))
            assigned.append(TopicPartition(topic, number, offset))
        consumer.incremental_assign(assigned)
        if halted:
            consumer.pause(halted)

    def _check_loss(
        self, topic: str, partition: int, position: int | None, marks: Watermarks
    ) -> None:
        lost = lost_offsets(position, marks)
        if lost is not None:
            raise DataLoss(
                f"Topic {topic}, partition {partition}: offsets {lost.start} to {lost.stop - 1}"
                " were removed by retention before the lake read them.",
                f"`ducklake accept-loss {topic}` goes on with what is left; `ducklake verify`"
                " names it.",
            )

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._flush_all(sorted({p.topic for p in partitions}))
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for topic in {p.topic for p in partitions}:
            self._buffers.pop(topic, None)
        consumer.incremental_unassign(partitions)

    def _halt(self, topic: str | None, error: TerminalError) -> None:
        if topic is not None and topic not in self.halted:
            self._tell_halted(topic, error)
            log.error(
                "table_halted",
                message="The table is not read any more; the others are.",
                table=topic,
                reason=str(error),
            )

    def _tell_halted(self, topic: str, error: TerminalError) -> None:
        self.halted[topic] = error
        self._heartbeat.part(topic, Part("table", STOPPED, reason=error.what, remedy=error.remedy))

    def _look_at_halted(self) -> None:
        """Let a table go on whose loss somebody has accepted meanwhile.

        It goes on as after a start: as a new member, whose partitions are all looked at anew.
        """
        now = time.monotonic()
        if not self.halted or self._once or now < self._next_halted_look:
            return
        self._next_halted_look = now + HALTED_LOOK_SECONDS
        healed = [topic for topic in list(self.halted) if self._is_healed(topic)]
        if not healed:
            return
        self._flush_all()
        for topic in healed:
            del self.halted[topic]
            self._heartbeat.forget(topic)
            log.info(
                "table_resumed", message="The table's loss was accepted; it goes on.", table=topic
            )
        self._begin_anew(self._member.begin_anew)

    def _is_healed(self, topic: str) -> bool:
        try:
            found = identify(self._admin, [topic], KAFKA_SECONDS).get(topic)
            if found is None:
                raise _deleted(topic)
            state = self._ledger.tables.open(topic, found.topic_id, found.partitions)
            for number in range(found.partitions):
                marks = Watermarks(*self._member.watermarks(topic, number))
                self._check_loss(topic, number, state.positions.get(number), marks)
        except TerminalError as error:
            self._tell_halted(topic, error)  # it may have another remedy by now
            return False
        except (KafkaException, ServiceUnreachable):
            return False
        return True

    # A run up to now -------------------------------------------------------------------------

    def _high_watermarks(self) -> dict[str, dict[int, int]]:
        goals: dict[str, dict[int, int]] = {}
        try:
            for name, topic in identify(self._admin, self._decoders).items():
                for number in range(topic.partitions):
                    _, high = self._member.watermarks(name, number)
                    goals.setdefault(name, {})[number] = high
        except KafkaException as error:
            raise ServiceUnreachable(f"Kafka: {error.args[0].str()}.", "Is it up?") from None
        return goals

    def _reached(self, goals: dict[str, dict[int, int]]) -> bool:
        """Whether the lake (with other workers' help) holds everything up to the goals."""
        for topic, wanted in goals.items():
            if topic in self.halted:
                continue
            state = self._ledger.tables.get(topic)
            open_goals = {p: g for p, g in wanted.items() if g > 0}
            if not all_read(state.positions if state else {}, open_goals):
                return False
        return True


def _runs(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Records in runs, and each event alone in its place: it counts for what came before it."""
    if not any(map(_error, messages)):
        if messages:
            yield list(messages)
        return
    for failed, group in groupby(messages, lambda message: message.error() is not None):
        if failed:
            yield from ([event] for event in group)
        else:
            yield list(group)


def _deleted(topic: str) -> DataLoss:
    return DataLoss(
        f"Topic {topic} was deleted.",
        f"Start its producer, which makes it anew, then `ducklake accept-loss {topic}`.",
    )


def _log_dead_letters(topic: str, dead_letters: Sequence[DeadLetter]) -> None:
    if not dead_letters:
        return
    first = dead_letters[0]
    log.warning(
        "dead_letters_committed",
        message="Records could not be decoded and are in raw.dead_letters.",
        table=topic,
        count=len(dead_letters),
        reason=first.reason,
        partition=first.partition,
        offset=first.offset,
    )


def _log_waiting(topic: str, error: ServiceUnreachable) -> None:
    log.warning(
        "commit_waiting_for_kafka",
        message="A commit waits for Kafka.",
        table=topic,
        reason=str(error),
    )
