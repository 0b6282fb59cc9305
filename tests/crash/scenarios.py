"""Long stories with chance in them: the same for `make test` (short) and `make soak` (long)."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.crash.conftest import Broker
from tests.crash.oracle import DEADLINE, LakeUnderTest, Worker, until
from tests.crash.readers import LedgerReader, PublicReader, Reader

KILL_SECONDS = 1.0
# Its supervisor waits up to 30 s before it starts one again that dies and dies.
AFTER_THE_BROKER = 150.0
ROLES = ("consume", "consume", "compact")


@contextmanager
def under_load(lake: LakeUnderTest) -> Iterator[Callable[[], None]]:
    """Load, and two readers that look all the while; gives a check that the load still runs."""
    with loading(lake, PublicReader(lake), LedgerReader(lake)) as check:
        yield check
    lake.check()


@contextmanager
def loading(lake: LakeUnderTest, *readers: Reader) -> Iterator[Callable[[], None]]:
    """Load and some readers; ends when all of it is in the lake and nobody is at work."""
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

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    try:
        with ExitStack() as stack:
            for reader in readers:
                stack.enter_context(reader)
            try:
                yield check
            finally:
                stop.set()
                thread.join(120)
            assert not thread.is_alive(), "Kafka does not take records"
            check()
            lake.await_caught_up()
            lake.stop()
    finally:
        stop.set()


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
        _await_progress(lake, check)


def replay_kills(lake: LakeUnderTest, kills: int, lose_the_ledger: bool = False) -> None:
    """Rebuilds and replays, one after the other, while workers and compactor run; all are killed.

    Args:
        lake: The lake.
        kills: How many.
        lose_the_ledger: Half-way everybody dies, and the ledger with them.
    """
    chance = random.Random(lake.seed)
    if not lose_the_ledger:
        with under_load(lake) as check:
            _kill_replays(lake, chance, kills, check)
        return
    with loading(lake) as check:
        with PublicReader(lake), LedgerReader(lake):
            _kill_replays(lake, chance, kills // 2, check)
        # Nobody can read a lake without a ledger; and half of what a killed one left may go.
        lake.stop(signal.SIGKILL)
        for path in lake.paths.root.glob("ledger.db*"):
            path.unlink()
        _run(lake, "ledger", "rebuild", "--yes")
        with PublicReader(lake), LedgerReader(lake):
            _run(lake, "replay")
            _kill_replays(lake, chance, kills - kills // 2, check)
    _run(lake, "replay")
    lake.check()


def _kill_replays(
    lake: LakeUnderTest, chance: random.Random, kills: int, check: Callable[[], None]
) -> None:
    """Ends with a rebuild that nobody killed, and a commit after it."""
    running = [lake.start(role) for role in ROLES]
    _await_progress(lake, check)
    replaying = _replay(lake, chance)
    done = 0
    while done < kills:
        check()
        _wait(chance.uniform(0, KILL_SECONDS / 2))
        number = chance.randrange(len(ROLES) + 3)
        if number < len(ROLES):
            _end_by(running[number], signal.SIGKILL)
            running[number] = lake.start(ROLES[number])
            done += 1
        elif replaying.exit_code() is None:
            replaying.signal(signal.SIGKILL)
            done += 1
        if replaying.exit_code() is not None:
            _must_have_said_why(replaying)
            replaying = _replay(lake, chance)
    replaying.await_end()
    _must_have_said_why(replaying)
    _run(lake, "replay", chance.choice(lake.topics), "--rebuild", "--workers", "1")
    _await_progress(lake, check)


def _replay(lake: LakeUnderTest, chance: random.Random) -> Worker:
    rebuild = ("--rebuild", "--workers", "1") if chance.random() < 0.7 else ()
    return lake.start("replay", chance.choice(lake.topics), *rebuild)


def _must_have_said_why(replaying: Worker) -> None:
    """Done, killed, or given up for a named reason that goes away by itself."""
    code, text = replaying.await_end(), replaying.text()
    if code not in (0, -signal.SIGKILL):
        assert "could not switch" in text, f"{replaying.log.name} ended with {code}\n{text}"


def _run(lake: LakeUnderTest, *words: str) -> None:
    worker = lake.start(*words)
    assert worker.await_end() == 0, f"{words}\n{worker.text()}\n{lake.show_logs(10)}"


def broker_kills(lake: LakeUnderTest, broker: Broker, kills: int) -> None:
    """The broker dies at random moments; the workers live through it."""
    chance = random.Random(lake.seed)
    with under_load(lake) as check:
        workers = [lake.start(role) for role in ROLES]
        for _ in range(kills):
            check()
            _await_progress(lake, check, AFTER_THE_BROKER)
            _wait(chance.uniform(0, KILL_SECONDS))
            broker.kill()
            broker.await_back()
        _await_progress(lake, check, AFTER_THE_BROKER)
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
        _await_progress(lake, check)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)  # the moment is what is random here


def _end_by(worker: Worker, number: int) -> None:
    worker.signal(number)
    code = worker.await_end()
    assert code in (0, -number), f"{worker.log.name} ended with {code}\n{worker.text()}"


def _await_progress(
    lake: LakeUnderTest, check: Callable[[], None], seconds: float = DEADLINE
) -> None:
    """Wait for a commit that is made after now: a lake that stands still proves nothing."""
    before = lake.last_commit()

    def is_there() -> bool:
        check()  # without load there is nothing to commit
        return lake.last_commit() > before

    until(is_there, lambda: f"a commit\n{lake.show_logs(5)}", seconds)
