"""What a server says of itself, judged: the settings that a running test server cannot take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lake.config import Source, Table
from producers.mysql.server_checks import STOPS, ServerProblem, server_problems
from producers.mysql.server_state import ServerState, TableState
from producers.mysql.tables import MysqlTable

GOOD = {
    "version": "8.4.3",
    "basedir": "/usr/",
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_value_options": "",
    "gtid_mode": "ON",
    "server_id": "1",
}
STATE = ServerState(
    variables=GOOD,
    account="'u'@'%'",
    rights=frozenset({"RELOAD", "SHOW DATABASES"}),
    databases=frozenset({"shop"}),
    names={"shop": ("orders",)},
    tables={("shop", "orders"): TableState("BASE TABLE", ("id", "v"), ("id",))},
)


def problems(
    state: ServerState, server_id: int = 7, options: dict[str, str] | None = None
) -> list[ServerProblem]:
    source = Source(type="mysql_cdc", tables={"orders": Table(key=["id"])}, options=options or {})
    tables = {"orders": MysqlTable("orders", "shop", "orders")}
    return list(server_problems(state, source, tables, server_id))


def test_a_server_that_is_as_it_should_be_has_nothing_against_it() -> None:
    assert problems(STATE) == []


@pytest.mark.parametrize(
    ("name", "value", "said", "level"),
    [
        ("log_bin", "OFF", "log_bin=OFF, so that there are no changes to follow", STOPS),
        ("binlog_format", "STATEMENT", "holds statements instead of rows", STOPS),
        ("binlog_row_image", "NOBLOB", "holds rows that lack columns", STOPS),
        ("binlog_row_value_options", "PARTIAL_JSON", "holds parts of JSON values", STOPS),
        ("gtid_mode", "OFF", "without GTIDs Debezium's connector does not start", STOPS),
    ],
)
def test_a_setting_that_loses_changes_is_named(
    name: str, value: str, said: str, level: str
) -> None:
    state = replace(STATE, variables={**GOOD, name: value}, writes_binlog=name != "log_bin")
    [problem] = problems(state)
    assert said in problem.what
    assert problem.level == level
    assert problem.remedy


def test_a_server_that_has_ceased_to_write_its_binlog_is_named() -> None:
    [problem] = problems(replace(STATE, writes_binlog=False))
    assert "has ceased to write its binlog" in problem.what
    assert (problem.level, problem.code) == (STOPS, "DL-409")


def test_a_server_id_that_a_replica_has_is_refused() -> None:
    [problem] = problems(replace(STATE, replica_ids=frozenset({7})))
    assert problem.what.startswith("one of its replicas has the id 7")
    assert problems(replace(STATE, replica_ids=frozenset({7})), server_id=8) == []


@pytest.mark.parametrize(
    ("rights", "local", "options", "missing"),
    [
        ({"SHOW DATABASES"}, {}, {}, ["RELOAD"]),
        ({"SHOW DATABASES", "FLUSH_TABLES"}, {}, {}, []),
        ({"SHOW DATABASES"}, {}, {"snapshot.locking.mode": "none"}, []),
        ({"ALL PRIVILEGES"}, {}, {}, []),
    ],
)
def test_the_right_to_lock_is_needed_as_far_as_the_snapshot_locks(
    rights: set[str], local: dict[str, frozenset[str]], options: dict[str, str], missing: list[str]
) -> None:
    state = replace(STATE, rights=frozenset(rights), local_rights=local)
    found = problems(state, options=options)
    assert [problem.remedy for problem in found] == [
        f"Run `GRANT {right} ON *.* TO 'u'@'%'`." for right in missing
    ]
    assert all(problem.for_snapshot for problem in found)


def test_where_the_global_lock_is_refused_the_right_to_lock_tables_is_needed() -> None:
    amazon = replace(STATE, variables={**GOOD, "basedir": "/rdsdbbin/mysql-8.0/"})
    [problem] = problems(amazon)
    assert problem.remedy == "Run `GRANT LOCK TABLES ON `shop`.* TO 'u'@'%'`."
    granted = replace(amazon, local_rights={"shop": frozenset({"SELECT", "LOCK TABLES"})})
    assert problems(granted) == []
