"""A source against its server: what is missing is named, and each remedy is carried out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from ducklake.cli.configuration import load_checked
from ducklake.supervision.condition import look
from lake.config import Config, load_config
from lake.errors import ConfigError, SourceError
from lake.processes.heartbeat import RoleHeartbeat
from lake.storage.paths import LakePaths
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.tables import quoted
from producers.registry import server_problems
from producers.runner import SourceRunner
from tests.integration.producers_lab import Lab, make_lab, shop_server, unique, wait_until
from tests.integration.test_mysql_types import mysql_root

pytestmark = pytest.mark.stack
STATEMENT = re.compile(r"`((?:GRANT|SET) (?:[^`]|`[^`]+`\.(?:`[^`]+`|\*))+)`")


@dataclass
class Checked:
    """A database, a user of its own without any right, and a server to ask as root."""

    root: Any
    stack: Config
    folder: Path
    database: str
    user: str

    @property
    def account(self) -> str:
        return f"'{self.user}'@'%'"

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.root.execute(statement)

    def grant_all(self, but: str = "") -> None:
        """What the README says, but for one privilege."""
        rights = ["RELOAD", "SHOW DATABASES", "REPLICATION SLAVE", "REPLICATION CLIENT"]
        kept = ", ".join(right for right in rights if right != but)
        self.run(f"GRANT {kept} ON *.* TO {self.account}")
        if but != "SELECT":
            self.run(f"GRANT SELECT ON {quoted(self.database)}.* TO {self.account}")

    def lab(self, tables: dict[str, Any], **more: Any) -> Lab:
        return make_lab(
            self.folder / unique("lab"),
            self.stack,
            {"type": "mysql_cdc", "tables": tables, "poll_seconds": 0.2, **more},
            servers={"mysql": {"database": self.database, "user": self.user}},
        )

    def said(self, lab: Lab) -> list[str]:
        """Everything that the server has against the source, errors first."""
        found = sorted(server_problems(lab.config, lab.source), key=lambda pair: not pair[1])
        return [line for line, _ in found]


@pytest.fixture
def checked(tmp_path: Path, stack_config: Config) -> Iterator[Checked]:
    at = shop_server(stack_config)
    with mysql_root(stack_config) as root:
        made = Checked(root, stack_config, tmp_path, unique("d"), unique("u"))
        plugin = f"IDENTIFIED WITH mysql_native_password BY '{at.plain_password}'"
        made.run(
            f"CREATE DATABASE {made.database}",
            f"CREATE USER {made.account} {plugin}",
            f"USE {made.database}",
            "CREATE TABLE orders (id INT PRIMARY KEY, v INT, d DATETIME)",
            "CREATE TABLE Orders2 (id INT PRIMARY KEY)",
            "CREATE TABLE pairs (a INT, b INT, PRIMARY KEY (a, b))",
            "CREATE TABLE keyless (v INT)",
            "CREATE VIEW seen AS SELECT * FROM orders",
        )
        yield made
        made.run(f"DROP DATABASE {made.database}", f"DROP USER {made.account}")


def carry_out(checked: Checked, lines: list[str]) -> None:
    """Run the statements that messages name."""
    for line in lines:
        for statement in STATEMENT.findall(line):
            checked.run(statement)


def remove_connector(lab: Lab) -> None:
    name = f"{lab.config.settings.name}-{lab.source}"
    requests.delete(f"{lab.endpoints.connect}/connectors/{name}", timeout=30)


ORDERS = {"orders": {"key": ["id"]}}


@pytest.mark.parametrize(
    "right", ["SELECT", "RELOAD", "SHOW DATABASES", "REPLICATION SLAVE", "REPLICATION CLIENT"]
)
def test_a_missing_grant_is_named_with_the_statement_that_gives_it(
    checked: Checked, right: str
) -> None:
    checked.grant_all(but=right)
    lab = checked.lab(ORDERS)
    [line] = checked.said(lab)
    if right == "SELECT":
        assert "if there is such a table. Run `GRANT" in line
    where = f"`{checked.database}`.`orders`" if right == "SELECT" else "*.*"
    assert f"{checked.account} lacks the privilege {right} on {where}" in line
    assert "line " in line
    carry_out(checked, [line])
    assert checked.said(lab) == []


def test_all_missing_grants_are_named_at_once_and_roles_count(checked: Checked) -> None:
    lab = checked.lab(ORDERS)
    lines = checked.said(lab)
    assert len(lines) == 5
    role = unique("r")
    checked.run(f"CREATE ROLE {role}")
    for line in lines:
        [statement] = STATEMENT.findall(line)
        checked.run(statement.replace(checked.account, role))
    checked.run(f"GRANT {role} TO {checked.account}")
    checked.run(f"SET DEFAULT ROLE ALL TO {checked.account}")
    assert checked.said(lab) == []
    checked.run(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"ordes": {}}, "has no table 'ordes'; did you mean 'orders'? Correct the name"),
        ({"orders2": {}}, "has no table 'orders2'; did you mean 'Orders2'?"),
        ({"x": {"table": "t", "database": "nowhere"}}, "no database 'nowhere' that this user"),
        ({"seen": {}}, "`.`seen` is a view, and the binlog has no rows of one"),
        ({"orders": {"key": ["idd"]}}, "`.`orders` has no column 'idd'; did you mean 'id'?"),
        ({"orders": {"key": ["ID"]}}, "`.`orders` has no column 'ID'; did you mean 'id'?"),
        ({"orders": {"columns": {"vv": "INTEGER"}}}, "has no column 'vv'; did you mean 'v'?"),
        ({"pairs": {"key": ["a"]}}, "is (a, b), which is what Debezium takes. Write `key: [a, b]`"),
        ({"keyless": {}}, "`.`keyless` has no primary key: every change arrives once"),
    ],
)
def test_a_table_that_is_not_as_configured_is_named_with_its_line(
    checked: Checked, tables: dict[str, Any], said: str
) -> None:
    checked.grant_all()
    [line] = checked.said(checked.lab(tables))
    assert re.match(r"lake\w+\.yml, line \d+: sources\.", line)
    assert said in line


@pytest.mark.parametrize(
    ("option", "is_wrong"),
    [
        ({"column.exclude.list": "{d}.orders.nothing"}, True),
        ({"column.exclude.list": "{d}.orders.v,{d}.orders.w"}, True),
        ({"column.exclude.list": r"{d}\.orders\.(v|w)"}, False),
        ({"column.mask.with.5.chars": "{d}.orders.w"}, True),
        ({"message.key.columns": "{d}.orders:id,w"}, True),
        ({"message.key.columns": "{d}.orders:id,v"}, False),
    ],
)
def test_a_column_in_the_options_that_no_table_has_is_named(
    checked: Checked, option: dict[str, str], is_wrong: bool
) -> None:
    checked.grant_all()
    options = {key: value.replace("{d}", checked.database) for key, value in option.items()}
    lines = checked.said(checked.lab(ORDERS, options=options))
    assert len(lines) == is_wrong
    assert not is_wrong or "no column of this source's tables is" in lines[0]


@pytest.mark.parametrize(
    ("variable", "value"), [("binlog_row_image", "MINIMAL"), ("binlog_format", "MIXED")]
)
def test_a_server_that_writes_no_whole_rows_is_named_and_set_right(
    checked: Checked, variable: str, value: str
) -> None:
    checked.grant_all()
    lab = checked.lab(ORDERS)
    checked.run(f"SET GLOBAL {variable} = '{value}'")
    try:
        [line] = checked.said(lab)
        assert f"the server has {variable}={value}" in line
        source = lab.connector()
        with pytest.raises(SourceError, match=f"The server has {variable}={value}"):
            list(source.poll({}))
        source.close()
        carry_out(checked, [line])
        assert checked.said(lab) == []
    finally:
        checked.run(f"SET GLOBAL {variable} = DEFAULT", f"RESET PERSIST IF EXISTS {variable}")


def test_the_server_s_own_id_is_refused(checked: Checked) -> None:
    checked.grant_all()
    checked.run("SELECT @@server_id")
    [(mine,)] = checked.root.fetchall()
    [line] = checked.said(checked.lab(ORDERS, options={"database.server.id": mine}))
    assert f"options.database.server.id: the server itself has the id {mine}" in line


def test_config_check_asks_the_servers_that_answer(checked: Checked) -> None:
    checked.grant_all()

    def check(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ducklake.cli", "config", "check", *words]
        return subprocess.run(
            [*command, "--config", str(lab.config.path)],
            env={**os.environ, **lab.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    lab = checked.lab({"ordes": {}, "keyless": {}})
    done = check(lab)
    assert done.returncode == 2 or done.returncode == 1
    assert "did you mean 'orders'?" in done.stderr
    assert "has no primary key" in done.stdout
    assert check(lab, "--offline").returncode == 0
    away = lab.config.path.read_text().replace(f"user: {checked.user}", "user: u\n    port: 9")
    away = re.sub(r"\n    port: \d\d+(?=\n)", "", away)
    lab.config.path.write_text(away)
    done = check(lab)
    assert done.returncode == 0, done.stderr
    assert "not checked against its server: MySQL" in done.stdout


def test_tables_that_cannot_be_read_stop_alone_and_come_by_themselves(checked: Checked) -> None:
    checked.grant_all(but="SELECT")
    checked.run("CREATE TABLE hidden (id INT PRIMARY KEY)", "INSERT INTO hidden VALUES (1)")
    checked.run("INSERT INTO orders (id) VALUES (1)")
    checked.run(f"GRANT SELECT ON {checked.database}.orders TO {checked.account}")
    checked.run(f"GRANT SELECT ON {checked.database}.seen TO {checked.account}")
    checked.run(
        f"GRANT SELECT ON {checked.database}.later TO {checked.account}".replace(
            "SELECT", "SELECT, CREATE"
        )
    )
    checked.run(f"GRANT INSERT ON {checked.database}.hidden TO {checked.account}")
    tables: dict[str, Any] = {name: {} for name in ("hidden", "seen", "later")}
    lab = checked.lab({"orders": {"key": ["idd"]}, **tables})
    config = load_config(lab.config.path)
    heartbeat = RoleHeartbeat(LakePaths(config.data_dir).run, "produce")
    stop = threading.Event()
    runner = SourceRunner(config, lab.endpoints, heartbeat=heartbeat)
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()

    def states() -> dict[str, str]:
        found = {problem.subject: problem.state for problem in look(config).problems}
        return {k.rpartition(".")[2]: v for k, v in found.items() if k.startswith("table ")}

    def ids(table: str) -> list[int]:
        return sorted({seen.row["after"]["id"] for seen in lab.rows(table)})

    try:
        wanted = {
            "orders": "misconfigured",
            "hidden": "stopped",
            "seen": "stopped",
            "later": "stopped",
        }
        wait_until(lambda: states() == wanted, "what is wrong is state")
        wait_until(lambda: ids("orders") == [1], "the others are read")
        remedies = [problem.remedy for problem in look(config).problems]
        carry_out(checked, remedies)  # the missing grant
        checked.run("CREATE TABLE later (id INT PRIMARY KEY)", "INSERT INTO later VALUES (1)")
        wait_until(
            lambda: states() == {"orders": "misconfigured", "seen": "stopped"}, "they are well"
        )
        checked.run("INSERT INTO hidden VALUES (2)")
        wait_until(lambda: ids("hidden") == [1, 2], "what was hidden is read whole")
        wait_until(lambda: ids("later") == [1], "what came later is read")
    finally:
        stop.set()
        thread.join()
        heartbeat.close()
        remove_connector(lab)
    done = lab.produce_once()
    assert done.returncode != 0
    assert "seen` is a view" in done.stderr


def test_a_comma_in_a_name_is_named_until_the_table_has_another(checked: Checked) -> None:
    checked.grant_all()
    checked.run(
        "CREATE TABLE `com,ma` (id INT PRIMARY KEY, d DATETIME)",
        "INSERT INTO `com,ma` VALUES (1, '1582-10-10 01:02:03')",
    )
    lab = checked.lab({"named": {"table": "com,ma", "key": ["id"]}})
    source = lab.connector()
    with pytest.raises(SourceError, match="`com,ma`: Debezium takes no comma") as error:
        list(source.poll({}))
    source.close()
    assert error.value.remedy == "Rename the table in MySQL, or leave it out."
    checked.run("RENAME TABLE `com,ma` TO comma")
    path = lab.config.path
    path.write_text(path.read_text().replace("com,ma", "comma"))
    try:
        done = lab.produce_once()
        assert done.returncode == 0, done.stderr
        [seen] = lab.rows("named")
        assert seen.row["after"]["d"] == "1582-10-10 01:02:03"
    finally:
        remove_connector(lab)


def test_a_polled_source_needs_select_alone_and_its_watermarks_are_checked(
    checked: Checked,
) -> None:
    checked.run(
        "CREATE TABLE plain (id INT PRIMARY KEY, t TIMESTAMP NULL, f FLOAT, n BIGINT NOT NULL)",
        "INSERT INTO plain VALUES (1, NOW(), 1, 1)",
        "CREATE TABLE polled (id INT PRIMARY KEY, t TIMESTAMP NOT NULL, INDEX (t))",
    )

    def said(**tables: Any) -> list[str]:
        polled = {name: {"table": name.rstrip("0123456789"), **t} for name, t in tables.items()}
        spec = {"type": "mysql_poll", "connection": "mysql"}
        lab = checked.lab(polled, **spec)
        return checked.said(lab)

    def by(watermark: str, **more: Any) -> dict[str, Any]:
        return {"options": {"watermark": watermark}, **more}

    [line, _] = said(polled=by("t"))
    assert "lacks the privilege SELECT" in line and "line " in line
    checked.run(f"GRANT SELECT ON {checked.database}.* TO {checked.account}")
    [deletes] = said(polled=by("t", key=["id"]))
    assert "deletes are not seen by polling" in deletes and ".type: " in deletes
    [line, _] = said(polled=by("tt"))
    assert "has no column 'tt'; did you mean 't'?" in line and "options.watermark" in line
    [line, _] = said(plain=by("f"))
    assert "is a float, whose order does not say what is new" in line
    [line, _] = said(keyless=by("v"))
    assert "neither a primary key nor a unique index" in line
    [line, _] = said(missing=by("v"))
    assert "has no table 'missing'" in line
    [null, index, key, _] = said(plain=by("t", key=["n"]))
    assert "may be NULL, and rows in which it is are not read" in null
    assert "no index of" in index and "the key of" in key and "`key: [id]`" in key
    for statement in re.findall(r"`(ALTER TABLE (?:[^`]|`\w+`)+)`", null + index):
        checked.run(statement.replace("…", "TIMESTAMP"))
    [deletes] = said(plain=by("t"))
    assert "deletes are not seen" in deletes


def test_a_mistake_of_a_polled_table_has_its_line(checked: Checked) -> None:
    lab = checked.lab({"orders": {}}, type="mysql_poll", connection="mysql")
    with pytest.raises(ConfigError, match=r"line \d+.*tables\.orders.*watermark"):
        load_checked(lab.config.path)
    wrong = {"options": {"watermark": "t", "late_secs": 1}}
    typed = {"options": {"watermark": "t"}, "columns": {"v": "DATE"}}
    lab = checked.lab({"orders": wrong, "pairs": typed}, type="mysql_poll", connection="mysql")
    with pytest.raises(ConfigError) as error:
        load_checked(lab.config.path)
    assert "did you mean 'late_seconds'?" in str(error.value)
    assert "columns of MySQL always have MySQL's types" in str(error.value)


def test_a_source_without_any_table_to_read_is_not_taken_for_all(checked: Checked) -> None:
    checked.grant_all(but="SELECT")
    source = checked.lab(ORDERS).connector()
    assert isinstance(source, MysqlCdcConnector)
    with pytest.raises(SourceError, match="lacks the privilege SELECT"):
        list(source.poll({}))
    source.close()
