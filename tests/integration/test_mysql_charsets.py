"""Text in every character set of MySQL, and statements in those of their sessions.

What MySQL answers is what the rows must say: out of the snapshot, out of the binlog, of tables made
before and after the connector.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from batcher.postgres import PostgresExport
from lake.config import Config
from lake.ledger import Ledger
from lake.storage.paths import LakePaths
from tests.integration.following import root
from tests.integration.mysql_lab import MysqlLab, followed, names
from tests.integration.postgres_lab import connection
from tests.integration.producers_lab import shop_server, sql, wait_until

pytestmark = pytest.mark.stack
T = names("texts", "later", "gbk", "named", "bytes", "years", "members")
# All of the basic plane, and two beyond it: what a character set lacks becomes '?' in MySQL.
EVERY = "".join(chr(n) for n in range(1, 0xFFFE) if not 0xD800 <= n < 0xE000) + "😀𠀀"
BYTES = bytes(range(1, 256)).hex()
YEARS = ", ".join(f"n{number} INT" for number in range(7)) + ", y YEAR"


@pytest.fixture(scope="module")
def mysql(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlLab]:
    at = shop_server(stack_config)
    for table in (T["gbk"], T["named"], T["bytes"], T["later"]):
        sql(at, f"CREATE TABLE {table} (id INT PRIMARY KEY)")
    sql(at, f"CREATE TABLE {T['years']} (id INT PRIMARY KEY, {YEARS})")
    sql(at, f"INSERT INTO {T['years']} VALUES (1, 1, 2, 3, 4, 5, 6, 7, 0)")
    sql(
        at,
        f"CREATE TABLE {T['members']} (id INT PRIMARY KEY, e ENUM('😀','?','b'), s SET('a','😀'))",
    )
    create(stack_config, T["texts"])
    insert(stack_config, T["texts"], 0)
    with followed(tmp_path_factory.mktemp("lab"), stack_config, list(T.values())) as made:
        yield made


def charsets(stack: Config) -> dict[str, int]:
    """The character sets of the server, and how many bytes a character has at most."""
    with root(stack) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW CHARACTER SET")
        return {row[0]: row[3] for row in cursor.fetchall() if row[0] != "binary"}


def create(stack: Config, table: str) -> None:
    columns = ", ".join(f"c_{name} LONGTEXT CHARACTER SET {name}" for name in charsets(stack))
    odd = "e ENUM('ж','ї') CHARACTER SET koi8u, s SET('բ','դ') CHARACTER SET armscii8"
    sql(shop_server(stack), f"CREATE TABLE {table} (id INT PRIMARY KEY, {odd}, {columns})")


def insert(stack: Config, table: str, first: int) -> None:
    """A row of every character, and one of every byte where a byte is a character."""
    known = charsets(stack)
    listed = ", ".join(f"c_{name}" for name in known)
    every = ", ".join(["%s"] * len(known))
    each = ", ".join(f"_{name} X'{BYTES}'" if size == 1 else "NULL" for name, size in known.items())
    with root(stack) as connection, connection.cursor() as cursor:
        into = f"INSERT INTO {table} (id, e, s, {listed}) VALUES "
        cursor.execute(f"{into} ({first}, 'ї', 'բ,դ', {every})", [EVERY] * len(known))
        cursor.execute(f"{into} ({first + 1}, 'ж', '', {each})")


def arrived(mysql: MysqlLab, table: str) -> dict[int, dict[str, Any]]:
    mysql.deliver()
    return {row["id"]: row for _, row in mysql.changes(table) if row is not None}


def answers(mysql: MysqlLab, table: str) -> dict[int, dict[str, Any]]:
    with root(mysql.stack) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        return {row[0]: dict(zip(columns, row, strict=True)) for row in cursor.fetchall()}


def unequal(mysql: MysqlLab, table: str) -> dict[str, str]:
    """Where a row differs from MySQL's answer, and the first character that does."""
    found, wanted = arrived(mysql, table), answers(mysql, table)
    assert found.keys() == wanted.keys()
    wrong = {}
    for key, row in wanted.items():
        for name, value in row.items():
            other = found[key].get(name)  # a column may have come after the row
            if isinstance(value, set):
                value = ",".join(sorted(value))
            if other != value:
                pairs = zip(str(value), str(other), strict=False)
                first = next(((a, b) for a, b in pairs if a != b), None)
                wrong[f"{key}.{name}"] = f"{first} of {len(str(value))}, {len(str(other))}"
    return wrong


def in_postgres(mysql: MysqlLab, table: str) -> dict[int, dict[str, Any]]:
    """The newest version of each row in the schema raw of PostgreSQL."""
    config, at = mysql.lab.config, mysql.stack.endpoints().postgres
    with Ledger(LakePaths(config.data_dir)) as ledger:
        PostgresExport(config, at, ledger).export({}, ledger.commits.last())
    with closing(connection(at)) as opened, opened, opened.cursor() as cursor:
        cursor.execute(f"SELECT * FROM raw.{table} ORDER BY _offset")
        columns = [column.name for column in cursor.description or ()]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        cursor.execute(f"DROP TABLE raw.{table}")
    return {row["id"]: row for row in rows if row["_op"] != "t"}


