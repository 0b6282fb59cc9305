"""The five files of the SFTP server: one writer for each, the same bytes for the same rows.

inventory.csv is UTF-8 with a BOM, `;` and decimal commas; support_tickets.txt is Latin-1 with `|`;
sales_targets.xlsx has a title above its header and typed cells.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from openpyxl import Workbook
from openpyxl.styles import Font

from techstore.model import ANCHOR, LAST_DAY, Order, Shop, Stock, Supplier, Ticket

INVENTORY_HEADER = ("sku", "warehouse", "quantity", "reserved", "unit_cost_ars", "counted_on")
TARGETS_TITLE = "Objetivos de ventas por categoría (ARS con IVA)"
TARGETS_HEADER = ("month", "category", "target_ars", "target_units")
TICKETS_HEADER = (
    *("ticket_id", "order_id", "customer_id", "opened_at", "closed_at"),
    *("channel", "topic", "satisfaction", "comment"),
)
SHIPMENT_FIELDS = ("carrier", "shipped_on", "promised_on", "delivered_on", "cost_ars")
_ZIP_TIME = (2026, 1, 1, 0, 0, 0)
_XLSX_TIME = datetime(2026, 1, 1)


def inventory(rows: Iterable[Iterable[str]]) -> bytes:
    """`inventory.csv` of rows of text."""
    return delimited(INVENTORY_HEADER, rows, ";").encode("utf-8-sig")


def tickets(rows: Iterable[Iterable[str]]) -> bytes:
    """`support_tickets.txt` of rows of text."""
    return delimited(TICKETS_HEADER, rows, "|").encode("latin-1")


def delimited(header: Iterable[str], rows: Iterable[Iterable[str]], delimiter: str) -> str:
    """Delimited text; fields that hold the delimiter or quotes are quoted."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def suppliers(rows: list[dict[str, Any]]) -> bytes:
    """`suppliers.json` of one object for each supplier."""
    return (json.dumps(rows, ensure_ascii=False, indent=2) + "\n").encode()


def shipments(rows: Iterable[dict[str, str]]) -> bytes:
    """`shipments.xml`; a field that a row lacks has no element."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<shipments>"]
    for row in rows:
        attributes = " ".join(
            f"{name}={quoteattr(row[name])}" for name in ("id", "order_id", "supplier_id")
        )
        lines.append(f"  <shipment {attributes}>")
        lines.extend(
            f"    <{name}>{escape(row[name])}</{name}>" for name in SHIPMENT_FIELDS if name in row
        )
        lines.append("  </shipment>")
    return ("\n".join([*lines, "</shipments>"]) + "\n").encode()


def targets(rows: Iterable[tuple[date, str, Decimal, int]]) -> bytes:
    """`sales_targets.xlsx`, without a trace of the moment or the library that wrote it."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Objetivos"
    sheet["A1"] = TARGETS_TITLE
    sheet["A1"].font = Font(bold=True, size=14)
    sheet.append(TARGETS_HEADER)
    for month, category, ars, units in rows:
        sheet.append((month, category, ars, units))
        sheet.cell(sheet.max_row, 1).number_format = "mmm yyyy"
        sheet.cell(sheet.max_row, 3).number_format = "#,##0.00"
    sheet.column_dimensions["B"].width = 22
    sheet.column_dimensions["C"].width = 20
    book.properties.creator = "TechStore"
    book.properties.created = _XLSX_TIME
    written = io.BytesIO()
    book.save(written)
    return _without_time(written.getvalue())


def _without_time(book: bytes) -> bytes:
    # Entries are stored, not deflated: the bytes would differ from one zlib to another.
    fixed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(fixed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(
                    rb"(<dcterms:modified[^>]*>)[^<]*",
                    rb"\g<1>" + f"{_XLSX_TIME:%Y-%m-%dT%H:%M:%SZ}".encode(),
                    content,
                )
            new.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)
    return fixed.getvalue()


def _stock_row(s: Stock) -> tuple[str, ...]:
    cost = str(s.unit_cost).replace(".", ",")
    counts = (str(s.quantity), str(s.reserved))
    return (s.sku, s.warehouse, *counts, cost, f"{s.counted_on:%d/%m/%Y}")


def _supplier_row(s: Supplier) -> dict[str, Any]:
    return {
        "supplier_id": s.supplier_id,
        "name": s.name,
        "cuit": s.cuit,
        "country": s.country,
        "lead_time_days": s.lead_time_days,
        "active": s.active,
        "since": s.since.isoformat(),
        "contacts": s.contacts,
    }


def _shipment_row(number: int, order: Order) -> dict[str, str]:
    assert order.shipment and order.shipped_at and order.delivered_at
    row = {
        "id": f"SH-{number:06d}",
        "order_id": str(order.order_id),
        "supplier_id": str(order.shipment.supplier_id),
        "carrier": order.shipment.carrier,
        "shipped_on": order.shipped_at.date().isoformat(),
        "promised_on": order.shipment.promised_on.isoformat(),
        "delivered_on": order.delivered_at.date().isoformat(),
        "cost_ars": str(order.shipment.cost),
    }
    if order.delivered_at.date() > LAST_DAY:
        del row["delivered_on"]
    return row


def _ticket_row(t: Ticket) -> tuple[str, ...]:
    def text(value: object) -> str:
        if isinstance(value, datetime):
            return f"{value:%Y-%m-%d %H:%M}"
        return "" if value is None else str(value)

    return tuple(text(getattr(t, name)) for name in TICKETS_HEADER)


def render(shop: Shop) -> dict[str, bytes]:
    """All five files, around the anchor."""
    sent = [o for o in shop.orders if o.shipment and o.shipped_at]
    sent = [o for o in sent if o.shipped_at and o.shipped_at.date() <= LAST_DAY]
    sent.sort(key=lambda o: o.shipped_at or datetime.combine(ANCHOR, datetime.min.time()))
    return {
        "inventory.csv": inventory(map(_stock_row, shop.stock)),
        "suppliers.json": suppliers([_supplier_row(s) for s in shop.suppliers]),
        "shipments.xml": shipments(_shipment_row(n, o) for n, o in enumerate(sent, start=1)),
        "sales_targets.xlsx": targets((t.month, t.category, t.ars, t.units) for t in shop.targets),
        "support_tickets.txt": tickets(map(_ticket_row, shop.tickets)),
    }
