from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from pydantic import SecretStr

from lake.config import Config, MysqlConnection
from lake.errors import ConfigError, ServiceUnreachable, SourceError
from techstore import simulate as module
from techstore.simulate import Counts, simulate
from tests.integration.producers_lab import shop_server, sql

pytestmark = pytest.mark.stack


@pytest.fixture
def endpoint(stack_config: Config) -> MysqlConnection:
    return shop_server(stack_config)


def trade(endpoint: MysqlConnection, rate: float, seconds: float, told: list[str]) -> Counts:
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    try:
        return simulate(endpoint, rate, stop, seed=1, on_change=told.append)
    finally:
        timer.cancel()


WRONG_TOTALS = """
    SELECT COUNT(*) FROM (
      SELECT o.order_id, MIN(o.total_ars - o.shipping_ars) - COALESCE(SUM(
        ROUND(i.quantity * i.unit_price_ars * (1 - i.discount_pct / 100), 2)), 0) AS off
      FROM orders o LEFT JOIN order_items i ON i.order_id = o.order_id
      GROUP BY o.order_id HAVING off <> 0) x"""
ORPHANS = """
    SELECT COUNT(*) FROM order_items i
    LEFT JOIN orders o ON o.order_id = i.order_id WHERE o.order_id IS NULL"""
EARLY_ORDERS = """
    SELECT COUNT(*) FROM orders o LEFT JOIN customers c ON c.customer_id = o.customer_id
    WHERE c.customer_id IS NULL OR o.ordered_at < c.created_at OR o.updated_at < o.ordered_at
      OR o.updated_at > UTC_TIMESTAMP(6) - INTERVAL 3 HOUR + INTERVAL 5 SECOND"""


def test_the_loaded_shop_is_large_recent_and_adds_up(endpoint: MysqlConnection) -> None:
    for table, least in (
        ("customers", 800),
        ("products", 200),
        ("orders", 6000),
        ("order_items", 15_000),
    ):
        assert sql(endpoint, f"SELECT COUNT(*) FROM {table}")[0][0] >= least
    for question in (WRONG_TOTALS, ORPHANS, EARLY_ORDERS):
        assert sql(endpoint, question) == [(0,)]
    span = "SELECT DATEDIFF(MAX(ordered_at), MIN(ordered_at)) FROM orders"
    assert sql(endpoint, span)[0][0] >= 360


def test_traffic_keeps_its_pace_and_leaves_a_consistent_shop(endpoint: MysqlConnection) -> None:
    def counts() -> tuple[int, int]:
        orders = sql(endpoint, "SELECT COUNT(*) FROM orders")[0][0]
        return orders, sql(endpoint, "SELECT COUNT(*) FROM customers")[0][0]

    told: list[str] = []
    orders, customers = counts()
    done = trade(endpoint, 60, 4, told)
    assert 150 <= done.changes <= 260
    assert len(told) == done.events.total()
    assert done.transactions <= len(told)
    assert counts() == (
        orders + done.events["order"] - done.events["deletion"],
        customers + done.events["customer"],
    )
    for question in (WRONG_TOTALS, ORPHANS, EARLY_ORDERS):
        assert sql(endpoint, question) == [(0,)]


def test_a_low_rate_is_slow(endpoint: MysqlConnection) -> None:
    done = trade(endpoint, 0.5, 1, [])
    assert done.transactions == 1


def test_a_lost_connection_is_made_again(endpoint: MysqlConnection) -> None:
    mine = (
        "SELECT id FROM information_schema.processlist"
        f" WHERE user = '{endpoint.user}' AND id <> CONNECTION_ID()"
    )
    before = set(sql(endpoint, mine))
    stop, told, result = threading.Event(), list[Any](), list[Any]()
    thread = threading.Thread(
        target=lambda: result.append(simulate(endpoint, 50, stop, 2, told.append))
    )
    thread.start()
    try:
        _until(lambda: len(told) > 10)
        for (connection,) in set(sql(endpoint, mine)) - before:
            sql(endpoint, f"KILL {connection}")
        so_far = len(told)
        _until(lambda: len(told) > so_far + 10)
    finally:
        stop.set()
        thread.join(timeout=30)
    assert result[0].events.total() == len(told)
    for question in (WRONG_TOTALS, ORPHANS):
        assert sql(endpoint, question) == [(0,)]


def _until(reached: Any) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_refused_user_is_a_named_error_without_the_password(endpoint: MysqlConnection) -> None:
    wrong = endpoint.model_copy(update={"user": "nobody", "password": SecretStr("s3cret-word")})
    with pytest.raises(SourceError, match="refuses user nobody") as caught:
        trade(wrong, 5, 10, [])
    assert "s3cret-word" not in str(caught.value)
    assert caught.value.remedy


def test_an_absent_server_is_given_up_after_the_deadline(
    endpoint: MysqlConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OUTAGE_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nowhere = endpoint.model_copy(update={"port": port})
    with pytest.raises(ServiceUnreachable, match=f"{port} has been away"):
        trade(nowhere, 5, 20, [])


def test_a_rate_must_be_positive(endpoint: MysqlConnection) -> None:
    with pytest.raises(ConfigError, match="--rate"):
        simulate(endpoint, 0, threading.Event())
