"""What a TechStore is made of, and the calendar it lives in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

ANCHOR = date(2026, 6, 28)  # a Sunday; the history is shifted from here by whole weeks
FIRST_DAY = ANCHOR - timedelta(days=371)
LAST_DAY = ANCHOR + timedelta(days=6)  # six days more, so that any weekday can be today
CENT = Decimal("0.01")


def shift_days(today: date) -> int:
    """Whole weeks, in days, by which the history moves so that it ends in the week of `today`."""
    return (today - ANCHOR).days // 7 * 7


def shift_month(month: date, months: int) -> date:
    """The first of the month `months` later."""
    index = month.year * 12 + month.month - 1 + months
    return date(index // 12, index % 12 + 1, 1)


def cents(amount: Decimal) -> Decimal:
    """Round to cents, half up, as MySQL's ROUND does on a DECIMAL."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


@dataclass(frozen=True, slots=True)
class Supplier:
    """Who delivers to TechStore, and ships some orders directly."""

    supplier_id: int
    name: str
    cuit: str
    country: str
    lead_time_days: int
    late_share: float
    active: bool
    since: date
    contacts: list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Product:
    """A row of `products`, and when it was on sale."""

    product_id: int
    sku: str
    name: str
    category: str
    brand: str
    supplier_id: int
    prices: tuple[Decimal, ...]  # prices[k]: the price k price lists before the anchor
    cost: Decimal
    reprice_day: int
    popularity: float
    created_at: datetime
    updated_at: datetime
    until: date | None

    def price_on(self, day: date) -> Decimal:
        """The price on a day; each month has one price list, on `reprice_day`."""
        lists = (ANCHOR.year - day.year) * 12 + ANCHOR.month - day.month
        lists += (day.day < self.reprice_day) - (ANCHOR.day < self.reprice_day)
        return self.prices[max(lists, 0)]

    def on_sale(self, day: date) -> bool:
        """Whether the shop offered it on that day."""
        return self.created_at.date() < day and (self.until is None or day < self.until)


@dataclass(frozen=True, slots=True)
class Customer:
    """A row of `customers`, and how much they buy."""

    customer_id: int
    email: str
    first_name: str
    last_name: str
    phone: str | None
    city: str | None
    province: str
    created_at: datetime
    updated_at: datetime
    weight: float
    until: date | None


@dataclass(frozen=True, slots=True)
class Item:
    """A row of `order_items`."""

    product: Product
    quantity: int
    unit_price: Decimal
    discount: Decimal

    @property
    def amount(self) -> Decimal:
        """What the line costs, rounded to cents."""
        return cents(self.quantity * self.unit_price * (100 - self.discount) / 100)


@dataclass(frozen=True, slots=True)
class Shipment:
    """A parcel that a supplier sent straight to the customer."""

    supplier_id: int
    carrier: str
    promised_on: date
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Order:
    """A row of `orders` with its items and its whole life, known beforehand."""

    order_id: int
    customer: Customer
    ordered_at: datetime
    payment_method: str
    shipping: Decimal
    items: tuple[Item, ...]
    paid_at: datetime | None
    shipped_at: datetime | None
    delivered_at: datetime | None
    cancelled_at: datetime | None
    shipment: Shipment | None

    @property
    def total(self) -> Decimal:
        """Items and shipping."""
        return sum((item.amount for item in self.items), self.shipping)

    def steps(self) -> list[tuple[str, datetime]]:
        """Statuses and their moments, in order of time."""
        known = (
            ("pending", self.ordered_at),
            ("paid", self.paid_at),
            ("shipped", self.shipped_at),
            ("delivered", self.delivered_at),
            ("cancelled", self.cancelled_at),
        )
        return [(status, at) for status, at in known if at is not None]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A row of `support_tickets.txt`."""

    ticket_id: int
    order_id: int | None
    customer_id: int
    opened_at: datetime
    closed_at: datetime | None
    channel: str
    topic: str
    satisfaction: int | None
    comment: str


@dataclass(frozen=True, slots=True)
class Stock:
    """A row of `inventory.csv`."""

    sku: str
    warehouse: str
    quantity: int
    reserved: int
    unit_cost: Decimal
    counted_on: date


@dataclass(frozen=True, slots=True)
class Target:
    """A row of `sales_targets.xlsx`."""

    month: date
    category: str
    ars: Decimal
    units: int


@dataclass(frozen=True, slots=True)
class Shop:
    """All of TechStore."""

    suppliers: list[Supplier]
    products: list[Product]
    customers: list[Customer]
    orders: list[Order]
    tickets: list[Ticket]
    stock: list[Stock]
    targets: list[Target]
