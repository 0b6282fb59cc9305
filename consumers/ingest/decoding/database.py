"""The DuckDB in which the decoders of a process work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import duckdb
import pyarrow as pa


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One for all decoders of a process: each keeps what its largest batch needed."""
    database = duckdb.connect(config={"threads": 1})
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    return database


def connect() -> duckdb.DuckDBPyConnection:
    """A connection for one decoder: it has made its first query already.

    At theirs, Arrow and DuckDB load for 0.3 s what they need.
    """
    db = _database().cursor()
    with registered(db, pa.table({"v": ["{}"]})):
        distinct_keys(db, "json_keys(v)", "batch")
    return db


@contextmanager
def registered(db: duckdb.DuckDBPyConnection, batch: pa.Table) -> Iterator[None]:
    """Have a batch as the relation `batch`."""
    db.register("batch", batch)
    try:
        yield
    finally:
        db.unregister("batch")


def distinct_keys(db: duckdb.DuckDBPyConnection, keys: str, relation: str) -> tuple[set[str], bool]:
    """All keys of some JSON objects, and whether one of the objects has a key twice.

    Args:
        db: The connection.
        keys: SQL of the list of an object's keys.
        relation: SQL of the relation that has the objects.
    """
    found = db.execute(
        "SELECT DISTINCT unnest(k), twice FROM"
        " (SELECT k, len(k) > len(list_distinct(k)) AS twice FROM"
        f" (SELECT DISTINCT {keys} AS k FROM {relation}))"
    ).fetchall()
    return {key for key, _ in found}, any(twice for _, twice in found)
