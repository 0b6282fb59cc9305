"""What the warehouse knows of each model: how far it has read, and whether its tests passed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb

from lake.storage.sql import literal, quoted, quoted_relation

_TABLES = """
CREATE SCHEMA IF NOT EXISTS ducklake;
CREATE SCHEMA IF NOT EXISTS raw;
CREATE SCHEMA IF NOT EXISTS raw_new;
CREATE TABLE IF NOT EXISTS ducklake.cycle (number BIGINT, tests_all BOOLEAN);
CREATE TABLE IF NOT EXISTS ducklake.models (
    relation VARCHAR, seen BIGINT, tested BIGINT, is_full BOOLEAN
);
CREATE TABLE IF NOT EXISTS ducklake.rebuilt (relation VARCHAR, cycle BIGINT);
CREATE TABLE IF NOT EXISTS ducklake.progress (relation VARCHAR, about VARCHAR)
"""

_FULL_TESTS, _FAILING = "full tests", "failing tests"


@dataclass(frozen=True, slots=True)
class Input:
    """How far a model has read a raw relation.

    Attributes:
        generation: Of the table; another one is another history.
        commit: The ledger's newest commit that it has seen.
        schema: Fingerprint of the relation's columns.
    """

    generation: int
    commit: int
    schema: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model as it was last built.

    Attributes:
        seen: Number of the cycle in which it was built.
        tested: Number of the cycle in which all its tests last passed; -1: in none.
        fingerprint: Of its definition then.
        day: The day in Argentina on which it was built.
        inputs: How far it has read each raw relation.
        failure: Why it is not green; None where it is.
        tests: Fingerprint of the data tests that last passed.
        described: Differs whenever its description then does.
    """

    seen: int
    tested: int = -1
    fingerprint: str = ""
    day: str = ""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    failure: str | None = None
    tests: str = ""
    described: str = ""

    def dump(self) -> str:
        """As the warehouse keeps it."""
        inputs = {name: [i.generation, i.commit, i.schema] for name, i in self.inputs.items()}
        return json.dumps(
            {
                "seen": self.seen,
                "tested": self.tested,
                "fingerprint": self.fingerprint,
                "day": self.day,
                "inputs": inputs,
                "failure": self.failure,
                "tests": self.tests,
                "described": self.described,
            }
        )

    @classmethod
    def load(cls, text: str) -> ModelState:
        """From the warehouse."""
        found = json.loads(text)
        inputs = {name: Input(*values) for name, values in found.pop("inputs").items()}
        return cls(inputs=inputs, **found)


@dataclass(frozen=True, slots=True)
class WarehouseState:
    """All models as the last cycles left them.

    Attributes:
        number: Of the next cycle.
        models: State by relation.
        full_tests_at: When tests last read whole tables, in seconds since the epoch.
        failing: Unique id of each test that has found something in rows which need not be new when
            it is asked again, and how many seconds it took.
    """

    number: int
    models: Mapping[str, ModelState]
    full_tests_at: float = 0.0
    failing: Mapping[str, float] = field(default_factory=dict)


def read_state(warehouse: duckdb.DuckDBPyConnection) -> WarehouseState:
    """Read the state, and create its tables where they are missing.

    The number of the next cycle is one that nothing was logged under: a killed cycle has changed
    models and logged it, and so has dbt where somebody called it between two cycles. A row that
    changes once more is another change.
    """
    warehouse.execute(_TABLES)
    [(number,)] = warehouse.execute(
        "SELECT coalesce(max(number), 0) + 1 FROM ducklake.cycle"
    ).fetchall()
    found = warehouse.execute("SELECT relation, about FROM ducklake.progress").fetchall()
    entries = dict(found)
    full_tests_at = float(entries.pop(_FULL_TESTS, 0))
    failing = json.loads(entries.pop(_FAILING, "{}"))
    states = {name: ModelState.load(about) for name, about in entries.items()}
    return WarehouseState(number, states, full_tests_at, failing)


