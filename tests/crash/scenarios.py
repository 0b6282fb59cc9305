"""Long stories with chance in them: the same for `make test` (short) and `make soak` (long)."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.crash.conftest import Broker
from tests.crash.oracle import LakeUnderTest, Worker, until
from tests.crash.readers import LedgerReader, PublicReader

KILL_SECONDS = 1.0
ROLES = ("consume", "consume", "compact")


@contextmanager
def under_load(lake: LakeUnderTest) -> Iterator[Callable[[], None]]:
    """Load, and two readers that look all the while; gives a check that the load still runs."""
    stop = threading.Event()
    failure: list[BaseException] = []

    def load() -> None:
        try:
            while not stop.wait(0.05):
                lake.loader.burst()
        except BaseException as error:
            failure.append(error)

    def check() -> None:
        if failure:
            raise failure[0]

    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    try:
        with PublicReader(lake), LedgerReader(lake):
            try:
                yield check
            finally:
                stop.set()
                loading.join(120)
            assert not loading.is_alive(), "Kafka does not take records"
            check()
            lake.await_caught_up()
            lake.stop()
    finally:
        stop.set()
    lake.check()


def random_kills(lake: LakeUnderTest, kills: int) -> None:
    """Two workers and the compactor are killed at random moments, and started again."""
    chance = random.Random(lake.seed)
    running: list[Worker] = []
    with under_load(lake) as check:
        for role in ROLES:
            running.append(lake.start(role))
        for _ in range(kills):
            check()
            _wait(chance.uniform(0, KILL_SECONDS))
            number = chance.randrange(len(ROLES))
            _end_by(running[number], signal.SIGKILL)
            running[number] = lake.start(ROLES[number])
        _await_progress(lake)


def broker_kills(lake: LakeUnderTest, broker: Broker, kills: int) -> None:
    """The broker dies at random moments; the workers live through it."""
    chance = random.Random(lake.seed)
    with under_load(lake) as check:
        workers = [lake.start(role) for role in ROLES]
        for _ in range(kills):
            check()
            _await_progress(lake)
            _wait(chance.uniform(0, KILL_SECONDS))
            broker.kill()
            broker.await_back()
        _await_progress(lake)
        ended = [w.log.name for w in workers if w.exit_code() is not None]
        assert not ended, f"ended with the broker: {ended}\n{lake.show_logs()}"


def join_and_leave(lake: LakeUnderTest, seconds: float) -> None:
    """Three workers; every second one leaves, by SIGTERM or SIGKILL, and another one joins."""
    chance = random.Random(lake.seed)
    deadline = time.monotonic() + seconds
    with under_load(lake) as check:
        lake.start("compact")
        workers = [lake.start("consume") for _ in range(3)]
        while time.monotonic() < deadline:
            check()
            _wait(1.0)
            number = chance.randrange(3)
            _end_by(workers[number], chance.choice((signal.SIGTERM, signal.SIGKILL)))
            workers[number] = lake.start("consume")
        _await_progress(lake)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)  # the moment is what is random here


def _end_by(worker: Worker, number: int) -> None:
    worker.signal(number)
    code = worker.await_end()
    assert code in (0, -number), f"{worker.log.name} ended with {code}\n{worker.text()}"


def _await_progress(lake: LakeUnderTest) -> None:
    """Wait for a commit that is made after now: a lake that stands still proves nothing."""
    before = lake.last_commit()
    until(lambda: lake.last_commit() > before, f"a commit\n{lake.show_logs(5)}")
