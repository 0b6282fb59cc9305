"""Tables that are read again while they change: values, order, kills, and tables added later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import yaml

from lake.config import Config, load_config
from lake.errors import DuckLakeError, ServiceUnreachable, SourceError
from lake.kafka.topics import make_topics
from lake.storage.canonical import SourceColumn
from producers.mysql import stall
from producers.mysql.backfill_state import BackfillState, Phase
from producers.mysql.canonical_sql import condition
from producers.mysql.cdc import MysqlCdcConnector
from stack import lifecycle
from tests.integration.mysql_lab import MysqlLab, followed
from tests.integration.producers_lab import (
    PATIENCE,
    Lab,
    Seen,
    make_lab,
    shop_server,
    sql,
    unique,
    wait_until,
)
from tests.integration.slow_wire import SlowWire, slow_wire

pytestmark = pytest.mark.stack
TYPES = (
    "id INT PRIMARY KEY, d DATETIME(6), ts TIMESTAMP(3) NULL, t TIME(2), y YEAR, b BIT(16), j JSON,"
    " e ENUM('a,b','c'), s SET('x','y'), bu BIGINT UNSIGNED, de DECIMAL(30,10), da DATE, bo BOOL,"
    " zd DATE NOT NULL, bin BINARY(4), txt TEXT CHARACTER SET latin1, db DOUBLE, f FLOAT"
)
VALUES = (
    "(1, '1582-10-10 01:02:03.123456', '2024-02-03 04:05:06.789', '-25:30:00.5', 0, 258,"
    " '{\"a\": 2}', 'a,b', 'x,y', 18446744073709551615, 123.4567, '1582-10-10', 2,"
    " '0000-00-00', 'ab', 'ñ', 0.1, 16777216)",
    "(2, '2024-01-01 00:00:00', NULL, '25:30:00', 2020, 1, '[1]', 'c', 'y', 1, 1, '2024-01-01', 1,"
    " '2024-01-01', 'abcd', 'é', 1e300, 0.1)",
)


@dataclass
class Reread:
    """Some tables in the real shop, and a connector that follows them."""

    lab: Lab
    stack: Config
    tables: dict[str, str]

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        return sql(shop_server(self.stack), *statements)

    def source(self) -> MysqlCdcConnector:
        made = self.lab.connector()
        assert isinstance(made, MysqlCdcConnector)
        return made

    def deliver(self, patience: float = PATIENCE) -> None:
        """Have everything committed in MySQL in Kafka, and what was requested."""
        source = self.source()

        def settled() -> bool:
            try:
                list(source.poll({}))
                return source.settled()
            except DuckLakeError as error:  # while Connect starts again
                assert not isinstance(error, SourceError), error
                return False

        wait_until(settled, "everything is in Kafka", patience)
        source.close()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ducklake.cli", *words, "--config", str(self.lab.config.path)],
            env={**os.environ, **self.lab.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    def backfill(self, table: str, *words: str) -> dict[str, Any]:
        done = self.command("backfill", f"{self.lab.source}.{table}", "--json", *words)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def follow(self, table: str) -> None:
        """Add a table to the configuration."""
        path = self.lab.config.path
        text = yaml.safe_load(path.read_text())
        text["sources"][self.lab.source]["tables"][table] = {"key": ["id"]}
        path.write_text(yaml.safe_dump(text))
        config = load_config(path)
        self.lab = Lab(config, self.lab.source, config.endpoints())
        make_topics(config, self.lab.endpoints)

    def connect(self) -> int:
        """The process of Kafka Connect."""
        services = {service.name: service.pid for service in lifecycle.status(self.stack).services}
        assert services["connect"] is not None
        return services["connect"]

    def rows(self, table: str) -> list[Seen]:
        """The records that hold a row; the end of a backfill declares gone what came before."""
        return [seen for seen in self.lab.rows(table) if seen.row["op"] != "t"]

    def since(self, table: str, before: list[Seen]) -> list[Seen]:
        """What has come after some records, of any partition."""
        known = {(seen.partition, seen.offset) for seen in before}
        return [s for s in self.rows(table) if (s.partition, s.offset) not in known]

    def latest(self, table: str) -> dict[int, Any]:
        """The newest version of each key: the one with the greatest offset."""
        newest: dict[int, Seen] = {}
        for seen in self.rows(table):
            image = seen.row["after"] or seen.row["before"]
            known = newest.get(image["id"])
            assert known is None or known.partition == seen.partition
            newest[image["id"]] = seen
        return {k: s.row["after"] for k, s in newest.items() if s.row["op"] != "d"}


@pytest.fixture(scope="module")
def reread(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Reread]:
    at = shop_server(stack_config)
    tables = {name: unique(name) for name in ("types", "large", "keyless")}
    sql(
        at,
        "SET sql_mode = ''",
        f"CREATE TABLE {tables['types']} ({TYPES})",
        f"INSERT INTO {tables['types']} VALUES {', '.join(VALUES)}",
        f"CREATE TABLE {tables['large']} (id INT PRIMARY KEY, n INT, word VARCHAR(40))",
        f"CREATE TABLE {tables['keyless']} (n INT, word VARCHAR(40))",
        "SET SESSION cte_max_recursion_depth = 1000000",
        f"INSERT INTO {tables['large']} WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1"
        " FROM r WHERE i < 8000) SELECT i, 0, 'a word' FROM r",
    )
    spec = {
        "type": "mysql_cdc",
        "tables": {t: {"key": ["id"]} for t in tables.values() if "keyless" not in t}
        | {tables["keyless"]: {}},
        # many chunks, so that there is a middle in which to kill
        "options": {"incremental.snapshot.chunk.size": "40"},
    }
    lab = make_lab(tmp_path_factory.mktemp("backfill"), stack_config, spec)
    made = Reread(lab, stack_config, tables)
    made.deliver()
    yield made
    name = f"{lab.config.settings.name}-{lab.source}"
    requests.delete(f"{lab.endpoints.connect}/connectors/{name}", timeout=30)
    for table in tables.values():
        sql(at, f"DROP TABLE {table}")


@pytest.fixture(scope="module")
def distant(
    tmp_path_factory: pytest.TempPathFactory, stack_config: Config
) -> Iterator[tuple[MysqlLab, str, SlowWire]]:
    """A table on a server that is far away, when the wire is slow."""
    at, table = shop_server(stack_config), unique("distant")
    sql(
        at,
        f"CREATE TABLE {table} (id INT PRIMARY KEY)",
        f"INSERT INTO {table} VALUES (1), (2), (3)",
    )
    with slow_wire(at.host, at.port) as wire:
        servers = {"mysql": {"host": "127.0.0.1", "port": wire.port}}
        folder = tmp_path_factory.mktemp("distant")
        with followed(folder, stack_config, [table], servers) as mysql:
            yield mysql, table, wire


def test_a_table_read_again_says_the_same_of_every_type(reread: Reread) -> None:
    table = reread.tables["types"]
    before = reread.rows(table)
    assert reread.backfill(table)["rows"] == 2
    again = reread.since(table, before)
    rows = {seen.row["after"]["id"]: seen.row["after"] for seen in before}
    assert {seen.row["after"]["id"]: seen.row["after"] for seen in again} == rows
    assert [seen.row["op"] for seen in again] == ["r", "r"]
    assert rows[1]["f"] == "1.6777216E7" and rows[1]["d"] == "1582-10-10 01:02:03.123456"
    assert rows[1]["zd"] == "0000-00-00" and rows[1]["t"] == "-25:30:00.50"
    source = reread.source()
    [state] = [s for s in source.backfills.states() if s.request.table == table]
    source.close()
    assert state.phase is Phase.COMPLETED and state.rows == 2


def test_a_condition_selects_the_rows_that_are_read_again(reread: Reread) -> None:
    table = reread.tables["types"]
    before = reread.rows(table)
    assert reread.backfill(table, "--where", "id > 1")["rows"] == 1
    [seen] = reread.since(table, before)
    assert seen.row["after"]["id"] == 2
    either = "id = 1 OR id = 2 -- Debezium adds to it"
    assert reread.backfill(table, "--where", either)["rows"] == 2
    assert len(reread.since(table, before)) == 3
    refused = reread.command("backfill", f"{reread.lab.source}.{table}", "--where", "nowhere = 1")
    assert refused.returncode == 1 and "Unknown column 'nowhere'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_rows_of_some_keys_are_read_again(reread: Reread) -> None:
    table = reread.tables["large"]
    before = reread.rows(table)
    source = reread.source()
    key = [
        SourceColumn("id", "int", "INTEGER", nullable=False),
        SourceColumn("word", "varchar", "VARCHAR", nullable=False),
    ]
    where = condition(key, [("7", "a word"), ("9", "a word")])
    request = source.backfills.request(table, where)
    assert request.where == where
    same = source.backfills.request(table, request.where)
    assert same.id == request.id, "asked for twice, read once"
    source.close()
    reread.deliver()
    assert {s.row["after"]["id"] for s in reread.since(table, before)} == {7, 9}


def test_rows_read_again_take_their_place_among_changes(reread: Reread) -> None:
    table = reread.tables["large"]
    stop = threading.Event()
    rounds = 0

    def change() -> None:
        nonlocal rounds
        while not stop.is_set():
            rounds += 1
            reread.run(
                f"UPDATE {table} SET n = n + 1 WHERE id % 40 = {rounds % 40}",
                f"DELETE FROM {table} WHERE id = {8000 - rounds}",
            )

    changer = threading.Thread(target=change)
    changer.start()
    try:
        reread.backfill(table)
    finally:
        stop.set()
        changer.join()
    assert rounds > 5, "nothing has changed meanwhile"
    reread.deliver()
    truth = {row[0]: row[1] for row in reread.run(f"SELECT id, n FROM {table}")}
    assert {key: row["n"] for key, row in reread.latest(table).items()} == truth


def test_the_reader_of_the_binlog_does_not_disturb_the_chunk_that_is_read(
    distant: tuple[MysqlLab, str, SlowWire],
) -> None:
    """Debezium alone begins in another thread: what the reader does meanwhile ended the chunk."""
    mysql, table, wire = distant
    before = len(mysql.changes(table))
    source = mysql.lab.connector()
    assert isinstance(source, MysqlCdcConnector)
    request = source.backfills.request(table)
    found: list[BackfillState] = []

    def done() -> bool:
        source.backfills.advance(source.rest)
        found[:] = [s for s in source.backfills.states() if s.request.id == request.id]
        return found[0].done and not source.backfills.pending()

    wire.delay = 1.1  # a heartbeat comes each second, so one comes between any two questions
    try:
        wait_until(done, "it is read again", 2 * PATIENCE)
    finally:
        wire.delay = 0.0
        source.close()
    assert (found[0].phase, found[0].reason) == (Phase.COMPLETED, "")
    again = [row["id"] for op, row in mysql.changes(table)[before:] if op == "r" and row]
    assert again == [1, 2, 3]


def test_a_connector_that_reads_nothing_more_is_restarted_and_loses_nothing(
    distant: tuple[MysqlLab, str, SlowWire], monkeypatch: pytest.MonkeyPatch
) -> None:
    mysql, table, wire = distant
    monkeypatch.setattr(stall, "STALL_SECONDS", 1.0)
    mysql.deliver()
    source = mysql.lab.connector()
    before = len(mysql.changes(table))
    wire.go_dead()
    mysql.root(f"INSERT INTO {table} VALUES (4)")
    told: list[ServiceUnreachable] = []

    def stalled() -> bool:
        try:
            list(source.poll({}))
        except ServiceUnreachable as error:
            told.append(error)
        return bool(told)

    wait_until(stalled, "it is noticed")
    assert "lagged and made no progress" in told[0].what, told
    assert told[0].remedy == "It was restarted; no row is lost or sent twice."
    source.close()
    mysql.deliver()
    assert mysql.changes(table)[before:] == [("c", {"id": 4})]


def test_connect_killed_in_the_middle_reads_every_row_again(reread: Reread) -> None:
    table = reread.tables["large"]
    wanted = {row[0] for row in reread.run(f"SELECT id FROM {table}")}
    before = reread.rows(table)
    source = reread.source()
    request = source.backfills.request(table)
    source.backfills.advance(source.rest)  # sends the signal

    def state() -> BackfillState:
        return next(s for s in source.backfills.states() if s.request.id == request.id)

    wait_until(lambda: state().phase is Phase.RUNNING, "it has begun")
    os.kill(reread.connect(), signal.SIGKILL)
    assert not state().done, "killed after its end"
    reread.deliver(180)
    source.close()
    again = {s.row["after"]["id"] for s in reread.since(table, before) if s.row["op"] == "r"}
    assert again == wanted


def test_a_signal_that_a_killed_connect_has_read_is_sent_again(reread: Reread) -> None:
    table = reread.tables["types"]
    source = reread.source()
    request = source.backfills.request(table)
    pid = reread.connect()
    os.kill(pid, signal.SIGSTOP)  # it takes the signal, if at all, when it is about to die
    state = next(s for s in source.backfills.states() if s.request.id == request.id)
    source.backfills._signal(state)
    os.kill(pid, signal.SIGKILL)
    source.close()
    reread.deliver(180)
    source = reread.source()
    state = next(s for s in source.backfills.states() if s.request.id == request.id)
    source.close()
    assert state.phase is Phase.COMPLETED


def test_a_table_added_later_is_read_whole(reread: Reread) -> None:
    table = unique("added")
    reread.run(
        f"CREATE TABLE {table} (id INT PRIMARY KEY, price DECIMAL(12,2), flag BOOL)",
        f"INSERT INTO {table} VALUES (1, 12.5, 2), (2, 1, 0)",
    )
    reread.deliver()
    reread.follow(table)
    reread.tables["added"] = table
    reread.deliver()
    reread.run(f"INSERT INTO {table} VALUES (3, 3, 1)", f"DELETE FROM {table} WHERE id = 1")
    reread.deliver()
    assert {k: r["price"] for k, r in reread.latest(table).items()} == {2: "1.00", 3: "3.00"}
    consumed = reread.command("consume", "--once")
    assert consumed.returncode == 0, consumed.stderr
    types = json.loads(reread.command("verify", f"{reread.lab.source}.{table}", "--json").stdout)
    assert types["exact"]


def test_a_table_added_later_that_cannot_be_read_whole_stops_alone(reread: Reread) -> None:
    table = unique("nokey")
    reread.run(f"CREATE TABLE {table} (n INT)", f"INSERT INTO {table} VALUES (1)")
    reread.follow(table)
    reread.tables["nokey"] = table
    source = reread.source()
    list(source.poll({}))
    [state] = [state for state in source.table_states() if state.table == table]
    assert state.state == "stopped" and "has no primary key" in state.reason
    reread.deliver()  # the others go on
    reread.run(f"ALTER TABLE {table} ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY KEY")
    list(source.poll({}))
    assert not [state for state in source.table_states() if state.state == "stopped"]
    source.close()
    reread.deliver()
    rows = [seen.row for seen in reread.lab.rows(table)]
    # a whole table that was read again ends with a record that nothing older counts
    assert [(row["op"], (row["after"] or {}).get("n")) for row in rows] == [("r", 1), ("t", None)]


def test_a_table_without_a_primary_key_is_refused_until_it_has_one(reread: Reread) -> None:
    table = reread.tables["keyless"]
    refused = reread.command("backfill", f"{reread.lab.source}.{table}")
    assert refused.returncode == 1 and "has no primary key" in refused.stderr
    assert "ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY KEY" in refused.stderr
    reread.run(
        f"INSERT INTO {table} VALUES (1, 'x')",
        f"ALTER TABLE {table} ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY KEY",
    )
    reread.deliver()
    assert reread.backfill(table)["rows"] == 1


def test_an_interrupted_wait_says_what_continues(reread: Reread) -> None:
    url = f"{reread.lab.endpoints.connect}/connectors/{reread.source().connector}"
    table = reread.tables["types"]
    assert requests.put(f"{url}/pause", timeout=30).ok
    words = [sys.executable, "-m", "ducklake.cli", "backfill", f"{reread.lab.source}.{table}"]
    process = subprocess.Popen(
        [*words, "--config", str(reread.lab.config.path)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "the connector is PAUSED" in first and "of about 2 rows" in first
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "continues" in said
    assert requests.put(f"{url}/resume", timeout=30).ok
    before = len(reread.rows(table))
    reread.deliver()
    assert len(reread.rows(table)) == before + 2
