"""Which PostgreSQL type holds the values of a DuckDB type."""

from __future__ import annotations

_TYPES = {
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "UTINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "UBIGINT": "numeric(20)",
    "HUGEINT": "numeric(39)",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
    "BLOB": "bytea",
    "UUID": "uuid",
}


def postgres_type(duckdb_type: str) -> str:
    """The PostgreSQL type that holds every value of a DuckDB type."""
    if duckdb_type.startswith("DECIMAL"):
        return duckdb_type.replace("DECIMAL", "numeric")
    if duckdb_type.endswith("]") or duckdb_type.startswith(("STRUCT", "MAP")):
        return "jsonb"
    return _TYPES.get(duckdb_type, "text")


def is_same_type(known: str, wanted: str) -> bool:
    """Whether a column has the wanted type already.

    Args:
        known: As PostgreSQL's catalog spells it.
        wanted: As `postgres_type` spells it.
    """
    spelled = {
        "timestamp without time zone": "timestamp",
        "timestamp with time zone": "timestamptz",
        "time without time zone": "time",
    }
    bare = spelled.get(known, known).replace(" ", "").replace("numeric(20,0)", "numeric(20)")
    return bare.replace("numeric(39,0)", "numeric(39)") == wanted.replace(" ", "")
