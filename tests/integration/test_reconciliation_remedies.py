"""A table that cannot be compared or mended: why is named, and the remedy is carried out.

One connector follows a table for each reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ducklake.reconciliation import repair, waiting
from ducklake.reconciliation.reconciler import Reconciler
from ducklake.reconciliation.result import TableResult
from lake.config import Config, TableRef
from lake.errors import SourceError
from producers.mysql import backfill
from producers.mysql.cdc import MysqlCdcConnector
from tests.integration.following import Following, as_root, consumer_running, following, run
from tests.integration.producers_lab import Lab, make_lab, unique
from tests.integration.test_producers_mysql import set_largest

pytestmark = pytest.mark.stack
SHORTLY = 1.0
NAMES = ("empty", "gone", "late", "unread", "renamed", "surplus", "keyless", "deaf")
T = {name: unique(name) for name in NAMES}


@dataclass
class Compared:
    """A source and its lake, which has read nothing at first."""

    following: Following
    stack: Config

    @property
    def source(self) -> str:
        return self.following.lab.source

    def run(self, *statements: str) -> None:
        with as_root(self.stack) as cursor:
            run(cursor, statements)

    def behind_the_binlog(self, *statements: str) -> None:
        """Change rows so that only a comparison can find it."""
        self.run("SET SESSION sql_log_bin = 0", *statements)

    def connector(self, what: str) -> None:
        self.following.command("connector", what, self.source)

    def compare(
        self, name: str, repair: bool = False, tell: Callable[[str], object] = lambda text: None
    ) -> TableResult:
        lab = self.following.lab
        reconciler = Reconciler(lab.config, lab.endpoints, tell=tell)
        return reconciler.reconcile(TableRef(lab.source, T[name]), repair)

    def mended(self, name: str) -> TableResult:
        with consumer_running(self.following):
            result = self.compare(name, repair=True)
        assert result.state == "equal", result
        return result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Compared]:
    with as_root(stack_config) as cursor:
        for name, table in T.items():
            key = "" if name == "keyless" else " PRIMARY KEY"
            cursor.execute(f"CREATE TABLE {table} (id INT{key}, v VARCHAR(40))")
            if name != "empty":
                cursor.execute(f"INSERT INTO {table} VALUES (1, 'one'), (2, 'two')")
        tables = {table: {"key": ["id"]} for table in T.values()}
        with following(tmp_path_factory.mktemp("remedies"), stack_config, tables) as found:
            found.deliver()
            yield Compared(found, stack_config)
        for table in T.values():
            cursor.execute(f"DROP TABLE IF EXISTS {table}")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not move is given up soon."""
    monkeypatch.setattr(waiting, "PATIENCE", SHORTLY)


@pytest.mark.usefixtures("impatient")
def test_a_lake_that_nobody_has_filled_is_named(made: Compared) -> None:
    result = made.compare("empty")
    assert result.state == "failed"
    assert result.reason == f"The lake has no table {made.source}.{T['empty']}."
    assert result.remedy == "`ducklake produce` and `ducklake consume` bring it in."
    result = made.compare("late")
    assert "the lake lacks" in result.reason and "did not move for 1 s" in result.reason
    assert result.remedy.startswith("Run `ducklake consume`")
    made.following.command("produce", made.source, "--once")
    made.following.command("consume", "--once")
    assert [made.compare(name).state for name in ("empty", "late")] == ["equal", "equal"]


@pytest.mark.usefixtures("impatient")
def test_changes_that_do_not_reach_kafka_are_waited_for_once_the_source_runs(
    made: Compared,
) -> None:
    made.following.consume()
    made.connector("pause")
    made.run(f"INSERT INTO {T['late']} VALUES (3, 'three')")
    result = made.compare("late")
    assert result.state == "failed"
    assert "did not reach Kafka within 1 s" in result.reason
    assert "it is compared once it runs" in result.remedy
    made.connector("resume")
    made.following.take()
    assert made.compare("late").state == "equal"


def test_a_table_that_was_dropped_is_named_until_it_is_there_again(made: Compared) -> None:
    made.following.take()
    made.run(f"DROP TABLE {T['gone']}")
    result = made.compare("gone")
    assert result.state == "failed"
    assert result.reason == f"MySQL has no table techstore.{T['gone']}."
    assert result.remedy == "Take it out of ducklake.yml, or create it again."
    made.run(
        f"CREATE TABLE {T['gone']} (id INT PRIMARY KEY, v VARCHAR(40))",
        f"INSERT INTO {T['gone']} VALUES (7, 'again')",
    )
    made.following.take()
    result = made.compare("gone")
    assert (result.state, result.lake_rows) == ("equal", 1), result


