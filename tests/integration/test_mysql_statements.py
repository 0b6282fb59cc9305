"""Statements that Debezium alone does not survive: each costs nothing, or its own table only."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from lake.config import Config
from tests.integration.mysql_lab import MysqlLab, followed, names
from tests.integration.producers_lab import committed, shop_server, sql, unique, wait_until

pytestmark = pytest.mark.stack

KEYWORDS = ("url", "auto", "vector", "manual", "parallel", "qualify", "tablesample")
TABLES = names("words", "ansi", "renamed", "swapped", "neighbour", "odd", "hidden", "made")
SECONDS = 20.0

# On another database of the same server: nobody's business, and Debezium reads them all.
ELSEWHERE = (
    *(f"CREATE TABLE k_{word} ({word} INT, id INT PRIMARY KEY)" for word in KEYWORDS),
    *(f"ALTER TABLE k_url ADD {word}_2 INT, ADD {word} INT" for word in KEYWORDS[1:]),
    "SET sql_mode = 'ANSI_QUOTES'",
    'CREATE TABLE "an si" ("a b" INT DEFAULT 1, "say ""so""" TEXT)',
    'ALTER TABLE "an si" RENAME COLUMN "a b" TO "b a"',
    "SET sql_mode = ''",
    "CREATE SPATIAL REFERENCE SYSTEM IF NOT EXISTS 990001 NAME 'one' DEFINITION"
    ' \'GEOGCS["one",DATUM["one",SPHEROID["one",6377397.155,299.1528128]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.017453292519943278],'
    'AXIS["Lat",NORTH],AXIS["Lon",EAST]]\'',
    "DROP SPATIAL REFERENCE SYSTEM IF EXISTS 990001",
    "CREATE TABLE o (id INT PRIMARY KEY, a INT, CHECK (a > 0), b INT AS (a + 1) STORED,"
    " KEY f ((a + 1)), c VARCHAR(9) DEFAULT (CONCAT('a', 'b')))"
    " PARTITION BY HASH (id) PARTITIONS 4",
    "ALTER TABLE o ADD d INT, ALGORITHM=INSTANT",
    "ALTER TABLE o ADD KEY g (d) INVISIBLE, ALGORITHM=INPLACE, LOCK=NONE",
    "ALTER TABLE o ALTER INDEX g VISIBLE /*!80000 , ADD e INT */ -- a remark",
    "CREATE FUNCTION plus (x INT) RETURNS INT DETERMINISTIC RETURN x + 1",
    "CREATE PROCEDURE p () BEGIN DECLARE url INT DEFAULT 1; SELECT url; END",
    "CREATE TRIGGER t BEFORE INSERT ON o FOR EACH ROW SET NEW.a = 1",
    "CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO DELETE FROM o",
    "CREATE OR REPLACE VIEW v AS SELECT id AS url FROM o",
    "CREATE USER IF NOT EXISTS someone@localhost IDENTIFIED BY 'hush hush'"
    " PASSWORD HISTORY 3 ACCOUNT LOCK",
    "CREATE ROLE IF NOT EXISTS some_role",
    "GRANT some_role TO someone@localhost",
    "DROP USER someone@localhost",
    "DROP ROLE some_role",
    "ANALYZE TABLE o UPDATE HISTOGRAM ON a WITH 4 BUCKETS",
    "OPTIMIZE TABLE o",
    "DROP FUNCTION plus",
)


@pytest.fixture(scope="module")
def mysql(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlLab]:
    at = shop_server(stack_config)
    for table in TABLES.values():
        if table != TABLES["made"]:
            sql(at, f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(40), w VARCHAR(40))")
            sql(at, f"INSERT INTO {table} VALUES (1, 'v1', 'w1')")
    sql(at, f"CREATE TABLE {TABLES['made']} (id INT PRIMARY KEY)")
    with followed(tmp_path_factory.mktemp("lab"), stack_config, list(TABLES.values())) as made:
        yield made


@pytest.fixture(autouse=True)
def the_neighbour_goes_on(mysql: MysqlLab) -> Iterator[None]:
    """Whatever a test did to its table, a row of another one arrives within seconds."""
    yield
    key = int(time.time() * 1000) % 1_000_000_000
    mysql.root(f"INSERT INTO {TABLES['neighbour']} VALUES ({key}, 'here', NULL)")
    wanted = ("c", {"id": key, "v": "here", "w": None})
    wait_until(lambda: wanted in mysql.changes(TABLES["neighbour"]), "the row arrives", SECONDS)
    assert [task["state"] for task in mysql.status()["tasks"]] == ["RUNNING"]


