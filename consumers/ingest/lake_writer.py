"""The loop from Kafka to the lake: poll, buffer, plan, decode, write, commit.

The ledger's positions are the truth; the offsets committed to Kafka are advisory, for tools, and
never read. A table that has lost data stops with a named error; the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import groupby

import structlog
from confluent_kafka import KafkaError, Message

from consumers.ingest.assigned_tables import AssignedTables
from consumers.ingest.assignment import Assignment, log_waiting
from consumers.ingest.buffer import TableBuffer
from consumers.ingest.dead_letter_gates import DeadLetterGates
from consumers.ingest.decoders import Decoders
from consumers.ingest.flush import Flush, commit_flush, log_committed
from consumers.ingest.goals import are_reached, ends_now
from consumers.ingest.halted_tables import HaltedTables
from consumers.ingest.losses import position_removed
from consumers.ingest.membership import Membership, RebalanceCallbacks
from consumers.ingest.memory import FetchSizer, GarbageCollection, keep_freed_memory
from consumers.ingest.planning import FlushPace, flush_is_due, over_memory_limit
from consumers.ingest.polled import runs
from consumers.ingest.slots import WorkerSlot
from lake.config import Config, Endpoints
from lake.errors import (
    CommitConflict,
    DeadLetterLimit,
    DiskFull,
    SchemaDrift,
    ServiceUnreachable,
    TableHeld,
)
from lake.failpoints import failpoint
from lake.kafka.topics import admin, make_topics
from lake.opening import open_lake
from lake.processes.heartbeat import SILENT, Heartbeat
from lake.storage.paths import LakePaths

log = structlog.get_logger()
POLL_SECONDS = 0.05
POLL_MESSAGES, POLL_BYTES, FIRST_BYTES = 5_000, 4 * 1024 * 1024, 256 * 1024
IDLE_MOVE_SECONDS = 5.0
RETRY_SECONDS, HELD_SECONDS = 2.0, 0.1
MOVES_WITHIN = 300.0
"""Seconds within which the loop moves: one step of it waits up to two minutes for Kafka."""

# Called without a lookup for each message.
_topic = Message.topic

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
        self._beat = partial(heartbeat.beat, within=MOVES_WITHIN)
        self._once = once
        self._stop = threading.Event()
        self._garbage = GarbageCollection()
        self.config = config
        self._limits = config.settings.consumer
        self._progress = progress
        self._heartbeat = heartbeat
        self._fetch_sizer = FetchSizer(POLL_MESSAGES, POLL_BYTES, FIRST_BYTES)
        self._pace = FlushPace()
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
        self._decoders = opening.enter_context(closing(Decoders(config, endpoints)))
        self._gates = DeadLetterGates(config, self._ledger)
        self._tables = AssignedTables(self._ledger, self._heartbeat)
        self._assignment = Assignment(
            self._ledger, self._admin, self._tables, self._flush, self._beat
        )
        callbacks = RebalanceCallbacks(
            self._assignment.assigned, self._assignment.revoked, self._assignment.lost
        )
        slot = None if self._once else self._slot.number
        topics = self._decoders.topics
        self._member = Membership(config, endpoints, self._admin, topics, slot, callbacks)
        opening.callback(self._member.close)
        self._halted = HaltedTables(self._ledger, self._admin, self._member, self._tables)

    def close(self) -> None:
        """Leave the group and let go of the session; what is not committed is read again."""
        self._opened.close()

    # The loop ------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Read and commit until told to stop, or (once) up to what is in Kafka now.

        Raises:
            TerminalError: In a `once` run, a table stopped; the others are committed.
        """
        keep_freed_memory()
        self._stop = stop
        halted = self._tables.halted
        goals = ends_now(self._admin, self._member, self._decoders.topics) if self._once else {}
        self._member.join()
        while not stop.is_set() and not (
            self._once and are_reached(goals, self._ledger, without=halted)
        ):
            self._beat("reading")
            self._buffer(self._member.consume(self._fetch_sizer.messages(), POLL_SECONDS))
            self._read_again()
            self._flush_all(self._due())
            self._read_again()
            self._resume_halted()
            self._garbage.run_if_due()
        self._flush_all(list(self._tables.buffers))
        if self._once and halted:
            raise next(iter(halted.values()))

    def _buffer(self, messages: Sequence[Message]) -> None:
        """Take what was read of tables that are read, and the events among it."""
        now = time.monotonic()
        size = 0
        for run in runs(messages):
            error = run[0].error()
            if error is not None and (error.fatal() or error.code() == KafkaError._FATAL):
                self._rejoin(error.str())
                return
            if error is not None:
                self._take_event(run[0], now)
                continue
            for topic, records in groupby(run, _topic):
                if self._tables.is_read(topic):
                    size += self._tables.buffers[topic].add(list(records), now)
        self._fetch_sizer.observe(len(messages), size)

    def _take_event(self, message: Message, now: float) -> None:
        """An error or the end of a partition, which come in the place of a record."""
        error, topic = message.error(), message.topic() or ""
        if error.code() == KafkaError._PARTITION_EOF:
            if topic in self._tables.buffers:
                buffer = self._tables.buffers[topic]
                buffer.end_of_partition(message.partition(), message.offset(), now)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._tables.halt(topic, position_removed(topic, message.partition()))
        else:
            log.warning(
                "kafka_error", message="Kafka reports an error.", table=topic, reason=error.str()
            )

    def _rejoin(self, reason: str) -> None:
        """Join the group as a new member; what was read is dropped, the ledger knows from where.

        Raises:
            ServiceUnreachable: It happened too often within a minute.
        """
        self._tables.clear()
        self._member.rejoin(reason, self._stop)

    def _resume_halted(self) -> None:
        """Let tables go on whose loss somebody has accepted meanwhile.

        They go on as after a start: as a new member, whose partitions are all looked at anew.
        """
        if self._once or not (accepted := self._halted.accepted()):
            return
        self._flush_all(list(self._tables.buffers))
        for topic in accepted:
            self._tables.resume(topic)
        self._tables.clear()
        self._member.begin_anew()

    def _read_again(self) -> None:
        """Drop what was read of tables that lost a race, and read from where the ledger stands.

        Not within a rebalance: messages that were fetched before it are still on their way to us,
        and taken for the first ones after the ledger's position they would leave a gap.
        """
        for topic in self._tables.take_behind():
            self._member.seek(topic, self._tables.reload(topic).position)

    def _due(self) -> Iterator[str]:
        """The tables whose buffer must become a commit now, the quick ones first."""
        now = time.monotonic()
        left = {}
        sizes = {topic: buffer.size(now) for topic, buffer in self._tables.buffers.items()}
        active = sum(size.rows > 0 for size in sizes.values())
        for topic, size in sorted(sizes.items(), key=lambda item: item[1].bytes):
            idle = self._tables.buffers[topic].idle_move(now)
            is_moved = idle > 0 and (self._once or idle >= IDLE_MOVE_SECONDS)
            allowed = self._pace.allows(topic, now, active, size)
            if is_moved or flush_is_due(size, self._limits, allowed):
                yield topic
            else:
                left[topic] = size
        yield from over_memory_limit(left, self._limits)

    def _flush_all(self, topics: Iterable[str]) -> None:
        for topic in topics:
            size = self._tables.buffers[topic].size(began := time.monotonic())
            self._flush(topic)
            self._pace.flushed(topic, size, began, time.monotonic())

    # One table -----------------------------------------------------------------------------

    def _flush(self, topic: str) -> None:
        """Decode, write and commit one table's buffer; the buffer is emptied only afterwards."""
        buffer = self._tables.buffers.get(topic)
        if buffer is None or not self._tables.is_read(topic) or not buffer.starts():
            return
        self._beat(f"committing {topic}")
        if not self._assignment.is_same_topic(topic):
            return
        try:
            flush = self._decoded(topic, buffer)
        except ServiceUnreachable as error:
            log_waiting(topic, error)
            return
        except (SchemaDrift, DeadLetterLimit) as error:
            self._tables.halt(topic, error)
            return
        if flush.ranges and not self._commit(topic, flush):
            return
        log_committed(topic, flush)
        if flush.rows is not None:
            self._progress(flush.rows.num_rows)
        self._tables.reload(topic)
        failpoint("commit.before_advisory_offsets")
        self._member.commit_advisory(topic, {r.partition: r.next_offset for r in flush.ranges})

    def _decoded(self, topic: str, buffer: TableBuffer) -> Flush:
        state = buffer.state
        decoded = self._decoders[topic].decode(buffer.messages(), state.schema, state.epoch)
        self._gates.check(topic, decoded.dead_letters)
        return Flush(
            state=state,
            starts=buffer.starts(),
            ranges=buffer.ranges(decoded.rows),
            rows=decoded.rows,
            schema=decoded.schema,
            dead_letters=decoded.dead_letters,
        )

    def _commit(self, topic: str, flush: Flush) -> bool:
        """Commit, and wait for what passes; False: the same records are read again."""
        while True:
            try:
                commit_flush(self._ledger, self._session, self._decoders[topic].ref, flush)
                return True
            except DiskFull as error:
                log.error(
                    "waiting_for_disk",
                    message="A commit waits for room on the disk.",
                    table=topic,
                    reason=str(error),
                )
                self._beat("waiting for room on the disk")
                if self._stop.wait(RETRY_SECONDS):
                    return False
            except TableHeld:
                if self._stop.wait(HELD_SECONDS):
                    return False
            except CommitConflict as error:
                log.warning(
                    "commit_conflict",
                    message="Another process has committed these offsets;"
                    " reading goes on from the ledger's position.",
                    table=topic,
                    reason=str(error),
                )
                self._tables.fell_behind(topic)
                return False
