"""The section `live`: which tables and columns the live figures are counted from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import Field

from lake.config.section import Section, TimeZone
from lake.config.suggestions import Place, nearest

Column = Annotated[str, Field(min_length=1)]
Topic = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class LiveCancelled(Section):
    """An order counts as cancelled where `column` holds one of `values`."""

    column: Column
    values: Annotated[list[str], Field(min_length=1)]


class LiveOrders(Section):
    """The table whose rows are counted.

    Attributes:
        table: Its topic: `mysql.orders`.
        time: The column with the time at which an order was placed.
        amount: The column with what it is worth.
        cancelled: How a cancelled one is known; none: no order is.
        time_zone: In which `time` is meant, where it has no offset; by default `batch.time_zone`.
    """

    table: Topic
    time: Column
    amount: Column
    cancelled: LiveCancelled | None = None
    time_zone: TimeZone | None = None


class LiveItems(Section):
    """The table that says what was sold, for the top products.

    Attributes:
        table: Its topic.
        order: The column with the order's key.
        product: The column with the product.
        price: The column with the price of one.
        quantity: The column with how many; none: one.
        discount_percent: The column with a discount in per cent.
    """

    table: Topic
    order: Column
    product: Column
    price: Column
    quantity: Column | None = None
    discount_percent: Column | None = None


class LiveNames(Section):
    """The table that names the products; its key is what `items.product` holds."""

    table: Topic
    column: Column


class LiveRate(Section):
    """The table of an exchange rate; the newest one counts.

    Attributes:
        table: Its topic.
        column: The column with the price of one unit of `currency`.
        time: Columns with the rate's time; the first that is not NULL counts.
        currency: What the revenue is converted to.
    """

    table: Topic
    column: Column
    time: Annotated[list[Column], Field(min_length=1)]
    currency: Currency = "USD"


class Live(Section):
    """The figures of `ducklake live`.

    Attributes:
        window_minutes: Length of the window that moves on each minute.
        top: How many products are listed.
        late_seconds: An order whose record arrives longer after its time than this is late.
    """

    orders: LiveOrders
    items: LiveItems | None = None
    names: LiveNames | None = None
    rate: LiveRate | None = None
    currency: Currency = "ARS"
    window_minutes: Annotated[int, Field(ge=1, le=1440)] = 15
    top: Annotated[int, Field(ge=1, le=100)] = 5
    late_seconds: Annotated[float, Field(gt=0)] = 60

    def columns(self) -> Iterator[tuple[Place, str, str]]:
        """Every column that is named: its place in the file, its table and its name."""
        orders, items, names, rate = self.orders, self.items, self.names, self.rate
        yield ("orders", "time"), orders.table, orders.time
        yield ("orders", "amount"), orders.table, orders.amount
        if orders.cancelled is not None:
            yield ("orders", "cancelled", "column"), orders.table, orders.cancelled.column
        for key in ("order", "product", "price", "quantity", "discount_percent"):
            if items is not None and (column := getattr(items, key)) is not None:
                yield ("items", key), items.table, column
        if names is not None:
            yield ("names", "column"), names.table, names.column
        if rate is not None:
            yield ("rate", "column"), rate.table, rate.column
            for at, column in enumerate(rate.time):
                yield ("rate", "time", str(at)), rate.table, column

    def topics(self) -> tuple[str, ...]:
        """The topics that are read."""
        parts = (self.orders, self.items, self.names, self.rate)
        return tuple(dict.fromkeys(part.table for part in parts if part is not None))

    def problems(self, keys: Mapping[str, Iterable[str]]) -> Iterator[tuple[Place, str]]:
        """What does not fit the tables.

        Args:
            keys: The key columns of each configured table, by topic.

        Yields:
            The place in the section, and what is wrong.
        """
        for name, needs_key in (
            ("orders", True),
            ("items", True),
            ("names", True),
            ("rate", False),
        ):
            part = getattr(self, name)
            if part is None:
                continue
            if part.table not in keys:
                yield (name, "table"), f"no such table{nearest(part.table, keys)}"
            elif needs_key and not keys[part.table]:
                yield (name, "table"), f"{part.table} needs a `key`, which tells its rows apart"
        joined = [n for n in ("orders", "names") if self.items is not None and getattr(self, n)]
        for name in joined:
            table = getattr(self, name).table
            if len(list(keys.get(table, ()))) > 1:
                yield (name, "table"), f"the key of {table} has more than one column"
        if self.names is not None and self.items is None:
            yield ("names",), "it names what `items` lists, and there is no `items`"
