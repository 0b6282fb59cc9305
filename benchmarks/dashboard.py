"""What open pages cost ingestion, and how fast pages are drawn on 1,000 days of history.

make bench NAME=dashboard [RECORDS=4000000] [PAGES=50] [TURNS=5] [DAYS=1000] [CACHE=FOLDER]

Two workers read the same records with and without a page that PAGES readers have open, each of them
as the page's script behaves: it listens to server-sent events, and draws itself anew. The readers
run on the same cores. Then `ducklake dashboard` is started anew on a lake of DAYS days, which is
written once, through the ledger's own commit, and kept in CACHE (a temporary folder by default).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import requests

from benchmarks import cycle as history
from benchmarks.broker import broker, fill, make_lake, note
from benchmarks.ingest import ours
from benchmarks.postgres import postgres
from ducklake.dashboard.access import TOKEN
from lake.config import CONFIG_NAME, Config, load_config

SECRET = "t" * 32
SIGNED_IN = {"authorization": f"Bearer {SECRET}"}
REDRAW_SECONDS = 0.3
"""After a change, as in page.js."""
OPENED = ("trust", "flow", "shop", "tables", "runs")
STARTS = 5


@contextmanager
def serving(config: Config) -> Iterator[str]:
    """`ducklake dashboard` over a lake; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ducklake.cli", "dashboard", "--config", str(config.path)],
        env={**os.environ, TOKEN: SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{address}health", timeout=30).ok:
                    break
            time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(30)


async def _ask(address: str, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, int]:
    at = urlsplit(address)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    header = f"authorization: {SIGNED_IN['authorization']}\r\nhost: {at.netloc}"
    writer.write(f"GET /{path} HTTP/1.1\r\n{header}\r\n\r\n".encode())
    size = 0
    while (line := (await reader.readline()).strip().lower()) != b"":
        if line.startswith(b"content-length:"):
            size = int(line.split()[1])
    return reader, writer, size


async def _page(address: str, path: str, drawn: Synchronized[int]) -> None:
    """One open page."""
    events, listening, _ = await _ask(address, "api/events")
    while line := await events.readline():
        if line.strip() == b"event: change":
            await asyncio.sleep(REDRAW_SECONDS)
            reader, writer, size = await _ask(address, path)
            await reader.readexactly(size)
            writer.close()
            drawn.value += 1
    listening.close()


def _readers(address: str, count: int, drawn: Synchronized[int]) -> None:
    """The process of all readers."""

    async def read() -> None:
        paths = islice(cycle(OPENED), count)
        await asyncio.gather(*(_page(address, path, drawn) for path in paths))

    asyncio.run(read())


@contextmanager
def opened_pages(config: Config, count: int) -> Iterator[Synchronized[int]]:
    """A page that so many readers have open; gives how often it was drawn for them."""
    with serving(config) as address:
        context = multiprocessing.get_context("spawn")
        drawn: Synchronized[int] = context.Value("i", 0)
        readers = context.Process(target=_readers, args=(address, count, drawn))
        readers.start()
        while drawn.value < count:
            if not readers.is_alive():
                raise SystemExit("the open pages have ended")
            time.sleep(0.05)
        try:
            yield drawn
        finally:
            readers.terminate()
            readers.join(30)


def rates(records: int, pages: int, turns: int) -> list[tuple[float, float]]:
    """Messages per second of each turn, without and with open pages; they take turns to begin."""
    found = []
    with broker() as (config, folder):
        for turn in range(turns):
            rate = {}
            for count in (0, pages) if turn % 2 == 0 else (pages, 0):
                lake = make_lake(config, folder, f"pages_{turn}_{count}")
                _, reveal = fill(lake, records)
                with ExitStack() as stack:
                    drawn = stack.enter_context(opened_pages(lake, count)) if count else None
                    rate[count] = ours(lake, reveal, 2, records).rate
                    drawings = f", drawn {drawn.value} times" if drawn is not None else ""
                note(f"{count} open pages: {rate[count]:,.0f} messages/s{drawings}")
            found.append((rate[0], rate[pages]))
    return found


def pages_ms(config: Config) -> dict[str, list[float]]:
    """Milliseconds until each page is drawn for the first time after a start; `/` comes first."""
    found: dict[str, list[float]] = {}
    for _ in range(STARTS):
        with serving(config) as address:
            for path in ("", *OPENED):
                began = time.monotonic()
                answer = requests.get(f"{address}{path}", headers=SIGNED_IN, timeout=120)
                took = time.monotonic() - began
                assert answer.ok, (path, answer.status_code)
                found.setdefault(path or "first", []).append(took * 1000)
    return found


def drawn_ms(days: int) -> dict[str, float]:
    """How long pages take on so many days of history: medians."""
    with ExitStack() as stack:
        cache = os.environ.get("CACHE") or stack.enter_context(TemporaryDirectory())
        folder = Path(cache) / f"shop-{days}"
        history.cycles(folder, days, 0, stack.enter_context(postgres()).endpoints())
        found = pages_ms(load_config(folder / CONFIG_NAME))
    return {name: round(statistics.median(values)) for name, values in found.items()}


def main() -> None:
    """Measure, and print one JSON object."""
    records = int(os.environ.get("RECORDS", 4_000_000))
    pages, turns = int(os.environ.get("PAGES", 50)), int(os.environ.get("TURNS", 5))
    found = rates(records, pages, turns)
    drawn = drawn_ms(days := int(os.environ.get("DAYS", 1000)))
    slowdowns = [1 - watched / alone for alone, watched in found]
    result = {
        "benchmark": "dashboard",
        "slowdown": round(statistics.median(slowdowns), 3),
        "slowdowns": [round(slowdown, 3) for slowdown in sorted(slowdowns)],
        "open_pages": pages,
        "messages_per_s": round(statistics.median(alone for alone, _ in found)),
        "messages_per_s_watched": round(statistics.median(watched for _, watched in found)),
        "first_page_ms": drawn["first"],
        "pages_ms": drawn,
        "days": days,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