def begin_cycle(
    warehouse: duckdb.DuckDBPyConnection,
    state: WarehouseState,
    full: Iterable[str],
    tests_all: bool,
) -> None:
    """Tell dbt's macros what the cycle is about.

    Args:
        warehouse: Where they look.
        state: Of all models.
        full: Relations to be built from nothing.
        tests_all: Whether tests read whole tables.
    """
    whole = frozenset(full)
    rows = [(name, model.seen, model.tested, name in whole) for name, model in state.models.items()]
    warehouse.execute("BEGIN")
    warehouse.execute("DELETE FROM ducklake.cycle; DELETE FROM ducklake.models")
    warehouse.execute("INSERT INTO ducklake.cycle VALUES (?, ?)", [state.number, tests_all])
    if rows:
        warehouse.executemany("INSERT INTO ducklake.models VALUES (?, ?, ?, ?)", rows)
    warehouse.execute("COMMIT")


def last_rebuilt(ask: Callable[[str], Sequence[Any]]) -> dict[str, int]:
    """Models that were built from nothing, and in which cycle for the last time.

    Args:
        ask: Asks the warehouse.
    """
    [found] = ask(
        "SELECT coalesce(map(list(relation), list(cycle)), MAP {}) FROM ("
        "SELECT relation, max(cycle) AS cycle FROM ducklake.rebuilt GROUP BY ALL)"
    )
    return dict(found)


def tested_whole(ask: Callable[[str], Sequence[Any]], state: WarehouseState) -> frozenset[str]:
    """Relations whose tests have to read whole tables: nobody knows what changed in them.

    Args:
        ask: Asks the warehouse, after the models were built.
        state: As it was before.
    """
    return frozenset(
        name
        for name, cycle in last_rebuilt(ask).items()
        if name not in state.models or cycle > state.models[name].tested
    ) | {name for name, model in state.models.items() if model.tested < 0}


def rows_written(
    ask: Callable[[str], Sequence[Any]], number: int, tracked: Iterable[str]
) -> dict[str, int]:
    """Rows of tracked models that a cycle wrote: changed ones, or all of what was built anew.

    Args:
        ask: Asks the warehouse, after the models were built.
        number: Of the cycle.
        tracked: Relations that were built.
    """
    found = {}
    for relation in tracked:
        [rows] = ask(
            f"SELECT CASE WHEN (FROM ducklake.rebuilt SELECT count(*) WHERE relation ="
            f" {literal(relation)} AND cycle = {number}) > 0"
            f" THEN (SELECT count(*) FROM {quoted_relation(relation)})"
            f" ELSE (SELECT count(*) FROM ducklake.{quoted(f'changes.{relation}')}"
            f" WHERE _cycle = {number} AND _image = 'new') END"
        )
        found[relation] = int(rows)
    return found


def end_cycle(
    warehouse: duckdb.DuckDBPyConnection, state: WarehouseState, readers: Mapping[str, int]
) -> None:
    """Keep the state, and drop changes that nobody will ask for.

    Args:
        warehouse: Where models and their changes are.
        state: As the cycle leaves it; its number is that of the next cycle.
        readers: For each relation the newest cycle whose changes all its readers have.
    """
    warehouse.execute("BEGIN")
    warehouse.execute("DELETE FROM ducklake.cycle; DELETE FROM ducklake.progress")
    warehouse.execute("INSERT INTO ducklake.cycle VALUES (?, false)", [state.number])
    rows = [(name, model.dump()) for name, model in state.models.items()]
    rows.append((_FULL_TESTS, str(state.full_tests_at)))
    rows.append((_FAILING, json.dumps(dict(state.failing))))
    warehouse.executemany("INSERT INTO ducklake.progress VALUES (?, ?)", rows)
    known = warehouse.execute(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'ducklake'"
        " AND table_name LIKE 'changes.%'"
    ).fetchall()
    for (table,) in known:
        relation = table.partition(".")[2]
        passed = readers.get(relation)
        if passed is not None:
            warehouse.execute(f"DELETE FROM ducklake.{quoted(table)} WHERE _cycle <= {passed}")
            warehouse.execute(
                f"DELETE FROM ducklake.rebuilt WHERE relation = {literal(relation)}"
                f" AND cycle <= {passed}"
            )
    warehouse.execute("COMMIT")
