"""Parquet: every value as text or JSON that says exactly the same."""

from __future__ import annotations

import base64
import math
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from producers.isolated.output import Refused, duration, emit, plain

ROWS = 256
_NO_VALUE = object()


def read(stream: BinaryIO, options: dict[str, Any]) -> None:
    """Hand out the rows.

    Raises:
        Refused: It is not Parquet, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        with pq.ParquetFile(stream, pre_buffer=False) as file:
            schema = file.schema_arrow
            if len(set(schema.names)) < len(schema.names):
                raise Refused("it names a column twice", "")
            found = 0
            casts = [(n, _as_text(pa, field.type)) for n, field in enumerate(schema)]
            for batch in file.iter_batches(ROWS, use_threads=False):
                columns = list(batch.columns)
                for n, as_text in casts:
                    columns[n] = columns[n].cast(pa.string()) if as_text else columns[n]
                found += batch.num_rows
                for cells in zip(*map(_values, columns), strict=True):
                    row = dict(zip(schema.names, cells, strict=True))
                    odd = [name for name, cell in row.items() if cell is _NO_VALUE]
                    if odd:
                        emit("bad", f"the value of its column {odd[0]!r} is out of range")
                    else:
                        emit("row", row)
            said = file.metadata.num_rows
            if found != said:
                raise Refused(f"it has {found:,} rows, and its footer says {said:,}", "")
    except pa.ArrowMemoryError:
        raise MemoryError from None
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        raise Refused(f"it is not Parquet, or damaged ({type(error).__name__})", "") from None


def _as_text(pa: Any, type_: Any) -> bool:
    """Whether Arrow itself has to write it: Python's own types hold no nanoseconds."""
    types = pa.types
    return bool(
        (types.is_timestamp(type_) and type_.tz is None)
        or types.is_time(type_)
        or types.is_date(type_)  # Python's own end with the year 9999
    )


def _values(column: Any) -> list[Any]:
    try:
        return [_plain(value) for value in column.to_pylist()]
    except (ValueError, OverflowError):
        return [_value(value) for value in column]


def _value(value: Any) -> Any:
    try:
        return _plain(value.as_py())
    except (ValueError, OverflowError):
        return _NO_VALUE


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()  # with its nanoseconds, if it has any, and also at midnight
    if isinstance(value, timedelta) and hasattr(value, "as_unit"):
        micros, nanos = divmod(value.as_unit("ns").value, 1000)
        return duration(timedelta(microseconds=micros), nanos)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return plain(value)
