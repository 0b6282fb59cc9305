"""Stretches of a topic decoded into files of a new generation: here, and in other processes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

# DuckDB imports these at its first query, in each process that has not got them.
import pandas  # noqa: F401
import pyarrow.dataset  # noqa: F401

from consumers.ingest.memory import GarbageCollection, keep_freed_memory
from consumers.replay.offset_ranges import Stretch
from consumers.replay.range_reader import KafkaReader
from consumers.replay.segments import SegmentWriter, Target
from consumers.replay.tables import decoder_of
from lake.config import TableRef, load_config
from lake.errors import ServiceUnreachable
from lake.ledger import Ledger
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema

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


class Helpers:
    """Processes that stand ready before it is known what there is to do.

    They are forked from this one: enter it before anything has been opened, and they share all that
    is imported, which would take each of them half a second.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Helpers:
        if self.count:
            context = multiprocessing.get_context("fork")
            self._pool = ProcessPoolExecutor(self.count, context, _begin, (os.getpid(),))
            for _ in range(self.count):
                self._pool.submit(_stand_ready)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if not self.count:
            return
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=kind is not None, cancel_futures=True)

    def build(self, plan: Plan, piece: Stretch) -> Future[Schema]:
        """Let one of them decode a piece."""
        return self._pool.submit(_build, plan, piece)


def build_all(
    pieces: Sequence[Stretch], plan: Plan, helpers: Helpers, look: Callable[[], None]
) -> list[Schema]:
    """Build all pieces: this process takes part, the others help.

    Args:
        pieces: What is to be built, the largest first.
        plan: Of which table, and where to.
        helpers: Other processes; they end where the caller ends.
        look: Called now and then; what it raises ends everything.

    Returns:
        The schemas with which they ended, in no order.

    Raises:
        ServiceUnreachable: A process was killed.
    """
    todo = deque(pieces)
    helping: list[Future[Schema]] = []
    lock = threading.Lock()
    here: list[Schema] = []

    def help_on(ended: Future[Schema] | None = None) -> None:
        """Give the next piece to a process that has ended one."""
        if ended is not None and (ended.cancelled() or ended.exception() is not None):
            return
        with lock:
            if not todo:
                return
            future = helpers.build(plan, todo.popleft())
            helping.append(future)
        future.add_done_callback(help_on)

    def see() -> None:
        for future in list(helping):
            if future.done():
                _result(future, plan)
        look()

    for _ in range(helpers.count):
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


_builder: tuple[Plan, Builder] | None = None
"""Of a process that was started to help."""


def _build(plan: Plan, stretch: Stretch) -> Schema:
    global _builder
    if _builder is None or _builder[0] != plan:
        if _builder is not None:
            _builder[1].__exit__()
        _builder = (plan, Builder(plan).__enter__())
    return _builder[1].build(stretch)


def _stand_ready() -> None: ...


def _begin(parent: int) -> None:
    """End with the process that started this one, and by its word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
