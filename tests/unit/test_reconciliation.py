"""When tables are compared with their source, and what is kept of it."""

from __future__ import annotations

import time
from pathlib import Path

import duckdb
import pytest

from consumers.maintenance.current_rows import Version
from ducklake.cli.condition_text import reconciliation_text
from ducklake.reconciliation.differences import Found, Look
from ducklake.reconciliation.relations import unequal_multiset
from ducklake.reconciliation.result import LastResults, RowDifference, TableResult, shortened
from ducklake.reconciliation.schedule import FIRST_SECONDS, due_at, seconds_between
from ducklake.supervision.condition import look
from lake.config import TableRef, load_config
from lake.errors import ConfigError
from lake.storage.canonical import Form, SourceColumn, SourceTable
from lake.storage.paths import LakePaths
from producers.mysql.canonical_sql import condition
from producers.registry import check_sources

SOURCES = """
name: lake
services:
  kafka: {{bootstrap_servers: "localhost:1"}}
  connect: {{url: "http://localhost:1"}}
  postgres: {{host: localhost}}
sources:
  shop:
    type: mysql_cdc
    connection: {{host: localhost, user: me, database: shop}}
    {reconcile}
    tables:
      orders: {{key: [id], reconcile: {{every: 30m}}}}
      goods: {{key: [id]}}
      lines: {{key: [id], reconcile: {{every: off}}}}
"""


def configured(folder: Path, reconcile: str = "") -> Path:
    path = folder / "ducklake.yml"
    path.write_text(SOURCES.format(reconcile=reconcile))
    return path


def test_a_table_is_compared_as_often_as_it_or_its_source_says(tmp_path: Path) -> None:
    config = load_config(configured(tmp_path))
    refs = [TableRef("shop", name) for name in ("orders", "goods", "lines")]
    assert [seconds_between(config, ref) for ref in refs] == [1800, 86_400, None]
    config = load_config(configured(tmp_path, "reconcile: {every: 7d}"))
    assert [seconds_between(config, ref) for ref in refs] == [1800, 7 * 86_400, None]


def test_a_time_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every"):
        load_config(configured(tmp_path, "reconcile: {every: daily}"))


def test_a_setting_for_mysql_is_refused_for_other_sources(tmp_path: Path) -> None:
    path = configured(tmp_path)
    path.write_text(
        path.read_text()
        + "  drops: {type: sftp, connection: {host: h, user: u}, reconcile: {every: 1h},"
        + " tables: {stock: {file: stock.csv, drift: freeze}}}\n"
    )
    with pytest.raises(ConfigError) as error:
        check_sources(load_config(path), ["drops"])
    assert "drops.reconcile" in str(error.value) and "stock.drift" in str(error.value)


def test_a_table_is_due_after_its_last_comparison_or_an_hour_after_the_start() -> None:
    equal = TableResult("shop.orders", "equal", at=1000.0)
    failed = TableResult("shop.orders", "failed", at=1000.0)
    assert due_at(86_400, None, started=500.0) == 500 + FIRST_SECONDS
    assert due_at(60, None, started=500.0) == 560
    assert due_at(86_400, equal, started=500.0) == 87_400
    assert due_at(86_400, failed, started=500.0) == 1600, "it is tried again soon"


def test_the_last_result_of_a_table_is_kept_whole(tmp_path: Path) -> None:
    results = LastResults(LakePaths(tmp_path))
    difference = RowDifference("differs", "id=1", "v", "mine", None)
    result = TableResult("shop.orders", "different", 1.5, 3, 3, "b:4", differing=1)
    result = TableResult.load({**result.dump(), "differences": [vars_of(difference)]})
    results.keep(result)
    assert results.of("shop.orders") == result
    assert list(results.all()) == [result]
    assert results.of("shop.goods") is None


def vars_of(difference: RowDifference) -> dict[str, object]:
    return {name: getattr(difference, name) for name in difference.__slots__}


@pytest.mark.parametrize("state", ["different", "failed"])
def test_what_differs_or_was_not_compared_is_a_problem(tmp_path: Path, state: str) -> None:
    config = load_config(configured(tmp_path))
    assert look(config).healthy
    result = TableResult("shop.orders", state, 1.0, missing=2, reason="it did not answer.")
    LastResults(LakePaths(config.data_dir)).keep(result)
    [problem] = look(config).problems
    assert problem.subject == "table shop.orders" and not look(config).healthy
    assert "verify shop.orders --against-source" in problem.remedy


def test_the_last_result_and_its_moment_are_said() -> None:
    result = TableResult("shop.orders", "equal", at=time.time() - 7300)
    assert reconciliation_text(result) == "equal, 2 h ago"
    assert reconciliation_text(None) == ""


