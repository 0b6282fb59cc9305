"""Relations in DuckDB that hold one table's rows of MySQL and of the lake, and what differs.

`source_rows` and `lake_rows`: the columns of the key (`k0`, …) and a checksum (`h`).
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import pyarrow as pa

from consumers.maintenance.current_rows import Key
from ducklake.reconciliation.differences import Found
from ducklake.reconciliation.result import SHOWN, RowDifference

BATCH = 2_000
"""Rows that are looked at together."""


def insert(
    db: duckdb.DuckDBPyConnection,
    chunks: Iterable[list[tuple[str | None, ...]]],
    names: list[str],
    selected: str,
) -> int:
    """Add chunks of rows to `source_rows`; gives how many there were."""
    rows = 0
    for chunk in chunks:
        arrays = [pa.array(values, pa.string()) for values in zip(*chunk, strict=True)]
        db.register("chunk", pa.table(arrays, names=names))
        db.execute(f"INSERT INTO source_rows SELECT {selected} FROM chunk")
        db.unregister("chunk")
        rows += len(chunk)
    return rows


def unequal_rows(db: duckdb.DuckDBPyConnection, width: int) -> int:
    """Make the relation `unequal` of the keys whose checksums differ; gives how many there are.

    With the place of the lake's newest version, which is (-1, -1) where there was never one.
    """
    keys = ", ".join(f"k{n}" for n in range(width))
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE unequal AS SELECT row_number() OVER (ORDER BY {keys}) - 1"
        f" AS number, {keys}, coalesce(l.e, -1) AS e, coalesce(l.o, -1) AS o FROM source_rows s"
        f" FULL JOIN lake_rows l USING ({keys}) WHERE s.h IS DISTINCT FROM l.h"
    )
    [(count,)] = db.execute("SELECT count(*) FROM unequal").fetchall()
    return int(count)


def pending_rows(
    db: duckdb.DuckDBPyConnection, width: int, first: int
) -> dict[Key, tuple[int, int]]:
    """A batch of the keys of `unequal`, with the place of each.

    Args:
        db: Where the relation is.
        width: Columns of the key.
        first: The number of the first one.
    """
    rows = db.execute(
        "SELECT * EXCLUDE (number) FROM unequal WHERE number >= ? AND number < ? ORDER BY number",
        [first, first + BATCH],
    ).fetchall()
    return {row[:width]: (row[width], row[width + 1]) for row in rows}


def unequal_multiset(db: duckdb.DuckDBPyConnection, updates: int) -> Found:
    """How the multisets `source_rows` and `lake_rows` differ.

    Args:
        db: Where the relations are.
        updates: How many of the lake's rows have been replaced by others.
    """
    found = Found()
    db.execute(
        "CREATE OR REPLACE TEMP TABLE unequal AS SELECT coalesce(s.n, 0) - coalesce(l.n, 0) AS n,"
        " coalesce(s.shown, l.shown) AS shown FROM (SELECT h, count(*) AS n, any_value(shown) AS"
        " shown FROM source_rows GROUP BY h) s FULL JOIN lake_rows l USING (h)"
        " WHERE coalesce(s.n, 0) <> coalesce(l.n, 0)"
    )
    [(found.keyless, surplus)] = db.execute(
        "SELECT coalesce(sum(n) FILTER (n > 0), 0)::BIGINT,"
        " coalesce(-sum(n) FILTER (n < 0), 0)::BIGINT FROM unequal"
    ).fetchall()
    # As many rows as were updated are not current any more, and nothing says which.
    found.unread = max(0, surplus - updates)
    kinds = ([("missing", ">")] if found.keyless else []) + (
        [("surplus", "<")] if found.unread else []
    )
    for kind, sign in kinds:
        listed = db.execute(
            f"SELECT abs(n), shown FROM unequal WHERE n {sign} 0 ORDER BY shown LIMIT {SHOWN}"
        )
        for count, row in listed.fetchall():
            found.show(RowDifference(kind, f"{count} times ({row})"))
    return found
