"""Decoding without Kafka: what is exact stays, what is not is seen."""

from __future__ import annotations

import random
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Message

from consumers.ingest.decoding import Decoded, make_decoder
from consumers.ingest.decoding.careful import CarefulDecoder
from consumers.ingest.decoding.columns import KnownColumns
from consumers.ingest.decoding.database import connect
from consumers.ingest.decoding.debezium import Debezium
from consumers.ingest.decoding.decoder import TableDecoder
from consumers.ingest.decoding.fast import FastDecoder
from consumers.ingest.decoding.plain import PlainJson
from consumers.ingest.decoding.record_format import RecordFormat
from consumers.ingest.decoding.versions import VersionedSchema
from lake.config import Table, TableRef
from lake.records import PROVENANCE_HEADER
from lake.storage.casts import cast_expression
from lake.storage.parquet_files import write_parquet
from lake.storage.schema import Column, Schema, provenance_column

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


ORDERS = Schema(
    (
        Column("id", "BIGINT", "id"),
        Column("amount", "DECIMAL(10,2)", "amount"),
        Column("about", "JSON", "about"),
    )
)


def _message(offset: int, value: bytes | None, **provenance: object) -> Message:
    headers = [(PROVENANCE_HEADER, orjson.dumps(provenance))] if provenance else None
    return Message("s.t", 0, offset, b"k", value, headers, None, (1, 1_700_000_000_000), 0.0, 0)


def _row(number: int) -> dict[str, object]:
    return {"id": number, "amount": f"{number}.50", "about": {"n": number}}


def _event(operation: str, number: int) -> bytes:
    """A change event as Debezium writes it: a deletion has its row in `before` alone."""
    return orjson.dumps(
        {
            "op": operation,
            "before": None if operation == "c" else _row(number),
            "after": None if operation == "d" else _row(number),
            "source": {"ts_ms": 1_600_000_000_000, "file": "binlog.7", "pos": number, "row": 1},
        }
    )


def _decode(schema: Schema, *values: bytes | None) -> Decoded:
    declared = {column.name: column.type for column in schema.columns}
    decoder = make_decoder(TableRef("s", "t"), Table(columns=declared), "plain")
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
    assert [d.offset for d in decoded.dead_letters] == [1, 2, 3, 4, 5]
    assert decoded.rows is not None
    assert decoded.rows.column("id").to_pylist() == [0, 6, 7]
    assert decoded.rows.column("_offset").to_pylist() == [0, 6, 7]


@pytest.mark.parametrize("record_format", [Debezium(), PlainJson()], ids=lambda f: f.kind)
def test_the_fast_way_and_the_careful_way_make_the_same_rows(record_format: RecordFormat) -> None:
    schema = ORDERS
    if record_format.has_provenance:
        schema = ORDERS.merged([provenance_column("file"), provenance_column("file_row")])
        values = [orjson.dumps(_row(n)) for n in range(6)]
    else:
        values = [_event(operation, n) for n, operation in enumerate("cuddru")]
    messages = [
        _message(n, value, source_ts="2026-01-02T03:04:05Z", file="a.csv", file_row=n)
        for n, value in enumerate(values)
    ]
    known = KnownColumns(TableRef("s", "t"), Table(), None)
    versioned = VersionedSchema(schema)
    fast = FastDecoder(connect(), record_format, known).decode(messages, versioned)
    careful, grown, undecodable = CarefulDecoder(connect(), record_format, known).decode(
        messages, versioned
    )
    assert fast is not None and fast.equals(careful)
    assert grown == schema and not undecodable
    assert fast.column("id").to_pylist() == [0, 1, 2, 3, 4, 5]
    assert fast.column("amount").to_pylist() == [Decimal(f"{n}.50") for n in range(6)]
    assert None not in fast.column("_source_ts").to_pylist()


def test_a_deletion_has_the_row_that_was_there_and_its_place_in_the_binlog() -> None:
    decoder = make_decoder(TableRef("s", "t"), Table(), "cdc")
    decoded = decoder.decode([_message(0, _event("c", 1)), _message(1, _event("d", 1))], ORDERS)
    assert decoded.rows is not None
    assert decoded.rows.column("_op").to_pylist() == ["c", "d"]
    assert decoded.rows.column("amount").to_pylist() == [Decimal("1.50")] * 2
    assert decoded.rows.column("_binlog_file").to_pylist() == ["binlog.7"] * 2