def test_a_long_value_is_cut_and_says_so() -> None:
    assert shortened("a" * 80) == "a" * 80
    cut = shortened("a" * 81)
    assert cut is not None and cut.endswith("… (81 characters)") and len(cut) < 110
    assert shortened(None) is None


def test_a_condition_holds_any_key_and_no_sql_of_its_values() -> None:
    number = SourceColumn("id", "int", "INTEGER", nullable=False)
    text = SourceColumn("a`b", "varchar", "VARCHAR", nullable=False)
    data = SourceColumn("c", "binary", "BLOB", nullable=False)
    said = condition([number, text, data], [("1", "x' OR 1=1 -- ", "00FF")])
    assert said == "(`id`, `a``b`, `c`) IN ((1, _utf8mb4'x\\' OR 1=1 -- ', X'00FF'))"
    assert condition([number], [("1) OR (1=1",)]) == "(`id`) IN ((_utf8mb4'1) OR (1=1'))"


def test_every_type_of_mysql_has_a_form() -> None:
    bits = SourceColumn.described("b", "bit(9)", True, None, (9, None))
    assert (bits.form, bits.bits, bits.raw_type) == (Form.BYTES, 9, "BLOB")
    one = SourceColumn.described("b", "bit(1)", True, None, (1, None))
    assert (one.form, one.raw_type) == (Form.BIT, "BOOLEAN")
    member = SourceColumn.described("e", "enum('a','b)')", True, "utf8mb4", (None, None))
    assert member.form is Form.MEMBER


@pytest.mark.parametrize(
    ("source", "lake", "updates", "missing", "surplus"),
    [
        ("aab", {"a": 2, "b": 1}, 0, 0, 0),
        ("aab", {"a": 1, "b": 1}, 0, 1, 0),
        ("ab", {"a": 2, "b": 1, "c": 1}, 0, 0, 2),
        ("ab", {"a": 1, "b": 1, "old": 1}, 1, 0, 0),
        ("ab", {"a": 1, "b": 1, "old": 2}, 1, 0, 1),
        ("a", {"a": -1}, 0, 2, 0),
    ],
)
def test_multisets_of_rows_without_a_key_are_compared(
    source: str, lake: dict[str, int], updates: int, missing: int, surplus: int
) -> None:
    """As many rows too many as there were updates are not differences."""
    with duckdb.connect() as db:
        db.execute("CREATE TABLE source_rows (h VARCHAR, shown VARCHAR)")
        db.execute("CREATE TABLE lake_rows (h VARCHAR, n BIGINT, shown VARCHAR)")
        for row in source:
            db.execute("INSERT INTO source_rows VALUES (?, ?)", [row, row])
        for row, count in lake.items():
            db.execute("INSERT INTO lake_rows VALUES (?, ?, ?)", [row, count, row])
        found = unequal_multiset(db, updates)
    assert (found.keyless, found.unread, found.count) == (missing, surplus, missing + surplus)
    assert bool(found.shown) == bool(missing + surplus)


def look_at(source: tuple[str | None, ...] | None, *versions: Version) -> Look:
    column = SourceColumn("v", "varchar", "VARCHAR", nullable=True)
    return Look(SourceTable("`t`", (column,), (column,)), ("1",), source, versions)


def version(offset: int, cell: str | None, deleted: bool = False) -> Version:
    return Version((0, offset), 0, deleted, (cell,))


def test_a_row_equals_a_version_that_the_lake_had_since_the_look_before() -> None:
    old, new, gone = version(1, "a"), version(5, "b"), version(7, None, deleted=True)
    assert look_at(("b",), old, new).equals_one_since((0, 5))
    assert look_at(("a",), old, new).equals_one_since((0, 1)), "it changed after it was read"
    assert not look_at(("a",), old, new).equals_one_since((0, 5)), "it was changed back unseen"
    assert not look_at(None, old, new).equals_one_since((0, 5)), "it was deleted unseen"
    assert look_at(None, old, gone).equals_one_since((0, 7))
    assert not look_at(("a",), old, gone).equals_one_since((0, 7)), "it came back unseen"
    assert not look_at(("a",)).equals_one_since((-1, -1)), "it was inserted unseen"


def test_what_is_found_has_its_kind_its_key_and_both_values() -> None:
    found = Found()
    look_at(("b",), version(1, "a")).report(found)
    look_at(("b",)).report(found)
    look_at(None, version(1, "a")).report(found)
    assert [difference.line() for difference in found.shown] == [
        "v=1: v: MySQL has 'b', the lake has 'a'",
        "v=1: in MySQL, not in the lake",
        "v=1: in the lake, not in MySQL",
    ]
    assert found.count == 3
