"""Lakes of earlier releases: opened, exact, finished where they were half-way, gone on with.

`tests/fixtures/*/make.py` says how they were made, `expected.json` what the old code found in them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from batcher.publish import Publisher
from consumers.compaction.compactor import Compactor
from consumers.compaction.date_rewrite import rewrite_date
from consumers.ingest.flush import Flush, commit_flush
from consumers.maintenance.backup import (
    cursors_of,
    read_manifest,
    restore_ledger_of,
    write_backup,
)
from consumers.maintenance.ledger_rebuild import restore_ledger
from consumers.maintenance.verify import Verifier
from lake.config import Config, TableRef, load_config
from lake.errors import LedgerError
from lake.formats import RunSummary
from lake.ledger import Ledger, LedgerReader, migrations, replacing
from lake.ledger.entries import Run
from lake.records import OffsetRange
from lake.storage.checksum import checksum_query
from lake.storage.paths import LakePaths
from lake.storage.schema import Schema, source_column
from lake.storage.session import Session
from lake.storage.sql import rows_query

FIXTURES = Path(__file__).parents[1] / "fixtures"
ORDERS, STOCK = TableRef("shop", "orders"), TableRef("shop", "stock")
TABLES = {
    "lake_v3": "{orders: {}}",
    "lake_v4": "{orders: {}, stock: {}}",
    "lake_v5": "{orders: {}}",
    "lake_v6": "{orders: {}}",
}


@dataclass(frozen=True)
class OldLake:
    """A lake of an earlier release, unpacked, and what its own code found in it."""

    config: Config
    expected: dict[str, Any]

    @property
    def paths(self) -> LakePaths:
        return LakePaths(self.config.data_dir)


def unpacked(name: str, folder: Path) -> OldLake:
    with tarfile.open(FIXTURES / name / "lake.tar.gz") as archive:
        # absent before Python 3.11.4; Debian 12 has 3.11.2
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
        archive.extractall(folder)
    settings = f"name: old\nsources: {{shop: {{type: plain, tables: {TABLES[name]}}}}}\n"
    (folder / "ducklake.yml").write_text(settings)
    expected = json.loads((FIXTURES / name / "expected.json").read_text())
    return OldLake(load_config(folder / "ducklake.yml"), expected)


@pytest.fixture
def v4(tmp_path: Path) -> OldLake:
    return unpacked("lake_v4", tmp_path)


@pytest.fixture
def v3(tmp_path: Path) -> OldLake:
    return unpacked("lake_v3", tmp_path)


@pytest.fixture
def v5(tmp_path: Path) -> OldLake:
    return unpacked("lake_v5", tmp_path)


@pytest.fixture
def v6(tmp_path: Path) -> OldLake:
    return unpacked("lake_v6", tmp_path)


def rows_and_checksum(lake: OldLake, ref: TableRef) -> tuple[list[list[int]], str]:
    """The places of a table's rows, and its order-free checksum, through the ledger."""
    with Ledger(lake.paths) as ledger, duckdb.connect() as db:
        state = ledger.tables.get(ref.topic)
        assert state is not None
        columns = state.schema.relation("plain")
        parts = [
            rows_query(columns, [new.path], new.ranges)
            for new in ledger.files.new_rows(ref.topic, 0, ledger.commits.last())
        ]
        query = "(" + " UNION ALL BY NAME ".join(parts) + ")"
        db.execute("SET TimeZone = 'UTC'")
        found = db.execute(checksum_query([n for n, _ in columns], query)).fetchall()
        places = db.execute(f"SELECT _partition, _offset FROM {query} ORDER BY ALL").fetchall()
        return [list(place) for place in places], str(found[0][1])


def assert_as_recorded(lake: OldLake) -> None:
    for ref in (ORDERS, STOCK):
        expected = lake.expected[ref.topic]
        assert rows_and_checksum(lake, ref) == (expected["places"], expected["checksum"])
        assert len(expected["places"]) == expected["rows"] > 0


def assert_exact(lake: OldLake) -> None:
    assert Verifier(lake.config, None).verify(list(lake.config.tables())).differences == ()


