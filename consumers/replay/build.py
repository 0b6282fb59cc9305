"""Stretches of a topic decoded into files of a new generation: here, and in other processes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from consumers.kafka_range import KafkaReader
from consumers.memory import GarbageCollection, keep_freed_memory
from consumers.replay.segments import SegmentWriter, Target
from consumers.replay.spans import Stretch
from consumers.replay.tables import decoder_of
from ducklake.config import TableRef, load_config
from ducklake.errors import ServiceUnreachable
from ducklake.lake.ledger import Ledger
from ducklake.lake.paths import LakePaths
from ducklake.lake.schema import Schema

LOOK_SECONDS = 0.25
NICENESS = 5  # the live consumer goes first
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is built: the same for all processes.

    Attributes:
        config: The configuration's file.
        ref: The table.
        target: The new generation.
        epoch: Of the topic.
        schema: With which decoding begins.
    """

    config: Path
    ref: TableRef
    target: Target
    epoch: int
    schema: Schema


class Builder:
    """Decodes stretches of one topic; what it has opened serves all of them.

    Args:
        plan: What is built.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._garbage = GarbageCollection()

    def __enter__(self) -> Builder:
        keep_freed_memory()
        plan = self._plan
        config = load_config(plan.config)
        endpoints = config.endpoints()
        table = next(spec for known, spec in config.tables() if known == plan.ref)
        with ExitStack() as opening:
            opening.callback(self._garbage.end)
            self._ledger = opening.enter_context(Ledger(LakePaths(config.data_dir)))
            self._kafka = opening.enter_context(KafkaReader(endpoints))
            self._decoder = opening.enter_context(decoder_of(config, endpoints, plan.ref, table))
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def build(self, stretch: Stretch, look: Callable[[], None] = lambda: None) -> Schema:
        """Decode a stretch into files; gives the schema with which it ended.

        Args:
            stretch: What.
            look: Called after each batch; what it raises ends it.
        """
        plan, schema = self._plan, self._plan.schema
        writer = SegmentWriter(self._ledger, plan.target, stretch.partition, stretch.first)
        batches = self._kafka.read(plan.ref.topic, stretch.partition, stretch.first, stretch.end)
        try:
            for batch in batches:
                decoded = self._decoder.decode(batch, schema, plan.epoch)
                schema = decoded.schema
                writer.add(decoded, batch[-1].offset() + 1)
                del batch, decoded  # not kept while the next one comes
                look()
                self._garbage.run_if_due()
            writer.finish(stretch.end)
        except BaseException:
            writer.discard()
            raise
        return schema


def build_all(
    pieces: Sequence[Stretch], plan: Plan, workers: int, look: Callable[[], None]
) -> list[Schema]:
    """Build all pieces: this process takes part, others are started beside it.

    Args:
        pieces: What is to be built, the largest first.
        plan: Of which table, and where to.
        workers: Processes, this one included.
        look: Called now and then; what it raises ends everything.

    Returns:
        The schemas with which they ended, in no order.

    Raises:
        ServiceUnreachable: A process was killed.
    """
    helpers = min(workers, len(pieces)) - 1
    if helpers < 1:
        with Builder(plan) as builder:
            return [builder.build(piece, look) for piece in pieces]
    todo = deque(pieces)
    helping: list[Future[Schema]] = []
    lock = threading.Lock()
    here: list[Schema] = []
    with _pool(helpers, plan) as pool:

        def help_on(ended: Future[Schema] | None = None) -> None:
            """Give the next piece to a process that has ended one."""
            if ended is not None and (ended.cancelled() or ended.exception() is not None):
                return
            with lock:
                if not todo:
                    return
                future = pool.submit(_build, todo.popleft())
                helping.append(future)
            future.add_done_callback(help_on)

        def see() -> None:
            for future in list(helping):
                if future.done():
                    _result(future, plan)
            look()

        for _ in range(helpers):
            help_on()
        with Builder(plan) as builder:
            while True:
                with lock:
                    piece = todo.popleft() if todo else None
                if piece is None:
                    break
                here.append(builder.build(piece, see))
        while len(here) + sum(future.done() for future in list(helping)) < len(pieces):
            wait(list(helping), LOOK_SECONDS, FIRST_EXCEPTION)
            see()
        return here + [_result(future, plan) for future in helping]


def _result(future: Future[Schema], plan: Plan) -> Schema:
    try:
        return future.result()
    except BrokenProcessPool:
        raise ServiceUnreachable(
            f"A process of the rebuild of {plan.ref.topic} was killed.",
            "Is there enough memory? Nothing has changed; start it again.",
        ) from None


_builder: Builder
"""Of a process that was started to help."""


def _build(stretch: Stretch) -> Schema:
    return _builder.build(stretch)


def _begin(parent: int, plan: Plan) -> None:
    global _builder
    _tie_to_parent(parent)
    _builder = Builder(plan).__enter__()


@contextmanager
def _pool(workers: int, plan: Plan) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, and at once if the block fails."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (os.getpid(), plan))
    try:
        yield pool
        pool.shutdown(wait=False)  # they have nothing to do any more
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise


def _tie_to_parent(parent: int) -> None:
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
