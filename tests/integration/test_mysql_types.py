"""Every type of MySQL, as docs/TYPES.md says: the same value out of the snapshot and the binlog.

One table with a column of each type is there before the connector starts, another like it is made
afterwards, so that Debezium knows its columns by SHOW CREATE TABLE and by their statement. A third
one is polled, without Debezium. What raw holds is compared with what MySQL itself answers, in
Parquet and in PostgreSQL.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import psycopg2
import pymysql
import pytest
import requests

from batcher.postgres import PostgresExport
from ducklake.reconciliation.reconciler import Reconciler
from lake.config import Config, TableRef
from lake.ledger import Ledger
from lake.storage.paths import LakePaths
from lake.storage.sql import quoted
from producers.registry import connector
from producers.transactions import TransactionalWriter
from tests.integration.producers_lab import (
    PATIENCE,
    Lab,
    drain,
    make_lab,
    shop_server,
    unique,
    wait_until,
)

pytestmark = pytest.mark.stack

ZONES = ("+00:00", "-03:00", "+05:30", "+00:00")
"""Of the session that inserts a row: of a TIMESTAMP only the moment counts."""
ROWS = len(ZONES)
AS_MYSQL_SAYS = "as MySQL says"
TEXT, HEX = "CAST({} AS VARCHAR)", "hex({})"
ASK, ASK_NUMBER, ASK_HEX = "CAST({} AS CHAR)", "CAST({} + 0 AS CHAR)", "HEX({})"


@dataclass(frozen=True)
class Case:
    """A column.

    Attributes:
        name: Of the column.
        type: MySQL's.
        raw: DuckDB's, in raw.
        values: An SQL literal of MySQL, and the text that both ways must give.
        seen: How DuckDB says it.
        asked: How MySQL says it; empty: it is not asked.
    """

    name: str
    type: str
    raw: str
    values: Mapping[str, str | None]
    seen: str = TEXT
    asked: str = ASK


def same(*texts: str) -> dict[str, str | None]:
    """Values whose literals are their texts, and NULL."""
    return {**{f"'{text}'": text for text in texts}, "NULL": None}


def numbers(*texts: str) -> dict[str, str | None]:
    """Numbers, and NULL."""
    return {**{text: text for text in texts}, "NULL": None}


def integers(name: str, type_: str, raw: str, *texts: str) -> Case:
    return Case(name, type_, raw, numbers(*texts), asked=ASK_NUMBER)


def blob(name: str, type_: str, **values: str) -> Case:
    """Bytes, by their hexadecimal digits: what is written, and what is there."""
    given: dict[str, str | None] = {f"X'{key[1:]}'": value for key, value in values.items()}
    return Case(name, type_, "BLOB", {**given, "NULL": None}, HEX, ASK_HEX)


def floats(name: str, type_: str, *texts: str) -> Case:
    return Case(name, type_, "DOUBLE", numbers(*texts), asked="{} + 0e0")


GEOMETRY_SEEN = "upper(hex(from_base64({0} ->> 'wkb'))) || ':' || coalesce({0} ->> 'srid', '0')"
GEOMETRY_ASKED = "CONCAT(HEX(ST_AsWKB({0}, 'axis-order=long-lat')), ':', ST_SRID({0}))"
POINT_1_2 = "0101000000000000000000F03F0000000000000040"
POINT_2_1 = "01010000000000000000000040000000000000F03F"


def geometry(name: str, type_: str, text: str) -> Case:
    values = {f"ST_GeomFromText('{text}')": AS_MYSQL_SAYS}
    return Case(name, type_, "VARCHAR", values, GEOMETRY_SEEN, GEOMETRY_ASKED)


CASES = (
    integers("ti", "TINYINT", "TINYINT", "-128", "127"),
    integers("ti1", "TINYINT(1)", "TINYINT", "2", "-5", "1"),
    integers("tiu", "TINYINT UNSIGNED", "UTINYINT", "0", "255"),
    integers("si", "SMALLINT", "SMALLINT", "-32768", "32767"),
    integers("siu", "SMALLINT UNSIGNED", "USMALLINT", "0", "65535"),
    integers("mi", "MEDIUMINT", "INTEGER", "-8388608", "8388607"),
    integers("miu", "MEDIUMINT UNSIGNED", "UINTEGER", "0", "16777215"),
    integers("i", "INT", "INTEGER", "-2147483648", "2147483647"),
    integers("iu", "INT UNSIGNED", "UINTEGER", "0", "4294967295"),
    integers("iz", "INT(8) ZEROFILL", "UINTEGER", "42", "4294967295"),
    integers("bi", "BIGINT", "BIGINT", "-9223372036854775808", "9223372036854775807"),
    integers("bu", "BIGINT UNSIGNED", "UBIGINT", "18446744073709551615", "9223372036854775808"),
    integers("bz", "BIGINT(20) UNSIGNED ZEROFILL", "UBIGINT", "7", "18446744073709551615"),
    integers("bo", "BOOL", "TINYINT", "2", "-5", "1"),
    integers("bo2", "BOOLEAN", "TINYINT", "0", "127"),
    Case("bod", "BOOLEAN NOT NULL DEFAULT TRUE", "TINYINT", {"0": "0", "2": "2"}),
    integers("i1", "INT1", "TINYINT", "-128", "127"),
    integers("i2", "INT2 UNSIGNED", "USMALLINT", "65535"),
    integers("i3", "INT3", "INTEGER", "-8388608"),
    integers("mid", "MIDDLEINT UNSIGNED", "UINTEGER", "16777215"),
    integers("i4", "INT4 UNSIGNED", "UINTEGER", "4294967295"),
    integers("i8", "INT8 UNSIGNED", "UBIGINT", "18446744073709551615"),
    integers("isg", "INT SIGNED", "INTEGER", "-7"),
    integers("dfl", "INT DEFAULT 42", "INTEGER", "1"),
    Case("de", "DECIMAL(12,2)", "DECIMAL(12,2)", numbers("-9999999999.99", "0.10")),
    Case("de38", "DECIMAL(38,10)", "DECIMAL(38,10)", numbers("9" * 28 + ".0123456789")),
    Case("de65", "DECIMAL(65,30)", "VARCHAR", numbers("-" + "9" * 35 + "." + "9" * 30)),
    Case("dez", "DECIMAL(8,3) ZEROFILL", "DECIMAL(8,3)", {"1.5": "1.500"}, asked=""),
    Case("nu", "NUMERIC", "DECIMAL(10,0)", numbers("-1234567890")),
    Case("dec", "DEC(5)", "DECIMAL(5,0)", numbers("99999")),
    Case("fx", "FIXED(5,2) UNSIGNED", "DECIMAL(5,2)", numbers("999.99")),
    floats("fl", "FLOAT", "16777216.0", "0.1", "-3.4e+38"),
    floats("fl2", "FLOAT(7,3)", "1.1", "1234.567"),
    floats("fl30", "FLOAT(30)", "0.1", "16777217.0"),
    floats("fl4", "FLOAT4", "1.5", "16777215.0"),
    floats("fl8", "FLOAT8", "0.1", "1e+308"),
    floats("dou", "DOUBLE", "0.1", "-1e+308", "9007199254740992.0"),
    floats("dop", "DOUBLE PRECISION", "16777217.0"),
    floats("rea", "REAL", "16777217.0", "5e-324"),
    Case("b1", "BIT(1)", "BOOLEAN", {"b'1'": "true", "b'0'": "false", "NULL": None}, asked=""),
    Case("b", "BIT", "BOOLEAN", {"b'1'": "true", "b'0'": "false"}, asked=""),
    Case("b10", "BIT(10)", "BLOB", {"515": "0203", "0": "0000"}, HEX, "LPAD(HEX({} + 0), 4, '0')"),
    Case(
        *("b16", "BIT(16)", "BLOB", {"258": "0102", "1": "0001", "65535": "FFFF", "NULL": None}),
        *(HEX, "LPAD(HEX({} + 0), 4, '0')"),
    ),
    Case(
        *("b64", "BIT(64)", "BLOB"),
        {"18446744073709551615": "F" * 16, "4294967296": "0000000100000000"},
        *(HEX, "LPAD(HEX({} + 0), 16, '0')"),
    ),
    Case("t", "TIME", "VARCHAR", same("25:30:00", "-12:34:56", "10:11:12")),
    Case("t6", "TIME(6)", "VARCHAR", same("838:59:59.000000", "-00:00:00.000001")),
    Case("t2", "TIME(2)", "VARCHAR", same("-00:00:01.90", "10:11:12.09", "838:00:00.10")),
    Case("t3", "TIME(3) NOT NULL", "VARCHAR", {"'-838:59:59'": "-838:59:59.000"}),
    Case("d", "DATE", "DATE", same("1582-10-10", "0099-03-04", "9999-12-31")),
    Case(
        *("dt6", "DATETIME(6)", "TIMESTAMP"),
        same("1582-10-10 11:12:13.123456", "0001-01-01 00:00:00.000001", "2026-03-29 02:30:00.5"),
    ),
    Case("dt", "DATETIME", "TIMESTAMP", same("0070-01-01 00:00:00", "9999-12-31 23:59:59")),
    Case("dt3", "DATETIME(3) NOT NULL", "TIMESTAMP", {"'1970-01-01'": "1970-01-01 00:00:00"}),
    Case(
        *("ts6", "TIMESTAMP(6) NULL", "TIMESTAMP WITH TIME ZONE"),
        {
            "'2024-07-01 12:00:00.123456'": "2024-07-01 12:00:00.123456+00",
            "'2024-11-03 01:30:00'": "2024-11-03 04:30:00+00",
            "'2038-01-19 08:44:07'": "2038-01-19 03:14:07+00",
            "NULL": None,
        },
    ),
    Case(
        *("ts", "TIMESTAMP NOT NULL", "TIMESTAMP WITH TIME ZONE"),
        {"'1970-01-02'": "1970-01-02 00:00:00+00", "'2024-07-01'": "2024-07-01 03:00:00+00"},
    ),
    integers("y", "YEAR", "INTEGER", "0", "1901", "2155"),
    Case("c", "CHAR(5)", "VARCHAR", {"'a  '": "a", "'ñandú'": "ñandú", "'😀'": "😀"}),
    Case("vc", "VARCHAR(20)", "VARCHAR", same("a  ", "", "ñandú 🦆")),
    Case("vcb", "VARCHAR(20) BINARY", "VARCHAR", same("a  ", "Ñ")),
    Case("vcl", "VARCHAR(20) CHARACTER SET latin1", "VARCHAR", same("ñé€", "")),
    Case("vcg", "VARCHAR(20) CHARACTER SET gbk", "VARCHAR", same("中文")),
    Case("vcs", "VARCHAR(20) CHARACTER SET sjis", "VARCHAR", same("日本")),
    Case("vcu", "VARCHAR(20) CHARACTER SET utf16", "VARCHAR", same("a中😀")),
    Case("nc", "NCHAR(5)", "VARCHAR", same("ñ")),
    Case("nv", "NVARCHAR(5)", "VARCHAR", same("ñ")),
    Case("chv", "CHARACTER VARYING(5)", "VARCHAR", same("ñ")),
    Case("lo", "LONG", "VARCHAR", same("ñ")),
    Case("lov", "LONG VARCHAR", "VARCHAR", same("ñ")),
    Case("tt", "TINYTEXT", "VARCHAR", same("ñ")),
    Case("te", "TEXT", "VARCHAR", same("ñ\n")),
    Case("lt", "LONGTEXT", "VARCHAR", same("ñ")),
    blob("bin", "BINARY(4)", x01="01000000", x00000000="00000000", xFFFFFFFF="FFFFFFFF"),
    blob("vb", "VARBINARY(4)", x0100="0100", x="", xFF00FF="FF00FF"),
    blob("bl", "BLOB", x00FF="00FF", x=""),
    blob("lb", "LONGBLOB", x00FF="00FF"),
    blob("lvb", "LONG VARBINARY", x00FF="00FF"),
    blob("ccb", "CHAR(3) CHARACTER SET binary", xFF="FF0000", x00FF01="00FF01"),
    blob("vcx", "VARCHAR(9) CHARACTER SET binary", xFF00="FF00"),
    blob("txb", "TEXT CHARACTER SET binary", xFF00="FF00"),
    Case(
        *("en", "ENUM('a,b','it''s','ñ','','b\\\\c')", "VARCHAR"),
        {"'a,b'": "a,b", "'it''s'": "it's", "''": "", "'b\\\\c'": "b\\c"},
    ),
    Case("en2", "ENUM('x','ñ') NOT NULL", "VARCHAR", {"'ñ'": "ñ"}),
    Case("se", "SET('x','y z','w''')", "VARCHAR", {"'x,w'''": "x,w'", "''": "", "'y z'": "y z"}),
    Case(
        *("js", "JSON", "VARCHAR"),
        {
            "'{\"a\": 2}'": '{"a": 2}',
            "'[1, \"x\", null, true, 1.0, 1e20, 0.1, -3, 18446744073709551615]'": (
                '[1, "x", null, true, 1.0, 1e20, 0.1, -3, 18446744073709551615]'
            ),
            "'\"s\"'": '"s"',
            "NULL": None,
        },
    ),
    Case(
        *("js2", "JSON", "VARCHAR"),
        {
            "'null'": "null",
            "JSON_OBJECT('d', CAST('1.50' AS DECIMAL(5,2)), 't', CAST('-10:00:00' AS TIME))": (
                '{"d": 1.50, "t": "-10:00:00.000000"}'
            ),
            "JSON_ARRAY(CAST('2024-01-02 03:04:05.6' AS DATETIME(6)), X'00ff', DATE'2024-01-02')": (
                '["2024-01-02 03:04:05.600000", "base64:type15:AP8=", "2024-01-02"]'
            ),
            "JSON_OBJECT('ñ😀', REPEAT('l ', 9), 'e', JSON_OBJECT(), 'q', CHAR(34, 92, 10, 9))": (
                AS_MYSQL_SAYS
            ),
        },
    ),
    Case(
        *("g", "GEOMETRY", "VARCHAR"),
        {
            "ST_GeomFromText('POINT(1 2)', 4326)": f"{POINT_2_1}:4326",
            "ST_GeomFromText('POINT(1 2)')": f"{POINT_1_2}:0",
            "NULL": None,
        },
        *(GEOMETRY_SEEN, GEOMETRY_ASKED),
    ),
    Case(
        *("gp", "POINT SRID 4326", "VARCHAR"),
        {"ST_GeomFromText('POINT(1 2)', 4326)": f"{POINT_2_1}:4326"},
        *(GEOMETRY_SEEN, GEOMETRY_ASKED),
    ),
    geometry("gl", "LINESTRING", "LINESTRING(0 0,1 1)"),
    geometry("gc", "GEOMETRYCOLLECTION", "GEOMETRYCOLLECTION(POINT(1 2))"),
    geometry("gmp", "MULTIPOLYGON", "MULTIPOLYGON(((0 0,1 0,1 1,0 0)))"),
)
GENERATED = (
    Case("gv", "INT AS (i1 + 1) VIRTUAL", "INTEGER", {}),
    Case("gs", "DATETIME AS (dt) STORED", "TIMESTAMP", {}),
)
ZEROS = {
    "zd": ("DATE NOT NULL", ("'0000-00-00'", "'2024-00-00'", "'1970-01-01'", "'2024-01-02'")),
    "zt": (
        "DATETIME(3) NOT NULL",
        ("'0000-00-00'", "'2024-02-00 01:02:03'", "'1970-01-01'", "'2024-01-02'"),
    ),
    "zs": (
        "TIMESTAMP NOT NULL",
        ("'0000-00-00'", "'0000-00-00'", "'0000-00-00'", "'1970-01-01 00:00:01'"),
    ),
}
ALL = (*CASES, *GENERATED)


@dataclass
class Types:
    """Two tables of all types, read through to Parquet and to PostgreSQL.

    Attributes:
        lab: Their source.
        before: The table that was there before the connector started.
        after: The table that was made afterwards.
        polled: The table that is polled.
        rows: What raw holds of a table's row, as texts.
        answers: What MySQL says of it.
        stored: The types in a table's files.
        copies: A table's rows in raw and in PostgreSQL.
    """

    lab: Lab
    before: str
    after: str
    polled: str
    rows: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    answers: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    stored: dict[str, dict[str, str]] = field(default_factory=dict)
    copies: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = field(
        default_factory=dict
    )

    @property
    def places(self) -> Mapping[str, tuple[str, int]]:
        """Where each of the rows that were inserted alike is: its table, and its first number."""
        return {
            "snapshot": (self.before, 0),
            "binlog": (self.before, ROWS),
            "binlog of a new table": (self.after, 0),
            "poll": (self.polled, 0),
        }


def literal(case: Case, row: int) -> str:
    given = list(case.values)
    return given[row % len(given)]


def create(table: str, key: str = "") -> str:
    columns = [f"`{c.name}` {c.type}" for c in ALL]
    columns += [f"{name} {type_}" for name, (type_, _) in ZEROS.items()]
    return f"CREATE TABLE {table} (id INT NOT NULL {key}, {', '.join(columns)})"


def insert(cursor: Any, table: str, first: int) -> None:
    for row, zone in enumerate(ZONES):
        values = {c.name: literal(c, row) for c in CASES}
        values |= {name: given[row] for name, (_, given) in ZEROS.items()}
        cursor.execute(f"SET time_zone = '{zone}'")
        names = ", ".join(f"`{name}`" for name in values)
        listed = ", ".join(values.values())
        cursor.execute(f"INSERT INTO {table} (id, {names}) VALUES ({first + row}, {listed})")


@contextmanager
def mysql_root(stack: Config) -> Iterator[Any]:
    """MySQL that takes dates of zeros, and whose own zone is not UTC."""
    at = shop_server(stack)
    secrets = json.loads((stack.stack_dir / "secrets.json").read_text())
    connection = pymysql.connect(
        host=at.host,
        port=at.port,
        user="root",
        password=secrets["mysql_root"],
        database=at.database,
        autocommit=True,
        charset="utf8mb4",
        init_command="SET sql_mode = ''",
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.time_zone")
        [(zone,)] = cursor.fetchall()
        cursor.execute("SET GLOBAL time_zone = '-07:00'")
        try:
            yield cursor
        finally:
            cursor.execute(f"SET GLOBAL time_zone = '{zone}'")


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Types]:
    before, after, polled = unique("t"), unique("t"), unique("t")
    tables = {before: {"key": ["id"]}, after: {"key": ["id"]}}
    spec = {"type": "mysql_cdc", "tables": tables}
    postgres = {"postgres": {"password": stack_config.endpoints().postgres.password}}
    polling = {"type": "mysql_poll", "tables": {polled: {"options": {"watermark": "id"}}}}
    folder, source = tmp_path_factory.mktemp("types"), unique("p")
    more = {source: {"connection": "mysql", **polling}}
    lab = make_lab(folder, stack_config, spec, postgres, more=more)
    made = Types(lab, before, after, polled)
    with mysql_root(stack_config) as cursor:
        cursor.execute(create(before))
        cursor.execute(f"CREATE TABLE {after} (id INT)")
        cursor.execute(create(polled, "PRIMARY KEY"))
        insert(cursor, polled, 0)
        insert(cursor, before, 0)
        settle(lab)
        drain_source(lab, source)
        insert(cursor, before, ROWS)
        cursor.execute(f"DROP TABLE {after}")
        cursor.execute(create(after))
        insert(cursor, after, 0)
        settle(lab)
        read(made, cursor, {before: lab.source, after: lab.source, polled: source})
        yield made
        url = f"{lab.endpoints.connect}/connectors/{lab.config.settings.name}-{lab.source}"
        requests.delete(url, timeout=30)
        cursor.execute(f"DROP TABLE {before}, {after}, {polled}")


def settle(lab: Lab) -> None:
    source = lab.connector()

    def settled() -> bool:
        list(source.poll({}))
        return source.settled()

    wait_until(settled, "everything is in Kafka")
    source.close()


def drain_source(lab: Lab, source: str) -> None:
    with closing(connector(lab.config, lab.endpoints, source)) as polling:
        drain(polling, TransactionalWriter(lab.config, lab.endpoints, source))


def read(made: Types, cursor: Any, sources: Mapping[str, str]) -> None:
    """Consume, export, and gather what everybody says."""
    config = made.lab.config
    command = [sys.executable, "-m", "ducklake.cli", "consume", "--once"]
    subprocess.run([*command, "--config", str(config.path)], check=True, timeout=PATIENCE)
    paths = LakePaths(config.data_dir)
    (paths.root / "work").mkdir()
    with Ledger(paths) as ledger:
        PostgresExport(config, made.lab.endpoints.postgres, ledger).export(
            {}, ledger.commits.last()
        )
    names = ["id", *(c.name for c in ALL)]
    seen = ", ".join(f"{c.seen.format(quoted(c.name))} AS {quoted(c.name)}" for c in ALL)
    asked = ", ".join(c.asked.format(f"`{c.name}`") if c.asked else "NULL" for c in ALL)
    zeros = ", ".join(f"CAST({name} AS VARCHAR) AS {name}, _zero_{name}" for name in ZEROS)
    cursor.execute("SET time_zone = '+00:00'")
    for table, source in sources.items():
        folder = paths.root / "raw" / source / table
        files = f"read_parquet('{folder}/*/*/*/*.parquet', union_by_name = true)"
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            for row in dicts(db.execute(f"SELECT id, {seen}, {zeros} FROM {files}")):
                made.rows[table, row["id"]] = row
            described = db.execute(f"DESCRIBE SELECT * FROM {files}").fetchall()
            made.stored[table] = {name: type_ for name, type_, *_ in described}
            raw = dicts(db.execute(f"SELECT * FROM {files} ORDER BY id"))
        made.copies[table] = raw, exported(made.lab, table)
        cursor.execute(f"SELECT id, {asked} FROM {table}")
        for answer in cursor.fetchall():
            made.answers[table, answer[0]] = dict(zip(names, answer, strict=True))


def dicts(cursor: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def exported(lab: Lab, table: str) -> list[dict[str, Any]]:
    at = lab.endpoints.postgres
    connection = psycopg2.connect(
        host=at.host, port=at.port, user=at.user, password=at.password, dbname=at.database
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute(f"SELECT * FROM raw.{table} ORDER BY id")
        rows = dicts(cursor)
        cursor.execute(f"DROP TABLE raw.{table}")
    connection.close()
    return rows


def as_duckdb_says(case: Case, answer: Any) -> str | None:
    """MySQL's text, written as DuckDB writes it."""
    if answer is None:
        return None
    text = str(answer)
    if case.raw.startswith("TIMESTAMP"):
        text = re.sub(r"\.?0+$", "", text) if "." in text else text
        return text + ("+00" if "ZONE" in case.raw else "")
    if case.raw == "DOUBLE" and case.type in ("FLOAT", "FLOAT(7,3)", "FLOAT4"):
        return str(float(str(np.float32(text))))  # MySQL has shown it as a DOUBLE
    return text


