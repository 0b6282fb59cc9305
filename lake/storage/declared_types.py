"""Types that somebody declares in `ducklake.yml`, or that are inferred from JSON values."""

from __future__ import annotations

import re

from lake.errors import ConfigError
from lake.storage.mysql_types import JSON_TEXT, TIMESTAMPTZ

_ALIASES = {"TIMESTAMPTZ": TIMESTAMPTZ, "TEXT": "VARCHAR", "INT": "INTEGER"}
_DECLARABLE = re.compile(
    r"VARCHAR|JSON|BOOLEAN|U?(TINYINT|SMALLINT|INTEGER|BIGINT)|DOUBLE|DATE|TIME|TIMESTAMP"
    r"|TIMESTAMP WITH TIME ZONE|BLOB|DECIMAL\(\d{1,2},\s?\d{1,2}\)"
)


def declared_type(table: str, column: str, type_: str) -> str:
    """A type as declared in `ducklake.yml`, in DuckDB's spelling.

    Raises:
        ConfigError: It is not a type that raw tables can have.
    """
    spelled = _ALIASES.get(type_.upper(), type_.upper())
    if not _DECLARABLE.fullmatch(spelled) or not _fits(spelled):
        raise ConfigError(
            f"Table {table}, column {column}: {type_!r} is not a type.",
            "Use VARCHAR, JSON, BOOLEAN, INTEGER, BIGINT, DECIMAL(p,s) of up to 38 digits, DOUBLE,"
            " DATE, TIMESTAMP or TIMESTAMPTZ.",
        )
    return spelled


def _fits(type_: str) -> bool:
    """Whether a DECIMAL has at most 38 digits, and no more behind its point than in all."""
    if not type_.startswith("DECIMAL"):
        return True
    digits, scale = map(int, re.findall(r"\d+", type_))
    return 1 <= digits <= 38 and scale <= digits


def inferred_type(json_type: str) -> str:
    """The type of a column that nobody declared, from the JSON type of its first values."""
    return {
        "BOOLEAN": "BOOLEAN",
        "BIGINT": "BIGINT",
        "UBIGINT": "BIGINT",
        "DOUBLE": "DOUBLE",
        "OBJECT": JSON_TEXT,
        "ARRAY": JSON_TEXT,
    }.get(json_type, "VARCHAR")
