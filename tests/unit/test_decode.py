"""Decoding without Kafka: what is exact stays, what is not is seen."""

from __future__ import annotations

import random
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Message

from consumers.ingest.decode import Decoded, TableDecoder
from lake.config import Table, TableRef
from lake.storage.files import write_parquet
from lake.storage.schema import Column, Schema, cast_expression

NUMBERS = [
    "0",
    "-0",
    "+5",
    "007",
    "2.5",
    "2.0",
    "5.",
    ".5",
    "1e3",
    "1E3",
    "1.5",
    "1.50",
    "1.500",
    "1.505",
    "0.005",
    "-0.01",
    "459e8",
    "4.59e10",
    "999.99",
    "1000.00",
    "9999999999",
    "99999999999",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "127",
    "128",
    "255",
    "256",
    "",
    "abc",
    "123456789012345678901234567890",
    "9223372036854775807",
    "-9223372036854775808",
    "true",
]


def _message(offset: int, value: bytes | None) -> Message:
    return Message("s.t", 0, offset, b"k", value, None, None, (1, 1_700_000_000_000), 0.0, 0)


def _decode(schema: Schema, *values: bytes | None) -> Decoded:
    declared = {column.name: column.type for column in schema.columns}
    decoder = TableDecoder(TableRef("s", "t"), Table(columns=declared), "plain")
    return decoder.decode([_message(n, v) for n, v in enumerate(values)], schema)


@pytest.mark.parametrize(
    ("type_", "least", "most"),
    [
        ("TINYINT", -(2**7), 2**7 - 1),
        ("BIGINT", -(2**63), 2**63 - 1),
        ("UBIGINT", 0, 2**64 - 1),
        ("DECIMAL(10,0)", -(10**10) + 1, 10**10 - 1),
        ("DECIMAL(5,2)", Decimal("-999.99"), Decimal("999.99")),
        ("DECIMAL(38,10)", -(10**28), 10**28),
    ],
)
def test_a_number_is_cast_exactly_or_not_at_all(
    type_: str, least: int | Decimal, most: int | Decimal
) -> None:
    rnd = random.Random(7)
    texts = [*NUMBERS, *("".join(rnd.choices("0123456789.-e", k=n % 7 + 1)) for n in range(3_000))]
    found = duckdb.execute(
        f"SELECT t, {cast_expression('t', type_)} FROM (SELECT unnest(?) AS t)", [texts]
    ).fetchall()
    assert sum(value is not None for _, value in found) > 100
    for text, value in found:
        try:
            exact = Decimal(text)
        except InvalidOperation:
            continue
        if value is not None:
            assert value == exact, text
        elif "e" not in text.lower() and "." not in text:
            # (DuckDB takes a few other spellings for no number: those are dead letters.)
            assert not least <= exact <= most, text


def test_one_bad_value_is_a_dead_letter_and_the_others_are_rows() -> None:
    schema = Schema((Column("id", "BIGINT", "id"), Column("amount", "DECIMAL(10,0)", "amount")))
    values: list[bytes | None] = [orjson.dumps({"id": n, "amount": n}) for n in range(8)]
    values[1] = b'{"id": 1.5, "amount": 1}'
    values[2] = None
    values[3] = b'{"id": 3, "amount": "\xff"}'
    values[4] = b'{"id": 4, "amount": "459e8"}'
    values[5] = b'{"id": '
    decoded = _decode(schema, *values)
    assert [letter.offset for letter in decoded.dead_letters] == [1, 2, 3, 4, 5]
    assert decoded.rows is not None
    assert decoded.rows.column("id").to_pylist() == [0, 6, 7]
    assert decoded.rows.column("_offset").to_pylist() == [0, 6, 7]


def test_large_records_are_decoded_in_parts_with_one_schema() -> None:
    """In 8 MB at once; what a later part finds out holds for the earlier ones as well."""
    long = "x" * 3_000_000
    values = [orjson.dumps({"id": n, "text": long}) for n in range(5)]
    values[3] = b"no JSON" + long.encode()
    values[4] = orjson.dumps({"id": "four", "late": 1, "text": long})
    decoded = _decode(Schema(), *values)
    assert decoded.rows is not None
    assert decoded.rows.column("_offset").to_pylist() == [0, 1, 2, 4]
    assert decoded.rows.column("id").to_pylist() == ["0", "1", "2", "four"]
    assert decoded.rows.column("late").to_pylist() == [None, None, None, 1]
    assert decoded.rows.column("text").to_pylist() == [long] * 4
    assert [letter.offset for letter in decoded.dead_letters] == [3]
    assert {c.name: c.type for c in decoded.schema.columns}["id"] == "VARCHAR"


def test_a_key_without_a_column_is_noticed() -> None:
    schema = Schema((Column("id", "BIGINT", "id"),))
    decoded = _decode(schema, b'{"id": 1}', '{"id": 2, "año": "ñandú"}'.encode())
    assert decoded.rows is not None
    assert decoded.rows.column("año").to_pylist() == [None, "ñandú"]


def test_what_is_written_is_read_back_with_its_type(tmp_path: Path) -> None:
    """Differences of integers overflow at the ends of their range: readers must agree on that."""

    def decimals(digits: int) -> pa.Array:
        most = Decimal("9" * digits).scaleb(-2, Context(prec=38))
        return pa.array([most, most.copy_negate(), None, Decimal(0)], pa.decimal128(digits, 2))

    rows = pa.table(
        {
            "u64": pa.array([0, 2**64 - 1, None, 5], pa.uint64()),
            "i64": pa.array([-(2**63), 2**63 - 1, None, 0], pa.int64()),
            "i8": pa.array([-128, 127, None, 1], pa.int8()),
            "d4": decimals(4),
            "d18": decimals(18),
            "d19": decimals(19),
            "d38": decimals(38),
            "at": pa.array([-(2**55), 2**55, None, 0], pa.timestamp("us")),
            "on": pa.array([-100_000, 100_000, None, 0], pa.date32()),
            "text": pa.array(["é", None, "", "x"]),
        }
    )
    path = write_parquet(rows, tmp_path / "rows.parquet").path
    assert pq.read_table(path).equals(rows)
    assert duckdb.read_parquet(str(path)).to_arrow_table().equals(rows)
