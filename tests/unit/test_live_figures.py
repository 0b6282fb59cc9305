from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pytest

from consumers.live.figures import ARGENTINA, MinuteFigures, Order, OrderChange, parse

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=ARGENTINA)
KEY = "2026-03-02T12:00-03:00"


def change(
    number: int, total: str, placed: datetime = NOON, cancelled: bool = False
) -> OrderChange:
    return OrderChange(number, Order(placed, Decimal(total), cancelled))


def record(**row: object) -> bytes:
    known = {"order_id": 7, "ordered_at": "2026-03-02T12:00:59.5Z", "status": "paid"}
    return orjson.dumps({"op": "c", "before": None, "after": {**known, **row}})


def test_a_record_says_the_local_minute_and_the_exact_total() -> None:
    assert parse(record(total_ars="0.10")) == change(7, "0.10")
    gone = orjson.dumps({"op": "d", "before": {"order_id": 7}, "after": None})
    assert parse(gone) == OrderChange(7, None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"after": 5}',
        b'{"after": null}',
        record(),
        record(total_ars="NaN"),
        record(total_ars="x"),
        record(total_ars=None),
        record(total_ars="1.00", ordered_at=None),
        record(total_ars="1.00", order_id="x"),
    ],
)
def test_what_is_no_order_is_none(value: bytes | None) -> None:
    assert parse(value) is None


def test_a_record_applied_twice_counts_once() -> None:
    figures = MinuteFigures()
    for order in (change(1, "10.10"), change(2, "0.20"), change(1, "10.10")):
        figures.apply(order, NOON)
    figure = {"minute": KEY, "orders": 2, "cancelled_orders": 0, "revenue_ars": "10.30"}
    assert figures.take_changes(NOON) == {KEY: figure}
    figures.apply(change(2, "0.20"), NOON)
    assert figures.take_changes(NOON) == {}


def test_a_cancelled_order_is_no_revenue_and_a_deleted_one_is_nothing() -> None:
    figures = MinuteFigures()
    figures.apply(change(1, "10.00"), NOON)
    figures.apply(change(1, "10.00", cancelled=True), NOON)
    figure = {"minute": KEY, "orders": 0, "cancelled_orders": 1, "revenue_ars": "0.00"}
    assert figures.take_changes(NOON) == {KEY: figure}
    figures.apply(OrderChange(1, None), NOON)
    assert figures.take_changes(NOON) == {KEY: None}


def test_an_order_that_moves_leaves_its_former_minute() -> None:
    figures = MinuteFigures()
    figures.apply(change(1, "1.00"), NOON)
    figures.apply(change(1, "1.00", NOON + timedelta(minutes=1)), NOON)
    changes = figures.take_changes(NOON)
    assert changes[KEY] is None
    assert changes["2026-03-02T12:01-03:00"] is not None


def test_memory_holds_one_day() -> None:
    figures = MinuteFigures()
    figures.apply(change(1, "1.00", NOON - timedelta(hours=25)), NOON)
    assert figures.take_changes(NOON) == {}
    figures.apply(change(2, "1.00"), NOON)
    figures.take_changes(NOON)
    tomorrow = (NOON + timedelta(hours=24)).astimezone(UTC)
    assert figures.take_changes(tomorrow) == {KEY: None}
    assert figures.take_changes(tomorrow) == {}
    assert figures == MinuteFigures()