def inputs() -> Iterator[Any]:
    for case in CASES:
        for row in range(len(case.values)):
            yield pytest.param(case, row, id=f"{case.type} {literal(case, row)}")


@pytest.mark.parametrize(("case", "row"), list(inputs()))
def test_a_value_is_what_mysql_says(types: Types, case: Case, row: int) -> None:
    expected = case.values[literal(case, row)]
    if case.asked:
        said = as_duckdb_says(case, types.answers[types.before, row][case.name])
        assert expected in (said, AS_MYSQL_SAYS), "the test itself expects what MySQL has"
        expected = said
    found = {way: types.rows[t, first + row][case.name] for way, (t, first) in types.places.items()}
    assert found == dict.fromkeys(types.places, expected)


@pytest.mark.parametrize("case", GENERATED, ids=lambda case: case.type)
def test_a_generated_value_is_what_mysql_says(types: Types, case: Case) -> None:
    for (table, row), answer in types.answers.items():
        assert types.rows[table, row][case.name] == as_duckdb_says(case, answer[case.name])


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.type)
def test_a_type_is_the_same_in_both_tables(types: Types, case: Case) -> None:
    assert types.stored[types.before][case.name] == case.raw
    assert types.stored[types.after][case.name] == case.raw
    assert types.stored[types.polled][case.name] == case.raw


