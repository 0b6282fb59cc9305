"""How a model's rows reach the export: all of them, or those that changed since a state.

The export knows only `ModelRows`. A published snapshot finds the changes by comparing two files
(`file_changes`); a change log answers the same questions without reading what has not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import duckdb

from batcher.description import ModelDescription
from lake.storage.sql import literal, quoted


@dataclass(frozen=True, slots=True)
class RowChanges:
    """What happened to a model's rows between two states, as queries of DuckDB.

    Attributes:
        upserted: Whole rows that are new or have other values, each key once.
        deleted: The keys that are gone: the columns of the primary key, in its order. A key that
            stands in both queries is there.
    """

    upserted: str
    deleted: str


class ModelRows(Protocol):
    """A model's published rows, of one cycle.

    Queries run in the DuckDB connection that the export is given, else in one of its own, which
    reads Parquet files and nothing that is attached.
    """

    @property
    def relation(self) -> str:
        """`schema.name`."""

    @property
    def description(self) -> ModelDescription:
        """Its primary key, and the comments of the table and its columns."""

    @property
    def state(self) -> str:
        """Differs whenever the rows do; the export keeps it in PostgreSQL beside them."""

    def whole(self) -> str:
        """All rows, as a query of DuckDB."""

    def changes(self, since: str) -> RowChanges | None:
        """What changed since another state.

        Args:
            since: A `state` that PostgreSQL shows; of any earlier cycle, or of another release.

        Returns:
            None: nobody knows any more, or the model has no primary key; all rows are compared.
        """


def file_changes(old: Path, new: Path, key: Sequence[str]) -> RowChanges | None:
    """The difference between two Parquet files of one model, by key; both are read whole.

    Returns:
        None: there is no key, or the files have other columns.
    """
    with duckdb.connect() as database:
        columns = _columns(database, new)
        if not key or columns != _columns(database, old) or not set(key) <= columns.keys():
            return None
    names = ", ".join(quoted(name) for name in columns)
    keys = ", ".join(quoted(name) for name in key)
    # Each row counts once for the new file and once against the old one: what is left differs.
    differing = (
        f"SELECT {names}, sum(ducklake_count) AS ducklake_sum FROM ("
        f"SELECT {names}, 1 AS ducklake_count FROM ({file_rows(new)})"
        f" UNION ALL SELECT {names}, -1 FROM ({file_rows(old)})"
        f") GROUP BY {names} HAVING sum(ducklake_count) <> 0"
    )
    return RowChanges(
        f"SELECT {names} FROM ({differing}) WHERE ducklake_sum > 0",
        f"SELECT {keys} FROM ({differing}) WHERE ducklake_sum < 0",
    )


def file_rows(path: Path) -> str:
    """All rows of a Parquet file, as a query of DuckDB."""
    return f"SELECT * FROM read_parquet({literal(str(path))})"


def _columns(database: duckdb.DuckDBPyConnection, path: Path) -> Mapping[str, str]:
    described = database.execute(f"DESCRIBE {file_rows(path)}").fetchall()
    return {str(name): str(type_) for name, type_, *_ in described}
