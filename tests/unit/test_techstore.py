from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from openpyxl import load_workbook

from techstore import generate
from techstore.model import ANCHOR, Shop, shift_days
from techstore.place import place_files
from techstore.trade import CYBER_MONDAY, HOT_SALE

DOCKER = Path(__file__).parents[2] / "docker"
# Every weekday, the ends of months and years, a leap day, a day before the anchor.
TODAYS = [
    *(ANCHOR + timedelta(days=n) for n in range(8)),
    date(2026, 11, 23),
    date(2027, 1, 31),
    date(2028, 2, 29),
    date(2026, 3, 1),
]


@cache
def shop() -> Shop:
    return generate.make_shop()


def test_the_committed_files_are_what_the_script_writes() -> None:
    for name, content in generate.render(shop()).items():
        assert (DOCKER / name).read_bytes() == content, f"{name}: run `python -m techstore`"


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others() -> None:
    assert generate.render(generate.make_shop()) == generate.render(shop())
    other = generate.render(generate.make_shop(7))
    assert all(other[name] != content for name, content in generate.render(shop()).items())


def test_enough_of_the_shop_is_there_whatever_the_weekday() -> None:
    # At the earliest, now is the anchor's first moment (moved by whole weeks).
    earliest = datetime.combine(ANCHOR, time())
    orders = [o for o in shop().orders if o.ordered_at < earliest]
    assert len([c for c in shop().customers if c.created_at < earliest]) >= 850
    assert len(shop().products) >= 220
    assert len({p.category for p in shop().products}) == 8
    assert len(orders) >= 6500
    assert sum(len(o.items) for o in orders) >= 16_500
    assert earliest - orders[0].ordered_at > timedelta(days=365)


def test_orders_fit_their_customers_products_and_lives() -> None:
    for order in shop().orders:
        assert order.customer.created_at < order.ordered_at
        assert all(item.product.on_sale(order.ordered_at.date()) for item in order.items)
        moments = [at for _, at in order.steps()]
        assert moments == sorted(moments)
    numbers = [order.order_id for order in shop().orders]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_sales_days_and_december_stand_out() -> None:
    days = Counter(order.ordered_at.date() for order in shop().orders)
    usual = len(shop().orders) / len(days)
    assert all(days[day] > 2 * usual for day in (*HOT_SALE, *CYBER_MONDAY))
    december = sum(days[date(2025, 12, n)] for n in range(1, 24)) / 23
    assert december > 1.3 * usual


def test_prices_rise_with_inflation() -> None:
    for product in shop().products:
        assert product.prices[12] < product.prices[0] * 8 / 10


def test_customers_are_dirty_in_the_known_ways() -> None:
    people = shop().customers
    emails = [c.email for c in people]
    assert 20 <= sum(e != e.strip() for e in emails) <= 99
    assert 20 <= sum(e != e.lower() for e in emails) <= 99
    phones = [c.phone for c in people if c.phone]
    shapes = [
        r"\+54 9 \d{2,4} \d{2,4}-\d{4}",
        r"0\d{2,4}-15-\d{2,4}-\d{4}",
        r"\d{10}",
    ]
    for shape in shapes:
        assert sum(re.fullmatch(shape, p) is not None for p in phones) > 100
    assert all(re.fullmatch("|".join(shapes), p) for p in phones)
    assert any(c.city is None for c in people)


def test_one_person_is_entered_twice_and_bought_with_both_accounts() -> None:
    seen = Counter(c.email.strip().lower() for c in shop().customers)
    assert [n for n in seen.values() if n > 1] == [2]
    email = seen.most_common(1)[0][0]
    one, two = [c for c in shop().customers if c.email.strip().lower() == email]
    assert one.email != two.email
    assert one.created_at != two.created_at
    buyers = Counter(o.customer.customer_id for o in shop().orders)
    assert buyers[one.customer_id] > 1
    assert buyers[two.customer_id] > 1


def test_init_sql_splits_at_its_semicolons() -> None:
    text = (DOCKER / "mysql" / "init.sql").read_text(encoding="utf-8")
    statements = [s for s in text.split(";\n") if s.strip()]
    verbs = {re.sub(r"--.*\n", "", s).split()[0] for s in statements}
    assert verbs - {"CREATE", "INSERT", "UPDATE", "DELETE", "DROP"} == (
        {"SET", "USE", "START", "COMMIT", "ANALYZE"}
    )
    assert len(statements) < 120


