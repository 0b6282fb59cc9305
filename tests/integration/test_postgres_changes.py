"""Only what changed is written to PostgreSQL, once, and nobody who reads there waits for it."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from batcher.description import ModelDescription
from batcher.postgres import PostgresExport, RowChanges, primary_keys, raw_writer
from batcher.raw_loop import RawLoop
from batcher.snapshot import Snapshot
from ducklake.supervision.condition import look
from lake import failpoints
from lake.config import Config, load_config
from lake.opening import open_lake
from lake.processes.heartbeat import RoleHeartbeat
from lake.storage.paths import LakePaths
from lake.storage.sql import quoted
from tests.integration.postgres_lab import ID, Lake, connection, lake, server, superuser
from tests.integration.producers_lab import PATIENCE, unique, wait_until

__all__ = ["lake", "server"]
pytestmark = pytest.mark.stack
KEY = ("id",)
THOUSAND = "SELECT i AS id, i % 7 AS v FROM range(1000) t(i)"


def versions(lake: Lake, name: str) -> dict[int, int]:
    """Rows by the transaction that wrote them."""
    return dict(
        lake.ask(f"SELECT xmin::text::bigint, count(*) FROM consume.{name} GROUP BY 1 ORDER BY 1")
    )


def key_of(lake: Lake, relation: str) -> list[tuple[Any, ...]]:
    return lake.ask(
        "SELECT contype, pg_get_constraintdef(oid) FROM pg_constraint"
        f" WHERE conrelid = '{relation}'::regclass AND contype IN ('p', 'u') ORDER BY 1"
    )


# Models -----------------------------------------------------------------------------------------


def test_only_changed_rows_are_written(lake: Lake) -> None:
    name = unique("m")
    lake.model(name, THOUSAND, KEY)
    lake.export()
    lake.model(
        name,
        "SELECT i AS id, CASE WHEN i < 3 THEN -1 ELSE i % 7 END AS v FROM range(1001) t(i)"
        " WHERE i <> 500",
        KEY,
    )
    result = lake.export()
    [found] = result.differences.values()
    assert (found.added, found.changed, found.removed) == (1, 3, 1)
    assert list(versions(lake, name).values()) == [996, 4]
    assert lake.ask(f"SELECT count(*), sum(v) FROM consume.{name} WHERE id < 3") == [(3, -3)]
    assert lake.ask(f"SELECT count(*) FROM consume.{name} WHERE id IN (500, 1000)") == [(1,)]


class Logged:
    """A model whose changes are known without its file."""

    def __init__(self, snapshot: Snapshot, changes: RowChanges | None) -> None:
        self._snapshot = snapshot
        self._changes = changes
        self.relation, self.description = snapshot.relation, snapshot.description
        self.state = snapshot.state
        self.asked: list[str] = []

    def whole(self) -> str:
        return self._snapshot.whole()

    def changes(self, since: str) -> RowChanges | None:
        self.asked.append(since)
        return self._changes


@pytest.mark.parametrize("is_known", [True, False])
def test_a_change_log_is_asked_for_what_changed_since_the_exported_state(
    lake: Lake, is_known: bool
) -> None:
    name = unique("m")
    lake.model(name, THOUSAND, KEY)
    lake.export()
    before = lake.snapshots[f"consume.{name}"].state
    lake.model(name, "SELECT i AS id, 9::BIGINT AS v FROM range(10, 1005) t(i)", KEY)
    changes = RowChanges(
        "SELECT * FROM (VALUES (3::BIGINT, 33::BIGINT), (1000, 5)) t(id, v)",
        "SELECT unnest([3, 4])::BIGINT AS id",
    )
    logged = Logged(lake.snapshots[f"consume.{name}"], changes if is_known else None)
    export = PostgresExport(lake.config, lake.at, lake.ledger)
    assert not export.export_models({name: logged}).held_back
    assert logged.asked == [before]
    found = lake.ask(f"SELECT id, v FROM consume.{name} WHERE id IN (3, 4, 5, 1000) ORDER BY id")
    # A key that is deleted and upserted is there: it came back.
    assert found == ([(3, 33), (5, 5), (1000, 5)] if is_known else [(1000, 9)])
    [(count,)] = lake.ask(f"SELECT rows FROM ducklake.exports WHERE relation = 'consume.{name}'")
    assert count == (1000 if is_known else 995)


def test_a_new_column_is_filled_though_the_log_names_few_rows(lake: Lake) -> None:
    name = unique("m")
    lake.model(name, THOUSAND, KEY)
    lake.export()
    lake.ask(f"CREATE VIEW consume.{name}_v AS SELECT * FROM consume.{name}")
    lake.model(name, "SELECT i AS id, i % 7 AS v, 1 AS w FROM range(1000) t(i)", KEY)
    changes = RowChanges("SELECT 1::BIGINT AS id, 1::BIGINT AS v, 1 AS w", "SELECT 0 AS id LIMIT 0")
    logged = Logged(lake.snapshots[f"consume.{name}"], changes)
    PostgresExport(lake.config, lake.at, lake.ledger).export_models({name: logged})
    assert lake.ask(f"SELECT sum(w) FROM consume.{name}") == [(1000,)]
    assert lake.ask(f"SELECT count(*) FROM consume.{name}_v") == [(1000,)]


def test_models_of_a_cycle_appear_at_once_but_for_the_one_that_is_refused(lake: Lake) -> None:
    names = [unique("m") for _ in range(4)]
    for name in names:
        lake.model(name, THOUSAND, KEY)
    lake.export()
    lake.ask(f"ALTER TABLE consume.{names[1]} ADD CONSTRAINT few CHECK (v >= 0)")
    lake.ask(
        f"ALTER TABLE consume.{names[2]} ADD CONSTRAINT late UNIQUE (id, v) DEFERRABLE"
        " INITIALLY DEFERRED"
    )
    for name in names:
        lake.model(name, "SELECT i AS id, -1 AS v FROM range(1000) t(i)", KEY)
    assert 'constraint "few"' in lake.held_back(f"consume.{names[1]}")
    listed = ", ".join(f"'consume.{name}'" for name in names if name != names[1])
    moments = lake.ask(
        f"SELECT count(*), count(DISTINCT exported_at) FROM ducklake.exports"
        f" WHERE relation IN ({listed})"
    )
    assert moments == [(3, 1)]  # the moment at which a transaction began
    assert lake.ask(f"SELECT min(v) FROM consume.{names[1]}") == [(0,)]


def test_what_a_constraint_checks_at_the_end_holds_back_its_own_model_alone(lake: Lake) -> None:
    parent, child, other = (unique("m") for _ in range(3))
    for name in (parent, child, other):
        lake.model(name, THOUSAND, KEY)
    lake.export()
    lake.ask(
        f"ALTER TABLE consume.{child} ADD FOREIGN KEY (v) REFERENCES consume.{parent} (id)"
        " DEFERRABLE INITIALLY DEFERRED"
    )
    lake.model(child, "SELECT i AS id, 5000 AS v FROM range(1000) t(i)", KEY)
    lake.model(other, "SELECT 1::BIGINT AS id, 1::BIGINT AS v", KEY)
    assert "violates foreign key" in lake.held_back(f"consume.{child}")
    assert lake.ask(f"SELECT count(*) FROM consume.{other}") == [(1,)]


def test_a_query_that_fails_halfway_leaves_no_half_of_its_rows(lake: Lake) -> None:
    name = unique("m")
    lake.model(name, THOUSAND, KEY)
    lake.export()

    class Failing(Logged):
        def whole(self) -> str:
            bad = "CASE WHEN i < 90000 THEN i ELSE error('no') END"
            return f"SELECT {bad} AS id, 1::BIGINT AS v FROM range(99999) t(i)"

    for relation in (f"consume.{name}", f"consume.{unique('m')}"):
        lake.model("other", THOUSAND, KEY)
        snapshot = replace(lake.snapshots.pop("consume.other"), relation=relation)
        result = PostgresExport(lake.config, lake.at, lake.ledger).export_models(
            {relation: Failing(snapshot, None)}
        )
        assert list(result.held_back) == [relation]
        assert "Traceback" not in str(result.held_back[relation])
    assert lake.ask(f"SELECT count(*) FROM consume.{name}") == [(1000,)]
    assert lake.ask(f"SELECT to_regclass('{relation}') IS NULL") == [(True,)]


@pytest.mark.parametrize("key", [KEY, ()])
def test_what_users_made_of_a_model_survives_a_column_that_changes_type(
    lake: Lake, server: Config, key: tuple[str, ...]
) -> None:
    name, role = unique("m"), unique("r")
    place = f"consume.{name}"
    lake.model(name, THOUSAND, key)
    lake.export()
    with superuser(server) as root:
        root.execute(f"CREATE ROLE {role}; GRANT {role} TO {lake.at.user}")
        root.execute(f"GRANT USAGE, CREATE ON SCHEMA consume TO {role}")
    lake.ask(
        f"CREATE INDEX {name}_i ON {place} (v) WHERE id > 5; GRANT SELECT ON {place} TO {role};"
        f"GRANT UPDATE (v) ON {place} TO {role} WITH GRANT OPTION;"
        f"COMMENT ON TABLE {place} IS 'mine'; COMMENT ON COLUMN {place}.v IS 'my v';"
        f"CREATE VIEW {place}_v WITH (security_barrier=true) AS SELECT v FROM {place};"
        f"COMMENT ON VIEW {place}_v IS 'seen'; GRANT SELECT ON {place}_v TO PUBLIC;"
        f"ALTER VIEW {place}_v OWNER TO {role}; ALTER TABLE {place} OWNER TO {role}"
    )
    about = (
        "SELECT relname, relacl::text, reloptions, obj_description(oid), pg_get_viewdef(oid),"
        " pg_get_userbyid(relowner), (SELECT array_agg((attname, attacl::text,"
        " col_description(attrelid, attnum)) ORDER BY attnum) FROM pg_attribute"
        " WHERE attrelid = c.oid AND attnum > 0), (SELECT pg_get_indexdef(indexrelid)"
        " FROM pg_index WHERE indexrelid = c.oid) FROM pg_class c"
        f" WHERE relname IN ('{name}', '{name}_v', '{name}_i') ORDER BY relname"
    )
    before = lake.ask(about)
    assert len(before) == 3
    # One that keeps the values, and one that does not.
    for value in ("(i % 7)::VARCHAR || 'x'", "[i]"):
        lake.model(name, f"SELECT i AS id, {value} AS v FROM range(1000) t(i)", key)
        assert not lake.export().held_back
        assert lake.ask(about) == before
    assert lake.ask(f"SELECT count(*) FROM {place}_v WHERE v = '[7]'") == [(1,)]


# Keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_large", [False, True])
def test_a_table_gets_the_primary_key_of_its_model(
    lake: Lake, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(primary_keys, "LARGE_BYTES", 1)
    name, with_key = unique("m"), unique("m")
    lake.model(with_key, THOUSAND, KEY)
    lake.model(name, THOUSAND)  # as an earlier release left it
    lake.export()
    assert key_of(lake, f"consume.{with_key}") == [("p", "PRIMARY KEY (id)")]
    assert key_of(lake, f"consume.{name}") == []
    lake.model(name, THOUSAND, KEY)
    assert not lake.export().held_back
    assert key_of(lake, f"consume.{name}") == [("p", "PRIMARY KEY (id)")]
    lake.model(name, THOUSAND, ("id", "v"))  # another key
    assert not lake.export().held_back
    assert key_of(lake, f"consume.{name}") == [("p", "PRIMARY KEY (id, v)")]


def test_a_primary_key_of_a_user_stays(lake: Lake) -> None:
    name = unique("m")
    lake.model(name, THOUSAND)
    lake.export()
    lake.ask(f"ALTER TABLE consume.{name} ADD PRIMARY KEY (v, id)")
    lake.model(name, THOUSAND, KEY)
    assert not lake.export().held_back
    assert key_of(lake, f"consume.{name}") == [
        ("p", "PRIMARY KEY (v, id)"),
        ("u", "UNIQUE (id)"),
    ]


@pytest.mark.parametrize(
    "bad", ["SELECT 1 AS id, 2 AS v UNION ALL SELECT 1, 3", "SELECT NULL::INT AS id, 1 AS v"]
)
@pytest.mark.parametrize("is_new", [True, False])
def test_rows_without_a_unique_key_are_held_back_by_name(
    lake: Lake, bad: str, is_new: bool
) -> None:
    name, other = unique("m"), unique("m")
    if not is_new:
        lake.model(name, THOUSAND, KEY)
        lake.export()
    lake.model(name, bad, KEY)
    lake.model(other, THOUSAND, KEY)
    said = lake.held_back(f"consume.{name}")
    assert "not unique by its primary key (id)" in said
    assert "Correct the model" in said
    assert lake.ask(f"SELECT count(*) FROM consume.{other}") == [(1000,)]
    if not is_new:
        assert lake.ask(f"SELECT count(*) FROM consume.{name}") == [(1000,)]
    lake.model(name, THOUSAND, KEY)
    assert not lake.export().held_back


def test_old_rows_that_stand_twice_give_way_to_rows_with_a_key(lake: Lake) -> None:
    name = unique("m")
    lake.model(name, "SELECT 1::BIGINT AS id, i AS v FROM range(3) t(i)")
    lake.export()
    lake.model(name, THOUSAND, KEY)
    assert not lake.export().held_back
    assert key_of(lake, f"consume.{name}") == [("p", "PRIMARY KEY (id)")]
    assert lake.ask(f"SELECT count(*) FROM consume.{name}") == [(1000,)]


def test_a_key_that_is_no_column_is_named(lake: Lake) -> None:
    name = unique("m")
    lake.model(name, THOUSAND, ("order_id",))
    assert "names order_id, which is no column" in lake.held_back(f"consume.{name}")
    lake.model(name, THOUSAND, KEY)
    assert not lake.export().held_back


# Comments ---------------------------------------------------------------------------------------


def test_descriptions_are_comments_unless_somebody_wrote_their_own(lake: Lake) -> None:
    name = unique("m")

    def comments() -> tuple[Any, ...]:
        [row] = lake.ask(
            "SELECT obj_description(oid), col_description(oid, 1), col_description(oid, 2)"
            f" FROM pg_class WHERE oid = 'consume.{name}'::regclass"
        )
        return row

    lake.model(name, THOUSAND, KEY, "It's a 100 % model", {"id": "The key", "v": "A value"})
    lake.export()
    assert comments() == ("It's a 100 % model", "The key", "A value")
    lake.ask(f"COMMENT ON COLUMN consume.{name}.id IS 'Mine'")
    path = lake.snapshots[f"consume.{name}"]
    about = replace(path.description, text="New", columns={"id": "Another", "v": "Other"})
    lake.snapshots[f"consume.{name}"] = replace(path, description=about)
    lake.export()
    assert comments() == ("New", "Mine", "Other")
    about = replace(about, text="", columns={})
    lake.snapshots[f"consume.{name}"] = replace(path, description=about)
    lake.export()
    assert comments() == (None, "Mine", None)


# Names ------------------------------------------------------------------------------------------


def test_a_hostile_name_is_a_name_like_any_other(lake: Lake) -> None:
    victim, hostile = unique("victim"), f'{unique("x")}"; drop table y; --'
    lake.model(victim, "SELECT 1 AS id")
    lake.model(hostile, 'SELECT 1 AS "k""; drop table y; --", \'a\' AS "%s {} \'"', ())
    odd = lake.snapshots.pop(f"consume.{hostile}")
    column = 'k"; drop table y; --'
    about = replace(odd.description, primary_key=(column,), text="'; drop table y; --")
    for schema in ("consume", unique('s"; drop table y; --')):
        relation = f"{schema}.{hostile}"
        lake.snapshots[relation] = replace(odd, relation=relation, description=about)
    assert not lake.export().held_back
    lake.model("other", 'SELECT 2 AS "k""; drop table y; --", \'b\' AS "%s {} \'"')
    other = lake.snapshots.pop("consume.other").path
    for relation in [r for r in lake.snapshots if hostile in r]:
        lake.snapshots[relation] = replace(lake.snapshots[relation], path=other, digest=unique("d"))
        schema, _, name = relation.partition(".")
        place = '"' + schema.replace('"', '""') + '"."' + name.replace('"', '""') + '"'
        assert lake.ask(f'SELECT "k""; drop table y; --" FROM {place}') == [(1,)]
        lake.ask(f"ALTER TABLE {place} ADD CONSTRAINT c CHECK (false) NOT VALID")
        said = lake.held_back(relation)
        [statement] = re.findall(r"`([^`]+)`", said)
        lake.ask(statement)  # the remedy names it rightly
        assert not lake.export().held_back
        assert lake.ask(f'SELECT "k""; drop table y; --" FROM {place}') == [(2,)]
    export = PostgresExport(lake.config, lake.at, lake.ledger)
    assert not export.repair_model(lake.snapshots[f"consume.{hostile}"])
    assert lake.ask(f"SELECT id FROM consume.{victim}") == [(1,)]


def test_a_hostile_name_of_a_raw_table_is_a_name_like_any_other(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration refuses such a name; the export does not rely on that."""
    one, _ = lake.tables
    hostile, column = f'{unique("x")}"; drop table y; --', "k'\"; drop table y; --"
    monkeypatch.setattr(
        Config, "relation", lambda self, ref: hostile if ref.table == one else ref.table
    )
    relation, place = f"raw.{hostile}", 'raw."' + hostile.replace('"', '""') + '"'
    rows = f"SELECT id, {quoted(column)} FROM {place} ORDER BY id"
    lake.commit(one, {**ID, column: "INTEGER"}, (1, "1"))
    assert not lake.export().held_back
    lake.commit(one, {**ID, column: "VARCHAR"}, (2, "'b'"))
    assert not lake.export().held_back
    assert lake.ask(rows) == [(1, "1"), (2, "b")]
    lake.ask(f"ALTER TABLE {place} ADD CONSTRAINT few CHECK (id < 3)")
    lake.commit(one, ID, (3,))
    said = lake.held_back(relation)
    [statement] = re.findall(r"`([^`]+)`", said)
    lake.ask(statement)
    assert not lake.export().held_back
    lake.ask(f"UPDATE {place} SET id = 9 WHERE id = 2")
    export = PostgresExport(lake.config, lake.at, lake.ledger)
    writers = {w.relation: w for w in export.raw_writers(lake.ledger.commits.last())}
    assert export.repair_raw(writers[relation])
    assert lake.ask(rows) == [(1, "1"), (2, "b"), (3, None)]