def test_a_change_event_without_its_row_is_a_dead_letter() -> None:
    decoder = make_decoder(TableRef("s", "t"), Table(), "cdc")
    events = [_event("u", 0), b'{"op": "u", "after": null}', b'{"op": "d", "before": null}']
    decoded = decoder.decode([_message(n, e) for n, e in enumerate(events)], ORDERS)
    assert decoded.rows is not None and decoded.rows.column("_offset").to_pylist() == [0]
    assert [d.offset for d in decoded.dead_letters] == [1, 2]
    assert {d.source_table for d in decoded.dead_letters} == {"s.t"}


def test_a_reject_is_a_dead_letter_of_the_table_it_was_meant_for() -> None:
    decoder = make_decoder(TableRef("ducklake", "rejects"), Table(), "rejects")
    message = _message(3, b"a;b", source_table="sftp.stock", reason="row 2 has 2 fields, not 3")
    decoded = decoder.decode([message], Schema())
    [found] = decoded.dead_letters
    assert decoded.rows is None and decoded.schema == Schema()
    assert (found.topic, found.offset, found.value) == ("ducklake.rejects", 3, b"a;b")
    assert (found.source_table, found.reason) == ("sftp.stock", "row 2 has 2 fields, not 3")


def _wide(count: int, first: int = 0, **more: object) -> bytes:
    return orjson.dumps({**{f"k{n}": n for n in range(first, first + count)}, **more})


class _Queries:
    """A connection that remembers how long its longest query was."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self.longest = 0

    def execute(self, query: str, *more: object) -> duckdb.DuckDBPyConnection:
        self.longest = max(self.longest, len(query))
        return self._db.execute(query, *more)

    def __getattr__(self, name: str) -> object:
        return getattr(self._db, name)


def test_what_a_record_with_many_keys_costs_grows_with_their_number_alone() -> None:
    """A query over all columns of a table costs by the square of their number."""

    def longest(keys: int) -> int:
        decoder = make_decoder(TableRef("s", "t"), Table(), "plain")
        assert isinstance(decoder, TableDecoder)
        queries: Any = _Queries(decoder._db)
        decoder._fast._db = decoder._careful._db = queries
        found = decoder.decode([_message(0, _wide(keys))], Schema())
        again = decoder.decode([_message(1, _wide(keys))], found.schema)
        assert again.rows is not None and again.schema == found.schema
        return int(queries.longest)

    assert longest(2000) < 1.5 * longest(200)


def test_columns_of_a_wide_record_hold_their_own_values() -> None:
    decoder = make_decoder(TableRef("s", "t"), Table(), "plain")
    odd: dict[str, Any] = {
        "name": "a",
        "Name": "b",
        "": "c",
        "x": {"y": 1},
        "half": 0.5,
        "none": None,
    }
    values = [_wide(350, **odd), _wide(350, 1, **odd), orjson.dumps({"k349": "00123", "half": 2})]
    messages = [_message(n, value) for n, value in enumerate(values)]
    careful = decoder.decode(messages, Schema())
    fast = decoder.decode(messages, careful.schema)
    assert careful.rows is not None and fast.rows is not None
    assert careful.rows.equals(fast.rows) and not careful.dead_letters
    first, second, third = careful.rows.to_pylist()
    assert [first[f"k{n}"] for n in range(349)] == list(range(349)) and first["k349"] == "349"
    assert second["k350"] == 350 and second["k0"] is None and first["k350"] is None
    assert (third["k349"], third["half"], third["k1"]) == ("00123", 2.0, None)
    names = {c.field: c.name for c in careful.schema.columns}
    assert [first[names[field]] for field in ("name", "Name", "")] == ["a", "b", "c"]
    assert orjson.loads(first["x"]) == {"y": 1}


def test_a_record_with_more_keys_than_a_table_has_columns_costs_itself() -> None:
    decoder = make_decoder(TableRef("s", "t"), Table(), "plain")
    values = [b'{"id": 1}', _wide(100_000), _wide(200, id=2), _wide(4_000, 5_000), b'{"id": 3}']
    found = decoder.decode([_message(n, value) for n, value in enumerate(values)], Schema())
    assert found.rows is not None
    assert found.rows.column("id").to_pylist() == [1, 2, 3]
    assert [(dead.offset, dead.reason) for dead in found.dead_letters] == [
        (1, "its table would have more than 4,096 columns"),
        (3, "its table would have more than 4,096 columns"),
    ]
    assert len(found.schema.columns) == 201


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
    assert [d.offset for d in decoded.dead_letters] == [3]
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
