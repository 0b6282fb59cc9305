"""Stretches of a topic decoded into files of a new generation: here, and in other processes."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from consumers.kafka_range import KafkaReader
from consumers.memory import keep_freed_memory
from consumers.replay.segments import SegmentWriter, Target
from consumers.replay.spans import Stretch
from consumers.replay.tables import decoder_of
from ducklake.config import TableRef, load_config
from ducklake.errors import ServiceUnreachable
from ducklake.lake.ledger import Ledger
from ducklake.lake.paths import LakePaths
from ducklake.lake.schema import Schema

LOOK_SECONDS = 0.25
COLLECT_SECONDS = 30.0
NICENESS = 5  # the live consumer goes first
_PR_SET_PDEATHSIG = 1


class Build(Protocol):
    """Decodes one stretch, looks up now and then, and gives the schema it ended with, as JSON."""

    def __call__(self, stretch: Stretch, look: Callable[[], None] = ...) -> str: ...  # noqa: D102


def build_all(
    pieces: Sequence[Stretch], build: Build, workers: int, look: Callable[[], None]
) -> list[str]:
    """Build all pieces: this process takes part, others are started beside it.

    Args:
        pieces: What is to be built, the largest first.
        build: Builds one; it can be pickled.
        workers: Processes, this one included.
        look: Called now and then; what it raises ends everything.

    Returns:
        What `build` gave for each piece, in no order.

    Raises:
        ServiceUnreachable: A process was killed.
    """
    if min(workers, len(pieces)) <= 1:
        return [build(piece, look) for piece in pieces]
    todo = deque(pieces)
    helping: list[Future[str]] = []
    lock = threading.Lock()
    here: list[str] = []
    with _pool(min(workers, len(pieces)) - 1) as pool:

        def help_on(ended: Future[str] | None = None) -> None:
            """Give the next piece to a process that has ended one."""
            if ended is not None and (ended.cancelled() or ended.exception() is not None):
                return
            with lock:
                if not todo:
                    return
                future = pool.submit(build, todo.popleft())
                helping.append(future)
            future.add_done_callback(help_on)

        def see() -> None:
            for future in list(helping):
                if future.done():
                    _result(future)
            look()

        for _ in range(min(workers, len(pieces)) - 1):
            help_on()
        while True:
            with lock:
                piece = todo.popleft() if todo else None
            if piece is None:
                break
            here.append(build(piece, see))
        while len(here) + sum(future.done() for future in list(helping)) < len(pieces):
            wait(list(helping), LOOK_SECONDS, FIRST_EXCEPTION)
            see()
        return here + [_result(future) for future in helping]


def _result(future: Future[str]) -> str:
    try:
        return future.result()
    except BrokenProcessPool:
        raise ServiceUnreachable(
            "A process of the rebuild was killed.",
            "Is there enough memory? Nothing has changed; start it again.",
        ) from None


def build_stretch(
    config_path: Path,
    ref: TableRef,
    target: Target,
    epoch: int,
    schema: str,
    stretch: Stretch,
    look: Callable[[], None] = lambda: None,
) -> str:
    """Decode a stretch into files of a new generation; in a process of its own, or here.

    Returns:
        The schema with which it ended, as JSON.
    """
    keep_freed_memory()
    gc.disable()  # left to itself, Python looks at all messages for ever
    config = load_config(config_path)
    endpoints = config.endpoints()
    table = next(spec for known, spec in config.tables() if known == ref)
    grown = Schema.load(schema)
    with (
        Ledger(LakePaths(config.data_dir)) as ledger,
        KafkaReader(endpoints) as kafka,
        decoder_of(config, endpoints, ref, table) as decoder,
    ):
        writer = SegmentWriter(ledger, target, stretch.partition, stretch.first)
        collect_at = time.monotonic() + COLLECT_SECONDS
        try:
            for batch in kafka.read(ref.topic, stretch.partition, stretch.first, stretch.end):
                decoded = decoder.decode(batch, grown, epoch)
                grown = decoded.schema
                writer.add(decoded, batch[-1].offset() + 1)
                del batch, decoded  # not kept while the next one comes
                look()
                if time.monotonic() > collect_at:
                    gc.collect()
                    collect_at = time.monotonic() + COLLECT_SECONDS
            writer.finish(stretch.end)
        except BaseException:
            writer.discard()
            raise
    return grown.dump()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with this one, and at once if the block fails."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _tie_to_parent, (os.getpid(),))
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
