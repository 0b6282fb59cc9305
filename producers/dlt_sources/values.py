"""Items of dlt as rows: what JSON has no word for becomes text, and nested values stay nested."""

from __future__ import annotations

import base64
import enum
import math
import uuid
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from producers.frames import frame_rows


def rows_of(item: Any) -> Iterator[dict[str, Any]]:
    """The rows of one item: a mapping, a model, or a whole frame or Arrow table.

    Raises:
        TypeError: It is none of these.
    """
    item = getattr(item, "data", item) if type(item).__name__ == "DataItemWithMeta" else item
    if isinstance(item, list | tuple):
        for inner in item:
            yield from rows_of(inner)
    elif isinstance(item, pa.Table | pa.RecordBatch):
        yield from (plain(row) for row in item.to_pylist())
    elif isinstance(item, pd.DataFrame):
        yield from (plain(row) for row in frame_rows(item))
    elif isinstance(item, Mapping):
        yield plain(item)
    elif hasattr(item, "model_dump"):
        yield plain(item.model_dump())
    else:
        raise TypeError(f"a row is a mapping, not {type(item).__name__}")


def plain(value: Any) -> Any:
    """A value as JSON knows it."""
    match value:
        case None | bool() | str():
            return value
        case np.generic():
            return plain(value.item())
        case enum.Enum():
            return plain(value.value)
        case int():
            return value if -(2**63) <= value < 2**63 else str(value)
        case float():
            return value if math.isfinite(value) else None if math.isnan(value) else str(value)
        case Mapping():
            return {str(name): plain(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(bytes(value)).decode()
        case Decimal() | uuid.UUID():
            return str(value)
        case _:
            return plain(value.model_dump()) if hasattr(value, "model_dump") else str(value)
