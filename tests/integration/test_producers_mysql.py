from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from lake.config import Config, MysqlConnection
from lake.errors import ConfigError, ServiceUnreachable, SourceError, SourcePaused
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.connect_rest import ConnectRest
from tests.integration.producers_lab import (
    Lab,
    Seen,
    make_lab,
    shop_server,
    sql,
    unique,
    wait_until,
)

pytestmark = pytest.mark.stack
VALUES = (
    "'0000000012.50', 18446744073709551615, '2026-02-03 04:05:06.789012', 2, 'paid', 'ñandú 🦆'"
)


class Shop:
    """A table of its own in the real shop, one not followed, and a connector for the first."""

    def __init__(self, folder: Path, stack: Config) -> None:
        self.stack = stack
        self.folder = folder
        self.table = unique("t")
        self.unfollowed = unique("b")
        self.run(
            f"CREATE TABLE {self.table} (id INT PRIMARY KEY AUTO_INCREMENT, price DECIMAL(12,2),"
            " big BIGINT UNSIGNED, at DATETIME(6), flag TINYINT(1), state ENUM('pending','paid'),"
            " word VARCHAR(20))",
            f"CREATE TABLE {self.unfollowed} (id INT PRIMARY KEY AUTO_INCREMENT)",
            self.insert,
        )
        self.lab = self.made({})
        self.name = f"{self.lab.config.settings.name}-{self.lab.source}"

    @property
    def at(self) -> MysqlConnection:
        return shop_server(self.stack)

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.table} (price, big, at, flag, state, word) VALUES ({VALUES})"

    def made(self, options: dict[str, Any], **servers: dict[str, Any]) -> Lab:
        """The same source once more, with other options or servers."""
        spec = {"type": "mysql_cdc", "tables": {self.table: {"key": ["id"]}}, "options": options}
        like = getattr(self, "lab", None)
        return make_lab(self.folder, self.stack, spec, servers, like)

    def connector(self, options: dict[str, Any] | None = None) -> MysqlCdcConnector:
        """As a new process would make it, for the one connector in Connect."""
        source = (self.lab if options is None else self.made(options)).connector()
        assert isinstance(source, MysqlCdcConnector)
        return source

    def run(self, *statements: str) -> None:
        sql(self.at, *statements)

    def rows(self) -> list[Seen]:
        return self.lab.rows(self.table)

    def state(self) -> list[str]:
        status = ConnectRest(self.lab.endpoints.connect, self.name).status()
        return [
            part["state"] for part in (status.get("connector"), *status.get("tasks", [])) if part
        ]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, stack_config: Config) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("cdc"), stack_config)
    yield made
    url = f"{made.lab.endpoints.connect}/connectors/{made.name}"
    requests.delete(url, timeout=30)
    wait_until(lambda: requests.get(url, timeout=30).status_code == 404, "the connector is gone")
    made.run(f"DROP TABLE {made.table}", f"DROP TABLE {made.unfollowed}")


def settle(source: MysqlCdcConnector) -> None:
    def settled() -> bool:
        list(source.poll({}))
        return source.settled()

    wait_until(settled, "everything is in Kafka")


def test_snapshot_and_stream_say_the_same_of_every_type(shop: Shop) -> None:
    source = shop.connector()
    settle(source)
    source.close()
    shop.run(shop.insert)
    source = shop.connector()
    settle(source)
    source.close()
    snapshot, stream = (seen.row for seen in shop.rows())
    assert (snapshot["op"], stream["op"]) == ("r", "c")
    expected = {
        "price": "12.50",
        "big": 18446744073709551615,
        "at": "2026-02-03 04:05:06.789012",
        "flag": 2,
        "state": "paid",
        "word": "ñandú 🦆",
    }
    assert {key: snapshot["after"][key] for key in expected} == expected
    assert {key: stream["after"][key] for key in expected} == expected


def test_an_unchanged_configuration_is_not_sent_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shop.connector()
    list(source.poll({}))
    sent: list[str] = []
    request = requests.Session.request

    def noted(self: Any, method: str, url: str, **options: Any) -> requests.Response:
        sent.append(method)
        return request(self, method, url, **options)

    monkeypatch.setattr(requests.Session, "request", noted)
    list(source.poll({}))
    source.close()
    assert sent and set(sent) == {"GET"}


