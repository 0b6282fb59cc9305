"""Names of MySQL's types become raw types, and records of this and of earlier releases are read."""

from __future__ import annotations

import datetime
from typing import Any

import duckdb
import orjson
import pytest
from confluent_kafka import Message

from consumers.ingest.decoding import make_decoder
from lake.config import Table, TableRef
from lake.storage.casts import cast_expression
from lake.storage.mysql_types import mysql_type
from lake.storage.schema import Schema


@pytest.mark.parametrize(
    ("column", "type_"),
    [
        ({"typeName": "BOOL"}, "TINYINT"),
        ({"typeName": "INT1 UNSIGNED"}, "UTINYINT"),
        ({"typeName": "INT(8) UNSIGNED ZEROFILL"}, "UINTEGER"),
        ({"typeName": "INT ZEROFILL"}, "UINTEGER"),
        ({"typeName": "INT8 UNSIGNED"}, "UBIGINT"),
        ({"typeName": "MIDDLEINT"}, "INTEGER"),
        ({"typeName": "SERIAL"}, "UBIGINT"),
        ({"typeName": "DOUBLE PRECISION"}, "DOUBLE"),
        ({"typeName": "FLOAT4"}, "DOUBLE"),
        ({"typeName": "FIXED", "length": 5, "scale": 2}, "DECIMAL(5,2)"),
        ({"typeName": "DECIMAL", "length": 65, "scale": 30}, "VARCHAR"),
        ({"typeName": "BIT", "length": 1}, "BOOLEAN"),
        ({"typeName": "BIT", "length": 16}, "BLOB"),
        ({"typeName": "CHAR", "charsetName": "binary"}, "BLOB"),
        ({"typeName": "VARCHAR BINARY", "charsetName": "utf8mb4"}, "VARCHAR"),
        ({"typeName": "LONG VARBINARY"}, "BLOB"),
        ({"typeName": "LONG"}, "VARCHAR"),
        ({"typeName": "NATIONAL CHAR VARYING", "charsetName": "utf8"}, "VARCHAR"),
        ({"typeName": "POINT"}, "VARCHAR"),
    ],
)
def test_every_name_of_a_type_is_known(column: dict[str, Any], type_: str) -> None:
    assert mysql_type(column) == type_


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ("X'0102'", "BLOB", b"\x01\x02"),
        ("AgE=", "BLOB", b"\x02\x01"),
        ("%%", "BLOB", None),
        ("2024-02-03", "DATE", datetime.date(2024, 2, 3)),
        ("2024-02-03Z", "DATE", datetime.date(2024, 2, 3)),
        ("0000-00-00", "DATE", None),
        ("2024-02-03 04:05:06.5", "TIMESTAMP", datetime.datetime(2024, 2, 3, 4, 5, 6, 500_000)),
        ("2024-02-03T04:05:06.5Z", "TIMESTAMP", datetime.datetime(2024, 2, 3, 4, 5, 6, 500_000)),
        ("1.6777216E7", "DOUBLE", 16777216.0),
    ],
)
def test_texts_of_this_release_and_of_earlier_ones_are_read(
    text: str, type_: str, value: object
) -> None:
    [(found,)] = duckdb.execute(
        f"SELECT {cast_expression('t', type_)} FROM (SELECT ? AS t)", [text]
    ).fetchall()
    assert found == value


def _change(offset: int, row: dict[str, Any]) -> Message:
    source = {"ts_ms": 0, "file": "binlog.000001", "pos": 4, "row": 0, "db": "shop"}
    value = orjson.dumps({"op": "c", "before": None, "after": row, "source": source})
    return Message("s.t", 0, offset, b"k", value, None, None, (1, 1_700_000_000_000), 0.0, 0)


def _decoder(**columns: str) -> Any:
    return make_decoder(TableRef("s", "t"), Table(columns=columns), "cdc")


def test_a_json_column_holds_its_json_once() -> None:
    rows = _decoder(j="JSON").decode(
        [_change(0, {"j": '{"a": 2}'}), _change(1, {"j": '"s"'}), _change(2, {"j": None})], Schema()
    )
    assert rows.rows.column("j").to_pylist() == ['{"a": 2}', '"s"', None]


def test_a_date_of_zeros_has_a_column_of_its_own() -> None:
    decoder = _decoder(d="DATE")
    first = decoder.decode([_change(0, {"d": "2024-01-02"})], Schema())
    assert "_zero_d" not in first.rows.column_names
    more: list[dict[str, Any]] = [{"d": "0000-00-00"}, {"d": "1970-01-01"}, {"d": None}]
    second = decoder.decode([_change(n, row) for n, row in enumerate(more, 1)], first.schema)
    assert second.dead_letters == ()
    assert second.rows.column("d").to_pylist() == [None, datetime.date(1970, 1, 1), None]
    assert second.rows.column("_zero_d").to_pylist() == [True, None, None]
    third = decoder.decode(
        [_change(4, {"d": "nonsense"}), _change(5, {"d": "0000-00-00"})], second.schema
    )
    assert [letter.offset for letter in third.dead_letters] == [4]
    assert third.schema == second.schema
    assert third.rows.column("_zero_d").to_pylist() == [True]


def test_a_date_of_zeros_of_another_source_is_a_dead_letter() -> None:
    decoder = make_decoder(TableRef("s", "t"), Table(columns={"d": "DATE"}), "plain")
    message = Message("s.t", 0, 0, b"k", b'{"d": "0000-00-00"}', None, None, (1, 1), 0.0, 0)
    decoded = decoder.decode([message], Schema())
    assert len(decoded.dead_letters) == 1
