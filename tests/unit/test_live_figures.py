"""The live figures without Kafka: exact, by the time of the order, in whatever order they come."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.live.figures import KEPT_MINUTES, LiveFigures
from consumers.live.items import OrderItems
from consumers.live.records import Change, Item, Order, Rate, Reader, now_minute
from lake.config import Config, Live, load_config
from lake.errors import ConfigError

ZONE = ZoneInfo("America/Argentina/Buenos_Aires")
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=ZONE)
MINUTE = now_minute(NOON)
KEY = "2026-03-02T12:00-03:00"
SOURCES = """\
sources:
  shop:
    type: mysql_cdc
    connection: {host: localhost, user: u, database: d}
    tables:
      orders: {key: [order_id]}
      items: {key: [item_id]}
      products: {key: [product_id]}
      pairs: {key: [a, b]}
  api: {type: plain, tables: {rate: {}}}
"""
SECTION = """\
live:
  orders:
    table: shop.orders
    time: ordered_at
    amount: total_ars
    cancelled: {column: status, values: [cancelled]}
  items:
    table: shop.items
    order: order_id
    product: product_id
    quantity: quantity
    price: price
    discount_percent: pct
  names: {table: shop.products, column: name}
  rate: {table: api.rate, column: venta, time: [updated, fecha]}
  top: 2
