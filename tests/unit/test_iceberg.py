"""The lake's public files as Iceberg tables, read by pyiceberg, against a glob of the files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import pytest

from benchmarks import shop_lake
from benchmarks.shop_lake import ShopLake
from consumers.catalogs import following
from consumers.catalogs.following import followed
from consumers.catalogs.iceberg import IcebergTables, Registered
from consumers.catalogs.iceberg_catalog import open_catalog
from consumers.catalogs.iceberg_table import listed
from consumers.compaction.compactor import Compactor
from consumers.compaction.date_rewrite import rewrite_date
from ducklake.cli import catalogs
from lake.config import Config, load_config
from lake.errors import CommitConflict, ConfigError, LedgerError, SchemaDrift
from lake.failpoints import ENVIRONMENT
from lake.processes.heartbeat import Part
from tests.heartbeats import KeptHeartbeat

SQLITE = {"consumer:": "catalog: {iceberg: {uri: sqlite}}\nconsumer:"}
ORDERS = "SELECT i AS order_id, i * 1.5 AS total_ars, 'n' || i AS status FROM range({}, {}) t(i)"
TABLE = "orders"


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[ShopLake]:
    made = ShopLake(tmp_path, SQLITE)
    try:
        yield made
    finally:
        made.close()


def seal(lake: ShopLake) -> None:
    with closing(Compactor(lake.config)) as compactor:
        compactor.pass_once(force=True)


def seals(lake: ShopLake, first: int, count: int, day: int = 1) -> None:
    """Some compactions of a day, of ten rows each."""
    for number in range(first, first + count):
        at = f"2026-03-{day:02} 12:00:00Z"
        lake.commit(TABLE, ORDERS.format(number * 10, number * 10 + 10), at=at)
        seal(lake)


def register(lake: ShopLake) -> Registered:
    with closing(IcebergTables(lake.config, lake.ledger)) as tables:
        return tables.register(lake.ref(TABLE))


def table_of(lake: ShopLake) -> Any:
    with closing(open_catalog(lake.config)) as catalog:
        return catalog.load_table(f"mysql.{TABLE}")


def iceberg_rows(lake: ShopLake) -> list[tuple[Any, ...]]:
    return rows_of("found", table_of(lake).scan().to_arrow())


def globbed_rows(lake: ShopLake, generation: int = 0) -> list[tuple[Any, ...]]:
    folder = lake.ledger.paths.raw(lake.ref(TABLE), generation)
    return rows_of(
        f"read_parquet('{folder}/*/*/*/*.parquet', union_by_name=true, hive_partitioning=false)"
    )


def rows_of(
    source: str, found: Any = None, extensions: Sequence[str] = (), attached: str = ""
) -> list[tuple[Any, ...]]:
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as db:
        load(db, *extensions)
        db.execute("SET TimeZone = 'UTC'")
        if found is not None:
            db.register("found", found)
        if attached:
            db.execute(f"ATTACH '{attached}' AS lake (READ_ONLY)")
        names = sorted(str(row[0]) for row in db.execute(f"DESCRIBE FROM {source}").fetchall())
        quoted = ", ".join(f'"{name}"::VARCHAR' for name in names)
        rows: list[tuple[Any, ...]] = db.execute(
            f"SELECT {quoted} FROM {source} ORDER BY ALL"
        ).fetchall()
        return rows


def duckdb_rows(lake: ShopLake) -> list[tuple[Any, ...]]:
    """The same table as DuckDB's own reader of Iceberg gives it."""
    address = table_of(lake).metadata_location.removeprefix("file://")
    source = f"iceberg_scan('{address}')"
    return rows_of(source, extensions=("avro", "iceberg"))


def load(db: duckdb.DuckDBPyConnection, *extensions: str) -> None:
    """Load DuckDB's signed extensions from their packages, without a network."""
    for name in extensions:
        [folder] = import_module(f"duckdb_extension_{name}").__path__
        db.execute(f"LOAD '{folder}/extensions/v{duckdb.__version__}/{name}.duckdb_extension'")


def files_in(lake: ShopLake) -> list[tuple[str, int]]:
    return sorted((str(path), size) for path, size in listed(table_of(lake)))


