"""SQL of MySQL for a comparison: canonical forms, checksums of rows, and conditions on keys."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pymysql.converters import escape_string

from lake.storage.canonical import ZERO, Form, SourceColumn, SourceTable

Cell = str | None
Row = tuple[Cell, ...]
_ONE_TO_ONE = frozenset({"", "latin1", "ucs2", "utf16", "utf16le", "utf32"})
"""Character sets of which Unicode keeps all; those of the family utf8 are others.

Of cp932 and others two characters become one in Unicode, or one becomes another when it comes back.
"""
_RAW_TEXT = "\0"
"""What stands before the bytes of a text that would come back from Unicode as another one."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")


def canonical(column: SourceColumn) -> str:
    """SQL of MySQL for the canonical form of a column's values.

    Args:
        column: The column.
    """
    name, form = quoted(column.name), column.form
    if column.data_type == "bit" and form is Form.BYTES:
        return f"UNHEX(LPAD(HEX({name} + 0), {2 * ((column.bits + 7) // 8)}, '0'))"
    if form is Form.NUMBER:
        # + 0: without the padding of ZEROFILL
        text = f"CAST({name} + 0 AS CHAR)"
        return _without_zeros(text) if column.scale else text
    if form in (Form.FLOAT, Form.DOUBLE):
        return f"CAST({name} + 0e0 AS CHAR)"
    if form is Form.BIT:
        return f"CAST({name} + 0 AS CHAR)"
    if form is Form.DATE:
        text = f"CAST({name} AS CHAR)"
        short = f"TRIM(TRAILING ' 00:00:00' FROM {_without_fraction(text)})"
        zeros = f"YEAR({name}) = 0 OR MONTH({name}) = 0 OR DAYOFMONTH({name}) = 0"
        # In a nullable column the lake cannot tell it apart from NULL.
        return f"IF({zeros}, {'NULL' if column.nullable else repr(ZERO)}, {short})"
    if form is Form.TIME:
        return _without_fraction(f"CAST({name} AS CHAR)")
    if form is Form.JSON:
        return f"CAST({name} AS CHAR)"
    if form is Form.GEOMETRY:
        return f"CONCAT(HEX(ST_AsWKB({name}, 'axis-order=long-lat')), ':', ST_SRID({name}))"
    if form is Form.BYTES:
        return name
    return f"CONVERT({name} USING utf8mb4)"


def checksum(table: SourceTable) -> str:
    """SQL of MySQL for the checksum of a row: all values that are compared, in their order."""
    cells = (
        f"IFNULL(MD5({canonical(c)}), '-')" if c.is_hashed else f"IFNULL({canonical(c)}, '-')"
        for c in table.compared
    )
    return f"MD5(CONCAT_WS(',', {', '.join(cells)}))"


def _without_zeros(text: str) -> str:
    return f"TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {text}))"


def _without_fraction(text: str) -> str:
    return f"IF(LOCATE('.', {text}), {_without_zeros(text)}, {text})"


def place(column: SourceColumn) -> str:
    """SQL of what orders a column's values as its index does, and can be written as a literal."""
    name = quoted(column.name)
    if column.form is Form.MEMBER or column.data_type == "bit":
        return f"CAST({name} + 0 AS CHAR)"
    if not _is_one_to_one(column):
        text = canonical(column)
        back = f"CONVERT(CONVERT({text} USING {column.charset}) USING binary)"
        same = f"{back} = CONVERT({name} USING binary)"
        return f"IF({same}, {text}, CONCAT('{escape_string(_RAW_TEXT)}', HEX({name})))"
    return f"CAST({name} AS CHAR)" if column.form is Form.DATE else canonical(column)


def _is_one_to_one(column: SourceColumn) -> bool:
    is_text = column.form is Form.TEXT
    return not is_text or column.charset in _ONE_TO_ONE or column.charset.startswith("utf8")


def behind(key: Sequence[SourceColumn], after: Row) -> str:
    """SQL: whether a row comes after a place in the order of the key."""
    tests = []
    for at, column in enumerate(key):
        same = [
            f"{quoted(c.name)} = {place_literal(c, v)}"
            for c, v in zip(key[:at], after, strict=False)
        ]
        more = f"{quoted(column.name)} > {place_literal(column, after[at])}"
        tests.append("(" + " AND ".join([*same, more]) + ")")
    return " OR ".join(tests)


def place_literal(column: SourceColumn, value: Cell) -> str:
    """A value of `place` as a literal of MySQL."""
    is_number = column.form is Form.MEMBER or column.data_type == "bit"
    if value is not None and value.startswith(_RAW_TEXT) and not _is_one_to_one(column):
        return f"_{column.charset} X'{value.removeprefix(_RAW_TEXT)}'"
    return str(value) if is_number else literal(column, value)


def condition(key: Sequence[SourceColumn], keys: Sequence[Row]) -> str:
    """SQL: whether a row has one of some keys.

    Args:
        key: The columns of the key.
        keys: Canonical forms of their values.
    """
    names = ", ".join(lookup_name(c) for c in key)
    listed = ", ".join(
        "(" + ", ".join(literal(c, v) for c, v in zip(key, row, strict=True)) + ")" for row in keys
    )
    return f"({names}) IN ({listed})"


def lookup_name(column: SourceColumn) -> str:
    """SQL of a column of the key, as `literal` writes its values."""
    name = quoted(column.name)
    return f"HEX({name} + 0)" if column.data_type == "bit" else name


def literal(column: SourceColumn, value: Cell) -> str:
    """A canonical value as a literal of MySQL."""
    text = "" if value is None else value
    if column.data_type == "bit":
        digits = text if column.form is Form.BYTES else f"{int(text or 0):X}"
        return f"'{digits.lstrip('0') or '0'}'"
    if column.form is Form.BYTES:
        return f"X'{text}'"
    if column.form in (Form.NUMBER, Form.FLOAT, Form.DOUBLE) and _NUMBER.fullmatch(text):
        return text
    return f"_utf8mb4'{escape_string(text)}'"


def quoted(name: str) -> str:
    """An identifier."""
    return "`" + name.replace("`", "``") + "`"
