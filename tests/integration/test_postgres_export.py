"""The export to a real PostgreSQL, relation by relation; every remedy it names is carried out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from batcher.cycle import Batch, once
from batcher.cycle_result import log_cycle
from batcher.held_back import HeldBack
from batcher.postgres import ExportResult, PostgresExport, primary_keys
from batcher.postgres.staged_rows import Difference
from batcher.snapshot import Snapshot
from benchmarks.shop_lake import ShopLake
from consumers.catalogs.iceberg import IcebergTables
from consumers.catalogs.iceberg_catalog import open_catalog
from consumers.compaction.compactor import Compactor
from ducklake.cli.app import app
from ducklake.supervision.condition import Condition, RoleView, look
from ducklake.supervision.freshness import look_at_freshness
from lake.config import Config, PostgresEndpoint, load_config
from lake.errors import BatchError
from lake.identifiers import fitting
from lake.processes.heartbeat import RoleHeartbeat
from lake.storage.paths import LakePaths
from tests.integration.postgres_lab import ID, Lake, answer, connection, lake, server, superuser
from tests.integration.producers_lab import PATIENCE, unique

__all__ = ["lake", "server"]
pytestmark = pytest.mark.stack
LONG = "ñ" * 31


# Whole again ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gone", ["DROP TABLE raw.{}", "TRUNCATE raw.{}", "DELETE FROM ducklake.exports"]
)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_raw_table_that_is_gone_or_emptied_comes_back_whole(
    lake: Lake, gone: str, is_new: bool
) -> None:
    one, _ = lake.tables
    lake.commit(one, ID, (1,), (2,))
    lake.export()
    lake.commit(one, ID, (3,), (4,))
    lake.export()
    lake.ask(gone.format(one))
    if is_new:
        lake.commit(one, ID, (5,))
    assert not lake.export().held_back
    assert lake.ids(one) == [1, 2, 3, 4, 5][: 5 if is_new else 4]


def test_a_database_that_comes_back_late_takes_everything_once(lake: Lake) -> None:
    """Its commit lies among some that were joined: what is new since then nobody knows."""
    one, _ = lake.tables
    lake.commit(one, ID, (1,), (2,))
    lake.export()
    lake.commit(one, ID, (3,))
    last = lake.ledger.commits.last()
    lake.ledger._core.db.execute("UPDATE commits SET since = 1 WHERE commit_no = ?", (last,))
    assert not lake.ledger.files.tells_apart(lake.ref(one).topic, last - 1, last)
    assert not lake.export().held_back
    assert lake.ids(one) == [1, 2, 3]


def test_a_model_that_was_dropped_comes_back(lake: Lake) -> None:
    name = unique("m")
    lake.model(name, "SELECT 1 AS x")
    lake.export()
    lake.ask(f"DROP TABLE consume.{name}")
    assert lake.export().written == 1
    assert lake.ask(f"SELECT x FROM consume.{name}") == [(1,)]


def test_a_table_that_was_only_rewritten_is_not_exported_again(lake: Lake) -> None:
    one, _ = lake.tables
    lake.commit(one, ID, (1,))
    lake.export()
    lake.ask(f"VACUUM FULL raw.{one}")
    assert lake.export() == ExportResult()


def test_a_part_of_a_table_that_an_earlier_release_left_is_completed(lake: Lake) -> None:
    one, _ = lake.tables
    lake.commit(one, ID, (1,), (2,), (3,))
    lake.export()
    lake.ask(f"DELETE FROM raw.{one} WHERE id < 3")
    lake.ask("ALTER TABLE ducklake.exports DROP COLUMN storage")  # as that release had it
    lake.export()
    assert lake.ids(one) == [1, 2, 3]


# Held back alone --------------------------------------------------------------------------------


def test_a_relation_that_cannot_be_exported_is_held_back_alone_until_it_can(lake: Lake) -> None:
    one, two = lake.tables
    model = unique("m")
    lake.commit(one, ID, (1,))
    lake.commit(two, ID, (1,))
    lake.model(model, "SELECT 1 AS x")
    lake.export()
    lake.ask(f"ALTER TABLE raw.{one} ADD CONSTRAINT few CHECK (id < 3)")
    lake.commit(one, ID, (2,), (3,))
    lake.commit(two, ID, (2,))
    lake.model(model, "SELECT 2 AS x")
    said = lake.held_back(f"raw.{one}")
    assert 'violates check constraint "few"' in said
    assert lake.ids(one) == [1]
    assert lake.ids(two) == [1, 2]
    assert lake.ask(f"SELECT x FROM consume.{model}") == [(2,)]
    lake.commit(two, ID, (3,))
    assert lake.held_back(f"raw.{one}") == said  # tried again each time
    assert lake.ids(two) == [1, 2, 3]
    carry_out(lake, said)
    assert not lake.export().held_back
    assert lake.ids(one) == [1, 2, 3]


def carry_out(lake: Lake, said: str) -> None:
    """Run the statement that a message names."""
    [statement] = re.findall(r"`([^`]+)`", said)
    lake.ask(statement)


def test_what_is_held_back_is_state_and_logged_once(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(lake.config.path)
    heartbeat = RoleHeartbeat(LakePaths(config.data_dir).run, "batch")
    held = HeldBack(heartbeat)
    error = BatchError("PostgreSQL: raw.x: no.", "Drop it.")
    for _ in range(2):
        held.tell({"raw.x": error})
    heartbeat.beat("waiting")
    [problem] = look(config).problems
    assert (problem.subject, problem.state) == ("relation raw.x", "retrying")
    assert problem.line().endswith("PostgreSQL: raw.x: no. Drop it.")
    held.tell({})
    heartbeat.beat("waiting")
    assert look(config).healthy
    heartbeat.close()
    logged = capsys.readouterr().out
    assert logged.count("relation_not_exported") == 1
    assert logged.count("relation_exported_again") == 1


def test_a_relation_that_another_session_locks_is_held_back_until_it_lets_go(lake: Lake) -> None:
    one, two = lake.tables
    lake.commit(one, ID, (1,))
    lake.commit(two, ID, (1,))
    lake.export()
    lake.commit(one, ID, (2,))
    lake.commit(two, ID, (2,))
    other = connection(lake.at)
    other.autocommit = False
    with other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE raw.{one}")
        assert "is locked by another session" in lake.held_back(f"raw.{one}")
    other.close()
    assert lake.ids(two) == [1, 2]
    assert not lake.export().held_back
    assert lake.ids(one) == [1, 2]


def test_a_missing_right_is_named_with_the_statement_that_gives_it(
    lake: Lake, server: Config
) -> None:
    one, _ = lake.tables
    lake.commit(one, ID, (1,))
    lake.export()
    lake.commit(one, ID, (2,))
    with superuser(server) as root:
        root.execute(f"ALTER TABLE raw.{one} OWNER TO postgres")
        said = lake.held_back(f"raw.{one}")
        assert "permission denied for table" in said
        [statement] = re.findall(r"`([^`]+)`", said)
        root.execute(statement)
    assert not lake.export().held_back
    assert lake.ids(one) == [1, 2]


def test_a_user_who_may_not_create_is_told_the_grant(lake: Lake, server: Config) -> None:
    user, schema = unique("u"), unique("c")
    lake.at = PostgresEndpoint(lake.at.host, lake.at.port, user, "pw", lake.at.database)
    with superuser(server) as root:
        root.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'pw'")
        root.execute(f"CREATE DATABASE {user}")
        root.execute(f"REVOKE CREATE ON DATABASE {user} FROM PUBLIC, {user}")
    lake.at = PostgresEndpoint(lake.at.host, lake.at.port, user, "pw", user)
    with pytest.raises(BatchError, match="permission denied for database") as caught:
        lake.export()
    with superuser(server) as root:
        [statement] = re.findall(r"`([^`]+)`", str(caught.value))
        root.execute(statement)
    lake.model("m", "SELECT 1 AS x")
    lake.export()
    lake.snapshots.clear()
    at = server.endpoints().postgres
    password = json.loads((server.stack_dir / "secrets.json").read_text())["postgres_superuser"]
    opened = connection(PostgresEndpoint(at.host, at.port, "postgres", password, user))
    with opened.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {schema}")
        lake.model("m2", "SELECT 1 AS x")
        snapshot = lake.snapshots.pop("consume.m2")
        lake.snapshots[f"{schema}.m"] = Snapshot(f"{schema}.m", snapshot.path, 1, "d")
        said = lake.held_back(f"{schema}.m")
        [statement] = re.findall(r"`([^`]+)`", said)
        cursor.execute(statement)
    opened.close()
    assert not lake.export().held_back


# Types ------------------------------------------------------------------------------------------

CHANGES = {
    "VARCHAR to INT": [("VARCHAR", "'n/a'"), ("INTEGER", "5")],
    "INT to VARCHAR": [("INTEGER", "5"), ("VARCHAR", "'n/a'")],
    "DECIMAL(12,2) to (6,4)": [("DECIMAL(12,2)", "1234567890.12"), ("DECIMAL(6,4)", "12.3456")],
    "BIGINT to TINYINT": [("BIGINT", "3000000000"), ("TINYINT", "5")],
    "TINYINT to BIGINT": [("TINYINT", "5"), ("BIGINT", "3000000000")],
    "INT to UBIGINT": [("INTEGER", "-5"), ("UBIGINT", "18446744073709551615")],
    "INT to DECIMAL": [("INTEGER", "5"), ("DECIMAL(12,2)", "1.50")],
    "BIT(1) to BIT(8)": [("BOOLEAN", "true"), ("BLOB", "'\\x05'")],
    "DATE to DATETIME": [("DATE", "'2024-02-03'"), ("TIMESTAMP", "'2024-02-03 04:05:06.5'")],
    "DATETIME to DATE": [("TIMESTAMP", "'2024-02-03 04:05:06'"), ("DATE", "'2024-02-03'")],
    "DOUBLE to VARCHAR": [("DOUBLE", "1e20"), ("VARCHAR", "'x'")],
    "DATETIME to VARCHAR": [("TIMESTAMP", "'2024-02-03 04:05:06.5'"), ("VARCHAR", "'x'")],
    "TIMESTAMP to VARCHAR": [
        ("TIMESTAMP WITH TIME ZONE", "'2024-02-03 04:05:06.5+00'"),
        ("VARCHAR", "'x'"),
    ],
    "BOOLEAN to VARCHAR": [("BOOLEAN", "true"), ("VARCHAR", "'x'")],
    "VARCHAR to BLOB and back": [("VARCHAR", "'a'"), ("BLOB", "'b'"), ("VARCHAR", "'c'")],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_column_follows_the_type_of_the_lake(lake: Lake, change: str) -> None:
    one, _ = lake.tables
    for number, (type_, value) in enumerate(CHANGES[change]):
        lake.commit(one, {**ID, "v": type_}, (number, value))
        assert not lake.export().held_back
        assert lake.is_as_in_the_lake(one)
    before = lake.ask(f"SELECT * FROM raw.{one} ORDER BY id")
    lake.commit(one, {**ID, "v": CHANGES[change][0][0]}, (9, CHANGES[change][0][1]))
    assert not lake.export().held_back
    assert lake.is_as_in_the_lake(one)
    assert lake.ask(f"SELECT * FROM raw.{one} ORDER BY id")[:-1] == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'n/a'", "5::INTEGER"),
        ("1234567890.12::DECIMAL(12,2)", "12.3456::DECIMAL(6,4)"),
        ("true", "'2024-02-03'::DATE"),
        ("'a'::BLOB", "1"),
        ("[1, 2]", "'x'"),
        ("5::INTEGER", "3000000000::BIGINT"),
    ],
)
def test_a_model_s_column_takes_any_other_type_and_its_views_survive(
    lake: Lake, old: str, new: str
) -> None:
    name, reader = unique("m"), unique("r")
    lake.model(name, f"SELECT 1 AS id, {old} AS v")
    lake.export()
    lake.ask(f"CREATE VIEW consume.{name}_v AS SELECT v FROM consume.{name}")
    lake.ask(f"CREATE VIEW consume.{name}_w AS SELECT count(*) AS n FROM consume.{name}_v")
    del reader
    lake.model(name, f"SELECT 1 AS id, {new} AS v")
    assert not lake.export().held_back
    with duckdb.connect() as db:
        [(wanted,)] = db.execute(f"SELECT {new}").fetchall()
    assert lake.ask(f"SELECT v FROM consume.{name}_v") == [(wanted,)]
    assert lake.ask(f"SELECT n FROM consume.{name}_w") == [(1,)]


def test_views_come_back_with_owner_grants_options_and_comments(lake: Lake, server: Config) -> None:
    one, _ = lake.tables
    reader = unique("r")
    lake.commit(one, {**ID, "v": "INTEGER"}, (1, "5"))
    lake.export()
    with superuser(server) as root:
        root.execute(f"CREATE ROLE {reader}")
    lake.ask(
        f"CREATE VIEW raw.{one}_v WITH (security_barrier=true) AS SELECT id, v FROM raw.{one};"
        f"GRANT SELECT ON raw.{one}_v TO {reader} WITH GRANT OPTION;"
        f"GRANT UPDATE (v) ON raw.{one}_v TO {reader};"
        f"GRANT SELECT ON raw.{one} TO {reader};"
        f"COMMENT ON VIEW raw.{one}_v IS 'it''s'; COMMENT ON COLUMN raw.{one}_v.v IS 'v';"
        f"CREATE MATERIALIZED VIEW raw.{one}_m AS SELECT v, count(*) FROM raw.{one}_v GROUP BY v;"
        f"CREATE UNIQUE INDEX {one}_i ON raw.{one}_m (v)"
    )
    about = (
        "SELECT relname, relacl::text, reloptions, obj_description(oid), col_description(oid, 2),"
        " (SELECT array_agg(attacl::text) FROM pg_attribute WHERE attrelid = c.oid),"
        f" pg_get_viewdef(oid), pg_get_userbyid(relowner) FROM pg_class c"
        f" WHERE relname IN ('{one}', '{one}_v', '{one}_m', '{one}_i') ORDER BY relname"
    )
    before = lake.ask(about)
    lake.commit(one, {**ID, "v": "VARCHAR"}, (2, "'x'"))
    assert not lake.export().held_back
    assert lake.ask(about) == before
    assert lake.ask(f"SELECT v FROM raw.{one}_v ORDER BY 1") == [("5",), ("x",)]
    lake.ask(f"REFRESH MATERIALIZED VIEW CONCURRENTLY raw.{one}_m")


WRITABLE = (
    "CREATE OR REPLACE FUNCTION raw.{one}_f() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RETURN NULL; END'; CREATE VIEW raw.{one}_v AS SELECT id, v FROM raw.{one}"
)


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE VIEW raw.{one}_v AS SELECT v + 1 AS w FROM raw.{one}",
        "CREATE MATERIALIZED VIEW raw.{one}_v AS SELECT abs(v) AS w FROM raw.{one}",
        "ALTER TABLE raw.{one} ADD w INT GENERATED ALWAYS AS (v + 1) STORED",
        f"{WRITABLE}; CREATE TRIGGER t INSTEAD OF INSERT ON raw.{{one}}_v FOR EACH ROW"
        " EXECUTE FUNCTION raw.{one}_f()",
        f"{WRITABLE}; CREATE RULE r AS ON DELETE TO raw.{{one}}_v DO INSTEAD NOTHING",
        f"{WRITABLE}; ALTER VIEW raw.{{one}}_v ALTER v SET DEFAULT 7",
    ],
)
def test_what_does_not_fit_a_new_type_holds_the_table_back_until_the_remedy(
    lake: Lake, obstacle: str
) -> None:
    one, two = lake.tables
    lake.commit(one, {**ID, "v": "INTEGER"}, (1, "5"))
    lake.export()
    lake.ask(obstacle.format(one=one))
    lake.commit(one, {**ID, "v": "VARCHAR"}, (2, "'x'"))
    lake.commit(two, ID, (1,))
    said = lake.held_back(f"raw.{one}")
    assert ("has triggers, rules or defaults" in said) == (WRITABLE in obstacle)
    assert lake.ids(two) == [1]
    assert lake.ids(one) == [1]
    carry_out(lake, said)
    assert not lake.export().held_back
    assert lake.is_as_in_the_lake(one)
    if WRITABLE in obstacle:
        lake.ask(obstacle.format(one=one))  # the view can be made again


# Columns that the rows have no longer -----------------------------------------------------------


def columns_of(lake: Lake, relation: str) -> dict[str, bool]:
    """The columns of a table, and whether each refuses NULL."""
    return dict(
        lake.ask(
            "SELECT attname, attnotnull FROM pg_attribute"
            f" WHERE attrelid = '{relation}'::regclass AND attnum > 0 AND NOT attisdropped"
        )
    )


@pytest.mark.parametrize("key", [("id",), ()])
def test_a_column_that_a_model_loses_stays_empty_until_somebody_drops_it(
    lake: Lake, key: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    name = unique("m")
    place = f"consume.{name}"
    lake.model(name, "SELECT i AS id, 'a' AS old, 5 AS v FROM range(3) t(i)", key)
    lake.export()
    lake.ask(f"CREATE VIEW {place}_v AS SELECT id, old FROM {place}")
    lake.ask(f"ALTER TABLE {place} ADD mine TEXT; UPDATE {place} SET mine = 'm' WHERE id = 0")
    lake.model(name, "SELECT i AS id, 5 AS v, 'b' AS renamed FROM range(4) t(i)", key)
    assert lake.export().left == {f"{place}.old": f"ALTER TABLE {place} DROP COLUMN old"}
    rows = [(n, None, "b") for n in range(4)]
    assert lake.ask(f"SELECT id, old, renamed FROM {place} ORDER BY id") == rows
    assert lake.ask(f"SELECT count(*), count(old) FROM {place}_v") == [(4, 0)]
    if key:  # a column of a user stays theirs
        assert lake.ask(f"SELECT mine FROM {place} WHERE id = 0") == [("m",)]
    [statement] = lake.export().left.values()
    logged = capsys.readouterr().out
    assert logged.count("column_left") == 1
    assert statement in logged
    lake.ask(f"DROP VIEW {place}_v; {statement}")
    assert lake.export().left == {}
    lake.model(name, "SELECT i AS id, 5 AS v, 'c' AS renamed, 'd' AS old FROM range(4) t(i)", key)
    assert lake.export() == ExportResult(1, {}, {place: lake_difference(key)})
    assert lake.ask(f"SELECT DISTINCT old, renamed FROM {place}") == [("d", "c")]


def lake_difference(key: tuple[str, ...]) -> Difference:
    """Four rows that have other values."""
    return Difference(changed=4) if key else Difference(added=4, removed=4)


def test_a_column_that_comes_back_is_filled(lake: Lake) -> None:
    name = unique("m")
    both = "SELECT i AS id, i % 2 AS v FROM range(3) t(i)"
    for query in (both, "SELECT i AS id FROM range(3) t(i)", both):
        lake.model(name, query, ("id",))
        assert not lake.export().held_back
    assert lake.ask(f"SELECT count(v) FROM consume.{name}") == [(3,)]
    assert lake.export().left == {}


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("SELECT 1 AS id, 7 AS v", ("id",)),  # its column goes
        ("SELECT 1 AS id, 7 AS v, 'x' AS renamed", ("id", "renamed")),
        ("SELECT 1 AS id, 7 AS v, NULL::VARCHAR AS day", ("id",)),  # it stays, without values
        ("SELECT i AS id, NULL::VARCHAR AS day, 7 AS v FROM (VALUES (1), (1)) t(i)", ()),
        ("SELECT 7 AS v", ()),
    ],
)
def test_a_key_that_a_model_has_no_longer_refuses_none_of_its_rows(
    lake: Lake,
    query: str,
    key: tuple[str, ...],
    is_large: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if is_large:
        monkeypatch.setattr(primary_keys, "LARGE_BYTES", 1)
    name = unique("m")
    old = "SELECT 1 AS id, i::VARCHAR AS day, i AS v FROM range(3) t(i)"
    lake.model(name, old, ("id", "day"))
    lake.export()
    lake.model(name, query, key)
    assert not lake.export().held_back
    columns = columns_of(lake, f"consume.{name}")
    assert {column for column, refuses_null in columns.items() if refuses_null} == set(key)
    assert lake.ask(f"SELECT DISTINCT v FROM consume.{name}") == [(7,)]
    keys = f"SELECT count(*) FROM pg_index WHERE indrelid = 'consume.{name}'::regclass"
    assert lake.ask(keys) == [(1 if key else 0,)]
    lake.model(name, old, ("id", "day"))  # and back
    assert not lake.export().held_back
    assert lake.ask(f"SELECT count(DISTINCT (id, day, v)) FROM consume.{name}") == [(3,)]


@pytest.mark.parametrize("is_large", [False, True])
def test_a_key_beside_that_of_a_user_goes_with_its_model_s(
    lake: Lake, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(primary_keys, "LARGE_BYTES", 1)
    name = unique("m")
    place = f"consume.{name}"
    lake.model(name, "SELECT i AS id, i AS v FROM range(3) t(i)")
    lake.export()
    lake.ask(f"ALTER TABLE {place} ADD PRIMARY KEY (v, id)")
    lake.model(name, "SELECT i AS id, 1 AS v FROM range(3) t(i)", ("id",))
    assert not lake.export().held_back
    lake.model(name, "SELECT 1 AS id, i AS v FROM range(3) t(i)", ("v",))
    assert not lake.export().held_back
    assert lake.ask(
        "SELECT indisprimary, pg_get_indexdef(indexrelid) ~ '\\(v\\)' FROM pg_index"
        f" WHERE indrelid = '{place}'::regclass ORDER BY 1"
    ) == [(False, True), (True, False)]


def test_a_repair_empties_a_column_that_a_model_has_no_longer(lake: Lake) -> None:
    name = unique("m")
    for query in (
        "SELECT i AS id, 'a' AS old FROM range(3) t(i)",
        "SELECT i AS id FROM range(3) t(i)",
    ):
        lake.model(name, query, ("id",))
        lake.export()
    lake.ask(f"UPDATE consume.{name} SET old = 'stale' WHERE id < 2")
    export = PostgresExport(lake.config, lake.at, lake.ledger)
    snapshot = lake.snapshots[f"consume.{name}"]
    assert export.repair_model(snapshot) == Difference(changed=2)
    assert not export.repair_model(snapshot)
    assert lake.ask(f"SELECT count(old) FROM consume.{name}") == [(0,)]


def test_a_raw_table_of_another_lake_keeps_its_columns_without_their_values(lake: Lake) -> None:
    """The lake was set up anew, and its source has other columns now."""
    one, _ = lake.tables
    lake.commit(one, {**ID, "old": "VARCHAR"}, (1, "'a'"))
    lake.export()
    lake.ask(f"CREATE VIEW raw.{one}_v AS SELECT old FROM raw.{one}")
    lake.start_anew()
    lake.commit(one, {**ID, "v": "VARCHAR"}, (1, "'a'"), (2, "'b'"))
    result = lake.export()
    assert not result.held_back
    assert result.left == {f"raw.{one}.old": f"ALTER TABLE raw.{one} DROP COLUMN old"}
    assert lake.ask(f"SELECT id, v, old FROM raw.{one} ORDER BY id") == [
        (1, "a", None),
        (2, "b", None),
    ]


# Names ------------------------------------------------------------------------------------------


def test_columns_of_any_name_are_exported_under_names_that_postgresql_takes(lake: Lake) -> None:
    one, _ = lake.tables
    names = ["xmin", "XMIN_", "ctid", "tableoid", "cmax", "cmin", "xmax", "oid", "select", 'q"%s']
    names += [f"{LONG}aa", f"{LONG}ab", "x" * 63, "x" * 64]
    lake.commit(one, ID, (1,))
    lake.export()
    columns = {**ID, **dict.fromkeys(names, "VARCHAR")}
    lake.commit(one, columns, (2, *(f"'{n}'" for n in range(len(names)))))
    assert not lake.export().held_back
    [row] = lake.ask(f"SELECT row_to_json(t) FROM raw.{one} t WHERE id = 2")
    found = list(row[0].values())
    assert [v for v in found if isinstance(v, str) and v.isdigit()] == [
        str(n) for n in range(len(names))
    ]
    comments = lake.ask(
        "SELECT a.attname, col_description(a.attrelid, a.attnum) FROM pg_attribute a"
        f" WHERE a.attrelid = 'raw.{one}'::regclass"
        " AND col_description(a.attrelid, a.attnum) IS NOT NULL"
    )
    assert dict(comments)["xmin_"] == "xmin in the lake"
    assert dict(comments)[fitting(f"{LONG}aa")] == f"{LONG}aa in the lake"
    assert len(comments) == 10


def test_models_of_long_names_do_not_meet(lake: Lake) -> None:
    one, other = f"{LONG}aa", f"{LONG}ab"
    lake.model(one, "SELECT 1 AS x")
    lake.model(other, "SELECT 2 AS x")
    assert not lake.export().held_back
    for name, value in ((one, 1), (other, 2)):
        assert lake.ask(f'SELECT x FROM consume."{fitting(name)}"') == [(value,)]
    assert not lake.export().written


# The batch --------------------------------------------------------------------------------------

PROJECT = "name: p\nprofile: p\nversion: '1.0.0'\n"
PROFILE = (
    "p: {target: lake, outputs: {lake: {type: duckdb, schema: main,"
    " path: \"{{ env_var('DUCKLAKE_WAREHOUSE') }}\"}}}\n"
)


@pytest.fixture
def project(lake: Lake) -> Path:
    """The dbt project of a lake, with one model."""
    folder = lake.config.dbt_project
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "profiles.yml").write_text(PROFILE)
    (folder / "models" / "one.sql").write_text("select 1 as x")
    return folder


@pytest.fixture
def batch(lake: Lake, project: Path) -> Iterator[Batch]:
    """The batch of a lake."""
    endpoints = replace(lake.config.endpoints(), postgres=lake.at)
    made = Batch(lake.config, endpoints)
    yield made
    made.close()


def test_a_cycle_with_a_relation_held_back_fails_and_a_later_export_heals_it(
    lake: Lake, batch: Batch
) -> None:
    one, two = lake.tables
    lake.commit(one, ID, (1,))
    lake.commit(two, ID, (1,))
    once(batch)
    lake.ask(f"ALTER TABLE raw.{one} ADD CONSTRAINT few CHECK (id < 2)")
    lake.commit(one, ID, (2,))
    lake.commit(two, ID, (2,))
    with pytest.raises(BatchError, match='violates check constraint "few"'):
        once(batch)
    assert lake.ids(two) == [1, 2]
    run = lake.ledger.runs.last()
    assert run is not None
    assert list(run.summary.not_exported) == [f"raw.{one}"]
    lake.ask(f"ALTER TABLE raw.{one} DROP CONSTRAINT few")
    batch.export_again()
    assert lake.ids(one) == [1, 2]


def test_a_table_is_as_fresh_as_the_models_that_read_it(
    lake: Lake, batch: Batch, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = lake.tables
    (project / "models" / "one.sql").write_text("select id from {{ source('raw', 'one') }}")
    (project / "models" / "raw.yml").write_text(
        f"sources: [{{name: raw, schema: raw, tables: [{{name: one, identifier: {one}}}]}}]"
    )
    (project / "tests").mkdir()
    (project / "tests" / "few.sql").write_text("select id from {{ ref('one') }} where id > 1")
    roles = tuple(RoleView(r, "healthy", 1, 0.0, 0, "", "", {}) for r in ("consume", "batch"))

    def stalled() -> dict[str, str]:
        found = look_at_freshness(lake.config, Condition(roles=roles), {})
        assert [table.table for table in found] == [lake.ref(t).topic for t in (one, two)]
        assert found[1].state == "idle"
        return {hop: each.reason for hop, each in found[0].hops.items() if each.state == "stalled"}

    for table in (one, two):
        lake.commit(table, ID, (1,))
    once(batch)
    assert stalled() == {}
    for table in (one, two):
        lake.commit(table, ID, (2,))
    cycle = batch.cycle()
    reason = "main.one is held back: test few: fail"
    assert stalled() == {"consume": reason, "postgres": reason}
    log_cycle(cycle)
    [line] = [x for x in capsys.readouterr().out.splitlines() if "model_held_back" in x]
    assert "where id > 1" in line and "`ducklake failures`" in line
    (project / "tests" / "few.sql").unlink()
    once(batch)
    assert stalled() == {}
    lake.ask(f"ALTER TABLE raw.{two} ADD CONSTRAINT few CHECK (id < 3)")
    for table in (one, two):
        lake.commit(table, ID, (3,))
    with pytest.raises(BatchError, match='constraint "few"'):
        once(batch)
    assert {
        (h.topic, h.commit == lake.ledger.commits.last())
        for h in lake.ledger.freshness.all()
        if h.hop == "postgres"
    } == {(lake.ref(one).topic, True), (lake.ref(two).topic, False)}


def test_models_catch_up_after_an_outage_and_duckdb_goes_on(
    lake: Lake, server: Config, batch: Batch, project: Path
) -> None:
    model = project / "models" / "one.sql"
    once(batch)
    with superuser(server) as root:
        root.execute(f"ALTER ROLE {lake.at.user} NOLOGIN")
        try:
            for value in (2, 3):
                model.write_text(f"select {value} as x")
                cycle = batch.cycle()
                assert "PostgreSQL" in str(cycle.export_error)
                with duckdb.connect(str(lake.ledger.paths.lake_db), read_only=True) as published:
                    assert published.execute("SELECT x FROM main.one").fetchall() == [(value,)]
        finally:
            root.execute(f"ALTER ROLE {lake.at.user} LOGIN")
    assert lake.ask("SELECT x FROM main.one") == [(1,)]
    once(batch)  # which builds nothing
    assert lake.ask("SELECT x FROM main.one") == [(3,)]


def test_a_dbt_project_that_cannot_run_is_named_with_a_command_that_says_more(
    lake: Lake, batch: Batch
) -> None:
    model = lake.config.dbt_project / "models" / "one.sql"
    model.write_text("select {% if %} 1")
    with pytest.raises(BatchError, match="dbt could not run") as caught:
        batch.cycle()
    [command] = re.findall(r"`([^`]+)`", caught.value.remedy)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "one.sql" in done.stdout
    model.write_text("select 1 as x")
    assert batch.cycle().outcome.failed == 0


def test_a_missing_dbt_project_is_named_with_its_key(lake: Lake) -> None:
    endpoints = replace(lake.config.endpoints(), postgres=lake.at)
    with pytest.raises(BatchError, match=r"Set batch\.dbt_project in ducklake\.yml"):
        Batch(lake.config, endpoints)
    path = lake.config.path
    path.write_text(path.read_text() + "batch: {dbt_project: mine}\n")
    (path.parent / "mine").mkdir()
    (path.parent / "mine" / "dbt_project.yml").write_text(PROJECT)
    Batch(load_config(path), endpoints).close()


# Its commands -----------------------------------------------------------------------------------


def command(lake: Lake, *words: str) -> tuple[int, str]:
    """Run a command; gives its exit code and what it prints."""
    done = CliRunner().invoke(app, [*words, "--config", str(lake.config.path)])
    return done.exit_code, done.stdout


def test_commands_show_failing_rows_build_one_model_anew_and_write_a_file(
    lake: Lake, batch: Batch, project: Path, tmp_path: Path
) -> None:
    (project / "models" / "two.sql").write_text("select chr(27) || '[31mred' as v")
    (project / "tests").mkdir()
    (project / "tests" / "plain.sql").write_text("select v, NULL as n from {{ ref('two') }}")
    assert list(batch.cycle().outcome.held_back) == ["main.two"]
    code, shown = command(lake, "failures")
    assert code == 1
    assert "plain: fail since" in shown and "\\x1b[31mred" in shown and "NULL" in shown
    assert not {c for c in shown if not c.isprintable()} - {"\n"}
    code, listed = command(lake, "failures", "--json")
    [failure] = json.loads(listed)
    assert code == 1
    assert failure["test"] == "plain" and failure["rows"] == [["\x1b[31mred", None]]
    assert duckdb.connect(str(lake.ledger.paths.warehouse), read_only=True).execute(
        failure["query"]
    ).fetchall() == [("\x1b[31mred", None)]
    (project / "tests" / "plain.sql").unlink()
    words = ["batch", "--once", "--full-refresh", "--select", "one"]
    done = subprocess.run(
        [sys.executable, "-m", "ducklake.cli", *words, "--config", str(lake.config.path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    [cycle] = [json.loads(line) for line in done.stderr.splitlines() if line[:1] == "{"]
    assert cycle["why"]["main.one"] == "requested" and cycle["since"] == {}
    assert cycle["why"]["main.two"] != "requested"
    assert command(lake, "failures") == (0, "All data tests passed when they last ran.\n")
    assert command(lake, "failures", "--json") == (0, "[]\n")
    target = tmp_path / "copy.duckdb"
    code, told = command(lake, "export", "--duckdb", str(target), "--json")
    assert (code, json.loads(told)["file"]) == (0, str(target))
    with duckdb.connect(str(target), read_only=True) as copied:
        assert copied.execute("SELECT x FROM main.one").fetchall() == [(1,)]
        assert copied.execute("SELECT v FROM main.two").fetchall() == [("\x1b[31mred",)]
    assert json.loads(told)["rows"]["main.two"] == 1
    code, _ = command(lake, "export", "--duckdb", str(target), "--repair")
    assert code == 1


def test_the_iceberg_catalogue_is_a_schema_of_the_lake_s_postgresql(
    tmp_path: Path, server: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = server.endpoints().postgres
    for key in ("host", "port", "user", "password", "database"):
        monkeypatch.setenv(f"DUCKLAKE_SERVICES__POSTGRES__{key.upper()}", str(getattr(at, key)))
    monkeypatch.setenv("DUCKLAKE_SERVICES__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("DUCKLAKE_SERVICES__CONNECT__URL", "http://127.0.0.1:9")
    shop = ShopLake(tmp_path)
    with closing(shop), closing(Compactor(shop.config)) as compactor:
        for first in (0, 10):
            shop.commit("orders", f"SELECT i AS order_id FROM range({first}, {first + 10}) t(i)")
            compactor.pass_once(force=True)
            with closing(IcebergTables(shop.config, shop.ledger)) as tables:
                assert tables.register(shop.ref("orders")).snapshots == 1
        with closing(open_catalog(shop.config)) as catalog:
            assert catalog.load_table("mysql.orders").scan().count() == 20
    [(name, location)] = answer(
        at, "SELECT table_name, metadata_location FROM iceberg.iceberg_tables"
    )
    assert name == "orders" and at.password not in location
