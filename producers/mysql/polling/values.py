"""Values of MySQL as Debezium's connector writes them, so that raw is the same by either way.

Each column has an expression for the SELECT, and a function from the text that the server answers
to the value in the record. docs/TYPES.md says what becomes of it.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from lake.storage.canonical import Form, SourceColumn
from producers.mysql.tables import quoted

Answer = str | bytes
Value = Callable[[Answer], Any]
_ZERO_DATE, _ZERO_TIME = "0000-00-00", " 00:00:00"
_POINT_AT = 5
"""Where the coordinates of a point begin in its well-known binary."""


def selected(column: SourceColumn) -> str:
    """SQL of MySQL for a column's value, in the form that `record_value` takes."""
    name, form = quoted(column.name), column.form
    if column.data_type == "bit":
        return f"HEX({name} + 0)"
    if form in (Form.FLOAT, Form.DOUBLE):
        return f"{name} + 0e0"  # of a FLOAT alone, MySQL prints six digits
    if form is Form.JSON:
        return f"CAST({name} AS CHAR)"
    if form is Form.GEOMETRY:
        return f"CONCAT(HEX(ST_AsWKB({name}, 'axis-order=long-lat')), ':', ST_SRID({name}))"
    if column.data_type == "vector":
        return f"VECTOR_TO_STRING({name})"
    return name


def record_value(column: SourceColumn) -> Value:
    """What makes the value in a record out of the server's answer, which is not NULL."""
    form = column.form
    if column.data_type == "bit":
        if form is Form.BIT:
            return lambda text: text == "1"
        width = 2 * ((column.bits + 7) // 8)
        return lambda text: f"X'{str(text).lower().rjust(width, '0')}'"
    if column.data_type == "decimal":
        return _decimal
    special: dict[Form, Value] = {
        Form.NUMBER: lambda text: int(text),
        Form.FLOAT: lambda text: str(np.float32(text)),
        Form.DOUBLE: lambda text: float(text),
        Form.DATE: _date(column),
        Form.GEOMETRY: _geometry(column),
    }
    if form in special:
        return special[form]
    if column.data_type == "vector":
        return lambda text: orjson.loads(text)
    return lambda text: base64.b64encode(text).decode() if isinstance(text, bytes) else text


def _decimal(text: Answer) -> Any:
    """Without the padding of ZEROFILL."""
    digits = str(text)
    sign = "-" if digits.startswith("-") else ""
    whole, point, fraction = digits.lstrip("-").partition(".")
    return f"{sign}{whole.lstrip('0') or '0'}{point}{fraction}"


def _date(column: SourceColumn) -> Value:
    """A date of zeros is NULL where the column may be, as Debezium's binlog reader has it."""
    zone = "Z" if column.data_type == "timestamp" else ""

    def value(answer: Answer) -> Any:
        text = str(answer)
        if text[:4] != "0000" and text[5:7] != "00" and text[8:10] != "00":
            return text + zone
        if column.nullable:
            return None
        if column.data_type == "date":
            return _ZERO_DATE
        return _ZERO_DATE + _ZERO_TIME + ("." + "0" * (len(text) - 20) if len(text) > 20 else "")

    return value


def _geometry(column: SourceColumn) -> Value:
    """Of a column of points, and of no other, Debezium tells the coordinates."""
    is_point = column.data_type == "point"

    def value(answer: Answer) -> Any:
        digits, _, srid = str(answer).partition(":")
        wkb = bytes.fromhex(digits)
        x, y = struct.unpack_from("<dd", wkb, _POINT_AT) if is_point else (0.0, 0.0)
        place = {"x": x, "y": y} if is_point else {}
        return {**place, "wkb": base64.b64encode(wkb).decode(), "srid": int(srid) or None}

    return value
