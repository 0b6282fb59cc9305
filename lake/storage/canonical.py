"""How a value of MySQL is written so that the source's and the lake's can be compared as texts.

One type of MySQL has one canonical form, whatever type its column has in the lake: a number has no
trailing zeros, a date at midnight no time. MySQL and DuckDB each have an expression for a form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lake.storage.mysql_types import mysql_type

ZERO = "0000-00-00"
"""Stands for every date of zeros, complete or partial: the binlog's reader drops the rest."""


class Form(Enum):
    """A canonical form."""

    NUMBER = "number"
    FLOAT = "float"
    DOUBLE = "double"
    BIT = "bit"
    DATE = "date"
    TIME = "time"
    TEXT = "text"
    MEMBER = "member"
    JSON = "json"
    BYTES = "bytes"
    GEOMETRY = "geometry"
    NONE = "none"
    """Not compared."""


_FORMS: Mapping[str, Form] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), Form.NUMBER),
    **dict.fromkeys(("decimal", "year"), Form.NUMBER),
    "float": Form.FLOAT,
    "double": Form.DOUBLE,
    **dict.fromkeys(("date", "datetime", "timestamp"), Form.DATE),
    "time": Form.TIME,
    **dict.fromkeys(("enum", "set"), Form.MEMBER),
    "json": Form.JSON,
    **dict.fromkeys(("binary", "varbinary"), Form.BYTES),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), Form.BYTES),
    **dict.fromkeys(("geometry", "point", "linestring", "polygon"), Form.GEOMETRY),
    **dict.fromkeys(("multipoint", "multilinestring", "multipolygon"), Form.GEOMETRY),
    **dict.fromkeys(("geometrycollection", "geomcollection"), Form.GEOMETRY),
    "vector": Form.NONE,
}
_HASHED = frozenset({Form.TEXT, Form.JSON, Form.BYTES, Form.GEOMETRY, Form.MEMBER})


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column of a MySQL table, as its server describes it.

    Attributes:
        name: Its name there, which is the field of its records.
        data_type: MySQL's word for its type, in lower case.
        raw_type: The type that its values have in the lake, by docs/TYPES.md.
        nullable: Whether it may be NULL.
        bits: Of a BIT.
        scale: Digits behind the point.
        charset: Of a text.
    """

    name: str
    data_type: str
    raw_type: str
    nullable: bool
    bits: int = 0
    scale: int = 0
    charset: str = ""

    @classmethod
    def described(
        cls,
        name: str,
        column_type: str,
        nullable: bool,
        charset: str | None,
        digits: tuple[int | None, int | None],
    ) -> SourceColumn:
        """From what information_schema says of it.

        Args:
            name: COLUMN_NAME.
            column_type: COLUMN_TYPE, such as `int(10) unsigned`.
            nullable: IS_NULLABLE.
            charset: CHARACTER_SET_NAME.
            digits: NUMERIC_PRECISION and NUMERIC_SCALE.
        """
        precision, scale = digits
        base = column_type.lower().partition("(")[0].split()[0]
        told = {
            "typeName": column_type,
            "length": precision,
            "scale": scale,
            "charsetName": charset,
        }
        bits = precision or 1 if base == "bit" else 0
        return cls(name, base, mysql_type(told), nullable, bits, scale or 0, charset or "")

    @property
    def form(self) -> Form:
        """How its values are compared."""
        if self.data_type == "bit":
            return Form.BIT if self.bits == 1 else Form.BYTES
        return _FORMS.get(self.data_type, Form.TEXT)

    @property
    def is_hashed(self) -> bool:
        """Whether a checksum of a row takes a checksum of the value: it may be long, or anything.

        All others have no comma in their canonical form.
        """
        return self.form in _HASHED


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table of MySQL.

    Attributes:
        sql: Its name, as MySQL's SQL has it.
        columns: Its columns, in their order; invisible and generated ones are among them.
        key: The columns that identify a row: of the primary key, or of the first unique index
            without NULLs, as Debezium does it; empty where there is none.
    """

    sql: str
    columns: tuple[SourceColumn, ...]
    key: tuple[SourceColumn, ...]

    @property
    def compared(self) -> tuple[SourceColumn, ...]:
        """The columns whose values are compared."""
        return tuple(c for c in self.columns if c.form is not Form.NONE)