def test_settled_is_said_only_when_all_that_was_committed_is_in_kafka(shop: Shop) -> None:
    for attempt in range(4):
        before = len(shop.rows())
        rows = (1, 500, 0, 2000)[attempt]
        if rows:
            values = ", ".join([f"({VALUES})"] * rows)
            columns = "(price, big, at, flag, state, word)"
            shop.run(f"INSERT INTO {shop.table} {columns} VALUES {values}")
        else:
            shop.run(f"INSERT INTO {shop.unfollowed} VALUES ()")  # in a table that nobody follows
        source = shop.connector()
        settle(source)
        assert len(shop.rows()) == before + rows, "it was said too early, or a row came twice"
        source.close()
    source = shop.connector()  # and where nothing at all has happened since
    settle(source)
    source.close()


def test_the_definition_of_another_table_at_the_end_of_the_log_is_not_waited_for(
    shop: Shop,
) -> None:
    other = unique("other")
    for _ in range(2):
        shop.run(shop.insert, f"CREATE TABLE {other} (id INT)", f"DROP TABLE {other}")
        source = shop.connector()

        def settled(source: MysqlCdcConnector = source) -> bool:
            list(source.poll({}))
            return source.settled()

        wait_until(settled, "what is not ours is not waited for")
        source.close()
        assert len(shop.rows()) >= source.count()[shop.table]


def test_a_changed_option_is_applied(shop: Shop) -> None:
    source = shop.connector({"poll.interval.ms": "150"})
    list(source.poll({}))
    current = source.rest.configuration()
    assert current is not None and current["poll.interval.ms"] == "150"
    wait_until(lambda: shop.state() == ["RUNNING", "RUNNING"], "it runs again")
    before = len(shop.rows())
    shop.run(shop.insert)
    settle(source)
    source.close()
    assert len(shop.rows()) == before + 1, "it went on where it was"


def test_an_option_that_connect_refuses_is_named_and_changes_nothing(shop: Shop) -> None:
    source = shop.connector({"max.batch.size": "99999999"})
    before = source.rest.configuration()
    with pytest.raises(SourceError, match=r"max.queue.size: .*Must be larger") as error:
        list(source.poll({}))
    assert shop.at.plain_password not in str(error.value)
    assert source.rest.configuration() == before
    wait_until(lambda: shop.state() == ["RUNNING", "RUNNING"], "it runs on")
    source.close()


def test_what_a_reference_stands_for_is_in_no_error(shop: Shop) -> None:
    source = shop.connector({"max.queue.size": "$${env:DUCKLAKE_MYSQL_PASSWORD}"})
    with pytest.raises(SourceError, match=r"max.queue.size") as error:
        list(source.poll({}))
    source.close()
    assert "may only be the whole value of a password" in str(error.value)
    assert shop.at.plain_password not in str(error.value)


def test_a_refused_user_and_a_silent_server_are_told_apart(shop: Shop) -> None:
    for changed, kind, said in (
        ({"user": "nobody"}, SourceError, "Access denied for user 'nobody'"),
        ({"port": 1}, ServiceUnreachable, "Can't connect to MySQL server"),
    ):
        source = shop.made({}, mysql=changed).connector()
        with pytest.raises(kind, match=said) as error:
            list(source.poll({}))
        source.close()
        assert shop.at.plain_password not in str(error.value)
        assert error.value.remedy
    source = shop.made({}, mysql={"password": "hunter2"}).connector()
    with pytest.raises(SourceError, match="Access denied") as refused:
        source.settled()
    assert "hunter2" not in str(refused.value)
    assert "connections.mysql" in refused.value.remedy
    source.close()


def test_the_password_is_in_no_answer_of_connect(shop: Shop) -> None:
    url = f"{shop.lab.endpoints.connect}/connectors"
    for path in ("?expand=info&expand=status", f"/{shop.name}/config", f"/{shop.name}/tasks"):
        answer = requests.get(url + path, timeout=30)
        assert answer.ok
        assert "DUCKLAKE_MYSQL_PASSWORD" in answer.text
        assert shop.at.plain_password not in answer.text


