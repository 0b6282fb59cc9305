"""The goods of TechStore and a year of orders, with seasons, sales days and inflation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import accumulate
from random import Random

from techstore.goods import GOODS
from techstore.model import (
    ANCHOR,
    FIRST_DAY,
    LAST_DAY,
    Customer,
    Item,
    Order,
    Product,
    Shipment,
    Supplier,
    cents,
)
from techstore.people import moment
from techstore.words import CARRIERS

FIRST_ORDER_ID = 10001
ORDERS = 7100
HOT_SALE = tuple(date(2026, 5, day) for day in (11, 12, 13))
CYBER_MONDAY = tuple(date(2025, 11, day) for day in (3, 4, 5))
EVENTS = frozenset(HOT_SALE + CYBER_MONDAY)
# Monthly inflation before the anchor, newest first.
INFLATION = (1.9, 2.1, 2.0, 2.3, 2.6, 2.4, 2.8, 2.5, 2.3, 2.1, 1.9, 1.9, 1.6, 1.5)
MONTH_WEIGHT = (0.82, 0.85, 0.95, 0.92, 0.98, 1.06, 1.0, 1.06, 0.95, 1.04, 1.08, 1.55)
WEEKDAY_WEIGHT = (1.1, 1.08, 1.05, 1.0, 1.06, 0.86, 0.8)
HOUR_WEIGHT = (
    *(6, 3, 2, 1, 1, 1, 3, 8, 20, 36, 46, 50),
    *(48, 42, 40, 42, 46, 48, 50, 54, 60, 64, 48, 22),
)
PAYMENTS = (("mercado_pago", 38), ("credit_card", 34), ("debit_card", 14), ("transfer", 14))


def season(day: date) -> float:
    """How busy a day is, 1.0 being usual."""
    weight = MONTH_WEIGHT[day.month - 1] * WEEKDAY_WEIGHT[day.weekday()]
    if day in EVENTS:
        weight *= 3.3
    if (day.month, day.day) in {(12, 25), (1, 1)}:
        weight *= 0.25
    elif day.month == 12 and day.day > 25:
        weight *= 0.6
    return weight * (1 + 0.25 * (day - FIRST_DAY).days / 365)


def shelf_price(amount: Decimal) -> Decimal:
    """A price as shops write it: 129999, 24499 or 5899.90."""
    if amount >= 100_000:
        return Decimal(round(amount / 1000) * 1000 - 1).quantize(Decimal("0.01"))
    if amount >= 20_000:
        return Decimal(round(amount / 500) * 500 - 1).quantize(Decimal("0.01"))
    return Decimal(round(amount / 100) * 100) - Decimal("0.10")


def _prices(now: Decimal) -> tuple[Decimal, ...]:
    prices, level = [shelf_price(now)], now
    for percent in INFLATION:
        level /= 1 + Decimal(str(percent)) / 100
        prices.append(shelf_price(level))
    return tuple(prices)


def _goods() -> Iterator[tuple[str, str, str, str, Decimal]]:
    for category, (prefix, _, lines) in GOODS.items():
        number = 0
        for line in lines.splitlines():
            brand, model, variants, price = line.strip().split("|")
            amount = Decimal(price) * 1000
            for variant in variants.split(","):
                number += 1
                yield category, f"{prefix}-{number:04d}", brand, f"{model} {variant}", amount
                amount *= Decimal("1.14")


def make_products(rng: Random, suppliers: list[Supplier]) -> list[Product]:
    """All products; some launched and some discontinued during the history."""
    by_brand: dict[str, list[int]] = {}
    active = [s.supplier_id for s in suppliers if s.active]
    products = []
    for number, (category, sku, brand, name, amount) in enumerate(_goods(), start=1):
        prices = _prices(amount)
        created = date(2021, 3, 1) + timedelta(days=rng.randrange(1500))
        if number % 9 == 4:
            created = FIRST_DAY + timedelta(days=rng.randrange(20, 300))
        until = None
        if number % 21 == 7 and created < FIRST_DAY:
            until = FIRST_DAY + timedelta(days=rng.randrange(60, 340))
        reprice_day = rng.randrange(5, 26)
        created_at = moment(rng, created, 8, 17)
        changed = until or ANCHOR.replace(day=reprice_day)
        products.append(
            Product(
                product_id=number,
                sku=sku,
                name=f"{brand} {name}",
                category=category,
                brand=brand,
                supplier_id=rng.choice(
                    by_brand.setdefault(brand, rng.sample(active, min(2, len(active))))
                ),
                prices=prices,
                cost=cents(prices[0] * Decimal(rng.randrange(6200, 8300)) / 10_000),
                reprice_day=reprice_day,
                popularity=min(rng.paretovariate(1.2), 9.0),
                created_at=created_at,
                updated_at=max(created_at, moment(rng, changed, 6, 8)),
                until=until,
            )
        )
    return products


class _Shelf:
    """Draws products that are on sale on a day."""

    def __init__(self, rng: Random, products: list[Product]) -> None:
        self._rng = rng
        self._shares = [share for _, share, _ in GOODS.values()]
        self._groups = [[p for p in products if p.category == name] for name in GOODS]
        self._weights = [list(accumulate(p.popularity for p in g)) for g in self._groups]

    def draw(self, day: date) -> Product:
        while True:
            group = self._rng.choices(range(len(self._groups)), self._shares)[0]
            sums = self._weights[group]
            product = self._groups[group][bisect_left(sums, self._rng.random() * sums[-1])]
            if product.on_sale(day):
                return product


class _Crowd:
    """Draws customers who exist at a moment, some more often than others."""

    def __init__(self, rng: Random, customers: list[Customer]) -> None:
        self._rng = rng
        self._customers = customers
        self._created = [c.created_at for c in customers]
        self._sums = list(accumulate(c.weight for c in customers))

    def draw(self, at: datetime) -> Customer:
        known = bisect_left(self._created, at)
        while True:
            drawn = bisect_left(self._sums, self._rng.random() * self._sums[known - 1])
            customer = self._customers[min(drawn, known - 1)]
            if customer.until is None or at.date() < customer.until:
                return customer


def order_moments(rng: Random) -> list[datetime]:
    """When the orders are placed, ascending."""
    days = [FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
    whole = sum(map(season, days))
    moments = []
    for day in days:
        count = int(ORDERS * season(day) / whole * rng.uniform(0.85, 1.15) + rng.random())
        for hour in rng.choices(range(24), HOUR_WEIGHT, k=count):
            moments.append(moment(rng, day, hour, hour))
    return sorted(moments)


def make_orders(
    rng: Random, suppliers: list[Supplier], products: list[Product], customers: list[Customer]
) -> list[Order]:
    """All orders in the order of their moments."""
    shelf, crowd = _Shelf(rng, products), _Crowd(rng, customers)
    late = {s.supplier_id: s.late_share for s in suppliers}
    orders = []
    for number, at in enumerate(order_moments(rng), start=FIRST_ORDER_ID):
        customer = crowd.draw(at)
        items = _items(rng, shelf, at.date())
        pickup = rng.random() < 0.17
        payment = rng.choices([p for p, _ in PAYMENTS], [w for _, w in PAYMENTS])[0]
        if pickup and rng.random() < 0.4:
            payment = "cash"
        paid, shipped, delivered, cancelled = None, None, None, None
        shipment = None
        if rng.random() < 0.065:
            cancelled = at + timedelta(minutes=rng.randrange(20, 4 * 24 * 60))
            if rng.random() < 0.5:
                paid = at + (cancelled - at) * rng.uniform(0.05, 0.5)
        else:
            paid, shipped, delivered = _life(rng, at, payment, pickup, customer)
            if not pickup and rng.random() < 0.485:
                shipment, delivered = _drop_ship(rng, items, shipped, late)
        orders.append(
            Order(
                order_id=number,
                customer=customer,
                ordered_at=at,
                payment_method=payment,
                shipping=Decimal("0.00") if pickup else _shipping(items, customer, at.date()),
                items=items,
                paid_at=paid,
                shipped_at=shipped,
                delivered_at=delivered,
                cancelled_at=cancelled,
                shipment=shipment,
            )
        )
    return orders


def _items(rng: Random, shelf: _Shelf, day: date) -> tuple[Item, ...]:
    wanted = rng.choices((1, 2, 3, 4, 5), (29, 27, 21, 13, 10))[0]
    chosen: dict[int, Item] = {}
    while len(chosen) < wanted:
        product = shelf.draw(day)
        if product.product_id in chosen:
            continue
        price = product.price_on(day)
        small = price < 70_000
        quantity = rng.choices((1, 2, 3, 4), (70, 20, 7, 3) if small else (96, 4, 0, 0))[0]
        if day in EVENTS:
            discount = rng.choices((0, 10, 15, 20, 25, 30, 35), (20, 15, 20, 20, 12, 8, 5))[0]
        else:
            discount = rng.choices((0, 5, 10, 15), (82, 8, 7, 3))[0]
        chosen[product.product_id] = Item(
            product, quantity, price, Decimal(discount).quantize(Decimal("0.01"))
        )
    return tuple(chosen.values())


def _shipping(items: tuple[Item, ...], customer: Customer, day: date) -> Decimal:
    ago = max((ANCHOR.year - day.year) * 12 + ANCHOR.month - day.month, 0)
    level = Decimal(1)
    for percent in INFLATION[:ago]:
        level /= 1 + Decimal(str(percent)) / 100
    if sum(item.amount for item in items) > 600_000 * level:
        return Decimal("0.00")
    base = {"Ciudad Autónoma de Buenos Aires": 4200, "Buenos Aires": 5900}
    return shelf_price(base.get(customer.province, 8900) * level)


def _life(
    rng: Random, at: datetime, payment: str, pickup: bool, customer: Customer
) -> tuple[datetime, datetime, datetime]:
    if payment in {"cash", "transfer"}:
        paid = at + timedelta(minutes=rng.randrange(30, 36 * 60))
    else:
        paid = at + timedelta(seconds=rng.randrange(20, 3600))
    day = paid.date() + timedelta(days=rng.choices((1, 2, 3), (70, 22, 8))[0])
    if day.weekday() == 6:  # nobody works in the warehouse on Sundays
        day += timedelta(days=1)
    shipped = moment(rng, day, 8, 17)
    near = customer.province in {"Ciudad Autónoma de Buenos Aires", "Buenos Aires"}
    days = rng.randrange(1, 4) if pickup or near else rng.randrange(2, 8)
    return paid, shipped, moment(rng, day + timedelta(days=days), 9, 19)


def _drop_ship(
    rng: Random, items: tuple[Item, ...], shipped: datetime, late: dict[int, float]
) -> tuple[Shipment, datetime]:
    supplier = rng.choice(items).product.supplier_id
    promised = shipped.date() + timedelta(days=rng.randrange(3, 8))
    if rng.random() < late[supplier]:
        arrived = promised + timedelta(days=min(int(rng.expovariate(0.28)) + 1, 21))
    else:
        arrived = promised - timedelta(days=rng.randrange(3))
    shipment = Shipment(
        supplier_id=supplier,
        carrier=rng.choices([c for c, _ in CARRIERS], [w for _, w in CARRIERS])[0],
        promised_on=promised,
        cost=Decimal(rng.randrange(210_000, 990_000)).scaleb(-2),
    )
    return shipment, datetime.combine(arrived, time(9)) + timedelta(seconds=rng.randrange(36_000))
