from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
import requests
import uvicorn
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from ducklake.dashboard.access import Access
from ducklake.dashboard.app import create_app
from ducklake.supervision.roles import RoleSupervisor
from lake.config import Config, load_config
from lake.failpoints import ENVIRONMENT
from lake.kafka.topics import KPI_TOPIC
from lake.ledger import Ledger
from lake.processes.heartbeat import HANG_SECONDS
from lake.storage.paths import LakePaths
from producers.mysql.cdc import MysqlCdcConnector
from tests.integration.producers_lab import (
    Lab,
    committed,
    make_lab,
    shop_server,
    sql,
    unique,
    wait_until,
)

pytestmark = pytest.mark.stack
FIGURES = """
    SELECT DATE_FORMAT(ordered_at, '%Y-%m-%dT%H:%i-03:00'), SUM(status <> 'cancelled'),
      SUM(status = 'cancelled'), SUM(IF(status <> 'cancelled', total_ars, 0))
    FROM orders WHERE ordered_at > UTC_TIMESTAMP() - INTERVAL 27 HOUR + INTERVAL 10 MINUTE
    GROUP BY 1 ORDER BY 1"""
NEW_ORDER = """
    INSERT INTO orders (customer_id, ordered_at, status, payment_method, shipping_ars, total_ars,
      updated_at) SELECT 1, UTC_TIMESTAMP(6) - INTERVAL 3 HOUR, 'paid', 'cash', 0, 1234.56,
      UTC_TIMESTAMP(6) - INTERVAL 3 HOUR"""
NEW_ITEM = """
    INSERT INTO order_items (order_id, product_id, quantity, unit_price_ars, discount_pct)
    VALUES (LAST_INSERT_ID(), 1, 3, 411.99, 12.50)"""
WINDOW = """
    SELECT SUM(status <> 'cancelled'), SUM(status = 'cancelled'),
      SUM(IF(status <> 'cancelled', total_ars, 0))
    FROM orders WHERE ordered_at >= '{begin}' AND ordered_at < '{end}'"""
TOP = """
    SELECT product_id, name, SUM(quantity),
      SUM(ROUND(quantity * unit_price_ars * (100 - discount_pct) * 0.01, 2)) AS ars
    FROM orders JOIN order_items USING (order_id) JOIN products USING (product_id)
    WHERE ordered_at >= '{begin}' AND ordered_at < '{end}' AND status <> 'cancelled'
    GROUP BY 1, 2 ORDER BY 4 DESC, CAST(product_id AS CHAR) LIMIT 5"""
RATE = "1234.5"


def section(source: str, rate: str) -> dict[str, Any]:
    return {
        "orders": {
            "table": f"{source}.orders",
            "time": "ordered_at",
            "amount": "total_ars",
            "cancelled": {"column": "status", "values": ["cancelled"]},
        },
        "items": {
            "table": f"{source}.order_items",
            "order": "order_id",
            "product": "product_id",
            "quantity": "quantity",
            "price": "unit_price_ars",
            "discount_percent": "discount_pct",
        },
        "names": {"table": f"{source}.products", "column": "name"},
        "rate": {"table": f"{rate}.rate", "column": "venta", "time": ["at"]},
    }


