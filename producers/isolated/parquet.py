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
            casts = [(n, _texts(pa, field.type)) for n, field in enumerate(schema)]
            for batch in file.iter_batches(ROWS, use_threads=False):
                columns = list(batch.columns)
                for n, as_text in casts:
                    columns[n] = columns[n] if as_text is None else columns[n].cast(as_text)
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


def _texts(pa: Any, type_: Any) -> Any:
    """A type in which Arrow itself writes what Python's types do not hold; None: they hold all.

    Python's times have no nanoseconds, and its dates end with the year 9999.
    """
    types = pa.types
    if types.is_time(type_) or types.is_date(type_):
        return pa.string()
    if types.is_timestamp(type_):
        return pa.string() if type_.tz is None else None
    return _of_texts(pa, type_)


def _of_texts(pa: Any, type_: Any) -> Any:
    """The same for what values are made of, where that has times of nanoseconds."""
    types = pa.types
    if "time64" not in str(type_):
        return None
    if types.is_time64(type_):
        return pa.string()
    if types.is_struct(type_):
        inner = [(field.name, _of_texts(pa, field.type) or field.type) for field in type_]
        made = pa.struct(inner)
    elif types.is_map(type_):
        key, item = type_.key_type, type_.item_type
        made = pa.map_(_of_texts(pa, key) or key, _of_texts(pa, item) or item)
    elif types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        inner_type = _of_texts(pa, type_.value_type) or type_.value_type
        made = pa.large_list(inner_type) if types.is_large_list(type_) else pa.list_(inner_type)
    else:
        return None
    return made


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
