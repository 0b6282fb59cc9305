"""Random stories of a shop: whatever happens, the lake equals MySQL, or it is said why not.

Statements and changes of several tables, restarts of the connector, of MySQL and of the consumer.
STORIES says how many are told; `make soak` tells 100.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from lake.config import Config
from lake.errors import SourceError
from stack import lifecycle
from tests.integration.following import Following, as_root, consumer_running, following, root
from tests.integration.producers_lab import unique, wait_until

pytestmark = pytest.mark.stack
STORIES = int(os.environ.get("STORIES", "4"))
TABLES = 3
TYPES = (
    "INT",
    "BIGINT UNSIGNED",
    "DECIMAL(12,2)",
    "DECIMAL(20,6)",
    "VARCHAR(20)",
    "VARCHAR(80)",
    "TEXT",
    "VARBINARY(80)",
    "DATE",
    "DATETIME(3)",
    "DOUBLE",
    "JSON",
    "BIT(8)",
    "TIME",
    "ENUM('a','b,c','ñ')",
    "TINYINT(1)",
)


def value(type_: str, dice: random.Random) -> Any:
    """A value of a type."""
    if dice.random() < 0.2:
        return None
    word = type_.partition("(")[0].split()[0]
    made: dict[str, Callable[[], Any]] = {
        "INT": lambda: dice.randint(-(2**31), 2**31 - 1),
        "BIGINT": lambda: dice.choice([0, 2**64 - 1, dice.randint(0, 2**63)]),
        "DECIMAL": lambda: f"{dice.randint(-10**9, 10**9)}.{dice.randint(0, 99):02}",
        "VARCHAR": lambda: dice.choice(
            ["", "a  ", "ñandú 🦆", "5", "2024-01-02", "1.50", "x" * 20]
        ),
        "TEXT": lambda: dice.choice(["", "line\nline", "7", "'quoted'", "{}"]),
        "VARBINARY": lambda: dice.choice([b"", b"abc", b"\x00\xff", b"12"]),
        "DATE": lambda: f"{dice.randint(1, 9999):04}-{dice.randint(1, 12):02}-10",
        "DATETIME": lambda: f"{dice.randint(1, 9999):04}-03-04 05:06:07.{dice.randint(0, 999):03}",
        "DOUBLE": lambda: dice.choice([0.1, -1e300, 16777217.0, 1e-7, dice.random()]),
        "JSON": lambda: dice.choice(['{"a": [1, 2.5]}', "null", '"x"', "[]"]),
        "BIT": lambda: dice.randint(0, 255),
        "TIME": lambda: dice.choice(["-12:34:56", "25:30:00", "00:00:00"]),
        "ENUM": lambda: dice.choice(["a", "b,c", "ñ"]),
        "TINYINT": lambda: dice.choice([0, 1, 2, -5]),
    }
    return made[word]()


@dataclass
class Story:
    """One story as it is told.

    Attributes:
        followed: The source and its lake.
        connection: Of MySQL's root.
        columns: Of each table, by name.
        told: What has happened.
    """

    followed: Following
    connection: Any
    columns: dict[str, dict[str, str]]
    told: list[str] = field(default_factory=list)

    def do(self, sql: str, *values: Any) -> bool:
        """Run a statement; whether MySQL took it."""
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, values or None)
        except pymysql.MySQLError as error:
            if error.args[0] in (2006, 2013):
                raise
            self.told.append(f"-- refused: {sql} ({error.args[0]})")
            return False
        self.told.append(f"{sql} {values or ''}")
        return True

    def tell(self, step: str, number: int) -> None:
        """One step."""
        dice = random.Random(number)
        table = self.followed.tables[number % len(self.followed.tables)]
        tell: Callable[[str, random.Random], None] = getattr(self, step)
        tell(table, dice)

    # Rows

    def insert(self, table: str, dice: random.Random) -> None:
        names = list(self.columns[table])
        for _ in range(dice.randint(1, 3)):
            values = [value(self.columns[table][name], dice) for name in names]
            listed = ", ".join(["id", *(f"`{name}`" for name in names)])
            marks = ", ".join(["%s"] * (len(names) + 1))
            self.do(
                f"INSERT INTO {table} ({listed}) VALUES ({marks})", dice.randint(1, 12), *values
            )

    def update(self, table: str, dice: random.Random) -> None:
        if self.columns[table]:
            name = dice.choice(list(self.columns[table]))
            new = value(self.columns[table][name], dice)
            self.do(f"UPDATE {table} SET `{name}` = %s WHERE id <= %s", new, dice.randint(1, 12))

    def delete(self, table: str, dice: random.Random) -> None:
        self.do(f"DELETE FROM {table} WHERE id = %s", dice.randint(1, 12))

    def rekey(self, table: str, dice: random.Random) -> None:
        numbers = dice.randint(1, 12), dice.randint(13, 16)
        self.do(f"UPDATE {table} SET id = {numbers[1]} WHERE id = {numbers[0]}")

    def transaction(self, table: str, dice: random.Random) -> None:
        self.do("BEGIN")
        self.insert(table, dice)
        self.delete(table, dice)
        self.do(dice.choice(["COMMIT", "ROLLBACK"]))

    # Definitions

    def _add(self, table: str, dice: random.Random, more: str = "", types: Any = TYPES) -> None:
        name = dice.choice(["a", "b", "c", "d", "E f"])
        type_ = dice.choice(types)
        place = dice.choice(["", " FIRST", " AFTER id"])
        if self.do(f"ALTER TABLE {table} ADD COLUMN `{name}` {type_}{more}{place}"):
            self.columns[table][name] = type_

    def add(self, table: str, dice: random.Random) -> None:
        self._add(table, dice)

    def add_default(self, table: str, dice: random.Random) -> None:
        self._add(table, dice, " DEFAULT 5", ("INT", "DECIMAL(12,2)", "VARCHAR(20)"))

    def add_again(self, table: str, dice: random.Random) -> None:
        name = dice.choice(list(self.columns[table]))
        type_ = dice.choice(TYPES)
        drop, add = f"DROP COLUMN `{name}`", f"ADD COLUMN `{name}` {type_}"
        if len(self.columns[table]) == 1 or dice.random() < 0.5:
            if self.do(f"ALTER TABLE {table} {drop}, {add}"):
                self.columns[table][name] = type_
        elif self.do(f"ALTER TABLE {table} {drop}"):
            del self.columns[table][name]
            if self.do(f"ALTER TABLE {table} {add}"):
                self.columns[table][name] = type_

    def add_required(self, table: str, dice: random.Random) -> None:
        self._add(table, dice, " NOT NULL", ("INT", "VARCHAR(20)", "VARBINARY(80)"))

    def drop(self, table: str, dice: random.Random) -> None:
        if len(self.columns[table]) > 1:
            name = dice.choice(list(self.columns[table]))
            if self.do(f"ALTER TABLE {table} DROP COLUMN `{name}`"):
                del self.columns[table][name]

    def rename(self, table: str, dice: random.Random) -> None:
        old, new = dice.choice(list(self.columns[table])), dice.choice(["a", "b", "c", "g", "H"])
        if self.do(f"ALTER TABLE {table} RENAME COLUMN `{old}` TO `{new}`"):
            self.columns[table][new] = self.columns[table].pop(old)

    def exchange(self, table: str, dice: random.Random) -> None:
        if len(self.columns[table]) > 1:
            known = self.columns[table]
            one, other = dice.sample(list(known), 2)
            renamed = f"RENAME COLUMN `{one}` TO `{other}`, RENAME COLUMN `{other}` TO `{one}`"
            if self.do(f"ALTER TABLE {table} {renamed}"):
                known[one], known[other] = known[other], known[one]

    def retype(self, table: str, dice: random.Random) -> None:
        name, type_ = dice.choice(list(self.columns[table])), dice.choice(TYPES)
        if self.do(f"ALTER TABLE {table} MODIFY `{name}` {type_}"):
            self.columns[table][name] = type_

    def truncate(self, table: str, dice: random.Random) -> None:
        self.do(f"TRUNCATE TABLE {table}")

    def swap(self, table: str, dice: random.Random) -> None:
        other = unique(f"{table[:20]}_g")
        self.do(f"CREATE TABLE {other} LIKE {table}")
        if dice.random() < 0.7:
            self.do(f"INSERT INTO {other} SELECT * FROM {table} WHERE id <= 6")
        self.do(f"RENAME TABLE {table} TO {other}_old, {other} TO {table}")
        self.do(f"DROP TABLE {other}_old")

    # Mishaps

    def take(self, table: str, dice: random.Random) -> None:
        self.told.append("-- take")
        self.followed.take()

    def consume(self, table: str, dice: random.Random) -> None:
        self.told.append("-- consume")
        self.followed.consume()

    def restart_connector(self, table: str, dice: random.Random) -> None:
        self.told.append("-- the connector stops and starts")
        name = f"{self.followed.lab.config.settings.name}-{self.followed.lab.source}"
        url = f"{self.followed.lab.endpoints.connect}/connectors/{name}"
        assert requests.put(f"{url}/stop", timeout=30).ok
        wait_until(lambda: not requests.get(f"{url}/status", timeout=30).json()["tasks"], "stopped")
        if dice.random() < 0.5:
            self.insert(table, dice)
        assert requests.put(f"{url}/resume", timeout=30).ok

    def restart_mysql(self, table: str, dice: random.Random) -> None:
        self.told.append("-- MySQL restarts")
        self.connection.close()
        [pid] = [s.pid for s in lifecycle.status(self.followed.stack).services if s.name == "mysql"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _answers(self.followed.stack), "MySQL is down")
        wait_until(lambda: _answers(self.followed.stack), "MySQL is up again")
        self.connection = root(self.followed.stack)


def _answers(stack: Config) -> bool:
    try:
        root(stack).close()
    except (pymysql.MySQLError, OSError):
        return False
    return True


ROWS = ("insert", "insert", "insert", "update", "delete", "rekey", "transaction")
ADDED = ("add", "add", "add_default", "add_required", "add_again")
DEFINITIONS = (*ADDED, "drop", "rename", "exchange", "retype")
MISHAPS = ("take", "consume", "restart_connector", "truncate", "swap", "restart_mysql")
STEPS = st.tuples(
    st.sampled_from((*ROWS, *ROWS, *DEFINITIONS, *DEFINITIONS, *MISHAPS)), st.integers(0, 10**6)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stories")


@pytest.mark.timeout(120 + 120 * STORIES)
@settings(
    max_examples=STORIES,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(STEPS, min_size=8, max_size=25))
def test_whatever_happens_the_lake_equals_mysql_or_it_is_said_why_not(
    folder: Path, stack_config: Config, steps: list[tuple[str, int]]
) -> None:
    names = [unique(f"story{number}_") for number in range(TABLES)]
    with as_root(stack_config) as cursor:
        for name in names:
            cursor.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, a VARCHAR(20), b INT)")
            cursor.execute(f"INSERT INTO {name} VALUES (1, 'x', 1), (2, NULL, NULL)")
    tables = {name: {"key": ["id"]} for name in names}
    with following(folder / unique("story"), stack_config, tables) as made:
        columns = {name: {"a": "VARCHAR(20)", "b": "INT"} for name in names}
        story = Story(made, root(stack_config), columns)
        try:
            made.deliver()
            for step, number in steps:
                story.tell(step, number)
            story.told.append("-- the end")
            made.take()
            unequal = _judged(story)
        except SourceError as error:
            note("\n".join([*story.told, f"-- a named stop: {error}"]))
            print(f"named stop: {error}")
            unequal = []
        except BaseException:
            print("\n".join(story.told))
            raise
        finally:
            story.connection.close()
            with as_root(stack_config) as cursor:
                for name in names:
                    cursor.execute(f"DROP TABLE IF EXISTS {name}")
    assert not unequal, "\n".join([*story.told, *unequal])


def _judged(story: Story) -> list[str]:
    """What is wrong at the end: a difference that nobody tells, or that cannot be mended."""
    wrong = []
    followed = story.followed
    with consumer_running(followed):
        for table in followed.tables:
            result = followed.reconcile(table)
            if result.state == "different" and table not in _told(followed):
                wrong += [f"{table}: {line.line()}" for line in result.differences]
            if result.state == "different":
                result = followed.reconcile(table, repair=True)
            if result.state != "equal":
                said = [difference.line() for difference in result.differences]
                wrong.append(f"{table}: {result.state}: {result.reason} {said}")
    return wrong


def _told(followed: Following) -> set[str]:
    """Tables of which `status` says that they may differ."""
    source = followed.lab.connector()
    try:
        list(source.poll({}))
        return {state.table for state in source.table_states()}
    finally:
        source.close()
