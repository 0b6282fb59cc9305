"""The history of definitions, and what a table does when its definition changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from consumers.ingest.lake_writer import LakeWriter
from lake.config import Config, load_config
from lake.errors import SchemaDrift
from lake.storage.paths import LakePaths
from tests.integration.following import Following, as_root, following, run
from tests.integration.producers_lab import unique, wait_until

pytestmark = pytest.mark.stack
POLICIES = ("evolve", "freeze", "quarantine")


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Following]:
    """A table of each policy; of each a row of before and one of after a change."""
    names = {policy: unique(f"{policy}_") for policy in POLICIES}
    with as_root(stack_config) as cursor:
        for name in names.values():
            cursor.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(20), w DATE)")
        tables = {name: {"key": ["id"], "drift": policy} for policy, name in names.items()}
        with following(tmp_path_factory.mktemp("drift"), stack_config, tables) as made:
            for name in names.values():
                cursor.execute(f"INSERT INTO {name} VALUES (1, 'one', '2024-01-02')")
            made.take()
            for name in names.values():
                change = f"ALTER TABLE {name} ADD x INT, MODIFY v VARBINARY(20), DROP w"
                run(cursor, [change, f"INSERT INTO {name} VALUES (2, 'two', 7)"])
            made.deliver()
            with pytest.raises(SchemaDrift) as stopped:
                made.consume()
            assert names["freeze"] in stopped.value.what and "ADD x INT" in stopped.value.what
            yield made
        for name in names.values():
            cursor.execute(f"DROP TABLE {name}")


def table(changed: Following, policy: str) -> str:
    return next(name for name in changed.tables if name.startswith(policy))


def rows(changed: Following, name: str) -> list[tuple[Any, ...]]:
    """The ids of a table's public rows."""
    paths = LakePaths(changed.lab.config.data_dir)
    files = [str(f) for f in paths.lake_files() if f"/{name}/" in str(f)]
    newest = [f for f in files if "/generations/" in f] or files
    found: list[tuple[Any, ...]] = duckdb.sql(
        f"SELECT DISTINCT id FROM read_parquet({newest}, union_by_name = true)"
        " WHERE _op <> 't' ORDER BY id"
    ).fetchall()
    return found


def versions(changed: Following, name: str) -> list[dict[str, Any]]:
    said = json.loads(changed.command("schema", name, "--json"))
    found: list[dict[str, Any]] = said["versions"]
    return found


def test_every_definition_is_kept_with_what_it_did(changed: Following) -> None:
    first, second = versions(changed, table(changed, "evolve"))
    assert [c["name"] for c in first["columns"]] == ["id", "v", "w"]
    assert second["statement"].startswith("ALTER TABLE") and ":" in second["position"]
    assert second["since"] >= first["since"]
    columns = {(c["name"], c["before"], c["after"]) for c in second["columns"]}
    assert columns == {("v", "VARCHAR", "BLOB"), ("x", "", "INTEGER"), ("w", "DATE", "")}
    raw = {(c["name"], c["before"], c["after"]) for c in second["raw"]}
    assert raw == {("v__blob", "", "BLOB"), ("x", "", "INTEGER")}
    text = changed.command("schema", table(changed, "evolve"))
    assert "+x INTEGER" in text and "v VARCHAR → BLOB" in text and "-w" in text


def test_a_change_is_announced_in_status(changed: Following) -> None:
    topic = f"{changed.lab.source}.{table(changed, 'evolve')}"
    status = json.loads(changed.command("status", "--json", code=4))
    [said] = [c for c in status["schema_changes"] if c["table"] == topic]
    assert said["columns"] == "v VARCHAR → BLOB, +x INTEGER, -w DATE" or "+x" in said["columns"]


def test_a_quarantined_row_comes_back_once_its_definition_is_accepted(changed: Following) -> None:
    name = table(changed, "quarantine")
    assert rows(changed, name) == [(1,)]
    assert json.loads(changed.command("verify", name, "--json"))["exact"]
    changed.command("schema", name, "--accept")
    changed.command("replay", name, "--rebuild")
    changed.command("compact", "--now")
    assert rows(changed, name) == [(1,), (2,)]
    assert changed.reconcile(name).state == "equal"


def test_a_frozen_table_goes_on_once_its_definition_is_accepted(changed: Following) -> None:
    """Or with another policy: a running consumer resumes by itself, a new one at its start."""
    name = table(changed, "freeze")
    assert rows(changed, name) == [(1,)]
    stop = threading.Event()
    writer = LakeWriter(changed.lab.config, changed.lab.endpoints)
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        changed.command("schema", name, "--accept")
        wait_until(lambda: rows(changed, name) == [(1,), (2,)], "the frozen table goes on")
    finally:
        stop.set()
        thread.join()
        writer.close()
    with as_root(changed.stack) as cursor:
        run(cursor, [f"ALTER TABLE {name} ADD y INT", f"INSERT INTO {name} VALUES (3, 'x', 1, 2)"])
    changed.deliver()
    with pytest.raises(SchemaDrift, match="ADD y INT"):
        changed.consume()
    changed.lab.config = evolving(changed.lab.config, changed.lab.source, name)
    changed.consume()
    assert rows(changed, name) == [(1,), (2,), (3,)]


def test_the_history_survives_a_lost_ledger(changed: Following) -> None:
    name = table(changed, "evolve")
    before = versions(changed, name)
    LakePaths(changed.lab.config.data_dir).ledger.unlink()
    changed.command("ledger", "rebuild", "--yes")
    assert versions(changed, name) == before
    assert rows(changed, name) == [(1,), (2,)]


def evolving(config: Config, source: str, name: str) -> Config:
    """The configuration with another policy for a table."""
    path = Path(config.path)
    text = yaml.safe_load(path.read_text())
    text["sources"][source]["tables"][name]["drift"] = "evolve"
    path.write_text(yaml.safe_dump(text))
    return load_config(path)