class LiveShop:
    """The real shop's orders through a connector of their own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.topic = f"{lab.source}.orders"
        self.made: list[int] = []

    def sell(self) -> None:
        """A new order, until the tests are over."""
        newest = "SELECT MAX(order_id) FROM orders"
        shop = shop_server(self.lab.config, self.lab.source)
        [(made,)] = sql(shop, NEW_ORDER, NEW_ITEM, newest)
        self.made.append(int(made))

    def cancel(self) -> None:
        cancelled = f"UPDATE orders SET status = 'cancelled' WHERE order_id = {self.made[-1]}"
        sql(shop_server(self.lab.config, self.lab.source), cancelled)

    def take_back(self) -> None:
        """The shop is other tests' as well, and these orders' items do not add up."""
        for order in self.made:
            for table in ("orders", "order_items"):
                sql(
                    shop_server(self.lab.config, self.lab.source),
                    f"DELETE FROM {table} WHERE order_id = {order}",
                )

    def expected(self) -> dict[str, tuple[int, int, str]]:
        rows = sql(shop_server(self.lab.config, self.lab.source), FIGURES)
        return {minute: (int(sold), int(off), f"{ars:.2f}") for minute, sold, off, ars in rows}

    def shown(self) -> dict[str, dict[str, Any]]:
        """What the topic holds by key, as a compacted one is read."""
        found: dict[str, dict[str, Any]] = {}
        for seen in committed(self.lab.endpoints, KPI_TOPIC):
            key = (seen.key or b"").decode()
            found.pop(key, None)
            if seen.value is not None:
                found[key] = orjson.loads(seen.value)
        return found

    def right(self) -> bool:
        """Whether every minute that MySQL knows has its figures; older ones may be there still."""
        found = self.shown()
        minutes = {
            key: (row["orders"], row["cancelled_orders"], row["revenue"])
            for key, row in found.items()
        }
        is_right = all(minutes.get(key) == row for key, row in self.expected().items())
        return is_right and self.window_is_right(found.get("last_15m"))

    def window_is_right(self, window: dict[str, Any] | None) -> bool:
        if window is None:
            return False
        span = {"begin": window["from"][:16], "end": window["until"][:16]}
        shop = shop_server(self.lab.config, self.lab.source)
        [(sold, cancelled, ars)] = sql(shop, WINDOW.format(**span))
        top = [
            {"product": str(product), "name": name, "units": str(units), "revenue": f"{money:.2f}"}
            for product, name, units, money in sql(shop, TOP.format(**span))
        ]
        usd = f"{(ars or 0) / Decimal(RATE):.2f}"
        converted = window["converted"] or {}
        return (window["orders"], window["cancelled_orders"], window["revenue"]) == (
            int(sold or 0),
            int(cancelled or 0),
            f"{ars or 0:.2f}",
        ) and (window["top"], converted.get("revenue")) == (top, usd)

    def in_lake(self) -> int:
        paths = LakePaths(self.lab.config.data_dir)
        if not paths.ledger.exists():
            return 0
        with Ledger(paths) as ledger:
            found = ledger.tables.get(self.topic)
            return ledger.offsets.row_count(self.topic) if found is not None else 0

    @contextmanager
    def process(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "ducklake.cli", *words, "--config"]
        process = subprocess.Popen(
            [*command, str(self.lab.config.path)], stderr=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                print(words[0], "said:", process.communicate(timeout=30)[1])
            finally:
                process.kill()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[LiveShop]:
    tables = {"orders": "order_id", "order_items": "order_item_id", "products": "product_id"}
    spec = {"type": "mysql_cdc", "tables": {name: {"key": [key]} for name, key in tables.items()}}
    rate = unique("r")
    lab = make_lab(
        tmp_path_factory.mktemp("live"),
        stack_config,
        spec,
        more={rate: {"type": "kafka", "tables": {"rate": {}}}},
    )
    path = lab.config.path
    path.write_text(path.read_text() + yaml.safe_dump({"live": section(lab.source, rate)}))
    made = LiveShop(replace(lab, config=load_config(path)))
    admin = AdminClient(lab.endpoints.kafka_client())
    admin.create_topics([NewTopic(f"{rate}.rate", 1, 1)])[f"{rate}.rate"].result(30)
    producer = Producer(lab.endpoints.kafka_client())
    for venta, at in ((RATE, "2026-03-02T12:00:00Z"), ("1", "2026-03-01T12:00:00Z")):
        producer.produce(f"{rate}.rate", orjson.dumps({"venta": venta, "at": at}))
    assert producer.flush(30) == 0
    source = made.lab.connector()
    assert isinstance(source, MysqlCdcConnector)

    def settled() -> bool:
        list(source.poll({}))
        return source.settled()

    wait_until(settled, "the shop's orders are in Kafka")
    source.close()
    yield made
    made.take_back()
    url = f"{lab.endpoints.connect}/connectors/{lab.config.settings.name}-{lab.source}"
    requests.delete(url, timeout=30)
    wait_until(lambda: requests.get(url, timeout=30).status_code == 404, "the connector is gone")


def test_orders_and_revenue_are_counted_by_the_minute_in_which_they_were_placed(
    shop: LiveShop,
) -> None:
    with shop.process("live"):
        wait_until(shop.right, "the figures are those of MySQL")
        shop.sell()
        shop.sell()
        wait_until(shop.right, "two new orders are in the figures")
        shop.cancel()
        wait_until(shop.right, "a cancelled order is out of the revenue")
        window = shop.shown()["last_15m"]
    assert window["orders"] >= 1 and window["cancelled_orders"] >= 1 and window["top"]


def test_what_is_no_order_or_not_committed_changes_no_figure(shop: LiveShop) -> None:
    [(order,)] = sql(
        shop_server(shop.lab.config, shop.lab.source), "SELECT MAX(order_id) FROM orders"
    )
    forged = orjson.dumps(
        {
            "op": "c",
            "before": None,
            "after": {
                "order_id": order,
                "ordered_at": "2026-01-01T00:00:00Z",
                "status": "paid",
                "total_ars": "99999.00",
            },
        }
    )
    writer = Producer(shop.lab.endpoints.kafka_client(transactional_id=f"{shop.topic}-forger"))
    writer.init_transactions()
    writer.begin_transaction()
    writer.produce(shop.topic, key=b"f", value=forged, partition=0)
    writer.flush()
    writer.abort_transaction()
    writer.begin_transaction()
    for junk in (b"\xff", b"null", b"[]", b'{"after": 5}', b'{"op": "c"}', None):
        writer.produce(shop.topic, key=b"j", value=junk, partition=0)
    writer.commit_transaction()
    with shop.process("live") as process:
        shop.sell()
        wait_until(shop.right, "the figures are those of MySQL")
        assert process.poll() is None


def test_a_killed_or_hung_live_worker_is_unknown_to_the_lake_and_counts_right_when_it_returns(
    shop: LiveShop,
) -> None:
    with shop.process("consume"):
        with shop.process("live") as process:
            wait_until(shop.right, "the figures are those of MySQL")
            shop.sell()
            os.kill(process.pid, signal.SIGSTOP)
            before = shop.in_lake()
            shop.sell()
            wait_until(lambda: shop.in_lake() > before, "the lake goes on beside a hung one")
            os.kill(process.pid, signal.SIGKILL)
        before = shop.in_lake()
        shop.sell()
        wait_until(lambda: shop.in_lake() > before, "the lake goes on without one")
        with shop.process("live"):
            wait_until(shop.right, "the figures are those of MySQL, each order once")
    with shop.process("consume", "--once") as once:
        assert once.wait(60) == 0
    with shop.process("verify", f"{shop.topic}") as verify:
        assert verify.wait(60) == 0


def test_a_worker_that_lags_and_does_not_move_is_replaced(
    shop: LiveShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HANG_SECONDS, "15")
    monkeypatch.setenv(ENVIRONMENT, "live.fetch:3:hang")
    supervisor = RoleSupervisor(shop.lab.config, {"live": ("live",)})
    supervisor.start()
    try:
        wait_until(lambda: "live" in supervisor.processes(), "a worker")
        first = supervisor.processes()["live"]
        monkeypatch.delenv(ENVIRONMENT)  # the one after it shall go on
        shop.sell()
        wait_until(lambda: supervisor.processes().get("live") not in (first, None), "another one")
        wait_until(shop.right, "the figures are those of MySQL")
    finally:
        supervisor.stop()
    log = (shop.lab.config.data_dir / "logs" / "live.log").read_text()
    assert "hangs at live.fetch" in log


def test_an_order_changes_the_open_page(shop: LiveShop) -> None:
    access = Access("t" * 32, local=True)
    server = uvicorn.Server(
        uvicorn.Config(create_app(shop.lab.config, access), port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the page")
        port = server.servers[0].sockets[0].getsockname()[1]
        address, who = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {access.token}"}

        def orders() -> int:
            found = requests.get(f"{address}/api/live", headers=who, timeout=30).json()
            return int(found["window"].get("orders", -1))

        with shop.process("live"):
            wait_until(shop.right, "the figures are those of MySQL")
            wait_until(lambda: orders() >= 0, "the page has them")
            with requests.get(
                f"{address}/api/events", headers=who, stream=True, timeout=60
            ) as said:
                before = orders()
                shop.sell()
                for line in said.iter_lines(decode_unicode=True):
                    if line == "event: live" and orders() > before:
                        break
            page = requests.get(f"{address}/shop/live", headers=who, timeout=30).text
            assert "Right now" in page and RATE in page
    finally:
        server.should_exit = True
        thread.join()


def test_a_second_live_worker_is_refused_by_name(shop: LiveShop) -> None:
    with shop.process("live") as first:
        shop.sell()
        wait_until(shop.right, "the figures are those of MySQL, so it has all partitions")
        with shop.process("live") as second:
            said = second.communicate(timeout=60)[1]
            assert second.returncode == 1
            assert "Another `ducklake live`" in said
        shop.sell()
        wait_until(shop.right, "the first one goes on")
        assert first.poll() is None
