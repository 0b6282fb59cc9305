"""MySQL without Kafka Connect: every version of a row once, however late it is committed.

All on the real MySQL and Kafka; the values and types themselves are in `test_mysql_types.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pymysql
import pytest

from consumers.ingest.lake_writer import LakeWriter
from ducklake.reconciliation import repair as repair_module
from ducklake.reconciliation.reconciler import Reconciler
from ducklake.reconciliation.result import TableResult
from lake.config import Config, TableRef
from lake.opening import open_lake
from producers.base import TableState
from producers.mysql.polling import batches as batches_module
from producers.mysql.polling import cursor as cursor_module
from producers.mysql.polling import reader as reader_module
from producers.mysql.polling.connector import MysqlPollConnector
from producers.mysql.polling.requests import READ
from producers.runner import SourceRunner
from producers.transactions import TransactionalWriter
from tests.integration.producers_lab import (
    Lab,
    drain,
    make_lab,
    shop_server,
    sql,
    unique,
    wait_until,
)

pytestmark = pytest.mark.stack
STEPS = ("after_rows", "after_flush", "after_commit")
COLUMNS = "id INT PRIMARY KEY, v VARCHAR(40), at TIMESTAMP(6) NOT NULL, INDEX (at)"
OPTIONS: dict[str, Any] = {"options": {"watermark": "at", "late_seconds": 3600}}


@dataclass
class Polled:
    """A source that polls one table.

    Attributes:
        lab: The source.
        stack: The running stack.
        table: The table.
    """

    lab: Lab
    stack: Config
    table: str
    _source: MysqlPollConnector | None = None
    _writer: TransactionalWriter | None = field(default=None, repr=False)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        return sql(shop_server(self.stack), *(s.format(self.table) for s in statements))

    @property
    def source(self) -> MysqlPollConnector:
        if self._source is None:
            source = self.lab.connector()
            assert isinstance(source, MysqlPollConnector)
            self._source = source
        return self._source

    def poll(self) -> list[TableState]:
        """Poll once; what is then told of the table."""
        self._writer = self._writer or self.lab.writer()
        drain(self.source, self._writer)
        return list(self.source.table_states())

    def restart(self) -> None:
        """Go on as another process would: with what Kafka has, and nothing else."""
        self._source, self._writer = None, None

    def is_due(self) -> bool:
        """Whether a part of what was sent may be compared with the table."""
        [stored] = [s[-1] for unit, s in self.lab.cursors().items() if unit.endswith(":rows")]
        [part] = stored["parts"]
        [(now,)] = self.run("SELECT UNIX_TIMESTAMP(NOW(3))")
        return bool(float(now) - part["moment"] > 1)

    def cursors(self) -> list[cursor_module.PollCursor]:
        """The cursor of each table, as its process knows it."""
        return [poller.cursor for poller in self.source._pollers.values()]

    def sent(self) -> list[tuple[str, dict[str, Any]]]:
        """Operation and row of each record, in the order in which they were sent."""
        rows = [seen.row for seen in self.lab.rows(self.table)]
        rows.sort(key=lambda row: (row["source"]["pos"], row["source"]["row"]))
        return [(row["op"], row["after"]) for row in rows]

    def values(self) -> Counter[tuple[int, str]]:
        """How often each version of a row was sent."""
        return Counter((row["id"], row["v"]) for op, row in self.sent() if op != "t")

    def consume(self) -> None:
        writer = LakeWriter(self.lab.config, self.lab.endpoints, once=True)
        try:
            writer.run(threading.Event())
        finally:
            writer.close()

    def in_lake(self, columns: str) -> list[tuple[Any, ...]]:
        """Columns of all rows in raw."""
        topic = f"{self.lab.source}.{self.table}"
        with open_lake(self.lab.config, for_writing=False) as lake, duckdb.connect() as db:
            files = [str(file.path) for file in lake.ledger.files.live(topic)]
            rows = db.read_parquet(files, union_by_name=True)
            return list(rows.project(columns).fetchall())

    @contextmanager
    def running(self) -> Iterator[None]:
        """`ducklake produce` and `ducklake consume`, at work for the time of the block."""
        stop = threading.Event()
        runner = SourceRunner(self.lab.config, self.lab.endpoints)
        writer = LakeWriter(self.lab.config, self.lab.endpoints)
        threads = [threading.Thread(target=one.run, args=(stop,)) for one in (runner, writer)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            writer.close()

    def reconcile(self, repair: bool = False) -> TableResult:
        reconciler = Reconciler(self.lab.config, self.lab.endpoints)
        return reconciler.reconcile(TableRef(self.lab.source, self.table), repair)

    def command(self, *words: str, code: int = 0) -> str:
        """What a command prints; it must end with a code."""
        done = subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.lab.config.path)],
            env={**os.environ, **self.lab.environment},
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout + done.stderr


@contextmanager
def polled(
    folder: Path,
    stack: Config,
    columns: str = COLUMNS,
    options: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
) -> Iterator[Polled]:
    table = unique("p")
    sql(shop_server(stack), f"CREATE TABLE {table} ({columns})")
    spec = {"type": "mysql_poll", "connection": "mysql", "poll_seconds": 0.5}
    tables = {table: options or OPTIONS, **(more or {})}
    try:
        yield Polled(make_lab(folder, stack, {**spec, "tables": tables}), stack, table)
    finally:
        sql(shop_server(stack), f"DROP TABLE IF EXISTS {table}")


@pytest.fixture
def shop(tmp_path: Path, stack_config: Config) -> Iterator[Polled]:
    with polled(tmp_path, stack_config) as made:
        yield made


@contextmanager
def transaction(stack: Config) -> Iterator[Any]:
    """A cursor whose statements are committed at the end of the block."""
    at = shop_server(stack)
    connection = pymysql.connect(
        host=at.host,
        port=at.port,
        user=at.user,
        password=at.plain_password,
        database=at.database,
    )
    with connection, connection.cursor() as cursor:
        yield cursor
        connection.commit()


def test_rows_of_one_moment_are_neither_skipped_nor_repeated(
    shop: Polled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "CHUNK_ROWS", 4)
    monkeypatch.setattr(batches_module, "CHUNK_ROWS", 4)
    moment = "2026-01-01 00:00:00"
    rows = ", ".join(f"({n}, 'first', '{moment}')" for n in range(10, 35))
    shop.run(f"INSERT INTO {{0}} VALUES {rows}")
    shop.poll()
    assert shop.values() == Counter((n, "first") for n in range(10, 35))
    assert {op for op, _ in shop.sent()} == {"r"}
    # later ones of the same moment, before and behind those that were read
    shop.run(f"INSERT INTO {{0}} VALUES (5, 'later', '{moment}'), (40, 'later', '{moment}')")
    shop.poll()
    shop.restart()
    shop.poll()
    expected = Counter((n, "first") for n in range(10, 35))
    assert shop.values() == expected + Counter({(5, "later"): 1, (40, "later"): 1})


def test_a_row_that_is_committed_late_arrives_once(shop: Polled) -> None:
    shop.run("INSERT INTO {0} VALUES (1, 'early', NOW(6))")
    shop.poll()
    with transaction(shop.stack) as late:
        late.execute(f"INSERT INTO {shop.table} VALUES (2, 'late', NOW(6))")
        late.execute(f"UPDATE {shop.table} SET v = 'late', at = NOW(6) WHERE id = 1")
        shop.run("INSERT INTO {0} VALUES (3, 'after', NOW(6))")
        shop.poll()
        assert shop.values() == Counter([(1, "early"), (3, "after")])
    shop.poll()
    shop.poll()
    assert shop.values() == Counter([(1, "early"), (3, "after"), (2, "late"), (1, "late")])
    shop.restart()  # what was sent is known to the next process, too
    shop.poll()
    assert set(shop.values().values()) == {1}
    assert [row["v"] for _, row in shop.sent() if row["id"] == 1] == ["early", "late"]


def test_a_second_change_within_one_moment_is_seen(shop: Polled) -> None:
    shop.run("INSERT INTO {0} VALUES (1, 'a', '2026-01-01 00:00:00')")
    shop.poll()
    shop.run("UPDATE {0} SET v = 'b'")  # and the watermark stays
    shop.poll()
    assert shop.values() == Counter([(1, "a"), (1, "b")])


def test_what_is_settled_is_not_read_again_and_costs_nothing(
    tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(reader_module.PollReader, "clock", lambda self: clock[0])
    marks = {"options": {"watermark": "at", "late_seconds": 60}}
    with polled(tmp_path, stack_config, options=marks) as shop:
        [(moment,)] = shop.run("SELECT UNIX_TIMESTAMP()")
        clock[0] = float(moment)
        shop.run("INSERT INTO {0} VALUES (1, 'a', NOW(6)), (2, 'a', NOW(6))")
        shop.poll()
        assert [(len(c.seen), c.at is None) for c in shop.cursors()] == [(2, True)]
        clock[0] += 120
        shop.poll()
        assert [(len(c.seen), c.at is None) for c in shop.cursors()] == [(0, False)]
        # Nothing of that had to be written.
        assert len(shop.lab.cursors()[f"{shop.table}:rows"]) == 2
        shop.run("INSERT INTO {0} VALUES (3, 'a', NOW(6))")
        shop.poll()
        assert shop.values() == Counter([(1, "a"), (2, "a"), (3, "a")])


@pytest.mark.parametrize("watermark", ["at", "id"])
def test_rows_committed_late_come_however_many_are_read_before_them(
    tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch, watermark: str
) -> None:
    """In the first reading and in a later burst; what is not late is not sent again."""
    monkeypatch.setattr(cursor_module, "MOST_UNSETTLED", 10)
    monkeypatch.setattr(cursor_module, "FIRST_UNSETTLED", 5)
    for module in (reader_module, batches_module):
        monkeypatch.setattr(module, "CHUNK_ROWS", 8)
    later = [0.0]
    clock = reader_module.PollReader.clock
    monkeypatch.setattr(reader_module.PollReader, "clock", lambda self: clock(self) + later[0])
    marks = {"options": {"watermark": watermark, "late_seconds": 600}}
    rows = {n: ", ".join(f"({m}, 'a', NOW(6))" for m in range(n, n + 100)) for n in (0, 200)}
    with polled(tmp_path, stack_config, options=marks) as shop:
        with transaction(stack_config) as late:
            late.execute(f"INSERT INTO {shop.table} VALUES (-1, 'late', NOW(6))")
            shop.run(f"INSERT INTO {{0}} VALUES {rows[0]}")
            assert shop.poll() == []
        with transaction(stack_config) as late:
            late.execute(f"INSERT INTO {shop.table} VALUES (150, 'late', NOW(6))")
            shop.run(f"INSERT INTO {{0}} VALUES {rows[200]}")
            assert shop.poll() == []
        expected = Counter((n, "a") for n in (*range(100), *range(200, 300)))
        assert shop.values() == expected
        later[0] = 599.0
        assert shop.poll() == []
        later[0] = 700.0
        shop.restart()
        assert shop.poll() == []
        assert set(shop.values()) == {*expected, (-1, "late"), (150, "late")}
        again = {row: n for row, n in shop.values().items() if n > 1}
        assert set(again.values()) == {2} and len(again) < 40, "the two parts with late rows"
        assert [c.parts for c in shop.cursors()] == [()]
        number = [c.number for c in shop.cursors()]
        shop.poll()
        assert [c.number for c in shop.cursors()] == number, "and that is all"


@pytest.mark.parametrize("step", STEPS)
def test_a_producer_killed_while_late_rows_come_repeats_and_loses_nothing(
    tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(cursor_module, "FIRST_UNSETTLED", 5)
    marks = {"options": {"watermark": "id", "late_seconds": 1}}
    with polled(tmp_path, stack_config, options=marks) as shop:
        rows = ", ".join(f"({n}, 'a', NOW(6))" for n in range(20))
        shop.run(f"INSERT INTO {{0}} VALUES {rows}")
        shop.poll()
        shop.run("INSERT INTO {0} VALUES (-1, 'late', NOW(6))")
        shop.restart()
        wait_until(lambda: shop.is_due(), "the part is read once more")
        ended = shop.lab.produce_once(f"producer.{step}:1")
        assert ended.returncode == -9, ended.stderr
        ended = shop.lab.produce_once()
        assert ended.returncode == 0, ended.stderr
        expected = Counter({(n, "a"): 2 for n in range(20)})
        assert shop.values() == expected + Counter({(-1, "late"): 1})


def test_a_condition_that_is_refused_while_it_is_served_ends_the_command(shop: Polled) -> None:
    rows = ", ".join(f"({n}, 'a', NOW(6))" for n in range(9))
    shop.run(f"INSERT INTO {{0}} VALUES {rows}")
    shop.poll()
    name = f"{shop.lab.source}.{shop.table}"
    # It holds for the first row, and for no other one.
    bad = "id = 0 OR JSON_EXTRACT(v, '$.x') IS NULL"
    with shop.running():
        said = shop.command("backfill", name, "--where", bad, code=1)
        assert f"The backfill of {name} failed: MySQL refuses the condition" in said
        assert "Invalid JSON text" in said and "Traceback" not in said
        assert shop.source.requests.all() == []
        for broken in ("id = 1) OR (id = 3", "id = 'a' AND", "COUNT(*) > 1"):
            assert "MySQL refuses the condition" in shop.command(
                "backfill", name, "--where", broken, code=1
            )
        said = shop.command("backfill", name, "--where", "id = 1 OR id = 3 -- two", "--json")
        assert json.loads(said.splitlines()[-1])["rows"] == 2
        shop.run("DROP TABLE {0}")
        request = shop.source.requests.add(READ, shop.table)
        wait_until(lambda: not shop.source.requests.is_open(request), "it is refused")
        refused = shop.source.requests.refusal(request)
        assert refused is not None and "no table" in refused.what


def test_a_watermark_to_come_hides_nothing(shop: Polled) -> None:
    shop.run("INSERT INTO {0} VALUES (1, 'to come', '2037-01-01')")
    shop.poll()
    shop.run("INSERT INTO {0} VALUES (2, 'now', NOW(6))")
    shop.poll()
    shop.poll()
    assert shop.values() == Counter([(1, "to come"), (2, "now")])


def test_too_many_rows_to_come_stop_the_table_until_they_are_set_right(
    shop: Polled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursor_module, "MOST_UNSETTLED", 3)
    rows = ", ".join(f"({n}, 'a', '2037-01-01')" for n in range(5))
    shop.run(f"INSERT INTO {{0}} VALUES {rows}")
    [state] = shop.poll()
    assert state.state == "stopped"
    assert state.reason == "More than 3 rows have a at that is still to come."
    assert "Set it to the moment at which the row was changed" in state.remedy
    shop.run("UPDATE {0} SET at = NOW(6)")
    assert shop.poll() == []
    assert shop.values() == Counter((n, "a") for n in range(5))


def test_added_rows_are_read_by_their_number_and_a_table_that_begins_anew_as_a_whole(
    tmp_path: Path, stack_config: Config
) -> None:
    columns = "id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40)"
    with polled(tmp_path, stack_config, columns, {"options": {"watermark": "id"}}) as shop:
        shop.run("INSERT INTO {0} (v) VALUES ('a'), ('b'), ('c')")
        shop.poll()
        shop.run("INSERT INTO {0} (v) VALUES ('d')")
        shop.poll()
        assert [op for op, _ in shop.sent()] == ["r", "r", "r", "c"]
        shop.run("TRUNCATE {0}", "INSERT INTO {0} (v) VALUES ('new')")
        shop.poll()
        with shop.running():
            result = shop.reconcile()
        assert (result.state, result.source_rows, result.lake_rows) == ("equal", 1, 1), result


def test_a_definition_that_changes_between_polls_is_followed(shop: Polled) -> None:
    shop.run("INSERT INTO {0} VALUES (1, 'a', '2026-01-01')")
    shop.poll()
    shop.run(
        "ALTER TABLE {0} ADD COLUMN n INT, MODIFY v VARCHAR(80)",
        "INSERT INTO {0} VALUES (2, 'b', '2026-01-02', 7)",
    )
    assert shop.poll() == []
    shop.run(
        "ALTER TABLE {0} MODIFY n BIGINT, ADD d DECIMAL(5,2) NOT NULL DEFAULT 1.5",
        "INSERT INTO {0} VALUES (3, 'c', '2026-01-03', 9000000000, 2)",
    )
    [state] = shop.poll()
    assert state.state == "differs" and "gave the rows that were there a value" in state.reason
    shop.consume()
    found = shop.in_lake("id, n, d, typeof(n), _op")
    assert (3, 9_000_000_000, 2, "BIGINT", "u") in found
    assert {row[3] for row in found} == {"BIGINT"}
    versions = json.loads(shop.command("schema", f"{shop.lab.source}.{shop.table}", "--json"))
    assert [v["columns"][0]["after"] for v in versions["versions"][1:]] != []
    with shop.running():
        assert shop.reconcile().state == "equal"  # all rows were within late_seconds
        shop.source.requests.add("look")
    shop.restart()
    assert shop.poll() == []  # and the comparison has cleared the state


def test_a_whole_backfill_removes_what_mysql_has_deleted(shop: Polled) -> None:
    shop.run("INSERT INTO {0} VALUES (1, 'a', NOW(6)), (2, 'b', NOW(6)), (3, 'c', NOW(6))")
    shop.poll()
    shop.run("DELETE FROM {0} WHERE id = 2", "UPDATE {0} SET v = 'x' WHERE id = 3")
    name = f"{shop.lab.source}.{shop.table}"
    with shop.running():
        assert shop.reconcile().surplus == 1
        said = json.loads(shop.command("backfill", name, "--json").splitlines()[-1])
        assert (said["state"], said["rows"]) == ("completed", 2)
        result = shop.reconcile()
        assert (result.state, result.lake_rows) == ("equal", 2), result
        said = json.loads(
            shop.command("backfill", name, "--where", "id = 3", "--json").splitlines()[-1]
        )
        assert said["rows"] == 1
        assert shop.reconcile().state == "equal"
        assert "Unknown column" in shop.command("backfill", name, "--where", "nope = 3", code=1)


def test_a_repair_mends_what_polling_cannot_see(shop: Polled) -> None:
    shop.run("INSERT INTO {0} VALUES (1, 'a', NOW(6)), (2, 'b', NOW(6)), (3, 'c', NOW(6))")
    shop.poll()
    with shop.running():
        assert shop.reconcile().state == "equal"
        # A row far below the watermark is beyond what is read, unless somebody compares.
        shop.run("DELETE FROM {0} WHERE id = 1")
        result = shop.reconcile(repair=True)
        assert (result.state, result.repaired, result.lake_rows) == ("equal", 1, 2), result


def test_a_repair_that_nobody_serves_is_done_once_the_source_is_polled(
    tmp_path: Path, stack_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair_module, "PATIENCE", 1.0)
    marks = {"options": {"watermark": "at", "late_seconds": 1}}
    with polled(tmp_path, stack_config, options=marks) as shop, ExitStack() as at_work:
        shop.run("INSERT INTO {0} VALUES (1, 'a', NOW(6)), (2, 'a', NOW(6))")

        def is_settled() -> bool:
            shop.poll()
            return shop.cursors()[0].at is not None

        wait_until(is_settled, "the rows are not read again by themselves")
        shop.run("INSERT INTO {0} VALUES (3, 'a', NOW(6))")
        shop.poll()  # writes that down
        shop.run("UPDATE {0} SET v = 'behind the watermark' WHERE id = 2")
        at_work.enter_context(shop.running())
        reconciler = Reconciler(
            shop.lab.config, shop.lab.endpoints, tell=lambda text: at_work.close()
        )
        result = reconciler.reconcile(TableRef(shop.lab.source, shop.table), repair=True)
        assert (result.state, result.differing) == ("different", 1), result
        assert "nobody read the rows again within 1 s" in result.reason
        assert f"`ducklake produce {shop.lab.source}`" in result.remedy
        with shop.running():
            assert shop.reconcile().state == "equal"


@pytest.mark.parametrize("step", STEPS)
def test_a_producer_killed_at_any_step_repeats_and_loses_nothing(shop: Polled, step: str) -> None:
    expected = Counter[tuple[int, str]]()
    for version, batch in (("first", 2), ("second", 1)):
        rows = ", ".join(f"({n}, '{version}', NOW(6))" for n in range(20))
        shop.run(f"REPLACE INTO {{0}} VALUES {rows}")
        expected += Counter((n, version) for n in range(20))
        # The first batch of all announces the definition.
        ended = shop.lab.produce_once(f"producer.{step}:{batch}")
        assert ended.returncode == -9, ended.stderr
        sent = shop.values()
        assert sent in (expected, expected - Counter((n, version) for n in range(20)))
        ended = shop.lab.produce_once()
        assert ended.returncode == 0, ended.stderr
        assert shop.values() == expected, "each version exactly once"
    # A table that is read again: what the kill interrupts goes on, and is served once.
    shop.run("DELETE FROM {0} WHERE id = 7")
    shop.source.requests.add(READ, shop.table)
    ended = shop.lab.produce_once(f"producer.{step}:2")
    assert ended.returncode == -9, ended.stderr
    ended = shop.lab.produce_once()
    assert ended.returncode == 0, ended.stderr
    assert shop.values() == expected + Counter((n, "second") for n in range(20) if n != 7)
    assert [op for op, _ in shop.sent()].count("t") == 1


def test_a_table_that_cannot_be_polled_stops_alone(tmp_path: Path, stack_config: Config) -> None:
    with polled(tmp_path, stack_config, more={"gone": OPTIONS}) as shop:
        shop.run("INSERT INTO {0} VALUES (1, 'a', NOW(6))")
        [state] = shop.poll()
        assert (state.table, state.state) == ("gone", "stopped")
        assert "no table `techstore`.`gone`" in state.reason
        assert shop.values() == Counter([(1, "a")])
        shop.run("DROP TABLE {0}")
        assert {s.table for s in shop.poll()} == {"gone", shop.table}
        shop.run(f"CREATE TABLE {{0}} ({COLUMNS})", "INSERT INTO {0} VALUES (2, 'again', NOW(6))")
        assert {s.table for s in shop.poll()} == {"gone"}
        assert shop.values() == Counter([(1, "a"), (2, "again")])


def test_rows_without_a_watermark_are_a_state(tmp_path: Path, stack_config: Config) -> None:
    columns = "id INT PRIMARY KEY, v VARCHAR(9), at DATETIME, INDEX (at)"
    with polled(tmp_path, stack_config, columns) as shop:
        shop.run("INSERT INTO {0} VALUES (1, 'a', NULL), (2, 'b', '2026-01-01')")
        [state] = shop.poll()
        assert state.state == "differs" and "at is NULL are not read" in state.reason
        assert shop.values() == Counter([(2, "b")])
        shop.run("UPDATE {0} SET at = '2026-01-01' WHERE at IS NULL")
        shop.restart()
        assert shop.poll() == []
        assert shop.values() == Counter([(1, "a"), (2, "b")])