# Readers ----------------------------------------------------------------------------------------


class Reader(threading.Thread):
    """Reads two models again and again; says what it must not see."""

    def __init__(self, lake: Lake, names: list[str], level: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._at, self._names, self._level, self._stop_it = lake.at, names, level, stop
        self.wrong: list[str] = []
        self.seen: set[int] = set()

    def run(self) -> None:
        try:
            self._read()
        except psycopg2.Error as error:
            self.wrong.append(f"{self._level}: {error}")

    def _read(self) -> None:
        opened = connection(self._at)
        opened.autocommit = False
        counts = " UNION ALL ".join(
            f"SELECT count(*), min(v), max(v) FROM consume.{name}" for name in self._names
        )
        with opened.cursor() as cursor:
            while not self._stop_it.is_set():
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {self._level}")
                # A reader that waits behind a lock is one that fails here.
                cursor.execute("SET LOCAL lock_timeout = '1s'")
                cursor.execute(counts)
                found = cursor.fetchall()
                if self._level == "REPEATABLE READ":
                    for name in self._names:
                        cursor.execute(f"SELECT count(*), min(v), max(v) FROM consume.{name}")
                        found += cursor.fetchall()
                opened.commit()
                if len(set(found)) != 1 or found[0][0] != 200 or found[0][1] != found[0][2]:
                    self.wrong.append(f"{self._level}: {found}")
                    return
                self.seen.add(found[0][1])
        opened.close()


def test_readers_never_wait_and_see_one_cycle_through_exports_and_kills(
    lake: Lake, server: Config
) -> None:
    names = [unique("m") for _ in range(3)]
    chance, stop = random.Random(15), threading.Event()

    def cycle(number: int) -> None:
        more = f", {number} AS w{number // 8}" if number >= 8 else ""
        for name in names:
            lake.model(name, f"SELECT i AS id, {number} AS v{more} FROM range(200) t(i)", KEY)

    cycle(0)
    lake.export()
    levels = ["REPEATABLE READ", "READ COMMITTED"] * 2
    readers = [Reader(lake, names, level, stop) for level in levels]
    for reader in readers:
        reader.start()
    kills = 0
    with superuser(server) as root:
        for number in range(1, 25):
            cycle(number)
            killer = threading.Timer(chance.random() * 0.15, _terminate, (root,))
            if number % 3 == 0:
                killer.start()
            try:
                result = lake.export()
                assert not result.held_back, result.held_back
            except Exception as error:
                assert number % 3 == 0, error
                kills += 1
            if number % 3 == 0:
                killer.join()
    lake.export()
    wait_until(lambda: all(24 in r.seen or r.wrong for r in readers), "readers see the last cycle")
    stop.set()
    for reader in readers:
        reader.join(PATIENCE)
        assert not reader.wrong
        assert len(reader.seen) > 5


def _terminate(root: Any) -> None:
    root.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'ducklake' AND pid <> pg_backend_pid()"
    )


