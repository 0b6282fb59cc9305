"""SQL over the lake's Parquet files, for whoever reads them with DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb

from lake.records import OffsetRange
from lake.storage.session import Session


def spilling(session: Session, megabytes: int, threads: int = 1) -> duckdb.DuckDBPyConnection:
    """A database in memory, in UTC; what does not fit goes into the session's folder.

    Args:
        session: Whose folder; left alone it would be `.tmp` wherever the command was given.
        megabytes: Of memory, at most.
        threads: Of a query.
    """
    database = duckdb.connect(
        config={
            "threads": threads,
            "memory_limit": f"{megabytes}MB",
            "temp_directory": str(session.folder / "spill"),
        }
    )
    database.execute("SET TimeZone = 'UTC'")
    return database


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quoted_relation(relation: str) -> str:
    """A `schema.name` as SQL has it."""
    schema, _, name = relation.partition(".")
    return f"{quoted(schema)}.{quoted(name)}"


def literal(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def rows_query(
    columns: Sequence[tuple[str, str]],
    files: Sequence[Path | str],
    ranges: Iterable[OffsetRange] = (),
    tells_file: bool = False,
) -> str:
    """A query over Parquet files with exactly these columns, whatever columns the files have.

    Args:
        columns: (name, type); a column that a file lacks is NULL there.
        files: Paths or globs; none gives no rows, with the same columns.
        ranges: Only rows at these offsets; empty takes all.
        tells_file: Whether rows have one column more, `filename`: the path of their file.
    """
    columns = (*columns, *([("filename", "VARCHAR")] if tells_file else []))
    typed = ", ".join(f"NULL::{type_} AS {quoted(name)}" for name, type_ in columns)
    empty = f"SELECT {typed} WHERE false"
    if not files:
        return empty
    listed = ", ".join(literal(str(file)) for file in files)
    wanted = " OR ".join(
        f"(_partition = {r.partition} AND _offset BETWEEN {r.first} AND {r.last})" for r in ranges
    )
    read = (
        "SELECT * FROM read_parquet("
        f"[{listed}], union_by_name = true, hive_partitioning = false"
        f"{', filename = true' if tells_file else ''})" + (f" WHERE {wanted}" if wanted else "")
    )
    names = ", ".join(quoted(name) for name, _ in columns)
    return f"SELECT {names} FROM ({empty} UNION ALL BY NAME {read})"
