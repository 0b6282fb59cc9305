"""Kafka messages as Arrow columns: what the decoder's queries read.

This runs once for every record there is: whole columns are built by calls in C, without a Python
object or a copy more than needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np
import pyarrow as pa
from confluent_kafka import Message

from lake.records import PROVENANCE_HEADER

_MILLISECONDS = pa.timestamp("ms", "UTC")
# Called without a lookup for each message.
_value, _partition, _offset, _timestamp = (
    Message.value,
    Message.partition,
    Message.offset,
    Message.timestamp,
)


def values_of(messages: Sequence[Message]) -> pa.Array | None:
    """The values as one column of texts; None where a record has no value.

    Raises:
        ArrowInvalid: A value is not UTF-8.
    """
    values = list(map(_value, messages))
    if None in values:
        return None
    ends = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values)), out=ends[1:])
    column = pa.LargeStringArray.from_buffers(
        len(values), pa.py_buffer(ends), pa.py_buffer(b"".join(values))
    )
    column.validate(full=True)
    return column


def texts_of(messages: Sequence[Message]) -> tuple[pa.Array, list[int]]:
    """The values as texts, NULL where there is none, and the rows whose value is no text."""
    texts: list[str | None] = []
    broken: list[int] = []
    for row, message in enumerate(messages):
        value = message.value()
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            broken.append(row)
    return pa.array(texts, pa.large_string()), broken


def columns_of(messages: Sequence[Message], values: pa.Array, provenance: bool) -> pa.Table:
    """The messages as a table.

    Args:
        messages: The records.
        values: Their values, as texts.
        provenance: Whether they have the header of provenance.

    Returns:
        `v` (value), `p` (partition), `o` (offset), `t` (timestamp) and, if wanted, `h` (header).
    """
    count = len(messages)
    stamps = np.fromiter(map(itemgetter(1), map(_timestamp, messages)), np.int64, count)
    columns = {
        "v": values,
        "p": np.fromiter(map(_partition, messages), np.int32, count),
        "o": np.fromiter(map(_offset, messages), np.int64, count),
        "t": pa.array(stamps).view(_MILLISECONDS),
    }
    if provenance:
        columns["h"] = pa.array(list(map(provenance_of, messages)), pa.string())
    return pa.table(columns)


def provenance_of(message: Message) -> str | None:
    """The header that says where a record comes from."""
    for name, value in message.headers() or ():
        if name == PROVENANCE_HEADER:
            return str(value, errors="replace")
    return None