def files_of_the_ledger(lake: ShopLake) -> list[tuple[str, int]]:
    live = lake.ledger.files.live(lake.ref(TABLE).topic)
    return sorted((str(file.path), file.bytes) for file in live if file.tier == "sealed")


def agrees(lake: ShopLake, generation: int = 0) -> None:
    assert files_in(lake) == files_of_the_ledger(lake)
    globbed = globbed_rows(lake, generation)
    assert iceberg_rows(lake) == globbed
    assert duckdb_rows(lake) == globbed


def test_each_compaction_is_a_snapshot_with_the_rows_of_the_files(lake: ShopLake) -> None:
    seals(lake, 0, 3)
    first = register(lake)
    assert (first.files, first.rows, first.added, first.snapshots) == (3, 30, 3, 3)
    agrees(lake)
    table = table_of(lake)
    assert [snapshot.summary["added-records"] for snapshot in table.metadata.snapshots] == [
        "10"
    ] * 3
    assert register(lake).snapshots == 0, "what is registered is not registered again"
    assert table_of(lake).metadata_location == table.metadata_location
    seals(lake, 3, 1, day=2)
    assert (again := register(lake)).snapshots == 1 and again.files == 4
    agrees(lake)
    day = table_of(lake).scan(row_filter="_kafka_ts >= '2026-03-02T00:00:00+00:00'")
    assert [Path(task.file.file_path).parent.name for task in day.plan_files()] == ["day=02"]


def test_hot_rows_are_not_there_before_they_are_public(lake: ShopLake) -> None:
    lake.commit(TABLE, ORDERS.format(0, 10))
    assert register(lake) == Registered("mysql.orders")
    seal(lake)
    assert register(lake).rows == 10


def test_a_rewritten_date_replaces_its_files_in_one_snapshot(lake: ShopLake) -> None:
    seals(lake, 0, 4)
    seals(lake, 4, 1, day=2)
    register(lake)
    with closing(Compactor(lake.config)) as compactor:
        assert rewrite_date(compactor, lake.ref(TABLE), date(2026, 3, 1)) == 3
    seals(lake, 5, 1, day=3)
    found = register(lake)
    assert (found.removed, found.added, found.snapshots, found.files) == (4, 2, 2, 3)
    operations = [s.summary.operation.value for s in table_of(lake).metadata.snapshots[-2:]]
    assert operations == ["overwrite", "append"]
    agrees(lake)


def test_a_rebuilt_generation_replaces_all_files_in_one_snapshot(lake: ShopLake) -> None:
    seals(lake, 0, 3)
    register(lake)
    lake.rebuild(TABLE)
    found = register(lake)
    assert (found.removed, found.added, found.snapshots) == (3, 1, 1)
    agrees(lake, generation=1)
    assert register(lake).snapshots == 0


