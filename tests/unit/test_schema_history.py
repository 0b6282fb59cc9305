"""A row has the columns that its table had at its place in the binlog, whenever it is decoded."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
import structlog
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from consumers.ingest.decoding import Decoded, make_decoder
from consumers.ingest.flush import Flush, log_committed
from consumers.ingest.schema_history import (
    BinlogPosition,
    SourceHistory,
    TableHistory,
    TableVersion,
    table_versions,
)
from lake.config import Table, TableRef
from lake.ledger import TableState
from lake.storage.column_names import UniqueNames, column_name
from lake.storage.schema import Column, Schema, source_column
from lake.storage.widening import holds, widened

REF = TableRef("shop", "t")
TYPES = [
    "TINYINT",
    "UTINYINT",
    "INTEGER",
    "UINTEGER",
    "BIGINT",
    "UBIGINT",
    "DECIMAL(12,2)",
    "DECIMAL(6,4)",
    "DECIMAL(38,0)",
    "DOUBLE",
    "DATE",
    "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE",
    "BOOLEAN",
    "VARCHAR",
    "JSON",
    "BLOB",
]


def version(
    position: int, *columns: tuple[str, str], file: str = "binlog.000001", since: int = 0
) -> TableVersion:
    return TableVersion(
        BinlogPosition(file, position), since, tuple(source_column(n, t) for n, t in columns)
    )


def history(*versions: TableVersion) -> TableHistory:
    found = TableHistory()
    for one in versions:
        found.add(one)
    return found


class Announced:
    """A source that has announced what the test says."""

    def __init__(self, *versions: TableVersion) -> None:
        self.found = history(*versions)

    def history(self, database: str, table: str) -> TableHistory:
        return self.found


def event(offset: int, position: int, row: dict[str, Any], file: str = "binlog.000001") -> Message:
    source = {"ts_ms": 1_700_000_000_000, "file": file, "pos": position, "row": 0}
    value = orjson.dumps({"op": "c", "before": None, "after": row, "source": source})
    return Message("shop.t", 0, offset, b"k", value, None, None, (1, 1_700_000_000_000), 0.0, 0)


def decode(changes: Announced, *messages: Message, schema: Schema = Schema()) -> Decoded:
    return make_decoder(REF, Table(), "cdc", changes).decode(messages, schema)


def columns_of(decoded: Decoded) -> dict[str, list[Any]]:
    assert decoded.rows is not None
    return {c.name: decoded.rows.column(c.name).to_pylist() for c in decoded.schema.columns}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Which type, which name --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("INTEGER", "BIGINT", "BIGINT"),
        ("BIGINT", "TINYINT", "BIGINT"),
        ("INTEGER", "UINTEGER", "BIGINT"),
        ("BIGINT", "UBIGINT", "DECIMAL(20,0)"),
        ("DECIMAL(12,2)", "DECIMAL(6,4)", "DECIMAL(14,4)"),
        ("DECIMAL(38,0)", "DECIMAL(6,4)", "VARCHAR"),
        ("INTEGER", "DECIMAL(4,2)", "DECIMAL(12,2)"),
        ("DATE", "TIMESTAMP", "TIMESTAMP"),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "VARCHAR"),
        ("INTEGER", "DATE", "VARCHAR"),
        ("VARCHAR", "INTEGER", "VARCHAR"),
        ("BOOLEAN", "INTEGER", "VARCHAR"),
        ("VARCHAR", "BLOB", None),
        ("BOOLEAN", "BLOB", None),
    ],
)
def test_a_type_widens_by_a_stated_rule(one: str, other: str, both: str | None) -> None:
    assert widened(one, other) == widened(other, one) == both


@given(one=st.sampled_from(TYPES), other=st.sampled_from(TYPES))
def test_what_is_widened_holds_both(one: str, other: str) -> None:
    both = widened(one, other)
    if both is not None:
        assert holds(both, one) and holds(both, other)
    assert holds(one, one)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("id", "id"),
        ("Year", "Year_"),
        ("_op", "field_op"),
        ("", "unnamed"),
        ("a\nb", "a_b"),
        ("*", "*"),
        ("\\", "\\"),
    ],
)
def test_a_field_is_named_by_a_stated_rule(field: str, name: str) -> None:
    assert column_name(field) == name


def test_names_are_unique_without_regard_to_case() -> None:
    schema = Schema().merged(source_column(f, "VARCHAR") for f in ("name", "Name", "year", "year_"))
    assert [c.name for c in schema.columns] == ["name", "Name_2", "year_", "year__2"]
    assert [c.field for c in schema.columns] == ["name", "Name", "year", "year_"]
    assert UniqueNames(["X", "x_2"]).take("x") == "x_3"


def test_names_that_differ_from_their_fields_are_announced_once() -> None:
    fields = ("id", "year", "year_", "_x", "field_x", "SKU", "sku", "a\nb", "")
    schema = Schema().merged(source_column(f, "VARCHAR") for f in fields)
    with structlog.testing.capture_logs() as logs:
        for before in (Schema(), schema):
            state = TableState("s.t", 0, "0" * 32, 1, before, 1, {})
            log_committed("s.t", Flush(state, {}, (), None, schema))
    [told] = logs
    assert (told["event"], told["table"], told["count"]) == ("columns_named", "s.t", 7)
    assert told["names"] == {
        "year": "year_",
        "year_": "year__2",
        "_x": "field_x",
        "field_x": "field_x_2",
        "sku": "sku_2",
        "a\\nb": "a_b",
        "": "unnamed",
    }


# The history -------------------------------------------------------------------------------------


def test_a_place_has_the_version_that_began_before_it() -> None:
    first, second = version(100, ("a", "INTEGER")), version(500, ("a", "BIGINT"))
    found = history(first, second)
    place = [found.at(BinlogPosition("binlog.000001", p), 0) for p in (1, 100, 499, 500, 9_000)]
    assert place == [first, first, first, second, second]
    assert found.at(BinlogPosition("binlog.000002", 4), 0) == second


def test_files_of_the_binlog_are_ordered_by_number() -> None:
    assert BinlogPosition("binlog.999999", 9) < BinlogPosition("binlog.1000000", 4)


def test_a_binlog_that_begins_again_is_told_by_the_moment() -> None:
    before = version(5_000, ("a", "INTEGER"), file="binlog.000009", since=1_000)
    after = version(150, ("a", "BLOB"), file="binlog.000001", since=2_000)
    found = history(before, after)
    assert found.at(BinlogPosition("binlog.000009", 6_000), 1_500) == before
    assert found.at(BinlogPosition("binlog.000001", 200), 2_500) == after


def test_tables_of_one_name_in_two_databases_are_told_apart() -> None:
    def change(database: str) -> dict[str, Any]:
        column = {"name": "a", "typeName": "INT", "length": None, "scale": None}
        return {"type": "CREATE", "id": f'"{database}"."t"', "table": {"columns": [column]}}

    about = {"source": {"file": "b.000001", "pos": 7, "ts_ms": 9}}
    found = table_versions({**about, "tableChanges": [change("x"), change("shop")]})
    defined = version(7, ("a", "INTEGER"), file="b.000001", since=9)
    assert list(found) == [("x", "t", defined), ("shop", "t", defined)]


def test_a_record_without_a_database_means_the_only_table_of_its_name() -> None:
    def event_of(database: str) -> dict[str, Any]:
        column = {"name": "a", "typeName": "INT", "length": None, "scale": None}
        change = {"type": "CREATE", "id": f'"{database}"."t"', "table": {"columns": [column]}}
        return {"source": {"file": "b.000001", "pos": 7, "ts_ms": 9}, "tableChanges": [change]}

    source = SourceHistory()
    source.add(event_of("shop"))
    assert source.of("", "t").newest == source.of("shop", "t").newest is not None
    assert source.of("other", "t").newest is None
    source.add(event_of("other"))
    assert source.of("", "t").newest is None


# Decoding by it ----------------------------------------------------------------------------------


def test_a_second_table_s_new_column_is_seen_whoever_read_the_announcements_first() -> None:
    changes = Announced(version(1, ("id", "INTEGER")))
    schema = decode(changes, event(0, 50, {"id": 1})).schema
    changes.found.add(version(100, ("id", "INTEGER"), ("x", "INTEGER")))
    messages = [event(n, 200 + n, {"id": n, "x": 33}) for n in range(1, 10)]
    assert columns_of(decode(changes, *messages, schema=schema))["x"] == [33] * 9


def test_text_that_became_bytes_and_back_is_never_taken_for_the_other() -> None:
    changes = Announced(
        version(1, ("v", "VARCHAR")), version(100, ("v", "BLOB")), version(200, ("v", "VARCHAR"))
    )
    messages = [
        event(0, 50, {"v": "test"}),
        event(1, 150, {"v": b64(b"user")}),
        event(2, 250, {"v": "dXNlcg=="}),
    ]
    decoded = decode(changes, *messages)
    assert not decoded.dead_letters
    assert columns_of(decoded) == {
        "v": ["test", None, "dXNlcg=="],
        "v__blob": [None, b"user", None],
    }
    # late, and one by one: the same
    for n, message in enumerate(messages):
        alone = columns_of(decode(changes, message, schema=decoded.schema))
        assert {k: v[0] for k, v in alone.items()} == {
            k: v[n] for k, v in columns_of(decoded).items()
        }


def test_a_date_that_became_a_datetime_keeps_its_old_rows() -> None:
    changes = Announced(version(1, ("d", "DATE")), version(100, ("d", "TIMESTAMP")))
    decoded = decode(
        changes,
        event(0, 50, {"d": "2024-02-03Z"}),
        event(1, 150, {"d": "2024-02-03T10:11:12Z"}),
    )
    assert not decoded.dead_letters
    assert [str(v) for v in columns_of(decoded)["d"]] == [
        "2024-02-03 00:00:00",
        "2024-02-03 10:11:12",
    ]


def test_a_narrowed_type_keeps_what_was_there() -> None:
    changes = Announced(
        version(1, ("a", "VARCHAR"), ("b", "BIGINT"), ("c", "DECIMAL(12,2)")),
        version(100, ("a", "INTEGER"), ("b", "TINYINT"), ("c", "DECIMAL(6,4)")),
    )
    decoded = decode(
        changes,
        event(0, 50, {"a": "n/a", "b": 2**40, "c": "1234567890.12"}),
        event(1, 150, {"a": 7, "b": 5, "c": "12.3456"}),
    )
    assert not decoded.dead_letters
    found = columns_of(decoded)
    assert found["a"] == ["n/a", "7"] and found["b"] == [2**40, 5]
    assert [str(v) for v in found["c"]] == ["1234567890.1200", "12.3456"]


def test_the_same_offsets_have_the_same_columns_whatever_the_schema_is_today() -> None:
    versions = [version(1, ("v", "BLOB")), version(100, ("v", "VARCHAR"))]
    live = decode(Announced(versions[0]), event(0, 50, {"v": b64(b"hello")}))
    later = decode(Announced(*versions), event(0, 50, {"v": b64(b"hello")}))
    assert columns_of(live)["v"] == columns_of(later)["v"] == [b"hello"]


# Names that are no code --------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["*", "\\", "", '"', "$", "a.b", "[0]", "~", "/", "'", "x y", "%s"])
@pytest.mark.parametrize("value", ["text", 5, None])
def test_a_key_is_never_code(key: str, value: Any) -> None:
    decoder = make_decoder(REF, Table(), "plain")
    rows = [orjson.dumps({"id": 1, key: value}), orjson.dumps({"id": 2})]
    messages = [
        Message("s.t", 0, n, b"k", row, None, None, (1, 1_700_000_000_000), 0.0, 0)
        for n, row in enumerate(rows)
    ]
    decoded = decoder.decode(messages, Schema())
    again = decoder.decode(messages, decoded.schema)
    assert not decoded.dead_letters and not again.dead_letters
    assert again.rows is not None and again.rows.equals(decoded.rows)
    [column] = [c for c in decoded.schema.columns if c.field == key]
    assert columns_of(decoded)[column.name][0] == value


def test_values_of_keys_that_differ_by_case_are_both_kept() -> None:
    decoder = make_decoder(REF, Table(), "plain")
    row = orjson.dumps({"id": 1, "name": "lower", "Name": "upper", "NAME": "shout"})
    message = Message("s.t", 0, 0, b"k", row, None, None, (1, 1_700_000_000_000), 0.0, 0)
    decoded = decoder.decode([message], Schema())
    found = columns_of(decoded)
    assert sorted(v[0] for k, v in found.items() if k != "id") == ["lower", "shout", "upper"]
    assert len({k.casefold() for k in found}) == 4


def test_a_key_with_a_nul_is_a_dead_letter_and_its_neighbours_are_not() -> None:
    decoder = make_decoder(REF, Table(), "plain")
    rows = [b'{"id": 1}', b'{"id": 2, "a\\u0000b": 3}', b'{"id": 3}']
    messages = [
        Message("s.t", 0, n, b"k", row, None, None, (1, 1_700_000_000_000), 0.0, 0)
        for n, row in enumerate(rows)
    ]
    decoded = decoder.decode(messages, Schema())
    assert columns_of(decoded) == {"id": [1, 3]}
    [dead] = decoded.dead_letters
    assert dead.offset == 1 and "NUL" in dead.reason


def test_a_schema_with_two_columns_of_a_field_survives_the_ledger() -> None:
    schema = (
        Schema().announced([source_column("v", "BLOB")]).announced([source_column("v", "JSON")])
    )
    assert Schema.load(schema.dump()) == schema
    assert [c.name for c in schema.columns] == ["v", "v__json"]
    assert schema.column_for(source_column("v", "JSON")) == Column("v__json", "JSON", "v")
