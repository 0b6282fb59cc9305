"""A MySQL server with three public schemas, as somebody who begins may have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lake.config import Config, MysqlConnection, load_config
from stack import lifecycle
from stack.progress import Silent
from tests.integration import public_schemas as schemas
from tests.integration.producers_lab import shop_server

USER, PASSWORD = "lake reader", "p4ss:w/ord@é"
"""A blank, and characters that an address has to escape."""
# A stack of one server alone.
SERVER = """\
services:
  kafka: {bootstrap_servers: "127.0.0.1:9"}
  connect: {url: "http://127.0.0.1:9"}
  postgres: {host: 127.0.0.1}
sources:
  mysql: {type: mysql_cdc, connection: embedded, tables: {notes: {}}}
"""
# After northwind, with more of what SQL, YAML and Jinja would trip over.
NORTHWIND = (
    "CREATE TABLE `Order Details` (OrderID INT NOT NULL, `Product ID` INT NOT NULL,"
    " UnitPrice DECIMAL(10,4) NOT NULL, Discount DOUBLE, PRIMARY KEY (OrderID, `Product ID`))",
    "INSERT INTO `Order Details` VALUES (1, 1, 14.5, 0), (1, 2, 9.8, 0.05), (2, 1, 14.5, 0)",
    "CREATE TABLE `order` (`select` INT PRIMARY KEY, `año` INT, `year` YEAR,"
    " `2nd` VARCHAR(9), `yes` BOOLEAN, `null` VARCHAR(9), `a:b` VARCHAR(9),"
    ' `it\'s "so"` VARCHAR(9), `{{ x }}` VARCHAR(9), `_id` INT) CHARACTER SET latin1',
    "INSERT INTO `order` VALUES (1, 2024, 2024, 'b', TRUE, 'null', 'a: b', 'q', '{{ y }}', 7)",
    "CREATE TABLE `2020-Ñandúes` (`no` VARCHAR(20) PRIMARY KEY, `on` DATETIME(6))",
    "INSERT INTO `2020-Ñandúes` VALUES ('off', '2020-01-01 00:00:00.123456'), ('~', NULL)",
    "CREATE TABLE `yes` (a INT)",
    "INSERT INTO `yes` VALUES (1), (1)",
    "CREATE TABLE dead_letters (id INT PRIMARY KEY)",
    "INSERT INTO dead_letters VALUES (1)",
    "CREATE VIEW orders_of_today AS SELECT * FROM `order`",
)


def _script() -> Iterator[str]:
    public = {
        "sakila": (schemas.SAKILA_TABLES, [*schemas.SAKILA_REST, *schemas.sakila_rows()]),
        "employees": (
            schemas.EMPLOYEES_TABLES,
            [*schemas.EMPLOYEES_REST, *schemas.employees_rows()],
        ),
        "northwind": ({}, NORTHWIND),
    }
    yield "SET NAMES utf8mb4"
    for database, (tables, rest) in public.items():
        yield f"CREATE DATABASE {database} CHARACTER SET utf8mb4"
        yield f"USE {database}"
        yield from (f"CREATE TABLE {name} ({what})" for name, what in tables.items())
        yield from rest
    plugin = "IDENTIFIED WITH mysql_native_password BY"
    yield f"CREATE USER '{USER}'@'%' {plugin} '{PASSWORD}'"
    yield (
        "GRANT SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT ON *.*"
        f" TO '{USER}'@'%'"
    )
    yield f"CREATE USER 'narrow'@'%' {plugin} '{PASSWORD}'"
    yield "GRANT SELECT ON sakila.* TO 'narrow'@'%'"
    yield f"CREATE USER 'blind'@'%' {plugin} '{PASSWORD}'"


@contextmanager
def sample_server(folder: Path) -> Iterator[tuple[Config, MysqlConnection]]:
    """Start it; gives its project and the connection of a user with all rights on one database."""
    (folder / "docker" / "mysql").mkdir(parents=True)
    (folder / "ducklake.yml").write_text(SERVER, encoding="utf-8")
    script = ";\n".join((*_script(), "CREATE DATABASE techstore"))
    (folder / "docker" / "mysql" / "init.sql").write_text(script + ";\n", encoding="utf-8")
    config = load_config(folder / "ducklake.yml")
    try:
        lifecycle.up(config, Silent())
        yield config, shop_server(config)
    finally:
        lifecycle.down(config)