def commit(lake: OldLake, ref: TableRef, topic_id: str) -> None:
    """Two more rows of each partition, from where the ledger stands."""
    with Ledger(lake.paths) as ledger, Session(lake.paths) as session:
        known = ledger.tables.get(ref.topic)
        assert known is not None
        state = ledger.tables.open(ref.topic, topic_id, known.partitions)
        places = [(p, at + n) for p, at in sorted(state.positions.items()) for n in (0, 1)]
        stamps = pa.array([datetime(2026, 1, 7, tzinfo=UTC)] * len(places))
        rows = pa.table(
            {
                "order_id": pa.array([offset for _, offset in places], pa.int64()),
                "_op": ["r"] * len(places),
                "_source_ts": stamps,
                "_kafka_ts": stamps,
                "_topic": [ref.topic] * len(places),
                "_partition": pa.array([p for p, _ in places], pa.int32()),
                "_offset": pa.array([offset for _, offset in places], pa.int64()),
                "_topic_epoch": pa.array([0] * len(places), pa.int32()),
                "note": ["new"] * len(places),
            }
        )
        spans = [OffsetRange(topic_id, p, at, at + 1, 2) for p, at in state.positions.items()]
        starts = dict(state.positions)
        schema = state.schema.merged([source_column("note", "VARCHAR")])
        commit_flush(ledger, session, ref, Flush(state, starts, spans, rows, schema))


def test_a_lake_of_the_previous_release_opens_and_is_exact(v4: OldLake) -> None:
    assert_as_recorded(v4)
    assert_exact(v4)
    with Ledger(v4.paths) as ledger:
        for topic in ("shop.orders", "shop.stock"):
            expected, state = v4.expected[topic], ledger.tables.get(topic)
            assert state is not None
            assert {str(p): n for p, n in state.positions.items()} == expected["positions"]
            assert state.generation == expected["generation"]
            lost = [[s.partition, s.first, s.last] for s in ledger.offsets.losses(topic)]
            assert lost == expected["losses"]
            assert ledger.tables.epochs(topic) == expected["epochs"]
        letters = [
            [e.topic, e.partition, e.offset, e.reason] for e in ledger.dead_letters.up_to(1 << 60)
        ]
        assert letters == v4.expected["dead_letters"]
        generations = [[g.topic, g.number, g.state, g.rows] for g in ledger.generations.all()]
        assert generations == v4.expected["generations"]
        assert ledger.identity() == v4.expected["identity"]
        assert ledger.commits.last() == v4.expected["last_commit"]


def test_what_the_previous_release_published_is_known(v4: OldLake) -> None:
    with Ledger(v4.paths) as ledger:
        found = Publisher(v4.config, ledger).current()
    assert {
        name: [v4.paths.relative(s.path), s.rows, s.digest] for name, s in found.items()
    } == v4.expected["published"]
    assert all(snapshot.path.exists() for snapshot in found.values())


def test_recovery_finishes_what_the_previous_release_had_begun(v4: OldLake) -> None:
    with Ledger(v4.paths) as ledger:
        assert len(ledger.compactions.open()) == v4.expected["open_compactions"] == 1
        assert len(ledger.date_rewrites.open()) == v4.expected["open_date_rewrites"] == 1
    Compactor(v4.config).close()
    with Ledger(v4.paths) as ledger:
        assert ledger.compactions.open() == [] and ledger.date_rewrites.open() == []
    day = v4.paths.day(ORDERS, date(2026, 1, 5), 1)
    names = sorted(path.name for path in day.iterdir())
    assert names == [f"t{'ab' * 16}-0-0-5.parquet", f"t{'ab' * 16}-1-0-5.parquet"]
    assert_as_recorded(v4)
    assert_exact(v4)


@pytest.mark.parametrize("recovered", [False, True])
def test_ingestion_goes_on_from_the_positions_of_the_previous_release(
    v4: OldLake, recovered: bool
) -> None:
    if recovered:
        Compactor(v4.config).close()
    for ref, topic_id in ((ORDERS, "ab" * 16), (STOCK, "cd" * 16)):
        before, _ = rows_and_checksum(v4, ref)
        commit(v4, ref, topic_id)
        after, _ = rows_and_checksum(v4, ref)
        new = [p for p in after if p not in before]
        at = v4.expected[ref.topic]["positions"]
        assert new == [[p, at[str(p)] + n] for p in (0, 1) for n in (0, 1)]
        assert len(after) == len(before) + 4
    compactor = Compactor(v4.config)
    compactor.pass_once(force=True)
    compactor.close()
    assert_exact(v4)


def test_a_ledger_of_version_3_is_migrated(v3: OldLake) -> None:
    assert_exact(v3)
    with Ledger(v3.paths) as ledger:
        letters = [
            [e.topic, e.partition, e.offset, e.reason] for e in ledger.dead_letters.up_to(1 << 60)
        ]
        assert letters == v3.expected["dead_letters"]
        state = ledger.tables.get(ORDERS.topic)
        assert state is not None
        assert state.schema == Schema((source_column("order_id", "BIGINT"),))
        assert {str(p): n for p, n in state.positions.items()} == v3.expected["positions"]
    places, _ = rows_and_checksum(v3, ORDERS)
    assert places == [[p, offset] for _, p, offset in v3.expected["rows"]]
    commit(v3, ORDERS, "ab" * 16)
    compactor = Compactor(v3.config)
    compactor.pass_once(force=True)
    compactor.close()
    assert_exact(v3)


