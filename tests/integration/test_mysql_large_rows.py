"""Rows that are larger than a message of Kafka's: whole where that is possible, else counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from lake.config import Config
from tests.integration.mysql_lab import MysqlLab, names
from tests.integration.producers_lab import make_lab, shop_server, sql, wait_until

pytestmark = pytest.mark.stack
T = names("large", "small")
MB = 1024 * 1024


@pytest.fixture(scope="module")
def mysql(stack_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MysqlLab]:
    at = shop_server(stack_config)
    for table in T.values():
        sql(at, f"CREATE TABLE {table} (id INT PRIMARY KEY, n INT, v LONGTEXT, b LONGBLOB)")
    spec = {"type": "mysql_cdc", "tables": {table: {"key": ["id"]} for table in T.values()}}
    made = MysqlLab(make_lab(tmp_path_factory.mktemp("lab"), stack_config, spec), stack_config)
    made.deliver()
    yield made
    requests.delete(f"{made.lab.endpoints.connect}/connectors/{made.name}", timeout=30)
    for table in T.values():
        sql(at, f"DROP TABLE {table}")


def test_a_row_whose_two_images_exceed_a_message_arrives_whole(mysql: MysqlLab) -> None:
    table = T["large"]
    mysql.root(f"INSERT INTO {table} VALUES (1, 1, NULL, REPEAT('x', {36 * MB}))")
    mysql.root(f"UPDATE {table} SET n = 2")
    mysql.root(f"INSERT INTO {T['small']} VALUES (1, 1, 'neighbour', NULL)")
    mysql.deliver()
    first, second = mysql.lab.rows(table)
    assert len(first.value or b"") > 48 * MB
    assert second.row["op"] == "u" and second.row["after"]["n"] == 2
    assert len(second.row["after"]["b"]) == 48 * MB
    assert mysql.compare(table).state == "equal"
    assert mysql.compare(T["small"]).state == "equal"


def test_a_row_beyond_the_bound_is_a_dead_letter_of_its_table_alone(mysql: MysqlLab) -> None:
    table = T["small"]
    url = f"{mysql.lab.endpoints.connect}/connectors/{mysql.name}"
    config = requests.get(f"{url}/config", timeout=30).json()
    bound = {**config, "value.converter.most.bytes": str(MB)}
    requests.put(f"{url}/config", json=bound, timeout=30).raise_for_status()
    mysql.restart()
    mysql.root(
        f"INSERT INTO {table} VALUES (2, 1, REPEAT('y', {2 * MB}), NULL)",  # beyond the bound
        f"INSERT INTO {table} VALUES (3, 1, REPEAT('z', {MB * 6 // 10}), NULL)",
        f"UPDATE {table} SET n = 2 WHERE id = 3",  # beyond it with the row before
        f"UPDATE {table} SET v = REPEAT('y', {2 * MB}) WHERE id = 1",
        f"DELETE FROM {table} WHERE id = 1",
        f"INSERT INTO {table} VALUES (4, 1, 'behind', NULL)",
    )
    wait_until(lambda: len(mysql.lab.rows(table)) == 7, "everything has arrived")
    found = [
        (row["op"], (row["after"] or row["before"] or {}).get("id"))
        for row in (seen.row for seen in mysql.lab.rows(table)[1:])
    ]
    assert sorted(found, key=str) == sorted(
        [("c", None), ("c", 3), ("u", 3), ("u", None), ("d", 1), ("c", 4)], key=str
    )
    result = mysql.compare(table)
    assert (result.state, result.missing, result.surplus) == ("different", 1, 0), result
    assert mysql.dead_letters(table) == 2
