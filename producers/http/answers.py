"""A JSON answer as a batch: its objects are the rows, and the same answer is not sent twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import requests

from lake.config import Table, without_login
from lake.records import Record, Reject
from producers.base import REJECT_BYTES, Batch, record_key


@dataclass(frozen=True, slots=True)
class Address:
    """One address, the table that its answer belongs to, and the name of its cursor."""

    table: str
    unit: str
    url: str

    @property
    def key(self) -> str:
        """The cursor's key within its source."""
        return f"{self.table}:{self.unit}"


def answer_batch(
    address: Address, content: bytes, table: Table, cursor: Mapping[str, Any]
) -> Batch | None:
    """The rows of an answer: an array of objects, or one object.

    Args:
        address: Where it came from.
        content: Its bytes.
        table: The table's section.
        cursor: The cursor of this address; empty where there is none yet.

    Returns:
        None where the answer is the one that the cursor knows. What is no JSON is one reject, and
        not complete: the address is asked again.
    """
    digest = hashlib.sha256(content).hexdigest()
    if cursor.get("sha256") == digest:
        return None
    url = without_login(address.url)
    about = {
        "url": url,
        "status": requests.codes.ok,
        "fetched_at": datetime.now(UTC).isoformat(),
    }
    try:
        items = json_items(content)
    except ValueError:
        # Its digest, so that it is not rejected at every poll; but it is not complete.
        known = {"sha256": digest, "complete": False}
        reject = Reject(address.table, content[:REJECT_BYTES], f"{url}: not JSON", about)
        return Batch(address.table, address.unit, known, (), [reject])
    return Batch(
        address.table,
        address.unit,
        {"sha256": digest, "complete": True},
        [
            Record(address.table, record_key(table, item), item, about)
            for item in items
            if isinstance(item, dict)
        ],
        [
            Reject(address.table, orjson.dumps(item), f"{url}, item {n}: no JSON object", about)
            for n, item in enumerate(items, 1)
            if not isinstance(item, dict)
        ],
    )


def json_items(content: bytes) -> list[Any]:
    """The items of an array, or the one document.

    Raises:
        ValueError: It is no JSON.
    """
    document = orjson.loads(content)
    return document if isinstance(document, list) else [document]