@pytest.mark.parametrize("today", TODAYS, ids=str)
def test_placed_files_tell_of_the_time_up_to_last_night(tmp_path: Path, today: date) -> None:
    target = tmp_path / "up load"
    place_files(DOCKER / "sftp", target, today)
    assert sorted(p.name for p in target.iterdir()) == sorted(
        p.name for p in (DOCKER / "sftp").iterdir()
    )
    night = datetime.combine(today, time(3), UTC)
    for path in target.iterdir():
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        assert timedelta(0) < written - night < timedelta(hours=1)
    # Orders of before today are in the database at any hour of today.
    shift = timedelta(days=shift_days(today))
    ordered = {
        str(o.order_id): (o.ordered_at + shift).date()
        for o in shop().orders
        if (o.ordered_at + shift).date() < today
    }
    assert timedelta(0) <= today - max(ordered.values()) <= timedelta(days=2)
    _check_tickets(target / "support_tickets.txt", today, ordered)
    _check_shipments(target / "shipments.xml", today, ordered)
    _check_inventory(target / "inventory.csv", today)
    _check_targets(target / "sales_targets.xlsx", today)
    suppliers = json.loads((target / "suppliers.json").read_text(encoding="utf-8"))
    assert {s["supplier_id"] for s in suppliers} >= {p.supplier_id for p in shop().products}
    assert all(s["contacts"] and s["since"] < str(today) for s in suppliers)


def _check_tickets(path: Path, today: date, ordered: dict[str, date]) -> None:
    text = path.read_bytes().decode("latin-1")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="|"))
    assert len(rows) > 590
    customers = {str(c.customer_id) for c in shop().customers}
    for row in rows:
        assert row["opened_at"] < str(today)
        assert row["closed_at"] < str(today)
        assert row["customer_id"] in customers
        assert row["closed_at"] or not row["satisfaction"]
        if row["order_id"]:
            assert str(ordered[row["order_id"]]) < row["opened_at"]
    comments = [row["comment"] for row in rows]
    for piece in ("|", '"', "ñ", "ó"):
        assert any(piece in comment for comment in comments)
    assert '""' in text
    assert any(not row["order_id"] for row in rows)


def _check_shipments(path: Path, today: date, ordered: dict[str, date]) -> None:
    rows = list(ElementTree.fromstring(path.read_bytes()))
    assert len(rows) > 2400
    late = open_ = 0
    for row in rows:
        assert row.tag == "shipment"
        assert str(ordered[row.attrib["order_id"]]) < row.findtext("shipped_on", "") < str(today)
        delivered = row.findtext("delivered_on")
        open_ += delivered is None
        if delivered:
            assert delivered < str(today)
            late += delivered > row.findtext("promised_on", "")
    assert 0.03 < late / len(rows) < 0.3
    assert 5 < open_ < 200


def _check_inventory(path: Path, today: date) -> None:
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbfsku;warehouse;quantity;reserved;unit_cost_ars;")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig")), delimiter=";"))
    assert {row["sku"] for row in rows} == {p.sku for p in shop().products}
    assert len({(row["sku"], row["warehouse"]) for row in rows}) == len(rows)
    for row in rows:
        assert re.fullmatch(r"\d+,\d\d", row["unit_cost_ars"])
        counted = datetime.strptime(row["counted_on"], "%d/%m/%Y").date()
        assert timedelta(0) <= today - counted < timedelta(days=14)
        assert int(row["reserved"]) <= int(row["quantity"])


def _check_targets(path: Path, today: date) -> None:
    book = load_workbook(path)
    listed: list[tuple[Any, ...]] = list(book.worksheets[0].iter_rows(values_only=True))
    title, header, *rows = listed
    assert str(title[0]).startswith("Objetivos")
    assert header == ("month", "category", "target_ars", "target_units")
    months = sorted({row[0] for row in rows})
    assert len(months) == 13
    assert len(rows) == 13 * 8
    assert months[-1] == datetime(today.year, today.month, 1)
    assert months[0] == datetime(today.year - 1, today.month, 1)
    assert {row[1] for row in rows} == {p.category for p in shop().products}
    assert all(row[2] > 0 and row[3] > 0 for row in rows)


def test_placing_again_changes_nothing(tmp_path: Path) -> None:
    def state() -> dict[str, tuple[bytes, int]]:
        return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}

    place_files(DOCKER / "sftp", tmp_path, date(2026, 11, 23))
    first = state()
    place_files(DOCKER / "sftp", tmp_path, date(2026, 11, 23))
    assert state() == first


def test_at_the_anchor_nothing_but_the_days_to_come_is_missing(tmp_path: Path) -> None:
    place_files(DOCKER / "sftp", tmp_path, ANCHOR)
    for name in ("inventory.csv", "suppliers.json", "sales_targets.xlsx"):
        assert (tmp_path / name).read_bytes() == (DOCKER / "sftp" / name).read_bytes()
