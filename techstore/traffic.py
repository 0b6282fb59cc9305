"""The business events of a trading day, each a few statements in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from lake.errors import SourceError
from techstore.model import cents
from techstore.people import ascii_only, phone
from techstore.trade import PAYMENTS, shelf_price
from techstore.words import CITIES, FIRST_NAMES, LAST_NAMES

ARGENTINA = timedelta(hours=-3)
NEXT_STATUS = {"pending": "paid", "paid": "shipped", "shipped": "delivered"}


@dataclass(frozen=True, slots=True)
class Happened:
    """One event: what kind, how many rows it changed, and in words."""

    kind: str
    rows: int
    words: str


class Traffic:
    """What is on sale, who buys and which orders are open; makes one event at a time.

    The state is read once for each connection and follows this shop's own changes. Where somebody
    else changed an order meanwhile, the condition in the statement fails and the order is dropped.
    """

    def __init__(self, connection: Connection[Cursor], rng: Random) -> None:
        self.connection = connection
        self._rng = rng
        self._cursor = connection.cursor()
        ask = self._cursor
        ask.execute("SELECT product_id, price_ars FROM products WHERE active ORDER BY product_id")
        self._prices: dict[int, Decimal] = dict(ask.fetchall())
        self._first_prices = dict(self._prices)
        self._products = list(self._prices)
        ask.execute("SELECT customer_id FROM customers ORDER BY customer_id")
        self._customers = [row[0] for row in ask.fetchall()]
        ask.execute(
            "SELECT order_id, status FROM orders"
            " WHERE status IN ('pending', 'paid', 'shipped') ORDER BY order_id"
        )
        self._open: list[tuple[int, str]] = list(ask.fetchall())
        connection.rollback()
        if not self._products or not self._customers:
            raise SourceError(
                "The shop has nothing on sale or no customers.",
                "Load docker/mysql/init.sql: `ducklake reset` does.",
            )
        self._makers: tuple[tuple[Callable[[datetime], Happened], int], ...] = (
            (self._order, 22),
            (self._status, 54),
            (self._cancel, 6),
            (self._price, 7),
            (self._address, 6),
            (self._customer, 5),
        )

    def event(self) -> Happened:
        """Make one event in the open transaction; the caller commits."""
        make = self._rng.choices(
            [make for make, _ in self._makers], [weight for _, weight in self._makers]
        )[0]
        if make in {self._status, self._cancel} and not self._open:
            make = self._order
        return make(datetime.now(UTC).replace(tzinfo=None) + ARGENTINA)

    def _run(self, statement: str, *values: object) -> int:
        return self._cursor.execute(statement, values)

    def _take_open(self) -> tuple[int, str]:
        at = self._rng.randrange(len(self._open))
        self._open[at], self._open[-1] = self._open[-1], self._open[at]
        return self._open.pop()

    def _order(self, now: datetime) -> Happened:
        rng = self._rng
        wanted = min(rng.choices((1, 2, 3, 4, 5), (29, 27, 21, 13, 10))[0], len(self._products))
        lines = []
        shipping = total = rng.choice((Decimal("0.00"), Decimal("4199.90"), Decimal("8899.90")))
        for product_id in rng.sample(self._products, wanted):
            quantity = rng.choices((1, 2, 3), (88, 9, 3))[0]
            discount = Decimal(rng.choices((0, 5, 10, 15), (80, 8, 8, 4))[0])
            price = self._prices[product_id]
            total += cents(quantity * price * (100 - discount) / 100)
            lines.append((product_id, quantity, price, discount))
        payment = rng.choices([p for p, _ in PAYMENTS], [w for _, w in PAYMENTS])[0]
        rows = self._run(
            "INSERT INTO orders (customer_id, ordered_at, status, payment_method, shipping_ars,"
            " total_ars, updated_at) VALUES (%s, %s, 'pending', %s, %s, %s, %s)",
            *(rng.choice(self._customers), now, payment, shipping, total, now),
        )
        order_id = self._cursor.lastrowid
        rows += self._run(
            "INSERT INTO order_items (order_id, product_id, quantity, unit_price_ars,"
            " discount_pct) VALUES " + ", ".join(["(%s, %s, %s, %s, %s)"] * len(lines)),
            *(value for line in lines for value in (order_id, *line)),
        )
        self._open.append((order_id, "pending"))
        return Happened("order", rows, f"order {order_id}: {len(lines)} items, {total:,.2f} ARS")

    def _status(self, now: datetime) -> Happened:
        order_id, status = self._take_open()
        following = NEXT_STATUS[status]
        rows = self._run(
            "UPDATE orders SET status = %s, updated_at = %s WHERE order_id = %s AND status = %s",
            *(following, now, order_id, status),
        )
        if rows and following in NEXT_STATUS:
            self._open.append((order_id, following))
        return Happened("status", rows, f"order {order_id}: {status} -> {following}")

    def _cancel(self, now: datetime) -> Happened:
        order_id, status = self._take_open()
        if status == "shipped":  # too late to cancel: it arrives
            self._open.append((order_id, status))
            return self._status(now)
        if self._rng.random() < 0.6:
            rows = self._run(
                "UPDATE orders SET status = 'cancelled', updated_at = %s"
                " WHERE order_id = %s AND status = %s",
                *(now, order_id, status),
            )
            return Happened("cancellation", rows, f"order {order_id}: cancelled")
        rows = self._run("DELETE FROM orders WHERE order_id = %s AND status = %s", order_id, status)
        if rows:
            rows += self._run("DELETE FROM order_items WHERE order_id = %s", order_id)
        return Happened("deletion", rows, f"order {order_id}: deleted")

    def _price(self, now: datetime) -> Happened:
        rng = self._rng
        product_id = rng.choice(self._products)
        old = self._prices[product_id]
        # Around the first price: a long run must not drift out of the column.
        new = shelf_price(self._first_prices[product_id] * rng.randrange(940, 1081) / 1000)
        if new == old or new <= 0:
            new = old + Decimal("1.00")
        self._prices[product_id] = new
        rows = self._run(
            "UPDATE products SET price_ars = %s, updated_at = %s WHERE product_id = %s",
            *(new, now, product_id),
        )
        return Happened("price", rows, f"product {product_id}: {old:,.2f} -> {new:,.2f} ARS")

    def _address(self, now: datetime) -> Happened:
        customer_id = self._rng.choice(self._customers)
        city, province, _, _ = self._rng.choices(CITIES, [c[3] for c in CITIES])[0]
        rows = self._run(
            "UPDATE customers SET city = %s, province = %s, updated_at = %s WHERE customer_id = %s",
            *(city, province, now, customer_id),
        )
        return Happened("address", rows, f"customer {customer_id}: moved to {city}")

    def _customer(self, now: datetime) -> Happened:
        rng = self._rng
        first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
        city, province, area, _ = rng.choices(CITIES, [c[3] for c in CITIES])[0]
        # The moment makes the address new, whatever the seed and whoever else is trading.
        email = (
            f"{ascii_only(first)}.{ascii_only(last)}.{now:%y%m%d%H%M%S%f}@correo.example".lower()
        )
        rows = self._run(
            "INSERT INTO customers (email, first_name, last_name, phone, city, province,"
            " created_at, updated_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            *(email, first, last, phone(rng, area), city, province, now, now),
        )
        customer_id = self._cursor.lastrowid
        self._customers.append(customer_id)
        return Happened("customer", rows, f"customer {customer_id}: new, from {city}")
