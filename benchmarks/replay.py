"""A rebuild of a whole topic against the live rate of two workers, alone and under live traffic.

make bench NAME=replay [RECORDS=2000000] [RATE=500]
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

from benchmarks.broker import broker, fill, make_lake, note, topic_of
from benchmarks.ingest import ours
from benchmarks.visible import Feed
from lake.config import Config
from lake.ledger import Ledger
from lake.storage.paths import LakePaths

LOOK_SECONDS = 0.05
RUNS = 3
WARM_SECONDS = 20.0


@dataclass
class Run:
    """One rebuild: messages per second, peak memory of one process in MB, and what it printed."""

    rate: float
    rss_mb: float
    said: dict[str, object]


def _positions(ledger: Ledger, topic: str) -> int:
    state = ledger.tables.get(topic)
    return sum(state.positions.values()) if state else 0


def rebuild(
    lake: Config, count: int, feed: Feed | None = None, before: int = 0
) -> tuple[Run, float]:
    """Rebuild the table; also gives the largest lag of the live consumer in seconds.

    Args:
        lake: The lake.
        count: Records in the topic.
        feed: Sends more of them meanwhile.
        before: Where the ledger stood before the first of these.
    """
    topic = topic_of(lake)
    process = psutil.Popen(
        [sys.executable, "-m", "ducklake.cli", "replay", topic, "--rebuild", "--json"],
        env={**os.environ, "DUCKLAKE_CONFIG": str(lake.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None and process.stdout is not None
    first = process.stderr.readline()  # it has read its configuration and begins
    began = time.monotonic()
    memory: dict[int, float] = {}
    lag = 0.0
    with Ledger(LakePaths(lake.data_dir)) as ledger:
        while not select.select([process.stdout], [], [], LOOK_SECONDS)[0]:
            _measure(process, memory)
            if feed is not None and feed.is_alive():
                sent = len(feed.sent)
                lag = max(lag, (sent - _positions(ledger, topic) + before) / feed.rate)
    took = time.monotonic() - began  # it has switched, and says so
    said = process.stdout.read()
    if process.wait():
        raise SystemExit(first + process.stderr.read())
    return Run(count / took, max(memory.values()), json.loads(said)), lag


def _measure(process: psutil.Popen, peaks: dict[int, float]) -> None:
    with contextlib.suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                peaks[one.pid] = max(peaks.get(one.pid, 0.0), one.memory_info().rss / 1024**2)


def main() -> None:
    """Run it."""
    count = int(os.environ.get("RECORDS", "2000000"))
    rate = int(os.environ.get("RATE", "500"))
    with broker() as (config, folder):
        pairs = []
        for number in range(RUNS):  # each pair within seconds: the machine is not the same for long
            lake = make_lake(config, folder, f"bench_replay_{number}")
            _, reveal = fill(lake, count)
            live = ours(lake, reveal, 2, count).rate
            note(f"live, 2 workers: {live:,.0f} messages/s")
            alone, _ = rebuild(lake, count)
            note(f"rebuild alone: {alone.rate:,.0f} messages/s, {alone.rss_mb:.0f} MB at most")
            pairs.append((alone.rate / live, live, alone))
        ratio, live, alone = sorted(pairs, key=lambda pair: pair[0])[RUNS // 2]
        with Ledger(LakePaths(lake.data_dir)) as ledger:
            before = _positions(ledger, topic_of(lake))
        worker = psutil.Popen(
            [sys.executable, "-m", "ducklake.cli", "consume"],
            env={**os.environ, "DUCKLAKE_CONFIG": str(lake.path)},
        )
        try:
            feed = Feed(lake, rate, int(WARM_SECONDS + 3 * count / alone.rate))
            feed.start()
            time.sleep(WARM_SECONDS / 2)  # the worker has its partitions by then
            under_load, lag = rebuild(lake, count, feed, before)
        finally:
            worker.terminate()
            worker.wait(30)
        note(
            f"rebuild with live traffic of {rate}/s: {under_load.rate:,.0f} messages/s;"
            f" live at most {lag:.1f} s late"
        )
    print(
        json.dumps(
            {
                "live_2": round(live),
                "rebuild": round(alone.rate),
                "ratio": round(ratio, 2),
                "ratios": sorted(round(pair[0], 2) for pair in pairs),
                "rss_mb": round(max(under_load.rss_mb, *(pair[2].rss_mb for pair in pairs))),
                "rebuild_under_live": round(under_load.rate),
                "live_lag_s": round(lag, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
