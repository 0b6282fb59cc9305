"""`ducklake consume --workers N`: a supervised group; a worker that is killed comes back."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Collection
from operator import attrgetter

import psutil
from confluent_kafka import Producer

from ducklake.supervision.stuck_writer import write_lock_holder
from lake.ledger import Ledger
from tests.crash.conftest import Broker, LakeMaker
from tests.crash.oracle import LakeUnderTest, until


def _children(pid: int) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just died
            if "consume" in process.cmdline():
                found.append(process)
    return found


def _committers(lake: LakeUnderTest) -> int:
    """How many sessions have committed so far."""
    if not lake.paths.ledger.exists():
        return 0
    database = sqlite3.connect(lake.paths.ledger, timeout=30)
    try:
        found = database.execute("SELECT count(DISTINCT session) FROM commits").fetchone()
        return int(found[0])
    except sqlite3.OperationalError:
        return 0  # its tables are not there yet
    finally:
        database.close()


def test_workers_share_the_topics_and_a_killed_one_comes_back(make_watched_lake: LakeMaker) -> None:
    lake = make_watched_lake(partitions=3)
    supervisor = lake.start("consume", "--workers", "2")
    until(lambda: len(_children(supervisor.pid)) == 2, "two workers")

    def both_commit() -> bool:
        lake.loader.burst()
        return _committers(lake) >= 2

    until(both_commit, "commits of both workers")
    victim = _children(supervisor.pid)[0]
    os.kill(victim.pid, signal.SIGKILL)
    lake.loader.burst()
    until(
        lambda: len([p for p in _children(supervisor.pid) if p.pid != victim.pid]) == 2,
        "a successor",
    )
    lake.loader.burst()
    lake.await_caught_up()
    workers = _children(supervisor.pid)
    lake.stop()
    assert not any(worker.is_running() for worker in workers), "workers end with their supervisor"
    lake.check()


def _stop_a_writer(lake: LakeUnderTest, workers: Collection[int]) -> int | None:
    """Stop one of them while it holds the ledger's write lock, if one does at this moment."""
    holder = write_lock_holder(lake.paths.ledger)
    if holder is None or holder not in workers:
        return None
    os.kill(holder, signal.SIGSTOP)
    time.sleep(0.01)  # it may have let go before it was stopped
    if write_lock_holder(lake.paths.ledger) == holder:
        return holder
    os.kill(holder, signal.SIGCONT)
    return None


def test_a_worker_that_stops_in_the_ledger_is_ended_by_its_supervisor(
    make_watched_lake: LakeMaker,
) -> None:
    lake = make_watched_lake(partitions=3)
    supervisor = lake.start("consume", "--workers", "2")
    until(lambda: len(_children(supervisor.pid)) == 2, "two workers")
    workers = [worker.pid for worker in _children(supervisor.pid)]
    victim: int | None = None

    def stopped() -> bool:
        nonlocal victim
        lake.loader.burst()
        soon = time.monotonic() + 1
        while victim is None and time.monotonic() < soon:
            victim = _stop_a_writer(lake, workers)
        return victim is not None

    until(stopped, "a worker within a transaction", 60)
    until(lambda: victim not in map(attrgetter("pid"), _children(supervisor.pid)), "its end", 60)
    lake.loader.burst()
    lake.await_caught_up()
    assert "write_lock_holder_ended" in supervisor.text()
    lake.stop()
    lake.check()


def test_a_backlog_of_large_records_passes_in_bounded_memory(
    make_lake: LakeMaker, broker: Broker
) -> None:
    lake = make_lake({"orders": "plain"}, consumer={"flush_rows": 50_000, "flush_mb": 64})
    [topic] = lake.topics
    records, size = 8_000, 100_000
    chance = random.Random(lake.seed)
    texts = [chance.randbytes(size // 2).hex() for _ in range(20)]
    producer = Producer({**broker.bootstrap, "compression.type": "lz4", "log_level": 0})
    for number in range(records):
        value = f'{{"id": {number}, "text": "{texts[number % len(texts)]}"}}'
        producer.produce(topic, value.encode(), partition=number % 2)
        if number % 200 == 0:
            producer.flush()
    assert producer.flush(60) == 0
    worker = lake.start("consume")
    memory = 0

    def all_there() -> bool:
        nonlocal memory
        memory = max(memory, psutil.Process(worker.pid).memory_info().rss)
        with Ledger(lake.paths) as ledger:
            return (
                ledger.tables.get(topic) is not None and ledger.offsets.row_count(topic) == records
            )

    until(all_there, "all records", 120)
    assert records * size > memory > 0
    assert memory < 700 * 1024 * 1024, f"{memory / 2**20:.0f} MB"
    lake.stop()
    assert not lake.verify()
