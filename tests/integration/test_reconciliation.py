"""`verify --against-source` finds what change data capture does not see, and mends it.

One connector follows a table for each fault; all faults happen, everything is delivered, and each
test looks at what is said of its table.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ducklake.reconciliation.result import LastResults
from ducklake.reconciliation.schedule import ReconciliationSchedule
from lake.config import Config
from lake.storage.paths import LakePaths
from producers.mysql.cdc import MysqlCdcConnector
from tests.integration.following import Following, as_root, consumer_running, following, run
from tests.integration.producers_lab import unique, wait_until

pytestmark = pytest.mark.stack

TABLE = "CREATE TABLE {0} (id INT PRIMARY KEY, v VARCHAR(40), n DECIMAL(12,2))"
ROWS = "INSERT INTO {0} VALUES (1, 'one', 1.5), (2, 'two', 2), (3, 'three', NULL)"
PARTITIONED = TABLE + " PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (3),"
PARTITIONED += " PARTITION p1 VALUES LESS THAN MAXVALUE)"

FAULTS: dict[str, tuple[str, ...]] = {
    "equal": ("UPDATE {0} SET v = 'changed' WHERE id = 2",),
    "parent": (),
    "cascade": ("DELETE FROM {parent} WHERE id = 1",),
    "truncated": ("TRUNCATE {0}", "INSERT INTO {0} VALUES (9, 'nine', 9)"),
    "dropped_partition": ("ALTER TABLE {0} DROP PARTITION p0",),
    "truncated_partition": ("ALTER TABLE {0} TRUNCATE PARTITION p1",),
    "swapped": (
        "CREATE TABLE {0}_new LIKE {0}",
        "INSERT INTO {0}_new VALUES (1, 'other', 1.5), (7, 'seven', 7)",
        "RENAME TABLE {0} TO {0}_old, {0}_new TO {0}",
    ),
    "statement": (
        "SET SESSION binlog_format = 'STATEMENT'",
        "UPDATE {0} SET v = 'by statement' WHERE id = 1",
        "SET SESSION binlog_format = 'ROW'",
    ),
    "unlogged": (
        "SET SESSION sql_log_bin = 0",
        "INSERT INTO {0} VALUES (4, 'unlogged', 4)",
        "SET SESSION sql_log_bin = 1",
    ),
    "behind": (
        "SET SESSION sql_log_bin = 0",
        "UPDATE {0} SET n = 1.51 WHERE id = 1",
        "DELETE FROM {0} WHERE id = 3",
        "SET SESSION sql_log_bin = 1",
    ),
    "phantom": (
        "XA START '{0}'",
        "INSERT INTO {0} VALUES (5, 'phantom', 5)",
        "XA END '{0}'",
        "XA PREPARE '{0}'",
        "XA ROLLBACK '{0}'",
    ),
    "defaulted": ("ALTER TABLE {0} ADD extra INT DEFAULT 5",),
    "keyless": (
        "SET SESSION sql_log_bin = 0",
        "INSERT INTO {0} VALUES (1, 'one', 1.5)",
        "SET SESSION sql_log_bin = 1",
    ),
}


@dataclass
class Faults:
    """What happened, and what was said of it.

    Attributes:
        following: The source and its lake.
        names: The table of each fault.
        said: By fault, as the command prints it.
    """

    following: Following
    names: dict[str, str]
    said: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Faults]:
    names = {fault: unique(f"{fault}_") for fault in FAULTS}
    with as_root(stack_config) as cursor:
        for fault, name in names.items():
            create = PARTITIONED if "partition" in fault else TABLE
            if fault == "keyless":
                create = create.replace(" PRIMARY KEY", "")
            if fault == "cascade":
                parent = names["parent"]
                create = create[:-1] + f", FOREIGN KEY (id) REFERENCES {parent} (id)"
                create += " ON DELETE CASCADE)"
            run(cursor, [create.format(name), ROWS.format(name)])
        tables = {name: {"key": ["id"]} for name in names.values()}
        with following(tmp_path_factory.mktemp("faults"), stack_config, tables) as made:
            made.take()
            for fault, statements in FAULTS.items():
                run(cursor, [s.format(names[fault], **names) for s in statements])
            made.take()
            said = made.against_source(code=3)
            yield Faults(made, names, {fault: said[name] for fault, name in names.items()})
        cursor.execute("SET foreign_key_checks = 0")
        for name in names.values():
            cursor.execute(f"DROP TABLE IF EXISTS {name}, {name}_old, {name}_new")


def found(faults: Faults, fault: str) -> set[tuple[str, str, str, str | None, str | None]]:
    listed = faults.said[fault]["differences"]
    return {(d["kind"], d["key"], d["column"], d["source"], d["lake"]) for d in listed}


def surplus(*ids: int) -> set[tuple[str, str, str, None, None]]:
    return {("surplus", f"id={n}", "", None, None) for n in ids}


def missing(*ids: int) -> set[tuple[str, str, str, None, None]]:
    return {("missing", f"id={n}", "", None, None) for n in ids}


def test_a_table_that_is_followed_is_equal(faults: Faults) -> None:
    said = faults.said["equal"]
    assert (said["state"], said["source_rows"], said["lake_rows"]) == ("equal", 3, 3), said
    assert ":" in said["position"] and said["gtids"]


def test_rows_deleted_by_a_cascade_are_found(faults: Faults) -> None:
    assert found(faults, "cascade") == surplus(1)
    assert faults.said["parent"]["state"] == "equal"


def test_a_truncate_leaves_no_difference_unsaid(faults: Faults) -> None:
    said = faults.said["truncated"]
    assert said["source_rows"] == 1
    # followed through the binlog, or found here
    assert found(faults, "truncated") in (set(), surplus(1, 2, 3))


def test_a_dropped_partition_is_found(faults: Faults) -> None:
    assert found(faults, "dropped_partition") == surplus(1, 2)


def test_a_truncated_partition_is_found(faults: Faults) -> None:
    assert found(faults, "truncated_partition") == surplus(3)


def test_a_table_that_was_swapped_in_leaves_no_difference_unsaid(faults: Faults) -> None:
    assert faults.said["swapped"]["source_rows"] == 2
    by_hand = surplus(2, 3) | missing(7) | {("differs", "id=1", "v", "other", "one")}
    assert found(faults, "swapped") in (set(), by_hand)


def test_a_row_changed_by_a_statement_is_found(faults: Faults) -> None:
    assert found(faults, "statement") == {("differs", "id=1", "v", "by statement", "one")}


def test_a_row_written_without_the_binlog_is_found(faults: Faults) -> None:
    assert found(faults, "unlogged") == missing(4)


def test_rows_changed_behind_the_binlog_s_back_are_found(faults: Faults) -> None:
    assert found(faults, "behind") == surplus(3) | {("differs", "id=1", "n", "1.51", "1.5")}


def test_a_rolled_back_xa_transaction_leaves_no_phantom(faults: Faults) -> None:
    assert found(faults, "phantom") == set()


def test_the_default_of_a_new_column_is_in_old_rows(faults: Faults) -> None:
    assert faults.said["defaulted"]["state"] == "equal", faults.said["defaulted"]


def test_a_row_too_many_of_a_table_without_a_key_is_found(faults: Faults) -> None:
    said = faults.said["keyless"]
    assert (said["missing"], said["surplus"], said["source_rows"]) == (1, 0, 4)


def test_a_table_that_changes_all_the_time_has_no_difference(faults: Faults) -> None:
    """It is compared while rows come, go and change, and nothing is taken for a difference."""
    made, name = faults.following, faults.names["equal"]
    stop = threading.Event()

    def trade() -> None:
        with as_root(made.stack) as cursor:
            for number in itertools.count(100):
                cursor.execute(f"INSERT INTO {name} VALUES ({number}, 'new', {number})")
                cursor.execute(f"UPDATE {name} SET n = n + 1 WHERE id IN (1, {number - 1})")
                cursor.execute(f"DELETE FROM {name} WHERE id = {number - 20}")
                if stop.wait(0.02):
                    return

    shop = threading.Thread(target=trade)
    with consumer_running(made):
        shop.start()
        try:
            results = [made.reconcile(name) for _ in range(3)]
        finally:
            stop.set()
            shop.join()
        last = made.reconcile(name)
    assert {result.state for result in results} == {"equal"}, results
    assert all(result.moving <= 1 for result in results), "the row that is updated all the time"
    assert (last.state, last.moving, last.lake_rows) == ("equal", 0, last.source_rows)


def test_a_table_is_compared_by_itself_once_it_is_due(faults: Faults) -> None:
    made = faults.following
    paths = LakePaths(made.lab.config.data_dir)
    topics = {f"{made.lab.source}.{faults.names[fault]}" for fault in ("parent", "cascade")}
    began = time.time()
    later = began + 86_400 - 60  # all are due a day after they were compared
    stop = threading.Event()
    schedule = ReconciliationSchedule(
        made.lab.config, made.lab.endpoints, stop, now=lambda: later + time.time() - began
    )
    assert schedule.due() == []
    later += 3600
    schedule.start()

    def compared() -> bool:
        found = {result.table: result for result in LastResults(paths).all()}
        return all(topic in found and found[topic].at > began for topic in topics)

    try:
        wait_until(compared, "both were compared")
    finally:
        stop.set()


def test_a_repair_mends_everything_that_was_found(faults: Faults) -> None:
    """Rows are read again, deletes are written; a table without a key says that it cannot."""
    made, names = faults.following, faults.names
    made.deliver()
    # What a repair has requested that was killed, and nobody else sees to.
    source = made.lab.connector()
    assert isinstance(source, MysqlCdcConnector)
    left = source.backfills.request(names["equal"], "id = 2")
    with consumer_running(made):
        assert made.reconcile(names["equal"]).state == "equal"
        state = source.backfills.state(left.id)
        assert state is not None and state.done
        source.close()
        said = {name: made.reconcile(name, repair=True).dump() for name in names.values()}
    for fault, name in names.items():
        if fault == "keyless":
            assert "without a key" in said[name]["reason"] and said[name]["remedy"]
        else:
            assert said[name]["state"] == "equal", said[name]
    assert said[names["cascade"]]["repaired"] == 1
    assert json.loads(made.command("verify", "--json"))["exact"]
    # the same again from Kafka alone
    for fault in ("cascade", "behind"):
        made.command("replay", names[fault], "--rebuild")
        assert made.reconcile(names[fault]).state == "equal"
    assert json.loads(made.command("verify", "--json"))["exact"]


def test_the_last_comparison_is_state(faults: Faults) -> None:
    """What differs makes `status` unhealthy until it is mended."""
    made, name = faults.following, faults.names["keyless"]
    assert made.reconcile(name).state == "different"
    topic = f"{made.lab.source}.{name}"
    status = json.loads(made.command("status", "--json", code=3))
    assert status["reconciliation"][topic]["missing"] == 1
    [problem] = [p for p in status["problems"] if p["subject"] == f"table {topic}"]
    assert problem["state"] == "differs from its source" and "--repair" in problem["remedy"]