def test_text_of_every_character_set_is_what_mysql_says(mysql: MysqlLab) -> None:
    for table in (T["texts"], T["later"]):
        if table == T["later"]:
            mysql.root(f"DROP TABLE {table}")
            create(mysql.stack, table)
        insert(mysql.stack, table, 2)
    assert unequal(mysql, T["texts"]) == {}
    assert unequal(mysql, T["later"]) == {}
    assert mysql.compare(T["texts"]).state == "equal"
    assert mysql.compare(T["later"]).state == "equal"
    mysql.backfill(T["texts"])
    assert unequal(mysql, T["texts"]) == {}
    for table in (T["texts"], T["later"]):
        wanted = answers(mysql, table)
        copied = in_postgres(mysql, table)
        assert copied.keys() == wanted.keys()
        for key, row in wanted.items():
            assert not {c for c in row if c.startswith("c_") and copied[key][c] != row[c]}, key


def test_a_column_has_the_character_set_of_its_table_s_later_default(mysql: MysqlLab) -> None:
    table = T["gbk"]
    mysql.root(
        f"ALTER TABLE {table} DEFAULT CHARACTER SET gbk",
        f"ALTER TABLE {table} ADD v VARCHAR(20)",
        f"INSERT INTO {table} VALUES (1, '中文')",
        f"ALTER TABLE {table} DEFAULT CHARACTER SET sjis",
        f"ALTER TABLE {table} ADD w TEXT, MODIFY v VARCHAR(20)",
        f"INSERT INTO {table} VALUES (2, '日本', '日本')",
    )
    assert unequal(mysql, table) == {}
    assert mysql.notices(table) == {}


SESSIONS = {
    "latin1": ("latin1", "ñ"),
    "sjis": ("shift_jis", "表"),
    "koi8u": ("koi8-u", "ї"),
    "utf8": ("utf8", "ñ"),
}


@pytest.mark.parametrize("charset", SESSIONS)
def test_a_statement_is_read_in_its_session_s_character_set(mysql: MysqlLab, charset: str) -> None:
    encoding, letter = SESSIONS[charset]
    table, name, number = T["named"], letter + charset, list(SESSIONS).index(charset)
    with root(mysql.stack) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET NAMES {charset}")
        connection.encoding = encoding
        cursor.execute(f"ALTER TABLE {table} ADD `{name}` VARCHAR(9)")
        cursor.execute(f"INSERT INTO {table} (id, `{name}`) VALUES ({number}, 'there')")
    mysql.deliver()
    assert mysql.changes(table)[-1][1] is not None
    assert (mysql.changes(table)[-1][1] or {})[name] == "there"
    assert mysql.notices(table) == {}


def test_a_type_of_text_in_bytes_holds_bytes(mysql: MysqlLab) -> None:
    table = T["bytes"]
    mysql.root(
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} (id INT PRIMARY KEY, a CHAR(3) BYTE, b VARCHAR(9) BYTE NOT NULL"
        " COMMENT 'CHAR(3) BYTE', c TEXT BYTE)",
        f"ALTER TABLE {table} ADD d CHARACTER VARYING (5) BYTE, ADD `CHAR BYTE` LONG BYTE",
        f"INSERT INTO {table} VALUES (1, X'FF', X'FE00', X'FD', X'FC', X'FB')",
    )
    [row] = arrived(mysql, table).values()
    assert list(row.values()) == [1, "/wAA", "/gA=", "/Q==", "/A==", "+w=="]
    assert mysql.compare(table).state == "equal"


def test_a_year_beside_eight_numbers_does_not_end_the_reader(mysql: MysqlLab) -> None:
    table = T["years"]
    mysql.root(f"INSERT INTO {table} VALUES (2, 7, 6, 5, 4, 3, 2, 1, 2155)")
    more = ", ".join(f"ADD m{number} BIGINT UNSIGNED" for number in range(8))
    mysql.root(
        f"ALTER TABLE {table} {more}",
        f"INSERT INTO {table} (id, y, m7) VALUES (3, 1901, 18446744073709551615)",
    )
    rows = arrived(mysql, table)
    assert [rows[key]["y"] for key in (1, 2, 3)] == ["0", "2155", "1901"]
    assert rows[3]["m7"] == 18446744073709551615
    assert mysql.notices(table) == {}
    assert mysql.compare(table).state == "equal"


def test_members_with_characters_of_four_bytes(mysql: MysqlLab) -> None:
    table = T["members"]
    mysql.root(f"INSERT INTO {table} VALUES (1, '😀', 'a,😀'), (2, '?', ''), (3, 'b', '😀')")
    rows = arrived(mysql, table)
    assert [rows[key]["e"] for key in (1, 2, 3)] == ["😀", "?", "b"]
    assert [rows[key]["s"] for key in (1, 2, 3)] == ["a,😀", "", "😀"]
    assert mysql.compare(table).state == "equal"


def test_the_connector_has_not_restarted(mysql: MysqlLab) -> None:
    wait_until(lambda: bool(mysql.status()["tasks"]), "a task is there")
    assert [task["state"] for task in mysql.status()["tasks"]] == ["RUNNING"]
