"""From produce to visible for a reader through the ledger, at a steady rate.

make bench NAME=visible [RATE=500] [SECONDS=30]
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time

import psutil
import pyarrow.parquet as pq
from confluent_kafka import Message, Producer

from benchmarks.broker import broker, make_lake, note, topic_of, value
from lake.config import Config
from lake.ledger import Ledger
from lake.storage.paths import LakePaths

LOOK_SECONDS = 0.01
START_SECONDS = 60.0


class Feed(threading.Thread):
    """Produces records evenly and remembers when each was handed over."""

    def __init__(self, lake: Config, rate: int, seconds: int) -> None:
        super().__init__()
        self.sent: dict[tuple[int, int], float] = {}
        self._topic = topic_of(lake)
        self._count = rate * seconds
        self.rate = rate
        self._producer = Producer(lake.endpoints().kafka_client(linger_ms=0))

    def run(self) -> None:
        """The thread's work."""
        rnd = random.Random(1)
        began = time.monotonic()
        for number in range(self._count):
            # A poll ends with the first record that is delivered.
            while (wait := began + number / self.rate - time.monotonic()) > 0:
                self._producer.poll(wait)
            at = time.time()

            def delivered(error: object, message: Message, at: float = at) -> None:
                self.sent[message.partition(), message.offset()] = at

            self._producer.produce(
                self._topic, value(number, rnd), key=b"%d" % number, on_delivery=delivered
            )
        self._producer.flush(30)


def watch(lake: Config, feed: Feed, after: int = 0) -> tuple[list[float], int]:
    """Seconds until each record was visible, and the commit up to which was read."""
    topic = topic_of(lake)
    seen: dict[tuple[int, int], float] = {}
    with Ledger(LakePaths(lake.data_dir)) as ledger:
        deadline = time.monotonic() + START_SECONDS + feed._count / feed.rate
        while len(seen) < feed._count and time.monotonic() < deadline:
            newest = ledger.commits.last()
            for rows in ledger.files.new_rows(topic, after, newest):
                table = pq.read_table(rows.path, columns=["_partition", "_offset"])
                now = time.time()
                pairs = zip(*(table.column(n).to_pylist() for n in table.column_names), strict=True)
                seen |= dict.fromkeys(pairs, now)
            after = newest
            time.sleep(LOOK_SECONDS)
    feed.join()
    return sorted(at - feed.sent[pair] for pair, at in seen.items()), after


def main() -> None:
    """Run it."""
    rate, seconds = int(os.environ.get("RATE", "500")), int(os.environ.get("SECONDS", "30"))
    with broker() as (config, folder):
        lake = make_lake(config, folder, "bench_visible")
        worker = psutil.Popen(
            [sys.executable, "-m", "ducklake.cli", "consume"],
            env={**os.environ, "DUCKLAKE_CONFIG": str(lake.path)},
        )
        try:
            warm = Feed(lake, 100, 5)
            warm.start()
            _, commit = watch(lake, warm)
            note(f"{rate} messages/s for {seconds} s ...")
            feed = Feed(lake, rate, seconds)
            feed.start()
            waits, _ = watch(lake, feed, commit)
        finally:
            worker.terminate()
            worker.wait(30)
    p50, p99 = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    note(f"visible after {p50:.2f} s (p50), {p99:.2f} s (p99), of {len(waits):,} records")
    print(json.dumps({"p50_s": round(p50, 3), "p99_s": round(p99, 3), "records": len(waits)}))


if __name__ == "__main__":
    main()
