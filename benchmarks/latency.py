"""From INSERT in MySQL to PostgreSQL: raw.orders, and the day's figure in consume.daily_sales.

make bench NAME=latency [RATE=100] [SECONDS=300]

Everything runs on this machine: the embedded services and all roles of `ducklake run`, on the
demo's shop. Orders are inserted with one item each, in one transaction, and counted where they
arrive.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
import pymysql

from benchmarks.broker import note
from lake.config import Config, load_config
from techstore.simulate import shop_connection

ROOT = Path(__file__).parents[1]
COPIED = ("ducklake.yml", "dbt_techstore", "dbt_ducklake", "connect", "docker")
LOOK_SECONDS = 0.02
QUIET_SECONDS = 20.0
PATIENCE = 600.0
RAW = "SELECT count(DISTINCT order_id) FROM raw.orders"
CONSUME = "SELECT coalesce(sum(orders + cancelled_orders), 0) FROM consume.daily_sales"


class Orders(threading.Thread):
    """Inserts orders evenly, and remembers when each was committed."""

    def __init__(self, config: Config, rate: float, count: int) -> None:
        super().__init__(daemon=True)
        self._rate = rate
        self._count = count
        self.committed: list[float] = []
        server = shop_connection(config)
        self._db = pymysql.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.plain_password,
            database=server.database,
        )

    def run(self) -> None:
        """The thread's work."""
        began = time.monotonic()
        with self._db.cursor() as cursor:
            for number in range(self._count):
                wait = began + number / self._rate - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                cursor.execute(
                    "INSERT INTO orders (customer_id, ordered_at, status, payment_method,"
                    " shipping_ars, total_ars, updated_at)"
                    " VALUES (1, NOW(), 'paid', 'cash', 0, 1000, NOW())"
                )
                cursor.execute(
                    "INSERT INTO order_items (order_id, product_id, quantity, unit_price_ars,"
                    " discount_pct) VALUES (LAST_INSERT_ID(), 1, 1, 1000, 0)"
                )
                self._db.commit()
                self.committed.append(time.monotonic())
        self._db.close()


class Watch(threading.Thread):
    """Looks at a figure, and remembers when it had which value."""

    def __init__(self, ask: Callable[[str], int], query: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._query = query
        self._stop_event = stop
        self.base = ask(query)
        self.seen: list[tuple[float, int]] = []

    def run(self) -> None:
        """The thread's work."""
        last = self.base
        while not self._stop_event.wait(LOOK_SECONDS):
            value = self._ask(self._query)
            if value != last:
                self.seen.append((time.monotonic(), value - self.base))
                last = value

    def seconds(self, committed: Sequence[float]) -> list[float]:
        """How long each order took to be counted."""
        taken: list[float] = []
        at = 0
        for moment, value in self.seen:
            while at < min(value, len(committed)):
                taken.append(moment - committed[at])
                at += 1
        return taken


@contextmanager
def shop(folder: Path) -> Iterator[Config]:
    """The demo's stack and all its roles."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("target", "logs", "dbt_packages")
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    program = [sys.executable, "-m", "ducklake.cli"]
    path = folder / "ducklake.yml"
    subprocess.run([*program, "up", "--config", str(path)], check=True, stdout=sys.stderr)
    log = (folder / "run.log").open("wb")
    roles = subprocess.Popen(
        [*program, "run", "--config", str(path)], stdout=log, stderr=subprocess.STDOUT
    )
    try:
        yield load_config(path)
    finally:
        roles.terminate()
        roles.wait(60)
        log.close()
        subprocess.run([*program, "down", "--config", str(path)], check=False, stdout=sys.stderr)


def asking(config: Config) -> Callable[[str], int]:
    """Asks PostgreSQL for one number; -1 where the table is not there yet."""
    at = config.endpoints().postgres
    connection: Any = psycopg2.connect(
        host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
    )
    connection.autocommit = True

    def ask(query: str) -> int:
        with connection.cursor() as cursor:
            try:
                cursor.execute(query)
            except psycopg2.errors.UndefinedTable:
                return -1
            return int(cursor.fetchone()[0])

    return ask


def wait_until_quiet(ask: Callable[[str], int]) -> None:
    """Wait until everything that was there before is in PostgreSQL."""
    deadline = time.monotonic() + PATIENCE
    last, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        value = ask(CONSUME)
        if value != last or value <= 0:
            last, since = value, time.monotonic()
        if time.monotonic() - since > QUIET_SECONDS:
            return
        time.sleep(0.5)
    raise SystemExit("the shop did not come to rest")


def quantile(values: Sequence[float], part: float) -> float:
    """A quantile; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def main() -> None:
    """Measure, and print one JSON object."""
    rate, seconds = float(os.environ.get("RATE", 100)), int(os.environ.get("SECONDS", 300))
    with TemporaryDirectory() as temporary, shop(Path(temporary)) as config:
        note("waiting until the shop's history is in PostgreSQL ...")
        wait_until_quiet(asking(config))
        stop = threading.Event()
        raw = Watch(asking(config), RAW.replace("DISTINCT ", ""), stop)
        consume = Watch(asking(config), CONSUME, stop)
        orders = Orders(config, rate, int(rate * seconds))
        for thread in (raw, consume, orders):
            thread.start()
        note(f"{rate:.0f} orders/s for {seconds} s ...")
        orders.join()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(consume.seconds(orders.committed)) < len(
            orders.committed
        ):
            time.sleep(0.5)
        stop.set()
        raw.join()
        consume.join()
        arrived, counted = raw.seconds(orders.committed), consume.seconds(orders.committed)
        log = (Path(temporary) / "run.log").read_text(errors="replace").splitlines()
        note(
            "\n".join(line for line in log if "cycle_completed" in line or "failed" in line)[-3000:]
        )
    result = {
        "benchmark": "latency",
        "orders": len(orders.committed),
        "orders_per_s": rate,
        "p50_s": round(quantile(counted, 0.5), 3),
        "p95_s": round(quantile(counted, 0.95), 3),
        "max_s": round(max(counted, default=float("nan")), 3),
        "raw_p50_s": round(quantile(arrived, 0.5), 3),
        "raw_p95_s": round(quantile(arrived, 0.95), 3),
        "counted": len(counted),
        "in_raw": len(arrived),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