def test_a_password_itself_is_never_handed_to_connect(shop: Shop) -> None:
    lab = shop.made({}, mysql={"connect_password": "hunter2"})
    with pytest.raises(
        ConfigError, match=r"line \d+: .*connect_password: it is not a ref"
    ) as error:
        lab.connector()
    assert "hunter2" not in str(error.value)


def test_a_failed_task_is_restarted_and_said(shop: Shop) -> None:
    cast = {"transforms": "cast", "transforms.cast.spec": "op:int8"}
    cast["transforms.cast.type"] = "org.apache.kafka.connect.transforms.Cast$Value"
    source = shop.connector(cast)
    list(source.poll({}))
    before = len(shop.rows())
    shop.run(shop.insert)  # its `op` is a letter, which no number can hold
    wait_until(lambda: "FAILED" in shop.state(), "the task fails")
    with pytest.raises(ServiceUnreachable, match=r"had failed \(.*Exception.*restarted") as error:
        list(source.poll({}))
    assert shop.at.plain_password not in str(error.value)
    source.close()
    source = shop.connector()
    settle_through_failures(source)
    source.close()
    assert len(shop.rows()) == before + 1, "the row that it failed on, once"


def test_a_record_that_kafka_does_not_take_comes_once_it_may_be_as_large(shop: Shop) -> None:
    source = shop.connector()
    settle_through_failures(source)
    before = len(shop.rows())
    kept = set_largest(shop.lab, shop.table, "100")
    shop.run(shop.insert)
    refused: list[SourceError] = []

    def named() -> bool:
        try:
            list(source.poll({}))
        except SourceError as error:
            refused.append(error)
        except ServiceUnreachable:
            return False
        return bool(refused)

    wait_until(named, "it is named")
    assert "does not take (RecordTooLargeException" in refused[0].what
    assert "max.message.bytes of the table's topic" in refused[0].remedy
    set_largest(shop.lab, shop.table, kept)
    settle_through_failures(source)
    source.close()
    assert len(shop.rows()) == before + 1


def set_largest(lab: Lab, table: str, wanted: str) -> str:
    """Let a table's topic take messages up to a size; what that was before."""
    admin = AdminClient(lab.endpoints.kafka_client())
    topic, setting = f"{lab.source}.{table}", "max.message.bytes"
    [known] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    before = str(known.result(30)[setting].value)
    change = ConfigEntry(setting, wanted, incremental_operation=AlterConfigOpType.SET)
    at = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    [done] = admin.incremental_alter_configs([at]).values()
    done.result(30)
    return before


def settle_through_failures(source: MysqlCdcConnector) -> None:
    def settled() -> bool:
        try:
            list(source.poll({}))
        except (ServiceUnreachable, SourceError):
            return False  # what had failed is restarted
        return source.settled()

    wait_until(settled, "everything is in Kafka")


@pytest.mark.parametrize("setting", ["exact.type", "value.converter"])
def test_a_connect_without_the_converter_is_told_how_to_get_it(shop: Shop, setting: str) -> None:
    source = shop.connector({setting: "ducklake.Missing"})

    def named() -> bool:
        try:
            list(source.poll({}))
        except SourceError as error:
            assert "ducklake converter FILE" in error.remedy
            return True
        except ServiceUnreachable:
            return False
        return False

    wait_until(named, "the missing converter is named")
    source.close()
    source = shop.connector()
    settle_through_failures(source)
    source.close()


def test_a_paused_connector_is_said(shop: Shop) -> None:
    url = f"{shop.lab.endpoints.connect}/connectors/{shop.name}"
    assert requests.put(f"{url}/pause", timeout=30).ok
    source = shop.connector()
    wait_until(lambda: shop.state()[:1] == ["PAUSED"], "it pauses")
    with pytest.raises(SourcePaused, match=r"is paused\. Resume it"):
        list(source.poll({}))
    assert requests.put(f"{url}/resume", timeout=30).ok
    source.close()