"""


def config(folder: Path, section: str = SECTION) -> Config:
    (folder / "ducklake.yml").write_text(SOURCES + section)
    return load_config(folder / "ducklake.yml")


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(config(tmp_path))


@pytest.fixture
def live(tmp_path: Path) -> Live:
    found = config(tmp_path).settings.live
    assert found is not None
    return found


def order(key: str, amount: str, minute: int = MINUTE, cancelled: bool = False) -> Change:
    return Change("orders", key, Order(minute, Decimal(amount), cancelled))


def item(key: str, of: str, product: str, units: str, revenue: str) -> Change:
    return Change("items", key, Item(of, product, Decimal(units), Decimal(revenue)))


def record(op: str = "u", **row: object) -> bytes:
    known = {"order_id": 7, "ordered_at": "2026-03-02T12:00:59.5Z", "status": "paid"}
    return orjson.dumps({"op": op, "before": None, "after": {**known, **row}})


# Records -----------------------------------------------------------------------------------------


def test_a_record_says_the_local_minute_and_the_exact_amount(reader: Reader) -> None:
    said = reader.read("shop.orders", record(total_ars="0.10"), NOON.timestamp())
    assert said == [order("7", "0.10")]
    gone = orjson.dumps({"op": "d", "before": {"order_id": 7}, "after": None})
    assert reader.read("shop.orders", gone, 0) == [Change("orders", "7", None)]
    elsewhere = record(total_ars="1", ordered_at="2026-03-02T17:00:00+02:00")
    assert reader.read("shop.orders", elsewhere, 0) == [order("7", "1")]


def test_an_item_a_name_and_a_rate_are_read_as_configured(reader: Reader) -> None:
    row = {"item_id": 1, "order_id": 7, "product_id": 3, "quantity": 3, "price": "9.99"}
    said = reader.read("shop.items", orjson.dumps({"after": {**row, "pct": "12.50"}}), 0)
    assert said == [item("1", "7", "3", "3", "26.223750")]
    assert reader.read("shop.items", orjson.dumps({"after": {**row, "pct": None}}), 0) == [
        item("1", "7", "3", "3", "29.97")
    ]
    name = orjson.dumps({"after": {"product_id": 3, "name": "Lamp"}})
    assert reader.read("shop.products", name, 0) == [Change("names", "3", "Lamp")]
    rate = {"venta": 1510, "updated": None, "fecha": "2026-03-02"}
    assert reader.read("api.rate", orjson.dumps(rate), 0) == [
        Change("rate", "", Rate(Decimal(1510), (NOON - timedelta(hours=12)).timestamp()))
    ]
    assert reader.read("api.rate", orjson.dumps({**rate, "venta": None}), 0) == []


def test_an_order_that_arrives_long_after_its_time_is_late_and_a_snapshot_is_not(
    reader: Reader,
) -> None:
    for op, seconds, late in (("c", 61, True), ("c", 59, False), ("r", 9999, False)):
        said = reader.read(
            "shop.orders", record(op, total_ars="1"), NOON.timestamp() + 59.5 + seconds
        )
        assert said is not None
        [change] = said
        assert isinstance(change.state, Order) and change.state.late is late


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
        record(total_ars=True),
        record(total_ars="1.00", ordered_at=None),
        record(total_ars="1.00", ordered_at=17),
        record(total_ars="1.00", order_id=None),
    ],
)
def test_what_is_no_row_is_none(reader: Reader, value: bytes | None) -> None:
    assert reader.read("shop.orders", value, 0) is None


# Configuration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "shop.orders",
            "shop.order",
            "live.orders.table: no such table; did you mean 'shop.orders'?",
        ),
        ("amount:", "amuont:", "live.orders.amuont: unknown key; did you mean 'amount'?"),
        ("shop.items", "api.rate", "live.items.table: api.rate needs a `key`"),
        (
            "shop.products",
            "shop.pairs",
            "live.names.table: the key of shop.pairs has more than one",
        ),
        ("top: 2", "top: 0", "live.top: Input should be greater than or equal to 1"),
        ("cancelled]", "]", "live.orders.cancelled.values: List should have at least 1 item"),
    ],
)
def test_a_wrong_section_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, SECTION.replace(old, new))
    assert said in str(caught.value)


def test_without_the_section_there_is_nothing_to_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no section `live`"):
        Reader(config(tmp_path, ""))


# Figures -----------------------------------------------------------------------------------------


def test_the_windows_add_up_convert_and_rank(live: Live) -> None:
    figures = LiveFigures(live, ZONE)
    for change in (
        item("1", "a", "7", "2", "10.00"),  # comes before its order
        order("a", "10.10"),
        order("b", "0.20", MINUTE - 14),
        order("c", "5.00", MINUTE - 15),
        order("d", "7.00", MINUTE, cancelled=True),
        Change("orders", "e", Order(MINUTE - 1, Decimal(3), late=True)),
        item("2", "b", "8", "1", "0.205"),
        item("3", "c", "9", "9", "99.00"),  # before the window
        item("4", "d", "9", "9", "99.00"),  # cancelled
        item("5", "e", "8", "1", "0.20"),
        Change("names", "7", "Lamp"),
        Change("rate", "", Rate(Decimal("1000"), NOON.timestamp())),
        Change("rate", "", Rate(Decimal("1"), NOON.timestamp() - 9)),
    ):
        figures.apply(change, NOON)
    found = figures.take_changes(NOON)
    assert found["last_15m"] == {
        "from": "2026-03-02T11:46-03:00",
        "until": "2026-03-02T12:01-03:00",
        "orders": 3,
        "cancelled_orders": 1,
        "late_orders": 1,
        "currency": "ARS",
        "revenue": "13.30",
        "average_ticket": "4.43",
        "converted": {
            "currency": "USD",
            "rate": "1000",
            "rate_at": "2026-03-02T12:00:00-03:00",
            "revenue": "0.01",
            "average_ticket": "0.00",
        },
        "top": [
            {"product": "7", "name": "Lamp", "units": "2", "revenue": "10.00"},
            {"product": "8", "name": "8", "units": "2", "revenue": "0.41"},
        ],
    }
    today = found["today"]
    assert today is not None and today["revenue"] == "18.30"
    minute = found[KEY]
    assert minute is not None
    assert (minute["orders"], minute["cancelled_orders"], minute["revenue"]) == (1, 1, "10.10")


def test_the_same_again_changes_nothing_and_time_alone_moves_the_window(live: Live) -> None:
    figures = LiveFigures(live, ZONE)
    for change in (order("a", "1.00"), item("1", "a", "7", "1", "1.00")):
        figures.apply(change, NOON)
    figures.take_changes(NOON)
    figures.apply(order("a", "1.00"), NOON)
    figures.apply(item("1", "a", "7", "1", "1.00"), NOON)
    assert figures.take_changes(NOON) == {}
    later = figures.take_changes(NOON + timedelta(minutes=15))
    window = later["last_15m"]
    assert window is not None and (window["orders"], window["top"]) == (0, [])
    assert later["today"] is not None and later["today"]["orders"] == 1
    assert KEY not in later


def test_memory_holds_one_day(live: Live) -> None:
    figures = LiveFigures(live, ZONE)
    figures.apply(order("old", "1.00", MINUTE - KEPT_MINUTES), NOON)
    figures.apply(order("far", "1.00", MINUTE + 10 * KEPT_MINUTES), NOON)
    assert set(figures.take_changes(NOON)) == {"last_15m", "today"}
    figures.apply(order("a", "1.00"), NOON)
    figures.apply(item("1", "a", "7", "1", "1.00"), NOON)
    assert KEY in figures.take_changes(NOON)
    tomorrow = NOON + timedelta(minutes=KEPT_MINUTES)
    assert figures.take_changes(tomorrow)[KEY] is None
    assert not figures._orders and not figures._panes and not figures._sums and not figures._listed
    assert not figures._items._items and not figures._items._of_order


def test_only_so_many_items_wait_for_their_orders() -> None:
    items = OrderItems(most_waiting=2)
    for number in range(5):
        list(items.apply(str(number), Item("x", "p", Decimal(1), Decimal(1)), None))
    assert len(list(items.of("x"))) == 2
    list(items.apply("9", Item("y", "p", Decimal(1), Decimal(1)), None))
    assert len(items._items) == 3, "those of a known order wait no more"


MINUTES = st.integers(MINUTE - 20, MINUTE + 1)
CHANGES = st.one_of(
    st.tuples(
        st.just("orders"),
        st.sampled_from("abcd"),
        st.none() | st.builds(Order, MINUTES, st.decimals("0.01", "99", places=2), st.booleans()),
    ),
    st.tuples(
        st.just("items"),
        st.sampled_from("1234"),
        st.none()
        | st.builds(
            Item,
            st.sampled_from("abcd"),
            st.sampled_from("xy"),
            st.just(Decimal(1)),
            st.decimals("0.01", "99", places=2),
        ),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(CHANGES, max_size=25), st.randoms(use_true_random=False))
def test_the_figures_depend_on_the_last_states_alone(changes: list[Any], chance: Any) -> None:
    section = Live.model_validate(
        {
            "orders": {"table": "s.orders", "time": "t", "amount": "a"},
            "items": {"table": "s.items", "order": "o", "product": "p", "price": "q"},
        }
    )
    figures = LiveFigures(section, ZONE)
    shown: dict[str, Any] = {}
    last: dict[tuple[str, str], Any] = {}
    for part, key, state in changes:
        last[part, key] = state
        figures.apply(Change(part, key, state), NOON)
        if chance.random() < 0.3:
            shown |= figures.take_changes(NOON)
    shown |= figures.take_changes(NOON)
    orders = {key: state for (part, key), state in last.items() if part == "orders" and state}
    window = [key for key, state in orders.items() if MINUTE - 15 < state.minute <= MINUTE]
    sold = {key for key in window if not orders[key].cancelled}
    assert shown["last_15m"]["orders"] == len(sold)
    assert Decimal(shown["last_15m"]["revenue"]) == sum(orders[key].amount for key in sold)
    by_minute = {key for key in shown if shown[key] and key.startswith("2026")}
    assert len(by_minute) == len({order.minute for order in orders.values()})
    products: dict[str, Decimal] = {}
    for (part, _), state in last.items():
        # an item that came while its order was older than the window is not kept
        if part == "items" and state is not None and state.order in sold:
            products[state.product] = products.get(state.product, Decimal(0)) + state.revenue
    found = {one["product"]: Decimal(one["revenue"]) for one in shown["last_15m"]["top"]}
    assert all(products[product] >= revenue for product, revenue in found.items())
    if all(
        state.minute > MINUTE - 15
        for part, _, state in changes
        if part == "orders" and state is not None
    ) and all(state is not None for part, _, state in changes if part == "orders"):
        assert found == products
