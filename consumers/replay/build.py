"""Spans of a topic decoded into files of a new generation: here, and in other processes."""

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
from consumers.replay.offset_ranges import OffsetSpan
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
    """Decodes spans of one topic; what it has opened serves all of them.

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

    def build(self, span: OffsetSpan, look: Callable[[], None] = lambda: None) -> Schema:
        """Decode a span into files; gives the schema with which it ended.

        Args:
            span: What.
            look: Called after each batch; what it raises ends it.
        """
        plan, schema = self._plan, self._plan.schema
        writer = SegmentWriter(self._ledger, plan.target, span.partition, span.first)
        batches = self._kafka.read(plan.ref.topic, span.partition, span.first, span.end)
        try:
            for batch in batches:
                decoded = self._decoder.decode(batch, schema, plan.epoch)
                schema = decoded.schema
                writer.add(decoded, batch[-1].offset() + 1)
                del batch, decoded  # not kept while the next one comes
                look()
                self._garbage.run_if_due()
            writer.finish(span.end)
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

    def build(self, plan: Plan, piece: OffsetSpan) -> Future[Schema]:
        """Let one of them decode a piece."""
        return self._pool.submit(_build, plan, piece)


def build_all(
    pieces: Sequence[OffsetSpan], plan: Plan, helpers: Helpers, look: Callable[[], None]
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
    queue = _PieceQueue(pieces, plan, helpers)

    def see() -> None:
        queue.raise_failures()
        look()

    queue.start_helpers()
    here: list[Schema] = []
    with Builder(plan) as builder:
        while (piece := queue.take()) is not None:
            here.append(builder.build(piece, see))
    while not queue.wait(LOOK_SECONDS):
        see()
    return here + queue.results()


class _PieceQueue:
    """Pieces that are still to be built, and those that helpers build.

    Args:
        pieces: All of them, in the order in which they are given out.
        plan: What is built.
        helpers: Each gets the next piece once it has ended one.
    """

    def __init__(self, pieces: Sequence[OffsetSpan], plan: Plan, helpers: Helpers) -> None:
        self._todo = deque(pieces)
        self._plan = plan
        self._helpers = helpers
        self._futures: list[Future[Schema]] = []
        self._lock = threading.Lock()

    def start_helpers(self) -> None:
        """Give every helper its first piece."""
        for _ in range(self._helpers.count):
            self._hand_out()

    def take(self) -> OffsetSpan | None:
        """The next piece for this process; None: all have been given out."""
        with self._lock:
            return self._todo.popleft() if self._todo else None

    def _hand_out(self, ended: Future[Schema] | None = None) -> None:
        """Give the next piece to a helper that has ended one."""
        if ended is not None and (ended.cancelled() or ended.exception() is not None):
            return
        with self._lock:
            if not self._todo:
                return
            future = self._helpers.build(self._plan, self._todo.popleft())
            self._futures.append(future)
        future.add_done_callback(self._hand_out)

    def wait(self, seconds: float) -> bool:
        """Whether the helpers have ended; waits so long, or until one fails.

        Called once `take` has nothing left: from then on no future is added.
        """
        if all(future.done() for future in self._futures):
            return True
        wait(list(self._futures), seconds, FIRST_EXCEPTION)
        return False

    def raise_failures(self) -> None:
        """Raise what a helper has raised."""
        for future in list(self._futures):
            if future.done():
                _result(future, self._plan)

    def results(self) -> list[Schema]:
        """The schemas of all pieces that helpers built."""
        return [_result(future, self._plan) for future in self._futures]


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


def _build(plan: Plan, span: OffsetSpan) -> Schema:
    global _builder
    if _builder is None or _builder[0] != plan:
        if _builder is not None:
            _builder[1].__exit__()
        _builder = (plan, Builder(plan).__enter__())
    return _builder[1].build(span)


def _stand_ready() -> None: ...


def _begin(parent: int) -> None:
    """End with the process that started this one, and by its word."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
