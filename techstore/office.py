"""What TechStore's other systems drop as files: tickets, stock counts and sales targets."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from techstore.goods import GOODS
from techstore.model import (
    ANCHOR,
    FIRST_DAY,
    LAST_DAY,
    Customer,
    Order,
    Product,
    Stock,
    Target,
    Ticket,
    cents,
    shift_month,
)
from techstore.people import moment
from techstore.trade import season
from techstore.words import CHANNELS, TICKETS, WAREHOUSES

ORDER_TICKETS = 570
OTHER_TICKETS = 60


def make_tickets(rng: Random, orders: list[Order], customers: list[Customer]) -> list[Ticket]:
    """Support tickets, ascending by opening; each at least a day after its order."""
    # None opens after the last day: its order would have been too young.
    old_enough = [o for o in orders if o.ordered_at.date() < LAST_DAY - timedelta(days=10)]
    drafts: list[tuple[datetime, int | None, Customer, str]] = []
    for order in rng.sample(old_enough, ORDER_TICKETS):
        day = order.ordered_at.date() + timedelta(days=rng.randrange(1, 11))
        product = rng.choice(order.items).product.name
        drafts.append((moment(rng, day, 8, 21), order.order_id, order.customer, product))
    for _ in range(OTHER_TICKETS):
        day = FIRST_DAY + timedelta(days=rng.randrange((LAST_DAY - FIRST_DAY).days))
        known = [c for c in customers if c.created_at.date() < day]
        drafts.append((moment(rng, day, 8, 21), None, rng.choice(known), "el producto"))
    tickets = []
    drafts.sort(key=lambda draft: draft[0])
    for number, (opened, order_id, customer, product) in enumerate(drafts, start=5001):
        topic, _, texts = rng.choices(TICKETS, [weight for _, weight, _ in TICKETS])[0]
        closed = None
        if rng.random() < 0.94:
            closed = opened + timedelta(minutes=int(rng.lognormvariate(6.9, 1.1)) + 15)
        happy = topic in {"consulta", "factura"}
        marks = (4, 6, 14, 34, 42) if happy else (14, 16, 24, 28, 18)
        score = rng.choices((1, 2, 3, 4, 5), marks)[0] if rng.random() < 0.75 else None
        tickets.append(
            Ticket(
                ticket_id=number,
                order_id=order_id,
                customer_id=customer.customer_id,
                opened_at=opened.replace(second=0, microsecond=0),
                closed_at=closed.replace(second=0, microsecond=0) if closed else None,
                channel=rng.choices([c for c, _ in CHANNELS], [w for _, w in CHANNELS])[0],
                topic=topic,
                satisfaction=score if closed else None,
                comment=rng.choice(texts).format(p=product),
            )
        )
    return tickets


def make_stock(rng: Random, products: list[Product], orders: list[Order]) -> list[Stock]:
    """Stock per product and warehouse, in proportion to what sold in the last 90 days."""
    since = ANCHOR - timedelta(days=90)
    sold: Counter[int] = Counter()
    for order in orders:
        if order.ordered_at.date() >= since:
            for item in order.items:
                sold[item.product.product_id] += item.quantity
    stock = []
    for product in products:
        for warehouse, share, present in zip(
            WAREHOUSES, (0.6, 0.25, 0.15), (1.0, 0.85, 0.75), strict=True
        ):
            if rng.random() >= present:
                continue
            daily = sold[product.product_id] / 90 * share
            days = rng.choices((0, 4, 12, 30, 60, 140), (6, 10, 22, 34, 20, 8))[0]
            quantity = int(daily * days * rng.uniform(0.7, 1.3) + (days > 0) * rng.randrange(1, 4))
            if product.until:
                quantity = rng.randrange(0, 9)
            stock.append(
                Stock(
                    sku=product.sku,
                    warehouse=warehouse,
                    quantity=quantity,
                    reserved=min(quantity, rng.choices((0, 1, 2, 5), (60, 20, 14, 6))[0]),
                    unit_cost=cents(product.cost * Decimal(rng.randrange(970, 1031)) / 1000),
                    counted_on=ANCHOR - timedelta(days=rng.randrange(0, 6)),
                )
            )
    return stock


def make_targets(rng: Random, orders: list[Order]) -> list[Target]:
    """Thirteen months of targets per category, planned from the season of the whole month."""
    ars: Counter[tuple[date, str]] = Counter()
    units: Counter[tuple[date, str]] = Counter()
    for order in orders:
        month = order.ordered_at.date().replace(day=1)
        if order.cancelled_at is None:
            for item in order.items:
                ars[month, item.product.category] += int(item.amount)
                units[month, item.product.category] += item.quantity
    targets = []
    for back in range(12, -1, -1):
        month = shift_month(ANCHOR, -back)
        days = [month + timedelta(days=n) for n in range(31)]
        days = [day for day in days if day.month == month.month]
        seen = sum(season(day) for day in days if FIRST_DAY <= day <= LAST_DAY)
        whole = sum(season(day) for day in days) / seen
        for category in GOODS:
            plan = whole * rng.uniform(0.86, 1.16)
            amount = round(ars[month, category] * plan / 50_000) * 50_000
            count = max(round(units[month, category] * plan), 1)
            targets.append(Target(month, category, Decimal(amount), count))
    return targets
