"""Tables of any key are read in chunks of any size: each row once, whatever its key holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import pymysql
import pytest

from lake.config import Config
from lake.storage.canonical import SourceColumn
from producers.mysql.polling.reader import PollReader
from producers.mysql.tables import MysqlTable
from tests.integration.following import root
from tests.integration.producers_lab import shop_server, unique

pytestmark = pytest.mark.stack
ZEROS = ("0000-00-00", "2024-00-00", "2024-01-00", "2024-00-05", "2024-01-01", "0000-01-02")
BYTES = [f"X'{byte:02X}'" for byte in range(1, 256)]
# Characters that Unicode has once and the character set twice, or that come back as others.
TWICE = ["X'81E0'", "X'8790'", "X'FA54'", "X'81CA'", "X'8FA1A1'", "X'ADF0'", "X'A145'", "X'A1C3'"]
KEYS = {
    "DATE": [f"'{day}'" for day in ZEROS],
    "DATETIME(6)": [f"'{day} 10:00:00.5'" for day in ZEROS],
    "TIMESTAMP(2)": ["'0000-00-00'", "'2024-01-01 00:00:01.25'", "'2038-01-19 03:14:07'"],
    "TIME(3)": ["'-838:59:59'", "'-00:00:01.5'", "'25:30:00'", "0"],
    "YEAR": ["0", "1901", "2155"],
    "FLOAT": ["1.1", "1.10001", "3.4e38", "16777217", "-0.3"],
    "DOUBLE": ["1.1", "1e308", "2.2250738585072014e-308", "0.30000000000000004", "0.3"],
    "DECIMAL(65,30)": ["0", "-1.5", "1e34", "1e-30"],
    "BIT(64)": ["0", "1", "0xFFFFFFFFFFFFFFFF", "0x8000000000000000"],
    "BINARY(3)": ["X'00'", "X'FF'", "X'610000'", "X'6100FF'"],
    "ENUM('b','a','')": ["'b'", "'a'", "''"],
    "SET('x','y')": ["''", "'x'", "'y'", "'x,y'"],
    **{
        f"VARCHAR(3) CHARACTER SET {name}": [*BYTES, *TWICE]
        for name in ("ascii", "big5", "cp932", "eucjpms", "gbk", "latin1", "sjis", "ujis")
    },
    "VARCHAR(3)": ["''", "'a'", "'b '", "'ñ'", "'😀'", "'\\0a'"],
}


@pytest.fixture
def table(stack_config: Config) -> Iterator[MysqlTable]:
    name = unique("paged")
    yield MysqlTable(name, shop_server(stack_config).database, name)
    with root(stack_config) as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {name}")


@pytest.mark.parametrize("type_", KEYS)
def test_every_row_is_read_once(stack_config: Config, table: MysqlTable, type_: str) -> None:
    with root(stack_config) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(f"CREATE TABLE {table.name} (k {type_} PRIMARY KEY)")
        for value in KEYS[type_]:
            try:
                cursor.execute(f"INSERT IGNORE INTO {table.name} VALUES ({value})")
            except pymysql.MySQLError:
                assert "VARCHAR" in type_  # these bytes are no text there
        cursor.execute(f"SELECT COUNT(*) FROM {table.name}")
        [(rows,)] = cursor.fetchall()
    assert rows > 2
    with closing(PollReader(shop_server(stack_config))) as reader:
        for size in (1, 2, 7):
            chunks = reader.checksums(reader.table(table), size)
            assert sum(len(chunk) for chunk in islice(chunks, rows + 1)) == rows, size
            assert polled(reader, table, size) == rows, size


def polled(reader: PollReader, table: MysqlTable, size: int) -> int:
    """How many rows polling reads, in chunks of some size."""
    definition = reader.definition(table)
    order: tuple[SourceColumn, ...] = definition.table.key
    after, read = None, 0
    while True:
        chunk = reader.chunk(definition, order, after, size)
        read += len(chunk.rows)
        if chunk.is_last:
            return read
        assert read < 2000, "it reads the same rows over and over"
        after = chunk.rows[-1].place
