"""`init.sql`: the tables, the history around the anchor, and its shift to the present."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice

from techstore.model import ANCHOR, Customer, Order, Product, Shop

ROWS_A_STATEMENT = 400

_HEAD = """\
-- TechStore, an electronics shop: a year of history around {anchor}, moved by whole weeks
-- so that it ends now. Written by `python -m techstore`; do not edit.
-- Every statement ends with a semicolon at the end of a line and no text contains one there.
SET NAMES utf8mb4;
CREATE DATABASE IF NOT EXISTS techstore CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
USE techstore;

CREATE TABLE customers (
  customer_id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(255) NOT NULL,
  first_name VARCHAR(80) NOT NULL,
  last_name VARCHAR(80) NOT NULL,
  phone VARCHAR(40) NULL,
  city VARCHAR(80) NULL,
  province VARCHAR(80) NULL,
  created_at DATETIME(6) NOT NULL,
  updated_at DATETIME(6) NOT NULL,
  KEY customers_email (email)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE products (
  product_id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  sku VARCHAR(20) NOT NULL,
  name VARCHAR(160) NOT NULL,
  category VARCHAR(60) NOT NULL,
  brand VARCHAR(60) NOT NULL,
  supplier_id INT NOT NULL,
  price_ars DECIMAL(12,2) NOT NULL,
  cost_ars DECIMAL(12,2) NOT NULL,
  active TINYINT(1) NOT NULL,
  created_at DATETIME(6) NOT NULL,
  updated_at DATETIME(6) NOT NULL,
  UNIQUE KEY products_sku (sku)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- No foreign keys: rows deleted by a cascade do not appear in the binlog.
CREATE TABLE orders (
  order_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  customer_id INT NOT NULL,
  ordered_at DATETIME(6) NOT NULL,
  status ENUM('pending','paid','shipped','delivered','cancelled') NOT NULL,
  payment_method ENUM('credit_card','debit_card','transfer','mercado_pago','cash') NOT NULL,
  shipping_ars DECIMAL(12,2) NOT NULL,
  total_ars DECIMAL(12,2) NOT NULL,
  updated_at DATETIME(6) NOT NULL,
  KEY orders_customer (customer_id),
  KEY orders_status (status)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

CREATE TABLE order_items (
  order_item_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id BIGINT UNSIGNED NOT NULL,
  product_id INT NOT NULL,
  quantity SMALLINT UNSIGNED NOT NULL,
  unit_price_ars DECIMAL(12,2) NOT NULL,
  discount_pct DECIMAL(5,2) NOT NULL,
  KEY order_items_order (order_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci;

-- The lives of the orders that may be under way now; their status depends on the hour.
CREATE TEMPORARY TABLE order_lives (
  order_id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  paid_at DATETIME(6) NULL,
  shipped_at DATETIME(6) NULL,
  delivered_at DATETIME(6) NULL,
  cancelled_at DATETIME(6) NULL
);
START TRANSACTION;
"""

_TAIL = """
-- From the anchor to now, the present moment in Argentina, by whole weeks.
SET @now = UTC_TIMESTAMP(6) - INTERVAL 3 HOUR;
SET @days = FLOOR(DATEDIFF(@now, '{anchor}') / 7) * 7;
UPDATE customers SET created_at = created_at + INTERVAL @days DAY,
  updated_at = LEAST(updated_at + INTERVAL @days DAY, @now);
UPDATE products SET created_at = created_at + INTERVAL @days DAY,
  updated_at = LEAST(updated_at + INTERVAL @days DAY, @now);
UPDATE orders SET ordered_at = ordered_at + INTERVAL @days DAY,
  updated_at = updated_at + INTERVAL @days DAY;
UPDATE order_lives SET paid_at = paid_at + INTERVAL @days DAY,
  shipped_at = shipped_at + INTERVAL @days DAY,
  delivered_at = delivered_at + INTERVAL @days DAY,
  cancelled_at = cancelled_at + INTERVAL @days DAY;
DELETE i FROM order_items i JOIN orders o ON o.order_id = i.order_id WHERE o.ordered_at > @now;
DELETE FROM orders WHERE ordered_at > @now;
DELETE FROM customers WHERE created_at > @now;
UPDATE orders o JOIN order_lives l ON l.order_id = o.order_id SET
  o.status = CASE WHEN l.cancelled_at <= @now THEN 'cancelled'
    WHEN l.delivered_at <= @now THEN 'delivered'
    WHEN l.shipped_at <= @now THEN 'shipped'
    WHEN l.paid_at <= @now THEN 'paid' ELSE 'pending' END,
  o.updated_at = CASE WHEN l.cancelled_at <= @now THEN l.cancelled_at
    WHEN l.delivered_at <= @now THEN l.delivered_at
    WHEN l.shipped_at <= @now THEN l.shipped_at
    WHEN l.paid_at <= @now THEN l.paid_at ELSE o.ordered_at END;
COMMIT;
DROP TEMPORARY TABLE order_lives;
-- Without fresh statistics the first joins are planned for empty tables and take seconds.
ANALYZE NO_WRITE_TO_BINLOG TABLE customers, products, orders, order_items;
"""


def literal(value: object) -> str:
    """A value as MySQL reads it."""
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return f"'{value:%Y-%m-%d %H:%M:%S.%f}'"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | Decimal):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"'{text}'"


def _inserts(table: str, columns: str, rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    left = iter(rows)
    while chunk := list(islice(left, ROWS_A_STATEMENT)):
        lines = ",\n".join(f"({','.join(map(literal, row))})" for row in chunk)
        yield f"INSERT INTO {table} ({columns}) VALUES\n{lines};\n"


def _customer(c: Customer) -> tuple[object, ...]:
    return (
        *(c.customer_id, c.email, c.first_name, c.last_name, c.phone, c.city, c.province),
        *(c.created_at, c.updated_at),
    )


def _product(p: Product) -> tuple[object, ...]:
    return (
        *(p.product_id, p.sku, p.name, p.category, p.brand, p.supplier_id),
        *(p.price_on(p.until or ANCHOR), p.cost, p.until is None, p.created_at, p.updated_at),
    )


def _order(o: Order) -> tuple[object, ...]:
    status, at = o.steps()[-1]
    return (
        *(o.order_id, o.customer.customer_id, o.ordered_at, status, o.payment_method),
        *(o.shipping, o.total, at),
    )


def _items(orders: list[Order]) -> Iterator[tuple[object, ...]]:
    number = 0
    for o in orders:
        for i in o.items:
            number += 1
            yield (
                *(number, o.order_id, i.product.product_id, i.quantity),
                *(i.unit_price, i.discount),
            )


def _lives(orders: list[Order], since: date) -> Iterator[tuple[object, ...]]:
    begin = datetime.combine(since, time())
    for o in orders:
        if o.steps()[-1][1] >= begin:
            yield (o.order_id, o.paid_at, o.shipped_at, o.delivered_at, o.cancelled_at)


def render(shop: Shop) -> str:
    """The whole of `init.sql`, loadable statement by statement in one connection."""
    tables = (
        (
            "customers",
            "customer_id,email,first_name,last_name,phone,city,province,created_at,updated_at",
            map(_customer, shop.customers),
        ),
        (
            "products",
            "product_id,sku,name,category,brand,supplier_id,price_ars,cost_ars,active,"
            "created_at,updated_at",
            map(_product, shop.products),
        ),
        (
            "orders",
            "order_id,customer_id,ordered_at,status,payment_method,shipping_ars,total_ars,"
            "updated_at",
            map(_order, shop.orders),
        ),
        (
            "order_items",
            "order_item_id,order_id,product_id,quantity,unit_price_ars,discount_pct",
            _items(shop.orders),
        ),
        (
            "order_lives",
            "order_id,paid_at,shipped_at,delivered_at,cancelled_at",
            # Now is the anchor's day or later, so what ended before it has ended for good.
            _lives(shop.orders, ANCHOR - timedelta(days=1)),
        ),
    )
    parts = [_HEAD.format(anchor=ANCHOR)]
    for table, columns, rows in tables:
        parts.extend(_inserts(table, columns, rows))
    parts.append(_TAIL.format(anchor=ANCHOR))
    return "".join(parts)