@pytest.mark.parametrize("name", [*(c.name for c in ALL), *ZEROS])
def test_a_polled_row_is_the_one_that_debezium_sends(types: Types, name: str) -> None:
    by_debezium, polled = types.copies[types.before][0][:ROWS], types.copies[types.polled][0]
    assert [row[name] for row in polled] == [row[name] for row in by_debezium]


@pytest.mark.parametrize("column", ZEROS)
def test_a_date_of_zeros_is_told_apart_from_null_and_from_the_epoch(
    types: Types, column: str
) -> None:
    given = ZEROS[column][1]
    for way, (table, first) in types.places.items():
        for row, text in enumerate(given):
            seen = types.rows[table, first + row]
            is_zero = "-00" in text
            assert seen[f"_zero_{column}"] is (True if is_zero else None), way
            assert (seen[column] is None) is is_zero, way
            assert is_zero or seen[column].startswith(text.strip("'")), way


@pytest.mark.parametrize("name", [*(c.name for c in ALL), *(f"_zero_{z}" for z in ZEROS)])
def test_postgres_holds_what_raw_holds(types: Types, name: str) -> None:
    for raw, copy in types.copies.values():
        values = [row[name] for row in copy]
        assert [bytes(v) if isinstance(v, memoryview) else v for v in values] == [
            row[name] for row in raw
        ]


def test_a_comparison_with_mysql_finds_every_type_equal(types: Types) -> None:
    """Also where a table has no primary key: as often as MySQL has a row, the lake has it."""
    reconciler = Reconciler(types.lab.config, types.lab.endpoints)
    for table in (types.before, types.after):
        result = reconciler.reconcile(TableRef(types.lab.source, table))
        assert (result.state, result.source_rows) == ("equal", result.lake_rows), result
