"""Data tests that found something: what, in which model, and the rows themselves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb

from batcher.catalog import opened
from batcher.outcome import FailedTest
from lake.storage.json_files import read_json, replace_json
from lake.storage.paths import LakePaths

KEPT_ROWS = 100
"""Rows of a failure that are kept."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A data test that found something when it last ran.

    Attributes:
        test: Its name.
        models: The relations that it tests.
        status: `fail` (holds its models back), `warn` or `error` (it could not run).
        message: What dbt says.
        query: Shows the rows.
        columns: Of the rows.
        rows: The first of them, each value as text.
        since: When it first failed, in seconds since the epoch.
        seen: When it last failed.
        commit: The ledger's commit that it looked at then.
    """

    test: str
    models: tuple[str, ...]
    status: str
    message: str
    query: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]
    since: float
    seen: float
    commit: int


def failures(paths: LakePaths) -> tuple[Failure, ...]:
    """All tests that found something when they last ran, by name."""
    return tuple(
        Failure(
            **{
                **found,
                "models": tuple(found["models"]),
                "columns": tuple(found["columns"]),
                "rows": tuple(tuple(row) for row in found["rows"]),
            }
        )
        for _, found in sorted(read_json(_file(paths)).items())
    )


def keep_failures(
    paths: LakePaths, found: Iterable[FailedTest], asked: Set[str], tests: Set[str], commit: int
) -> None:
    """Keep what the tests of a cycle found.

    Args:
        paths: The lake.
        found: The tests that found something, or could not run.
        asked: Names of the tests that ran: what they do not find any more is over.
        tests: Names of the tests that the project has: another one's findings are over as well.
        commit: The ledger's commit.
    """
    known = read_json(_file(paths))
    kept: dict[str, Any] = {
        test: entry for test, entry in known.items() if test in tests and test not in asked
    }
    with opened(paths.warehouse, read_only=True) as warehouse:
        for test in found:
            kept[test.name] = _entry(warehouse, test, known.get(test.name), commit)
    if kept != known:
        replace_json(_file(paths), kept)


def _entry(
    warehouse: duckdb.DuckDBPyConnection,
    test: FailedTest,
    known: Mapping[str, Any] | None,
    commit: int,
) -> dict[str, Any]:
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    if test.query and test.status != "error":
        try:
            result = warehouse.execute(f"SELECT * FROM ({test.query}) LIMIT {KEPT_ROWS}")
            columns = tuple(str(column[0]) for column in result.description)
            rows = tuple(
                tuple(None if value is None else str(value) for value in row)
                for row in result.fetchall()
            )
        except duckdb.Error:  # the query still says what was looked for
            rows = ()
    now = time.time()
    since = float(known["since"]) if known else now
    return asdict(
        Failure(
            test.name,
            test.relations,
            test.status,
            test.message,
            test.query,
            columns,
            rows,
            since,
            now,
            commit,
        )
    )


def _file(paths: LakePaths) -> Path:
    return paths.root / "failures.json"