def test_new_columns_and_wider_types_are_followed(
    lake: ShopLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    seals(lake, 0, 1)
    register(lake)
    was = shop_lake.COLUMNS[TABLE]
    wider = {**was, "customer_id": "BIGINT", "total_ars": "DECIMAL(14,2)", "note": "VARCHAR"}
    monkeypatch.setitem(shop_lake.COLUMNS, TABLE, wider)
    lake.commit(TABLE, "SELECT 99 AS order_id, 5000000000 AS customer_id, 'x' AS note")
    seal(lake)
    assert register(lake).snapshots == 1
    agrees(lake)
    types = {field.name: str(field.field_type) for field in table_of(lake).schema().fields}
    assert types["customer_id"] == "long" and types["total_ars"] == "decimal(14, 2)"
    assert types["note"] == "string"
    assert len(table_of(lake).metadata.schemas) == 2


def test_a_type_that_iceberg_cannot_widen_stops_the_table_until_it_is_rebuilt(
    lake: ShopLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    seals(lake, 0, 1, day=31)
    register(lake)
    changed = {**shop_lake.COLUMNS[TABLE], "customer_id": "VARCHAR"}
    monkeypatch.setitem(shop_lake.COLUMNS, TABLE, changed)
    lake.commit(TABLE, "SELECT 99 AS order_id, 'c-1' AS customer_id")
    seal(lake)
    with pytest.raises(SchemaDrift, match=r"customer_id is string.*--rebuild"):
        register(lake)
    assert len(files_in(lake)) == 1, "what came before it stays readable"
    lake.rebuild(TABLE)
    assert register(lake).snapshots == 1
    agrees(lake, generation=1)


def test_values_that_iceberg_has_no_integer_for_are_named(lake: ShopLake) -> None:
    lake.commit(TABLE, "SELECT 9223372036854775807 AS order_id")
    seal(lake)
    assert register(lake).rows == 1
    agrees(lake)
    lake.commit(TABLE, "SELECT 9223372036854775808 AS order_id")
    seal(lake)
    with pytest.raises(SchemaDrift, match=r"order_id of .* above 9223372036854775807"):
        register(lake)


def test_a_killed_run_goes_on_without_a_file_missing_or_twice(lake: ShopLake) -> None:
    seals(lake, 0, 4)
    command = [sys.executable, "-m", "ducklake.cli", "catalog", "iceberg", TABLE]
    for point, done in (
        ("catalog.before_commit:2", 1),
        ("catalog.after_commit:1", 2),
        ("catalog.before_commit:1", 2),
    ):
        named = {"DUCKLAKE_CONFIG": str(lake.config.path), ENVIRONMENT: point}
        killed = subprocess.run(
            command, env=os.environ | named, capture_output=True, check=False, timeout=120
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert len(files_in(lake)) == done
    assert register(lake).snapshots == 2
    assert len(table_of(lake).metadata.snapshots) == 4
    agrees(lake)


def test_a_lost_catalogue_is_made_anew_from_the_ledger(
    lake: ShopLake, capsys: pytest.CaptureFixture[str]
) -> None:
    seals(lake, 0, 3)
    register(lake)
    was = files_in(lake), iceberg_rows(lake), table_of(lake).schema()
    (lake.ledger.paths.iceberg / "catalog.db").unlink()
    assert register(lake).snapshots == 3
    assert (files_in(lake), iceberg_rows(lake), table_of(lake).schema()) == was
    shutil.rmtree(lake.ledger.paths.iceberg / "mysql" / TABLE / "metadata")
    with pytest.raises(LedgerError, match="--rebuild` makes the table anew") as gone:
        register(lake)
    assert "no data file is touched" in gone.value.remedy
    assert catalogs.register(lake.config, ["mysql.orders"], rebuild=True, as_json=True)
    [entry] = json.loads(capsys.readouterr().out.splitlines()[-1])["tables"]
    assert (entry["files"], entry["snapshots"], entry["error"]) == (3, 3, "")
    assert (files_in(lake), iceberg_rows(lake), table_of(lake).schema()) == was


def test_what_somebody_else_does_to_a_table_is_undone(lake: ShopLake) -> None:
    seals(lake, 0, 3)
    register(lake)
    with closing(open_catalog(lake.config)) as catalog:
        catalog.load_table("mysql.orders").delete("order_id < 10")
    assert len(files_in(lake)) == 2
    assert register(lake).added == 1
    agrees(lake)
    assert len(globbed_rows(lake)) == 30, "no file of the lake was deleted"


def test_a_lost_file_is_named_and_registered_once_it_is_back(lake: ShopLake) -> None:
    seals(lake, 0, 1)
    [file] = lake.ledger.files.live("mysql.orders")
    away = file.path.rename(file.path.with_suffix(".away"))
    with pytest.raises(CommitConflict, match=file.path.name):
        register(lake)
    away.rename(file.path)
    assert register(lake).snapshots == 1
    agrees(lake)


def test_old_snapshots_expire_with_their_metadata(tmp_path: Path) -> None:
    edit = {"consumer:": "catalog: {iceberg: {uri: sqlite, keep_snapshots: 2}}\nconsumer:"}
    lake = ShopLake(tmp_path, edit)
    try:
        seals(lake, 0, 6)
        register(lake)
        folder = lake.ledger.paths.iceberg / "mysql" / TABLE / "metadata"
        assert len(table_of(lake).metadata.snapshots) == 2
        assert len(list(folder.glob("snap-*.avro"))) == 2
        agrees(lake)
    finally:
        lake.close()


class Told(KeptHeartbeat):
    """What a thread tells of itself."""

    def waits_for(self, what: Callable[[dict[str, Part]], bool]) -> None:
        deadline = time.monotonic() + 60
        while not what(self.parts):
            assert time.monotonic() < deadline, self.parts
            time.sleep(0.05)


def edited(lake: ShopLake, old: str, new: str) -> Config:
    text = lake.config.path.read_text(encoding="utf-8")
    assert old in text
    lake.config.path.write_text(text.replace(old, new), encoding="utf-8")
    return load_config(lake.config.path)


def test_the_compactor_registers_by_itself_and_says_what_it_cannot(
    lake: ShopLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.2)
    told = Told()
    with followed(edited(lake, "{uri: sqlite}", "{uri: sqlite, enabled: true}"), told):
        seals(lake, 0, 1)
        told.waits_for(lambda _: "mysql.orders" in registered(lake))
        lake.commit(TABLE, "SELECT 9223372036854775808 AS order_id")
        seal(lake)
        told.waits_for(lambda parts: "iceberg mysql.orders" in parts)
        part = told.parts["iceberg mysql.orders"]
        assert part.state == "stopped" and "order_id" in part.reason and part.remedy
        lake.commit("customers", "SELECT 1 AS customer_id")
        seal(lake)
        told.waits_for(lambda _: "mysql.customers" in registered(lake))
    away = edited(lake, "uri: sqlite", "uri: 'postgresql://nobody:secret@127.0.0.1:9/none'")
    with followed(away, told):
        told.waits_for(lambda parts: parts[following.NAME].state == "retrying")
        part = told.parts[following.NAME]
        assert "127.0.0.1:9" in part.reason and "secret" not in f"{part.reason}{part.remedy}"
        seals(lake, 10, 1)


def registered(lake: ShopLake) -> set[str]:
    """Tables whose first snapshot is there."""
    with closing(open_catalog(lake.config)) as catalog:
        if not catalog.namespace_exists("mysql"):
            return set()
        names = [".".join(name) for name in catalog.list_tables("mysql")]
        return {name for name in names if catalog.load_table(name).current_snapshot()}


def test_without_the_extra_it_says_how_to_install_it(
    lake: ShopLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg", None)
    with pytest.raises(ConfigError, match=r"package pyiceberg.*pip install .*\[iceberg\]"):
        catalogs.register(lake.config, None, rebuild=False, as_json=False)


def test_ducklake_reads_the_same_rows_and_its_catalogue_is_replaced_whole(
    lake: ShopLake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seals(lake, 0, 2)
    assert catalogs.freeze(lake.config, as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        told["tables"][0] | {"table": "mysql.orders", "files": 2, "rows": 20} == told["tables"][0]
    )
    before = ducklake_rows(lake)
    assert before == globbed_rows(lake)
    wider = {**shop_lake.COLUMNS[TABLE], "customer_id": "BIGINT", "note": "VARCHAR"}
    monkeypatch.setitem(shop_lake.COLUMNS, TABLE, wider)
    lake.commit(TABLE, "SELECT 18446744073709551615 AS order_id, 'x' AS note")
    seal(lake)
    command = [sys.executable, "-m", "ducklake.cli", "catalog", "ducklake"]
    named = {"DUCKLAKE_CONFIG": str(lake.config.path), ENVIRONMENT: "catalog.before_rename"}
    killed = subprocess.run(command, env=os.environ | named, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert ducklake_rows(lake) == before, "it is frozen"
    assert catalogs.freeze(lake.config, as_json=False)
    assert ducklake_rows(lake) == globbed_rows(lake)
    text = {**wider, "customer_id": "VARCHAR"}
    monkeypatch.setitem(shop_lake.COLUMNS, TABLE, text)
    lake.commit(TABLE, "SELECT 1 AS order_id, 'c-1' AS customer_id")
    seal(lake)
    capsys.readouterr()
    assert not catalogs.freeze(lake.config, as_json=True)
    [entry] = json.loads(capsys.readouterr().out.splitlines()[-1])["tables"]
    assert "customer_id" in entry["error"] and entry["files"] == 0
    left = {path.name for path in lake.ledger.paths.root.iterdir() if "ducklake" in path.name}
    assert left == {"catalog.ducklake"}


def ducklake_rows(lake: ShopLake) -> list[tuple[Any, ...]]:
    attached = f"ducklake:{lake.ledger.paths.ducklake}"
    return rows_of("lake.mysql.orders", extensions=("ducklake",), attached=attached)