def dead_letters(lake: OldLake) -> list[list[Any]]:
    with Ledger(lake.paths) as ledger:
        found = []
        for entry in ledger.dead_letters.up_to(1 << 60):
            payload = ledger.dead_letters.payload(entry)
            assert payload is not None and payload.value is not None
            assert len(payload.value) == entry.value_bytes
            digest = hashlib.sha256(payload.value).hexdigest()
            key = payload.key and payload.key.decode()
            found.append(
                [entry.partition, entry.offset, entry.reason, key, digest, payload.headers]
            )
        return found


def test_bytes_of_dead_letters_leave_a_ledger_of_version_5(v5: OldLake) -> None:
    was = v5.paths.ledger.stat().st_size
    assert dead_letters(v5) == v5.expected["dead_letters"] != []
    assert was > 1 << 20 > 5 * v5.paths.ledger.stat().st_size
    expected = v5.expected[ORDERS.topic]
    assert rows_and_checksum(v5, ORDERS) == (expected["places"], expected["checksum"])
    assert_exact(v5)
    commit(v5, ORDERS, "ef" * 16)
    assert_exact(v5)


def test_a_ledger_of_version_6_forgets_what_its_cycles_had_passed(v6: OldLake) -> None:
    expected = v6.expected[ORDERS.topic]
    with Ledger(v6.paths) as ledger:
        [reader] = ledger.readers.all()  # the batch, whose last cycle the earlier release recorded
        assert (reader.name, reader.commit) == ("batch", v6.expected["last_commit"])
        assert ledger.offsets.row_count(ORDERS.topic) == expected["rows"]
        assert len(list(ledger.offsets.history(ORDERS.topic))) == v6.expected["ranges"]
    commit(v6, ORDERS, "ef" * 16)  # nobody has passed it
    with Ledger(v6.paths) as ledger:
        ledger.readers.state("batch", v6.expected["last_commit"])
    compactor = Compactor(v6.config)
    compactor.pass_once(force=True)
    compactor.close()
    with Ledger(v6.paths) as ledger:
        assert len(list(ledger.offsets.history(ORDERS.topic))) < v6.expected["ranges"]
        new = ledger.files.new_rows(ORDERS.topic, v6.expected["last_commit"], 1 << 60)
        assert {r.first for rows in new for r in rows.ranges} == {45}
        assert len(ledger.dead_letters.up_to(1 << 60)) == v6.expected["dead_letters"]
        assert ledger.identity() == v6.expected["identity"]
    places, _ = rows_and_checksum(v6, ORDERS)
    assert [p for p in places if p[1] < 45] == expected["places"]
    assert_exact(v6)


def test_files_of_before_and_after_a_join_make_one_ledger(v6: OldLake) -> None:
    """Footers keep the ranges of single commits; a lost ledger is made from them."""
    expected = v6.expected[ORDERS.topic]
    with Ledger(v6.paths) as ledger:
        ledger.readers.remove("batch")
    compactor = Compactor(v6.config)
    compactor.pass_once(force=True)
    rewrite_date(compactor, ORDERS, date(2026, 1, 5))
    compactor.close()
    assert rows_and_checksum(v6, ORDERS) == (expected["places"], expected["checksum"])
    for path in v6.paths.root.glob("ledger.db*"):
        path.unlink()
    restore_ledger(v6.paths, {})
    assert rows_and_checksum(v6, ORDERS) == (expected["places"], expected["checksum"])
    assert_exact(v6)


def test_dead_letters_of_a_ledger_of_version_7_are_counted(v5: OldLake) -> None:
    with Ledger(v5.paths) as ledger:
        found = ledger.dead_letters.of_table(ORDERS.topic)
        ledger.dead_letters.drop(found[:1], "s")
    with closing(sqlite3.connect(v5.paths.ledger)) as db:  # as it was before it had counts
        for name in ("added", "removed", "changed"):
            db.execute(f"DROP TRIGGER dead_letter_{name}")
        db.executescript(
            "DROP TABLE dead_letter_counts; DROP INDEX dead_letters_by_time;"
            " PRAGMA user_version = 7;"
        )
    with Ledger(v5.paths) as ledger:
        usage = ledger.dead_letters.usage(ORDERS.topic, 0)
        assert usage.rows == len(found) - 1 > 0
        assert usage.bytes == sum(min(e.value_bytes, 1 << 20) for e in found[1:])
        assert usage.recent == len(found)
        assert ledger.dead_letters.dropped() == {ORDERS.topic: 1}