def test_a_new_column_waits_for_readers_in_moments_and_they_do_not_wait_for_it(lake: Lake) -> None:
    name, other = unique("m"), unique("m")
    for each in (name, other):
        lake.model(each, THOUSAND, KEY)
    lake.export()
    long = connection(lake.at)
    long.autocommit = False
    with long.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM consume.{name}")  # and leaves it open
        stop = threading.Event()
        short = Reader(lake, [name], "READ COMMITTED", stop)
        short.run = lambda: _read_quickly(lake, name, stop, short.wrong)  # type: ignore[method-assign]
        short.start()
        for each in (name, other):
            lake.model(each, "SELECT i AS id, 8 AS v, 1 AS w FROM range(1000) t(i)", KEY)
        assert "is locked by another session" in lake.held_back(f"consume.{name}")
        assert lake.ask(f"SELECT sum(w) FROM consume.{other}") == [(1000,)]
        stop.set()
        short.join(PATIENCE)
        assert not short.wrong
    long.close()
    assert not lake.export().held_back
    assert lake.ask(f"SELECT sum(w) FROM consume.{name}") == [(1000,)]


def _read_quickly(lake: Lake, name: str, stop: threading.Event, wrong: list[str]) -> None:
    opened = connection(lake.at)
    with opened.cursor() as cursor:
        cursor.execute("SET lock_timeout = '1s'")
        while not stop.is_set():
            try:
                cursor.execute(f"SELECT count(*) FROM consume.{name}")
            except psycopg2.Error as error:
                wrong.append(str(error))
    opened.close()


