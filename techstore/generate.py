"""Makes the whole shop from one seed, and its files from the shop."""

from __future__ import annotations

from pathlib import Path
from random import Random

from techstore import files, sql
from techstore.model import Shop
from techstore.office import make_stock, make_targets, make_tickets
from techstore.people import make_customers, make_suppliers
from techstore.trade import make_orders, make_products

SEED = 20260628


def make_shop(seed: int = SEED) -> Shop:
    """The shop; the same seed makes the same shop.

    Each part draws from its own stream, so that a change to one leaves the others as they are.
    """
    suppliers = make_suppliers(Random(f"suppliers {seed}"))
    products = make_products(Random(f"products {seed}"), suppliers)
    customers = make_customers(Random(f"customers {seed}"))
    orders = make_orders(Random(f"orders {seed}"), suppliers, products, customers)
    return Shop(
        suppliers=suppliers,
        products=products,
        customers=customers,
        orders=orders,
        tickets=make_tickets(Random(f"tickets {seed}"), orders, customers),
        stock=make_stock(Random(f"stock {seed}"), products, orders),
        targets=make_targets(Random(f"targets {seed}"), orders),
    )


def render(shop: Shop) -> dict[str, bytes]:
    """The committed files: path under docker/ to content."""
    rendered = {f"sftp/{name}": content for name, content in files.render(shop).items()}
    return {"mysql/init.sql": sql.render(shop).encode(), **rendered}


def write(docker: Path) -> None:
    """Write all files under the project's folder docker/."""
    for name, content in render(make_shop()).items():
        path = docker / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
