"""Statements that change what old rows are: these are read again, or stay a named state.

Each statement has a table of its own; all are altered at once, and then followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from ducklake.reconciliation.result import TableResult
from lake.config import Config
from producers.base import TableState
from tests.integration.following import Following, as_root, consumer_running, following
from tests.integration.producers_lab import unique

pytestmark = pytest.mark.stack
PATIENCE = 300.0

COLUMNS = (
    "id INT PRIMARY KEY, v VARCHAR(40) CHARACTER SET utf8mb4, w VARCHAR(40) CHARACTER SET utf8mb4,"
    " n INT, d DECIMAL(12,2), t DATETIME(3), f FLOAT, e ENUM('a','b'), s SET('a','b'),"
    " b VARBINARY(8), g INT AS (n + 1) VIRTUAL"
)
NAMES = "id, v, w, n, d, t, f, e, s, b"
ROWS = (
    "(1, '12 ñandú 🦆', 'x', 300, 1234.56, '2024-01-02 03:04:05.678', 0.1, 'a', 'a,b', 'ab')",
    "(2, '7', 'y', NULL, -0.05, '1999-12-31 23:59:59.999', -2.5, 'b', 'b', '')",
    "(3, NULL, 'z', -1, 9999.99, NULL, NULL, NULL, '', NULL)",
)
CHANGED = (
    "RENAME COLUMN v TO url",
    "RENAME COLUMN v TO w, RENAME COLUMN w TO v",
    "CHANGE v w VARCHAR(40) AFTER n, CHANGE w v TEXT",
    "ADD v INT, RENAME COLUMN v TO url",
    "RENAME COLUMN v TO w, DROP w",
    "DROP v, ADD v INT",
    "DROP v; ADD x INT; ADD v INT NULL",
    "MODIFY v INT",
    "MODIFY v VARCHAR(40) CHARACTER SET latin1",
    "CONVERT TO CHARACTER SET latin1",
    "MODIFY n INT NOT NULL",
    "MODIFY d DECIMAL(6,1)",
    "MODIFY t DATE",
    "MODIFY b BINARY(8)",
    "MODIFY g INT AS (n + 2) VIRTUAL",
)
FILLED = (
    "ADD x INT NOT NULL DEFAULT 7",
    "ADD x TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
    "ADD x BIGINT NOT NULL AUTO_INCREMENT UNIQUE",
    "ADD x INT DEFAULT 7, UNION = ()",
)
CHEAP = (
    "ADD x INT",
    "ADD x TIMESTAMP NULL",
    "ADD x VARCHAR(9) DEFAULT NULL FIRST",
    "ADD x INT; DROP x",
    "DROP v",
    "MODIFY n BIGINT",
    "MODIFY n INT FIRST",
    "MODIFY v VARCHAR(80) CHARACTER SET utf8mb4",
    "MODIFY v MEDIUMTEXT CHARACTER SET utf8mb4",
    "CONVERT TO CHARACTER SET utf8mb4",
    "MODIFY d DECIMAL(14,3)",
    "MODIFY t DATETIME(6)",
    "MODIFY e ENUM('a','b','c')",
    "MODIFY s SET('a','b','c')",
    "MODIFY b VARBINARY(80)",
    "ADD INDEX (n), ALTER v SET DEFAULT 'x', COMMENT 'y'",
    "ORDER BY n",
    "ENGINE = InnoDB, FORCE",
)
FROZEN = "MODIFY d DECIMAL(5,0)"


@dataclass
class Altered:
    """What became of all tables.

    Attributes:
        tables: By the statement that altered each.
        results: Of comparisons with MySQL.
        reads: How often the rows of each were read, the first snapshot included.
        states: What `ducklake status` says, by table.
        frozen: The table with the policy `freeze`.
        source: Of all of them.
    """

    tables: Mapping[str, str]
    results: Mapping[str, TableResult]
    reads: Mapping[str, int]
    states: Mapping[str, TableState]
    frozen: str
    source: Following


@pytest.fixture(scope="module")
def altered(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Altered]:
    tables = {text: unique("alter") for text in (*CHANGED, *FILLED, *CHEAP)}
    frozen = unique("frozen")
    names = [*tables.values(), frozen]
    with as_root(stack_config) as cursor:
        for name in names:
            cursor.execute(f"CREATE TABLE {name} ({COLUMNS})")
            cursor.execute(f"INSERT INTO {name} ({NAMES}) VALUES {', '.join(ROWS)}")
    spec = {name: {"key": ["id"]} for name in names} | {frozen: {"key": ["id"], "drift": "freeze"}}
    with following(tmp_path_factory.mktemp("altered"), stack_config, spec) as source:
        source.take()
        with as_root(stack_config) as cursor:
            for text, name in (*tables.items(), (FROZEN, frozen)):
                for part in text.split("; "):
                    cursor.execute(f"ALTER TABLE {name} {part}")
        source.deliver(PATIENCE)
        states = _states(source)
        source.consume()
        with consumer_running(source):
            results = {text: source.reconcile(name) for text, name in tables.items()}
        reads = {text: _reads(source, name) for text, name in tables.items()}
        yield Altered(tables, results, reads, states, frozen, source)
        with as_root(stack_config) as cursor:
            for name in names:
                cursor.execute(f"DROP TABLE {name}")


def _states(source: Following) -> dict[str, TableState]:
    connector = source.lab.connector()
    try:
        list(connector.poll({}))
        return {state.table: state for state in connector.table_states()}
    finally:
        connector.close()


def _reads(source: Following, table: str) -> int:
    return sum(seen.row["op"] == "r" for seen in source.lab.rows(table))


@pytest.mark.parametrize("text", [*CHANGED, *FILLED, *CHEAP])
def test_old_rows_are_as_mysql_has_them(altered: Altered, text: str) -> None:
    result = altered.results[text]
    assert (result.state, result.source_rows) == ("equal", 3), result
    assert altered.tables[text] not in altered.states


@pytest.mark.parametrize("text", [*CHANGED, *FILLED])
def test_a_statement_that_changes_old_rows_has_them_read_again(altered: Altered, text: str) -> None:
    assert altered.reads[text] == 2 * len(ROWS)


@pytest.mark.parametrize("text", CHEAP)
def test_a_statement_that_changes_none_costs_nothing(altered: Altered, text: str) -> None:
    assert altered.reads[text] == len(ROWS)


def test_a_table_whose_changes_are_to_be_accepted_waits_and_its_remedy_works(
    altered: Altered,
) -> None:
    source, table = altered.source, altered.frozen
    state = altered.states[table]
    assert state.state == "differs" and FROZEN.split()[0] in state.reason
    [command] = re.findall(r"`ducklake (backfill \S+)`", state.remedy)
    with consumer_running(source):
        source.command("schema", f"{source.lab.source}.{table}", "--accept")
        source.command(*command.split())
        assert source.reconcile(table).state == "equal"
    assert table not in _states(source)
