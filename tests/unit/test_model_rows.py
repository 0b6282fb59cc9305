"""What changed between two published files of a model, and what a project says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.description import ModelDescription
from batcher.postgres.model_rows import ModelRows, file_changes
from batcher.snapshot import Snapshot

ROWS = st.dictionaries(st.integers(0, 9), st.none() | st.integers(0, 3), max_size=8)


def write(path: Path, rows: dict[int, Any], columns: str = "id BIGINT, v BIGINT") -> Path:
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE t ({columns})")
        for row in rows.items():
            db.execute("INSERT INTO t VALUES (?, ?)", row)
        db.execute(f"COPY t TO '{path}' (FORMAT parquet)")
    return path


def ask(query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as db:
        return list(db.execute(query).fetchall())


@given(old=ROWS, new=ROWS)
def test_changes_lead_from_one_file_to_the_other(
    tmp_path_factory: pytest.TempPathFactory, old: dict[int, Any], new: dict[int, Any]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    one, two = write(folder / "1.parquet", old), write(folder / "2.parquet", new)
    changes = file_changes(one, two, ["id"])
    assert changes is not None
    deleted = {key for (key,) in ask(changes.deleted)}
    upserted = dict(ask(changes.upserted))
    assert {k: v for k, v in old.items() if k not in deleted} | upserted == new
    assert all(old.get(k, "no row") != v for k, v in upserted.items())


def test_files_of_other_columns_or_without_a_key_are_not_compared(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.parquet", {1: 1}), write(tmp_path / "2.parquet", {1: 2})
    other = write(tmp_path / "3.parquet", {1: "x"}, "id BIGINT, v VARCHAR")
    assert file_changes(one, two, []) is None
    assert file_changes(one, other, ["id"]) is None
    assert file_changes(one, two, ["other"]) is None


def test_a_snapshot_finds_the_file_of_an_earlier_state_while_it_is_there(tmp_path: Path) -> None:
    old = write(tmp_path / "aa-1.parquet", {1: 1, 2: 2})
    new = write(tmp_path / "bb-1.parquet", {1: 1, 3: 3})
    key = ModelDescription(("id",))
    snapshot: ModelRows = Snapshot("consume.m", new, 2, "bb", key)
    changes = snapshot.changes("aa")
    assert changes is not None
    assert (ask(changes.upserted), ask(changes.deleted)) == ([(3, 3)], [(2,)])
    old.unlink()
    assert snapshot.changes("aa") is None
    assert sorted(ask(snapshot.whole())) == [(1, 1), (3, 3)]