def test_a_migration_that_is_killed_begins_again(
    v5: OldLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:  # its bytes are copied, its tables as they were
        patch.setattr(migrations, "_step", killed)
        with pytest.raises(Killed):
            Ledger(v5.paths)
    assert v5.paths.dead_letters.exists()
    assert dead_letters(v5) == v5.expected["dead_letters"]


def test_a_backup_of_version_5_brings_its_dead_letters(v5: OldLake) -> None:
    for path in v5.paths.root.glob("ledger.db*"):
        path.unlink()
    restore_ledger_of(v5.paths.root / "backups" / "1", v5.paths)
    assert dead_letters(v5) == v5.expected["dead_letters"]


def test_a_backup_holds_the_bytes_of_dead_letters(v5: OldLake, tmp_path: Path) -> None:
    assert dead_letters(v5)
    write_backup(v5.paths, "old", {}, tmp_path / "backup")
    for path in (*v5.paths.root.glob("ledger.db*"), *v5.paths.root.glob("dead_letters.db*")):
        path.unlink()
    restore_ledger_of(tmp_path / "backup", v5.paths)
    assert dead_letters(v5) == v5.expected["dead_letters"]


def test_a_ledger_is_made_anew_from_the_files_of_the_previous_release(v4: OldLake) -> None:
    for path in v4.paths.root.glob("ledger.db*"):
        path.unlink()
    restore_ledger(v4.paths, {})
    assert_as_recorded(v4)


def test_a_backup_of_the_previous_release_is_known(v4: OldLake) -> None:
    folder = v4.paths.root / "backups" / "first"
    about = read_manifest(folder, "old")
    assert (about.ledger, about.commit, about.cursors) == (v4.expected["identity"], 11, 1)
    assert cursors_of(folder) == {"shop": '{"n": 1}'}


# The migration itself ---------------------------------------------------------------------------


def _version_and_tables(path: Path) -> tuple[int, set[str]]:
    with closing(sqlite3.connect(path)) as db:
        [(version,)] = db.execute("PRAGMA user_version").fetchall()
        return version, {n for (n,) in db.execute("SELECT name FROM sqlite_master")}


def test_a_ledger_of_the_first_version_is_migrated(v3: OldLake) -> None:
    with closing(sqlite3.connect(v3.paths.ledger)) as db:
        db.executescript("DROP TABLE epochs; DROP TABLE days; PRAGMA user_version = 1;")
    with Ledger(v3.paths) as ledger:
        assert ledger.tables.epochs("shop.orders") == {"ab" * 16: 0}
        assert ledger.date_rewrites.open() == []


@pytest.mark.parametrize("kind", [Ledger, LedgerReader])
def test_a_migration_keeps_a_copy_of_the_ledger_as_it_was(
    v4: OldLake, kind: type[LedgerReader]
) -> None:
    was = _version_and_tables(v4.paths.ledger)
    assert was[0] == 4 and {"seals", "days", "cycles"} <= was[1]
    kind(v4.paths).close()
    version, tables = _version_and_tables(v4.paths.ledger)
    assert version == migrations.VERSION and {"compactions", "runs"} <= tables
    [copy] = v4.paths.orphans.glob("ledger-v4-*/ledger.db")
    assert _version_and_tables(copy) == was
    kind(v4.paths).close()  # a second opening finds nothing to do
    assert len(list(v4.paths.orphans.glob("ledger-v*"))) == 1


def test_a_migration_that_fails_half_way_changes_nothing(
    v4: OldLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = _version_and_tables(v4.paths.ledger)
    broken = {**migrations.MIGRATIONS, 4: (5, "DROP TABLE pins; DROP TABLE no_such_table;")}
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", broken)
        with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
            Ledger(v4.paths)
    assert _version_and_tables(v4.paths.ledger) == was
    assert_as_recorded(v4)


def test_a_ledger_is_not_migrated_under_a_process_of_the_earlier_release(
    v4: OldLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "REST_SECONDS", 0.2)
    was = _version_and_tables(v4.paths.ledger)
    at_work = pytest.raises(LedgerError, match=r"has the lake open.*Stop `ducklake run`")
    with replacing.locked_for_use(v4.paths), at_work:
        Ledger(v4.paths)
    assert _version_and_tables(v4.paths.ledger) == was
    Ledger(v4.paths).close()


def test_the_run_history_of_the_previous_release_is_read(v4: OldLake) -> None:
    with LedgerReader(v4.paths) as ledger:
        run = ledger.runs.last()
    number, started_at, seconds, last_commit, summary = v4.expected["last_cycle"]
    assert run == Run(number, started_at, seconds, 0, last_commit, RunSummary(**summary))