def test_rows_that_debezium_does_not_read_again_in_time_are_mended_later(
    made: Compared, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.following.take()
    monkeypatch.setattr(repair, "PATIENCE", SHORTLY)
    made.behind_the_binlog(f"UPDATE {T['unread']} SET v = 'unseen' WHERE id = 2")
    with consumer_running(made.following):
        result = made.compare("unread", repair=True, tell=lambda text: made.connector("pause"))
    assert result.state == "different"
    assert "Debezium did not read the rows again within 1 s" in result.reason
    assert "repair the table once it runs" in result.remedy
    made.connector("resume")
    monkeypatch.undo()
    made.mended("unread")


def test_a_repair_whose_condition_no_longer_holds_is_named_with_a_way_out(made: Compared) -> None:
    """The key got another name between the comparison and the reading."""
    made.following.take()
    table = T["renamed"]
    made.behind_the_binlog(f"UPDATE {table} SET v = 'unseen' WHERE id = 2")

    def tell(text: str) -> None:
        if "they are mended" in text:
            made.connector("pause")
        elif "0 of 1 parts" in text:
            made.run(f"ALTER TABLE {table} RENAME COLUMN id TO number")
            made.connector("resume")

    with consumer_running(made.following):
        result = made.compare("renamed", repair=True, tell=tell)
    assert result.state == "different", result
    topic = f"{made.source}.{table}"
    assert f"{topic} could not be read again: MySQL refused the query" in result.reason
    assert f"`ducklake backfill {topic}`" in result.remedy
    said = json.loads(made.following.command("backfill", topic, "--json"))
    assert said["state"] == "completed"
    made.following.take()
    assert made.compare("renamed").state == "equal"


def test_deletes_that_kafka_does_not_take_are_written_once_it_does(made: Compared) -> None:
    made.following.take()
    made.behind_the_binlog(f"DELETE FROM {T['surplus']} WHERE id = 2")
    with consumer_running(made.following):
        kept = set_largest(made.following.lab, T["surplus"], "100")
        try:
            result = made.compare("surplus", repair=True)
        finally:
            set_largest(made.following.lab, T["surplus"], kept)
    assert (result.state, result.surplus) == ("different", 1)
    assert result.reason.startswith("Kafka did not take the deletes of a repair: "), result
    assert "Message size too large" in result.reason
    assert result.remedy == "None of them is visible; repair the table again."
    assert made.mended("surplus").repaired == 1


def test_a_table_without_a_key_is_mended_once_it_has_one(made: Compared) -> None:
    made.following.take()
    table = T["keyless"]
    made.behind_the_binlog(f"UPDATE {table} SET v = 'unseen' WHERE id = 2")
    result = made.compare("keyless", repair=True)
    assert "a row of a table without a key cannot be mended" in result.reason
    assert "ADD COLUMN id BIGINT AUTO_INCREMENT PRIMARY KEY" in result.remedy
    made.run(f"ALTER TABLE {table} ADD COLUMN no BIGINT AUTO_INCREMENT PRIMARY KEY")
    made.following.take()
    made.mended("keyless")


def test_a_table_that_debezium_never_reads_again_is_given_up_and_read_later(
    made: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "AGAIN_SECONDS", 0.0)
    made.following.take()
    lab = made.following.lab
    deaf = with_options(made, tmp_path, {"signal.kafka.topic": unique("elsewhere")})
    other = Following(deaf, made.stack, made.following.tables)
    other.deliver()
    source = deaf.connector()
    assert isinstance(source, MysqlCdcConnector)
    source.backfills.request(T["deaf"])

    def asked_in_vain() -> None:
        while source.backfills.advance(source.rest):
            pass

    with pytest.raises(SourceError, match="though it was told 10 times") as error:
        asked_in_vain()
    source.close()
    assert f"`ducklake backfill {lab.source}.{T['deaf']}` asks again" in error.value.remedy
    made.following.deliver()  # with the right topic
    said = made.following.command("backfill", f"{lab.source}.{T['deaf']}", "--json")
    assert json.loads(said)["state"] == "completed"


def with_options(made: Compared, folder: Path, options: dict[str, str]) -> Lab:
    """The same source with options of Debezium."""
    tables = {table: {"key": ["id"]} for table in T.values()}
    spec = {"type": "mysql_cdc", "tables": tables, "options": options}
    return make_lab(folder, made.stack, spec, like=made.following.lab)