def test_statements_on_other_databases_cost_nothing(mysql: MysqlLab) -> None:
    database = unique("elsewhere")
    mysql.root(f"CREATE DATABASE {database}")
    try:
        mysql.root(*ELSEWHERE, database=database)
    finally:
        mysql.root(f"DROP DATABASE {database}")
    mysql.root(f"INSERT INTO {TABLES['odd']} VALUES (2, 'v2', 'w2')")
    mysql.deliver()
    assert mysql.changes(TABLES["odd"])[-1] == ("c", {"id": 2, "v": "v2", "w": "w2"})
    assert mysql.notices(TABLES["odd"]) == {}


def test_a_password_is_in_no_topic(mysql: MysqlLab) -> None:
    mysql.root(
        "CREATE USER hushed@localhost IDENTIFIED BY 'Sesame1234'", "DROP USER hushed@localhost"
    )
    mysql.deliver()
    history = [str(seen.row) for seen in committed(mysql.lab.endpoints, mysql.lab.source)]
    assert history and not any("hushed" in text for text in history)


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_column_may_have_the_name_of_a_later_keyword(mysql: MysqlLab, word: str) -> None:
    table = TABLES["words"]
    number = 10 + KEYWORDS.index(word)
    mysql.root(
        f"ALTER TABLE {table} ADD COLUMN {word} VARCHAR(20) DEFAULT NULL",
        f"INSERT INTO {table} (id, {word}) VALUES ({number}, 'there')",
    )
    wait_until(
        lambda: any((row or {}).get(word) == "there" for _, row in mysql.changes(table)),
        "the row has the column",
        SECONDS,
    )


def test_a_table_made_with_such_a_column_is_followed(mysql: MysqlLab) -> None:
    table = TABLES["made"]
    mysql.root(
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} (id INT PRIMARY KEY, url TEXT, auto INT, vector BLOB, manual DATE)",
        f"INSERT INTO {table} VALUES (1, 'here', 2, 'x', '2024-02-03')",
    )
    mysql.deliver()
    row = {"id": 1, "url": "here", "auto": 2, "vector": "eA==", "manual": "2024-02-03"}
    assert mysql.changes(table) == [("t", None), ("c", row)]


def test_ansi_quotes_are_names_where_the_session_says_so(mysql: MysqlLab) -> None:
    table = TABLES["ansi"]
    mysql.root(
        "SET sql_mode = 'ANSI_QUOTES'",
        f'ALTER TABLE "{table}" ADD "an si" INT DEFAULT NULL, RENAME COLUMN "v" TO "v v"',
        f"INSERT INTO \"{table}\" VALUES (2, 'v2', 'w2', 7)",
    )
    mysql.root(
        f'ALTER TABLE {table} ADD note VARCHAR(9) DEFAULT NULL COMMENT "an si"',
        f"INSERT INTO {table} VALUES (3, 'v3', 'w3', 8, 'n')",
    )
    mysql.deliver()
    assert mysql.streamed(table) == [
        ("c", {"id": 2, "v v": "v2", "w": "w2", "an si": 7}),
        ("c", {"id": 3, "v v": "v3", "w": "w3", "an si": 8, "note": "n"}),
    ]
    assert mysql.notices(table) == {}


def test_a_rename_as_the_last_event_before_a_restart(mysql: MysqlLab) -> None:
    table = TABLES["renamed"]
    mysql.root(f"ALTER TABLE {table} RENAME COLUMN v TO x", f"ALTER TABLE {table} CHANGE w y TEXT")
    mysql.deliver()
    mysql.restart()
    mysql.root(f"INSERT INTO {table} VALUES (2, 'x2', 'y2')")
    wanted = [("c", {"id": 2, "x": "x2", "y": "y2"})]
    wait_until(lambda: mysql.streamed(table) == wanted, "the row arrives", SECONDS)
    assert mysql.notices(table) == {}


def test_two_columns_that_change_names_with_each_other(mysql: MysqlLab) -> None:
    table = TABLES["swapped"]
    mysql.root(
        f"ALTER TABLE {table} RENAME COLUMN v TO w, RENAME COLUMN w TO v",
        f"INSERT INTO {table} (id, v, w) VALUES (2, 'v2', 'w2')",
        f"ALTER TABLE {table} CHANGE v w VARCHAR(40), CHANGE w v VARCHAR(40)",
        f"INSERT INTO {table} (id, v, w) VALUES (3, 'v3', 'w3')",
    )
    mysql.deliver()
    wanted = [("c", {"id": n, "v": f"v{n}", "w": f"w{n}"}) for n in (2, 3)]
    assert mysql.streamed(table) == wanted
    assert mysql.notices(table) == {}
    assert mysql.told(table)[0][0] == "values_changed"
