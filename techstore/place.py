"""Puts the SFTP files where the server serves them, with their dates moved to the present.

The files are as of last night: what happened today or later is not in them yet. So every order
they name is older than today and therefore in the database, whatever the hour.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

from openpyxl import load_workbook

from techstore import files
from techstore.model import ANCHOR, shift_days, shift_month

_ARGENTINA = timedelta(hours=-3)
_NIGHTLY = time(0, 5)  # when the other systems drop their files


def place_files(source: Path, target: Path, today: date) -> None:
    """Write the five files for `today`, each whole under its name or not at all.

    Args:
        source: The folder of the files around the anchor (docker/sftp).
        target: The folder that is served; made if missing.
        today: The present day in Argentina.

    Raises:
        OSError: A file cannot be read or written.
    """
    target.mkdir(parents=True, exist_ok=True)
    written = datetime.combine(today, _NIGHTLY, UTC) - _ARGENTINA
    for name, move in _MOVES.items():
        content = move((source / name).read_bytes(), today)
        part = target / f".{name}.part"
        part.write_bytes(content)
        os.utime(part, (written.timestamp(), written.timestamp()))
        part.replace(target / name)


def _inventory(content: bytes, today: date) -> bytes:
    shift = timedelta(days=shift_days(today))

    def moved() -> Iterator[list[str]]:
        for *rest, counted in _records(content.decode("utf-8-sig"), ";"):
            day = min(datetime.strptime(counted, "%d/%m/%Y").date() + shift, today)
            yield [*rest, f"{day:%d/%m/%Y}"]

    return files.inventory(moved())


def _suppliers(content: bytes, today: date) -> bytes:
    shift = timedelta(days=shift_days(today))
    rows = json.loads(content)
    for row in rows:
        row["since"] = (date.fromisoformat(row["since"]) + shift).isoformat()
    return files.suppliers(rows)


def _shipments(content: bytes, today: date) -> bytes:
    shift = timedelta(days=shift_days(today))

    def moved() -> Iterator[dict[str, str]]:
        for element in ElementTree.fromstring(content):
            row = {**element.attrib, **{field.tag: field.text or "" for field in element}}
            for name in ("shipped_on", "promised_on", "delivered_on"):
                if name in row:
                    row[name] = (date.fromisoformat(row[name]) + shift).isoformat()
            if row["shipped_on"] >= today.isoformat():
                continue
            if row.get("delivered_on", "") >= today.isoformat():
                del row["delivered_on"]
            yield row

    return files.shipments(moved())


def _targets(content: bytes, today: date) -> bytes:
    months = (today.year - ANCHOR.year) * 12 + today.month - ANCHOR.month
    sheet = load_workbook(io.BytesIO(content), read_only=True).worksheets[0]
    rows = []
    for month, category, ars, units in sheet.iter_rows(min_row=3, values_only=True):
        assert isinstance(month, datetime)
        moved = shift_month(month.date(), months)
        rows.append((moved, str(category), Decimal(str(ars)), int(str(units))))
    return files.targets(rows)


def _tickets(content: bytes, today: date) -> bytes:
    shift = timedelta(days=shift_days(today))
    midnight = f"{today} 00:00"

    def later(text: str) -> str:
        at = datetime.strptime(text, "%Y-%m-%d %H:%M") + shift
        return f"{at:%Y-%m-%d %H:%M}"

    def moved() -> Iterator[list[str]]:
        for row in _records(content.decode("latin-1"), "|"):
            record = dict(zip(files.TICKETS_HEADER, row, strict=True))
            record["opened_at"] = later(record["opened_at"])
            if record["opened_at"] >= midnight:
                continue
            closed = later(record["closed_at"]) if record["closed_at"] else ""
            if closed >= midnight:
                closed = record["satisfaction"] = ""
            record["closed_at"] = closed
            yield list(record.values())

    return files.tickets(moved())


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    next(rows)
    return rows


_MOVES: dict[str, Callable[[bytes, date], bytes]] = {
    "inventory.csv": _inventory,
    "suppliers.json": _suppliers,
    "shipments.xml": _shipments,
    "sales_targets.xlsx": _targets,
    "support_tickets.txt": _tickets,
}
