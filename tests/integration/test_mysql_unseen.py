"""What the binlog holds no rows of, or not whole ones: it is followed, or a named state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lake.config import Config
from lake.processes.heartbeat import RoleHeartbeat
from lake.storage.paths import LakePaths
from producers.base import TableState
from producers.runner import SourceRunner
from tests.integration.following import Following, consumer_running
from tests.integration.mysql_lab import MysqlLab, followed, names
from tests.integration.producers_lab import shop_server, sql, unique, wait_until

pytestmark = pytest.mark.stack

PLAIN = ["doubt", "lost", "cut", "dropped", "replaced", "statement", "image", "blob", "loaded"]
PLAIN += ["xa", "parted", "exchanged", "copied", "indexed", "shadowed"]
T = names(*PLAIN, "child", "json")
PARENT = unique("parent")
ONE, TWO = ("r", {"id": 1, "v": "a"}), ("r", {"id": 2, "v": "b"})
SOON = 20.0


@pytest.fixture(scope="module")
def mysql(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlLab]:
    at = shop_server(stack_config)
    parts = "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (2),"
    parts += " PARTITION p1 VALUES LESS THAN (100))"
    for prefix in PLAIN:
        more = parts if prefix in ("parted", "exchanged") else ""
        sql(at, f"CREATE TABLE {T[prefix]} (id INT PRIMARY KEY, v VARCHAR(40)) {more}")
    sql(
        at,
        f"CREATE TABLE {PARENT} (id INT PRIMARY KEY)",
        f"CREATE TABLE {T['child']} (id INT PRIMARY KEY, v VARCHAR(40), p INT,"
        f" FOREIGN KEY (p) REFERENCES {PARENT} (id) ON DELETE CASCADE ON UPDATE SET NULL)",
        f"INSERT INTO {PARENT} VALUES (1), (2), (3)",
        f"CREATE TABLE {T['json']} (id INT PRIMARY KEY, v VARCHAR(40), j JSON)",
        *(f"INSERT INTO {table} (id, v) VALUES (1, 'a'), (2, 'b')" for table in T.values()),
    )
    with followed(tmp_path_factory.mktemp("lab"), stack_config, list(T.values())) as made:
        yield made
    sql(at, f"DROP TABLE {PARENT}")


def state_of(mysql: MysqlLab, table: str) -> TableState:
    """What `ducklake status` is told of a table, of which one thing is not well."""
    [state] = [s for s in mysql.deliver_and_ask() if s.table == table]
    return state


def test_truncate_empties_a_table(mysql: MysqlLab) -> None:
    mysql.root(f"TRUNCATE {T['cut']}", f"INSERT INTO {T['cut']} VALUES (3, 'c')")
    mysql.root(f"/* x */ truncate table `techstore`.`{T['cut']}`")
    mysql.root(f"INSERT INTO {T['cut']} VALUES (4, 'd')")
    mysql.deliver()
    three, four = {"id": 3, "v": "c"}, {"id": 4, "v": "d"}
    wanted = [("t", None), ("c", three), ("t", None), ("c", four)]
    assert mysql.changes(T["cut"])[2:] == wanted
    assert mysql.notices(T["cut"]) == {}


def test_drop_empties_a_table(mysql: MysqlLab) -> None:
    table = T["dropped"]
    mysql.root(
        f"CREATE TEMPORARY TABLE {table} (x INT)",
        f"DROP TEMPORARY TABLE {table}",
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(40), x INT)",
        f"INSERT INTO {table} VALUES (3, 'c', 4)",
    )
    mysql.deliver()
    assert mysql.changes(table)[2:] == [("t", None), ("c", {"id": 3, "v": "c", "x": 4})]


def test_a_partition_that_is_dropped_is_a_state(mysql: MysqlLab) -> None:
    mysql.root(f"ALTER TABLE {T['parted']} DROP PARTITION p0")
    state = state_of(mysql, T["parted"])
    assert state.state == "differs"
    assert "DROP PARTITION p0" in state.reason and "binlog." in state.reason
    assert f"ducklake backfill {mysql.lab.source}.{T['parted']}" in state.remedy
    mysql.settle(T["parted"])
    assert mysql.notices(T["parted"]) == {}
    mysql.root(f"ALTER TABLE {T['parted']} TRUNCATE PARTITION p1")
    assert "TRUNCATE PARTITION p1" in state_of(mysql, T["parted"]).reason


def test_rows_that_are_exchanged_with_a_partition_are_a_state(mysql: MysqlLab) -> None:
    other = unique("other")
    mysql.root(
        f"CREATE TABLE {other} (id INT PRIMARY KEY, v VARCHAR(40))",
        f"ALTER TABLE {T['exchanged']} EXCHANGE PARTITION p0 WITH TABLE {other}",
        f"DROP TABLE {other}",
    )
    assert "EXCHANGE PARTITION" in state_of(mysql, T["exchanged"]).reason


def test_what_a_foreign_key_does_is_a_state(mysql: MysqlLab) -> None:
    child = T["child"]
    mysql.root(f"INSERT INTO {child} VALUES (3, 'c', 1), (4, 'd', 2)")
    mysql.root(f"DELETE FROM {PARENT} WHERE id = 1")
    assert "foreign key" in state_of(mysql, child).reason
    mysql.settle(child)
    mysql.root(f"UPDATE {PARENT} SET id = id WHERE id = 2", f"INSERT INTO {PARENT} VALUES (9)")
    assert mysql.deliver_and_ask(child) == []
    mysql.root(f"UPDATE {PARENT} SET id = 7 WHERE id = 2")
    assert "foreign key" in state_of(mysql, child).reason


def test_a_table_that_takes_the_name_is_read_as_a_whole_and_followed_on(mysql: MysqlLab) -> None:
    table = T["replaced"]
    mysql.root(
        f"CREATE TABLE {table}_new LIKE {table}",
        f"ALTER TABLE {table}_new ADD x BIGINT",
        f"INSERT INTO {table}_new VALUES (1, 'a', NULL), (5, 'e', 3000000000)",
        f"RENAME TABLE {table} TO {table}_old, {table}_new TO {table}",
        f"INSERT INTO {table} VALUES (6, 'f', 3000000001)",
        f"DROP TABLE {table}_old",
    )
    assert mysql.deliver_and_ask(table) == []
    assert mysql.notices(table) == {}
    changes = mysql.changes(table)[2:]
    assert ("c", {"id": 6, "v": "f", "x": 3000000001}) in changes
    read = [row["id"] for op, row in changes if op == "r" and row is not None]
    assert sorted(read) == [1, 5, 6]
    result = mysql.compare(table)
    assert (result.state, result.lake_rows) == ("equal", 3), result


def test_a_shadow_table_that_was_altered_before_a_restart_takes_the_name(mysql: MysqlLab) -> None:
    """As gh-ost and pt-online-schema-change alter: a copy, and both names change at once."""
    table = T["shadowed"]
    mysql.root(
        f"CREATE TABLE _{table}_gho LIKE {table}",
        f"ALTER TABLE _{table}_gho ADD x INT, MODIFY id BIGINT, MODIFY v VARBINARY(9)",
    )
    mysql.deliver()
    mysql.restart()
    mysql.root(
        f"INSERT INTO _{table}_gho SELECT id, v, id * 10 FROM {table}",
        f"UPDATE {table} SET v = 'A' WHERE id = 1",
        f"UPDATE _{table}_gho SET v = 'A' WHERE id = 1",
        f"RENAME TABLE {table} TO _{table}_del, _{table}_gho TO {table}",
        f"INSERT INTO {table} VALUES (3000000000, X'FF', 5)",
        f"DROP TABLE _{table}_del",
    )
    assert mysql.deliver_and_ask(table) == []
    assert ("c", {"id": 3000000000, "v": "/w==", "x": 5}) in mysql.changes(table)
    result = mysql.compare(table)
    assert (result.state, result.lake_rows) == ("equal", 3), result


def test_rows_of_a_statement_are_a_state_that_shows_no_value(mysql: MysqlLab) -> None:
    table = T["statement"]
    mysql.root(
        "SET SESSION binlog_format = 'STATEMENT'",
        f"INSERT INTO {table} VALUES (8, 'a secret')",
    )
    state = state_of(mysql, table)
    assert "INSERT INTO" in state.reason and "secret" not in state.reason
    mysql.settle(table)
    for statement in (f"REPLACE {table} VALUES (8, 'x')", f"DELETE FROM {table} WHERE id = 8"):
        mysql.root("SET SESSION binlog_format = 'STATEMENT'", statement)
        assert statement.split()[0] in state_of(mysql, table).reason
        mysql.settle(table)


@pytest.mark.parametrize(("prefix", "image"), [("image", "MINIMAL"), ("blob", "NOBLOB")])
def test_rows_that_are_not_whole_are_left_out_and_counted(
    mysql: MysqlLab, prefix: str, image: str
) -> None:
    table = T[prefix]
    if prefix == "blob":
        mysql.root(f"ALTER TABLE {table} ADD b BLOB")
    mysql.root(f"SET SESSION binlog_row_image = '{image}'", f"UPDATE {table} SET v = 'x'")
    mysql.root(f"INSERT INTO {table} (id, v) VALUES (9, 'whole')")
    state = state_of(mysql, table)
    assert state.reason.startswith("2 rows at") and "binlog_row_image" in state.reason
    assert [(op, (row or {})["id"]) for op, row in mysql.changes(table)[2:]] == [("c", 9)]


def test_parts_of_json_documents_are_a_state(mysql: MysqlLab) -> None:
    table, document = T["json"], '{"a": 1, "long": "' + "x" * 100 + '"}'
    mysql.root(
        f"UPDATE {table} SET j = '{document}' WHERE id = 1",
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'",
        f"UPDATE {table} SET j = JSON_SET(j, '$.a', 2) WHERE id = 1",
    )
    state = state_of(mysql, table)
    assert "PARTIAL_JSON" in state.reason
    assert mysql.changes(table)[-1][1] == {"id": 1, "v": "a", "j": document}


def test_a_distributed_transaction_that_is_rolled_back_leaves_no_row(mysql: MysqlLab) -> None:
    table = T["xa"]
    mysql.root(
        "XA START 'one'",
        f"INSERT INTO {table} VALUES (9, 'phantom')",
        f"UPDATE {table} SET v = 'phantom' WHERE id = 1",
        f"DELETE FROM {table} WHERE id = 2",
        "XA END 'one'",
        "XA PREPARE 'one'",
    )
    mysql.root("XA ROLLBACK 'one'")
    mysql.root("XA START 'two'", f"INSERT INTO {table} VALUES (3, 'c')", "XA END 'two'")
    mysql.root(
        "XA START 'three'",
        f"INSERT INTO {table} VALUES (4, 'd')",
        "XA END 'three'",
        "XA PREPARE 'three'",
        "XA COMMIT 'three'",
    )
    mysql.deliver()
    latest: dict[int, object] = {}
    for op, row in mysql.changes(table):
        assert row is not None
        latest.pop(row["id"], None)
        if op != "d":
            latest[row["id"]] = row["v"]
    assert latest == {1: "a", 2: "b", 4: "d"}


def test_rows_that_come_without_statements_of_their_own_all_come(mysql: MysqlLab) -> None:
    table = T["copied"]
    mysql.root(
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} LIKE {T['loaded']}",
        f"INSERT INTO {table} SELECT id, v FROM {T['loaded']}",
    )
    mysql.deliver()
    assert mysql.changes(table)[2:] == [("t", None), ("c", ONE[1]), ("c", TWO[1])]


def test_rows_of_a_table_with_an_index_on_expressions_come(mysql: MysqlLab) -> None:
    """Such an index has columns in the binlog that no definition shows."""
    table = T["indexed"]
    for statement in (
        f"ALTER TABLE {table} ADD INDEX ((id + 1)), ADD INDEX e ((LOWER(v)), (id * 2))",
        f"INSERT INTO {table} VALUES (3, 'C')",
        f"ALTER TABLE {table} ADD x BIGINT, ADD CHECK (id < 1000)",
        f"INSERT INTO {table} VALUES (4, 'D', 44)",
        f"ALTER TABLE {table} ADD y BIGINT FIRST",
        f"INSERT INTO {table} VALUES (55, 5, 'E', 50)",
        f"ALTER TABLE {table} DROP INDEX e",
        f"UPDATE {table} SET x = id * 10 WHERE id < 6",
    ):
        mysql.root(statement)
        mysql.deliver()
    rows = {row["id"]: row for _, row in mysql.changes(table) if row is not None}
    assert {key: row.get("x") for key, row in rows.items()} == {n: n * 10 for n in (1, 2, 3, 4, 5)}
    assert rows[5]["y"] == 55
    assert mysql.notices(table) == {}
    assert mysql.compare(table).state == "equal"


def test_a_statement_that_is_not_understood_is_applied_from_the_server_s_answer(
    mysql: MysqlLab,
) -> None:
    table = T["doubt"]
    mysql.root(
        f"ALTER TABLE {table} ADD x INT FIRST, UNION = ()",
        f"INSERT INTO {table} VALUES (7, 3, 'c')",
    )
    mysql.deliver()
    assert mysql.changes(table)[2:] == [("c", {"id": 3, "v": "c", "x": 7})]
    assert mysql.notices(table) == {}


def test_rows_of_a_definition_that_is_gone_are_left_out_and_counted(mysql: MysqlLab) -> None:
    table = T["lost"]
    name = f"{mysql.lab.endpoints.connect}/connectors/{mysql.name}"
    requests.put(f"{name}/stop", timeout=30).raise_for_status()
    mysql.root(
        f"ALTER TABLE {table} ADD x INT FIRST, UNION = ()",
        f"INSERT INTO {table} VALUES (7, 3, 'c'), (8, 4, 'd')",
        f"ALTER TABLE {table} RENAME COLUMN x TO v, RENAME COLUMN v TO x",
        f"INSERT INTO {table} VALUES (9, 5, 'e')",
    )
    requests.put(f"{name}/resume", timeout=30).raise_for_status()
    mysql.deliver()
    told = [notice for kind, notice in mysql.told(table) if kind == "definition_unknown" and notice]
    assert told[-1]["rows"] == 2 and "UNION" in told[-1]["statement"]
    assert [row["id"] for op, row in mysql.changes(table) if op == "c" and row] == [5]
    assert mysql.notices(table) == {}  # as the definition is known again, so are the rows
    assert mysql.compare(table).state == "equal"


@pytest.mark.parametrize("prefix", ["child", "parted", "image", "json"])
def test_the_remedy_makes_the_table_equal(mysql: MysqlLab, prefix: str) -> None:
    table = T[prefix]
    assert mysql.notices(table)
    mysql.backfill(table)
    mysql.deliver()
    wait_until(lambda: mysql.notices(table) == {}, "the notices are settled", SOON)
    result = mysql.compare(table)
    assert result.state == "equal", result


def test_a_comparison_that_finds_a_table_equal_settles_what_was_told(mysql: MysqlLab) -> None:
    table = T["exchanged"]
    assert mysql.compare(table).state == "different"
    mysql.backfill(table)
    mysql.root(f"ALTER TABLE {table} TRUNCATE PARTITION p0")  # which is empty
    mysql.deliver()
    assert mysql.notices(table)
    assert mysql.compare(table).state == "equal"
    assert mysql.notices(table) == {}


def test_status_names_the_table_and_the_source_goes_on(mysql: MysqlLab) -> None:
    mysql.root(f"ALTER TABLE {T['parted']} TRUNCATE PARTITION p1")
    config = mysql.lab.config
    heart = RoleHeartbeat(LakePaths(config.data_dir).run, "produce")
    stop = threading.Event()
    runner = SourceRunner(config, mysql.lab.endpoints, heartbeat=heart)
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    try:
        subject = f"table {mysql.lab.source}.{T['parted']}"

        def problems() -> dict[str, str]:
            told = mysql.told_by("status", "--json")["problems"]
            return {problem["subject"]: problem["state"] for problem in told}

        wait_until(lambda: problems().get(subject) == "differs", "status shows the table", SOON)
        assert f"source {mysql.lab.source}" not in problems()
        mysql.settle(T["parted"])
        wait_until(lambda: subject not in problems(), "status shows that it is settled", SOON)
    finally:
        stop.set()
        thread.join()
        heart.close()


def test_what_may_have_changed_any_table_is_a_state_until_all_are_compared(
    stack_config: Config, tmp_path: Path
) -> None:
    table, view = unique("viewed"), unique("view")
    at = shop_server(stack_config)
    sql(at, f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT)")
    sql(at, f"INSERT INTO {table} VALUES (1, 1)")
    with followed(tmp_path, stack_config, [table]) as mysql:
        mysql.root(
            f"CREATE VIEW {view} AS SELECT * FROM {table}",
            "SET SESSION binlog_format = 'STATEMENT'",
            f"UPDATE {view} SET v = 2 WHERE id = 1",
            f"DROP VIEW {view}",
        )
        [state] = mysql.deliver_and_ask("*")
        assert "UPDATE" in state.reason
        assert state.remedy.startswith("`ducklake verify --against-source --repair` compares")
        with consumer_running(Following(mysql.lab, stack_config, (table,))):
            told = mysql.told_by("verify", "--against-source", "--repair", "--json")
        assert [entry["state"] for entry in told["tables"]] == ["equal"], told
        assert mysql.deliver_and_ask("*") == []
