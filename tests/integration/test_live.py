from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import requests
from confluent_kafka import Producer

from consumers.live.worker import KPI_TOPIC, orders_topic
from lake.config import Config, load_config
from lake.errors import ConfigError
from producers.mysql.cdc import MysqlCdcConnector
from tests.integration.producers_lab import Lab, committed, make_lab, shop_server, sql, wait_until

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


class LiveShop:
    """The real shop's orders through a connector of their own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.topic = f"{lab.source}.orders"
        self.made: list[int] = []

    def sell(self) -> None:
        """A new order, until the tests are over."""
        [(made,)] = sql(
            shop_server(self.lab.config, self.lab.source), NEW_ORDER, "SELECT LAST_INSERT_ID()"
        )
        self.made.append(int(made))

    def cancel(self) -> None:
        cancelled = f"UPDATE orders SET status = 'cancelled' WHERE order_id = {self.made[-1]}"
        sql(shop_server(self.lab.config, self.lab.source), cancelled)

    def take_back(self) -> None:
        """The shop is other tests' as well, and these orders have no items that add up."""
        for order in self.made:
            sql(
                shop_server(self.lab.config, self.lab.source),
                f"DELETE FROM orders WHERE order_id = {order}",
            )

    def expected(self) -> dict[str, tuple[int, int, str]]:
        rows = sql(shop_server(self.lab.config, self.lab.source), FIGURES)
        return {minute: (int(sold), int(off), f"{ars:.2f}") for minute, sold, off, ars in rows}

    def figures(self) -> dict[str, tuple[int, int, str]]:
        found: dict[str, tuple[int, int, str]] = {}
        for seen in committed(self.lab.endpoints, KPI_TOPIC):
            minute = (seen.key or b"").decode()
            found.pop(minute, None)
            if seen.value is not None:
                row = orjson.loads(seen.value)
                found[minute] = (row["orders"], row["cancelled_orders"], row["revenue_ars"])
        return found

    def right(self) -> bool:
        """Whether every minute that MySQL knows has its figures; older ones may be there still."""
        found = self.figures()
        return all(found.get(minute) == figure for minute, figure in self.expected().items())

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
    spec = {"type": "mysql_cdc", "tables": {"orders": {"key": ["order_id"]}}}
    made = LiveShop(make_lab(tmp_path_factory.mktemp("live"), stack_config, spec))
    source = made.lab.connector()
    assert isinstance(source, MysqlCdcConnector)

    def settled() -> bool:
        list(source.poll({}))
        return source.settled()

    wait_until(settled, "the shop's orders are in Kafka")
    source.close()
    yield made
    made.take_back()
    lab = made.lab
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
    assert sum(sold + cancelled for sold, cancelled, _ in shop.figures().values()) > 2


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


def test_a_killed_live_worker_is_unknown_to_the_lake_and_counts_right_when_it_returns(
    shop: LiveShop,
) -> None:
    with shop.process("consume"):
        with shop.process("live") as process:
            wait_until(shop.right, "the figures are those of MySQL")
            shop.sell()
            os.kill(process.pid, signal.SIGKILL)
        shop.sell()
        with shop.process("live"):
            wait_until(shop.right, "the figures are those of MySQL, each order once")
    with shop.process("consume", "--once") as once:
        assert once.wait(60) == 0
    with shop.process("verify", f"{shop.topic}") as verify:
        assert verify.wait(60) == 0


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


def test_without_a_table_of_orders_there_are_no_figures(tmp_path: Path) -> None:
    path = tmp_path / "ducklake.yml"
    path.write_text("sources: {files: {type: sftp, tables: {orders: {file: orders.csv}}}}\n")
    with pytest.raises(ConfigError, match="orders"):
        orders_topic(load_config(path))