# Kills ------------------------------------------------------------------------------------------


def export_in_a_process(
    lake: Lake, failpoint: str = "", *words: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ducklake.cli", "export", *words]
    return subprocess.run(
        [*command, "--config", str(lake.config.path)],
        env={**os.environ, "DUCKLAKE_FAILPOINT": failpoint},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize("point", ["export.raw.copied:2", "export.raw.committed"])
def test_raw_rows_are_there_once_whatever_is_killed(lake: Lake, point: str) -> None:
    one, two = lake.tables
    for table in lake.tables:
        lake.commit(table, ID, (1,), (2,))
    assert export_in_a_process(lake, point).returncode == -9
    for table in lake.tables:
        lake.commit(table, ID, (3,))
    assert not lake.export().held_back
    assert lake.ids(one) == lake.ids(two) == [1, 2, 3]


@pytest.mark.parametrize("point", ["export.models.written", "export.models.committed"])
def test_models_are_of_one_cycle_whatever_is_killed(lake: Lake, point: str) -> None:
    names = [unique("m") for _ in range(2)]
    script = (
        "import sys; from tests.integration.test_postgres_changes import killed_export;"
        "killed_export(*sys.argv[1:])"
    )
    for name in names:
        lake.model(name, THOUSAND, KEY)
    lake.export()
    for name in names:
        lake.model(name, "SELECT i AS id, 9 AS v FROM range(1000) t(i)", KEY)
    paths = [f"{r}={s.path}={s.digest}" for r, s in lake.snapshots.items()]
    done = subprocess.run(
        [sys.executable, "-c", script, str(lake.config.path), point, *paths], timeout=PATIENCE
    )
    assert done.returncode == -9
    sums = [lake.ask(f"SELECT sum(v) FROM consume.{name}") for name in names]
    assert sums[0] == sums[1]
    assert (sums[0] == [(9000,)]) == (point == "export.models.committed")
    assert lake.export().written == (2 if point == "export.models.written" else 0)


def killed_export(config: str, point: str, *models: str) -> None:
    """In a process of its own: export some models, and be killed."""
    settings = load_config(Path(config))
    snapshots = {}
    for model in models:
        relation, path, digest = model.split("=")
        snapshots[relation] = Snapshot(relation, Path(path), 0, digest, ModelDescription(KEY))
    with open_lake(settings, for_writing=False) as opened:
        failpoints.arm(point)
        export = PostgresExport(settings, settings.endpoints().postgres, opened.ledger)
        export.export_models(snapshots)


def test_two_exports_at_once_write_each_row_once(lake: Lake) -> None:
    one, two = lake.tables
    failures: list[Any] = []

    def export() -> None:
        try:
            for _ in range(6):
                failures.extend(lake.export().held_back.values())
        except Exception as error:
            failures.append(error)

    number = 0
    for _ in range(4):
        for table in lake.tables:
            lake.commit(table, ID, (number,), (number + 1,))
        number += 2
        both = [threading.Thread(target=export) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(PATIENCE)
    assert not failures
    assert lake.ids(one) == lake.ids(two) == list(range(number))


# Raw on its own ---------------------------------------------------------------------------------


@contextmanager
def raw_loop(lake: Lake) -> Iterator[RawLoop]:
    """The loop of the batch that exports raw."""
    heartbeat = RoleHeartbeat(LakePaths(lake.config.data_dir).run, "batch")
    loop, stop = RawLoop(lake.config, lake.at, heartbeat), threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            heartbeat.beat("waiting")

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with loop.running(stop):
            yield loop
    finally:
        stop.set()
        beating.join()
        heartbeat.close()


def test_raw_rows_arrive_without_a_cycle_and_catch_up_after_an_outage(
    lake: Lake, server: Config
) -> None:
    one, _ = lake.tables
    lake.commit(one, ID, (1,))
    with raw_loop(lake), superuser(server) as root:
        wait_until(lambda: exists(lake, one) and lake.ids(one) == [1], "the first row")
        lake.commit(one, ID, (2,))
        wait_until(lambda: lake.ids(one) == [1, 2], "the second row")
        root.execute(f"ALTER ROLE {lake.at.user} NOLOGIN")
        _terminate(root)
        lake.commit(one, ID, (3,))
        wait_until(lambda: "raw export" in problems(lake), "the outage is shown")
        lake.commit(one, ID, (4,))
        root.execute(f"ALTER ROLE {lake.at.user} LOGIN")
        wait_until(lambda: lake.ids(one) == [1, 2, 3, 4], "it catches up")
        wait_until(lambda: not problems(lake), "nothing is wrong any more")


def exists(lake: Lake, table: str) -> bool:
    return lake.ask(f"SELECT to_regclass('raw.{table}') IS NOT NULL") == [(True,)]


def problems(lake: Lake) -> str:
    return " ".join(problem.line() for problem in look(lake.config).problems)


def test_a_raw_table_that_somebody_locks_is_shown_and_the_others_go_on(lake: Lake) -> None:
    one, two = lake.tables
    for table in lake.tables:
        lake.commit(table, ID, (1,))
    with raw_loop(lake):
        wait_until(lambda: all(exists(lake, t) for t in lake.tables), "both tables")
        other = connection(lake.at)
        other.autocommit = False
        with other.cursor() as cursor:
            cursor.execute(f"LOCK TABLE raw.{one} IN SHARE MODE")
            for table in lake.tables:
                lake.commit(table, ID, (2,))
            wait_until(lambda: f"raw.{one} is locked" in problems(lake), "the lock is shown")
            wait_until(lambda: lake.ids(two) == [1, 2], "the other table")
        other.close()
        wait_until(lambda: lake.ids(one) == [1, 2], "it catches up")
        wait_until(lambda: not problems(lake), "nothing is wrong any more")


DAY = 86_400


def test_a_window_of_days_keeps_its_rows_and_a_larger_one_brings_the_others_back(
    tmp_path: Path, server: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_writer, "PURGE_ROWS", 2)
    lake = Lake(tmp_path, server, "one", options="{export: {raw: 2}}")
    [one] = lake.tables
    now = time.time()
    for age in range(8):
        lake.commit(one, ID, (age,), at=now - age * DAY)
    assert not lake.export().held_back
    assert lake.ids(one) == [0, 1, 2]
    monkeypatch.setattr(time, "time", lambda: now + 2 * DAY)  # two days later
    lake.commit(one, ID, (10,), at=now + 2 * DAY)
    assert not lake.export().held_back
    assert lake.ids(one) == [0, 10]
    [(rows,)] = lake.ask(f"SELECT rows FROM ducklake.exports WHERE relation = 'raw.{one}'")
    assert rows == 2
    _configure(lake, "{export: {raw: 5}}")
    assert not lake.export().held_back
    assert lake.ids(one) == [0, 1, 2, 3, 10]
    _configure(lake, "{export: {raw: off}}")
    lake.commit(one, ID, (11,), at=now)
    assert lake.export().written == 0
    assert lake.ids(one) == [0, 1, 2, 3, 10]
    _configure(lake, "{export: {raw: on}}")
    assert not lake.export().held_back
    assert lake.ids(one) == [*range(8), 10, 11]
    lake.ledger.close()


def _configure(lake: Lake, options: str) -> None:
    path = lake.config.path
    path.write_text(re.sub(r"\{export: .*?\}\}", options, path.read_text()))
    lake.config = load_config(path)


# Repair -----------------------------------------------------------------------------------------


def test_a_repair_finds_and_mends_what_somebody_changed(lake: Lake) -> None:
    one, two = lake.tables
    keyed, plain = unique("m"), unique("m")
    lake.commit(one, ID, (1,), (2,), (3,))
    lake.commit(two, ID, (1,))
    lake.model(keyed, THOUSAND, KEY)
    lake.model(plain, "SELECT i % 2 AS v FROM range(10) t(i)")
    lake.export()
    lake.ask(f"UPDATE consume.{keyed} SET v = 99 WHERE id < 2")
    lake.ask(f"DELETE FROM consume.{keyed} WHERE id = 5")
    lake.ask(f"INSERT INTO consume.{keyed} VALUES (5000, 1)")
    lake.ask(f"UPDATE consume.{plain} SET v = 7 WHERE v = 1")
    lake.ask(f"INSERT INTO consume.{plain} VALUES (0)")
    lake.ask(f"DELETE FROM raw.{one} WHERE id = 2")
    lake.ask(f"INSERT INTO raw.{one} SELECT * FROM raw.{one} WHERE id = 1")
    export = PostgresExport(lake.config, lake.at, lake.ledger)
    found = export.repair_model(lake.snapshots[f"consume.{keyed}"])
    assert (found.added, found.changed, found.removed) == (1, 2, 1)
    found = export.repair_model(lake.snapshots[f"consume.{plain}"])
    assert (found.added, found.changed, found.removed) == (5, 0, 6)
    writers = {w.relation: w for w in export.raw_writers(lake.ledger.commits.last())}
    found = export.repair_raw(writers[f"raw.{one}"])
    assert (found.added, found.changed, found.removed) == (1, 0, 1)
    assert not export.repair_raw(writers[f"raw.{two}"])
    assert lake.ids(one) == [1, 2, 3]
    assert lake.ask(f"SELECT count(*), sum(v) FROM consume.{plain}") == [(10, 5)]
    assert lake.ask(f"SELECT sum(v), count(*) FROM consume.{keyed}") == [(2997, 1000)]
    for snapshot in lake.snapshots.values():
        assert not export.repair_model(snapshot)
    lake.commit(one, ID, (4,))
    assert not lake.export().held_back
    assert lake.ids(one) == [1, 2, 3, 4]


def test_the_command_exports_and_repairs(lake: Lake) -> None:
    one, two = lake.tables
    for table in lake.tables:
        lake.commit(table, ID, (1,), (2,))
    assert export_in_a_process(lake).returncode == 0
    lake.ask(f"DELETE FROM raw.{one} WHERE id = 2")
    done = export_in_a_process(lake, "", "--repair", one, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "relations": [
            {"relation": f"raw.{one}", "added": 1, "changed": 0, "removed": 0, "error": ""}
        ]
    }
    assert f"1 of 1: raw.{one} ..." in done.stderr
    assert lake.ids(one) == [1, 2]
    done = export_in_a_process(lake, "", "--repair", f"raw.{two}x")
    assert done.returncode == 1
    assert f"No relation 'raw.{two}x' is exported" in done.stderr


# No room ----------------------------------------------------------------------------------------


def test_a_full_disk_of_postgresql_holds_back_its_table_until_there_is_room(
    lake: Lake, server: Config
) -> None:
    one, two = lake.tables
    model, other = unique("m"), unique("m")
    folder = server.stack_dir / "postgres" / unique("small")
    folder.mkdir(mode=0o700)
    owner = (server.stack_dir / "postgres" / "data").stat()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system needs the right to mount: {done.stderr}")
    try:
        os.chown(folder, owner.st_uid, owner.st_gid)
        lake.commit(one, ID, (1,))
        lake.commit(two, ID, (1,))
        for name in (model, other):
            lake.model(name, "SELECT 1 AS id, 1 AS v", KEY)
        lake.export()
        space = unique("small")
        with superuser(server) as root:
            root.execute(f"CREATE TABLESPACE {space} LOCATION '{folder}'")
            for place in (f"raw.{one}", f"consume.{model}"):
                root.execute(f"ALTER TABLE {place} SET TABLESPACE {space}")
            _fill(folder)
            lake.commit(one, ID, *((n,) for n in range(2, 3000)))
            lake.commit(two, ID, (2,))
            for name in (model, other):
                lake.model(name, "SELECT i AS id, 2 AS v FROM range(3000) t(i)", KEY)
            held = lake.export().held_back
            assert set(held) == {f"raw.{one}", f"consume.{model}"}
            assert all("no room for" in str(reason) for reason in held.values())
            assert lake.ids(two) == [1, 2]
            assert lake.ask(f"SELECT v FROM consume.{model}") == [(1,)]
            assert lake.ask(f"SELECT count(*) FROM consume.{other}") == [(3000,)]
            (folder / "ballast").unlink()
            assert not lake.export().held_back
            assert len(lake.ids(one)) == 2999
            assert lake.ask(f"SELECT count(*) FROM consume.{model}") == [(3000,)]
            for place in (f"raw.{one}", f"consume.{model}"):
                root.execute(f"ALTER TABLE {place} SET TABLESPACE pg_default")
            root.execute(f"DROP TABLESPACE {space}")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(b"x" * 4096)
