"""What only connectors know of `ducklake.yml` they validate, with the line of each mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

from ducklake.cli.app import app
from lake.config import (
    Config,
    Connection,
    Endpoints,
    MysqlConnection,
    PostgresEndpoint,
    Section,
    SftpConnection,
    load_config,
)
from lake.errors import ConfigError, StackNotRunning
from lake.identifiers import fitting
from producers.base import Batch, Connector, Cursors
from producers.connections import ConnectionUse
from producers.mysql.cdc import MysqlCdcConnector
from producers.mysql.tables import MysqlTable, captured, table_settings
from producers.registry import (
    check_sources,
    connector,
    connector_class,
    embedded_services,
    source_connection,
    unused_connections,
)
from techstore.public_apis import PUBLIC_APIS, use_public_apis
from techstore.simulate import shop_connection

ROOT = Path(__file__).resolve().parents[2]
OWN = f"{__name__}:Own"
SHOP = "connection: {host: db, user: u, database: shop}"
ENDPOINTS = Endpoints(
    kafka="127.0.0.1:1",
    kafka_options={},
    connect="http://127.0.0.1:1",
    postgres=PostgresEndpoint("127.0.0.1", 1, "u", "hunter2", "shop"),
)


class OwnOptions(Section):
    folder: Path
    depth: int = 1


class OwnTable(Section):
    sheet: str = "first"


class OwnConnection(Connection):
    url: str
    token: SecretStr = SecretStr("")


class Own(Connector):
    """A connector as somebody else would write it."""

    Options = OwnOptions
    TableOptions = OwnTable
    Connection = OwnConnection
    known_connections: ClassVar = {"there": OwnConnection(url="http://there")}
    options: OwnOptions
    connection: OwnConnection

    def poll(self, cursors: Cursors) -> Iterator[Batch]:
        yield from ()

    def count(self) -> dict[str, int]:
        return {}


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "ducklake.yml"
    path.write_text(text)
    return load_config(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check_sources(config(tmp_path, text))
    return str(caught.value)


def source(text: str) -> str:
    return f"sources:\n  own:\n    {text}\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("type: sfpt\n    tables: {a: {}}", 3, "unknown type 'sfpt'; did you mean 'sftp'?"),
        ("type: argentina\n    tables: {a: {}}", 3, "Or use package.module:Class, such as"),
        ("type: nowhere:Class\n    tables: {a: {}}", 3, "cannot be loaded (ModuleNotFoundError"),
        ("type: pathlib:Pth\n    tables: {a: {}}", 3, "cannot be loaded (AttributeError"),
        ("type: pathlib:Path\n    tables: {a: {}}", 3, "is no connector"),
        (
            "type: rest\n    connection: {base_url: http://a}\n    tables:\n      feriados:\n"
            "        options:\n          url: /{year}\n"
            "          each: {year: {first_and_last: SELECT 1, connection: shop}}",
            9,
            "there is no connection 'shop'",
        ),
        (
            "type: rest\n    connection: publik\n    tables: {a: {options: {url: /a}}}",
            4,
            "there is no connection 'publik'",
        ),
        (
            "type: rest\n    tables: {a: {options: {url: /a}}}",
            2,
            "it is missing: name one of `connections`, or write its keys, or `embedded`",
        ),
    ],
)
def test_a_source_that_no_class_can_read_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    found = refused(tmp_path, source(text))
    assert f"ducklake.yml, line {line}: sources.own." in found
    assert said in found


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{options: {}}", "file: it is missing: name a file that ends in .csv"),
        ("{file: a.doc}", "file: 'a.doc' has no known format; known: .csv"),
        ("{file: a.csv, options: {delimeter: ;}}", "delimeter: unknown key; did you mean 'delimi"),
        ("{file: a.csv, options: {delimiter: ''}}", "delimiter: String should have at least 1"),
        ("{file: a.csv, options: {quote: ab}}", "quote: String should have at most 1"),
        ("{file: a.txt, options: {encoding: klingon}}", "no text encoding 'klingon'"),
        ("{file: a.txt, options: {encoding: hex}}", "no text encoding 'hex'"),
        ("{file: a.xlsx, options: {header_row: x}}", "header_row: Input should be a valid int"),
        ("{file: a.xlsx, options: {header_row: 0}}", "header_row: Input should be greater"),
        ("{file: a.xml, options: {row_elment: x}}", "did you mean 'row_element'?"),
        ("{file: a.json, options: {encoding: utf-8}}", "unknown key; "),
        (
            "{file: a.csv, columns: {price: DECIMALS}}",
            "columns.price: Table a, column price: 'DECI",
        ),
    ],
)
def test_a_wrong_table_of_files_is_refused_with_its_line(
    tmp_path: Path, table: str, said: str
) -> None:
    text = f"type: sftp\n    connection: {{host: h, user: u}}\n    tables:\n      a: {table}"
    found = refused(tmp_path, source(text))
    assert "ducklake.yml, line 6: sources.own.tables.a." in found
    assert said in found
    assert "\n" not in found, "each mistake is said once"


def test_a_column_of_a_topic_that_others_write_is_checked_too(tmp_path: Path) -> None:
    text = source("type: kafka\n    tables:\n      a:\n        columns: {n: NUMBER}")
    assert "line 6: sources.own.tables.a.columns.n: " in refused(tmp_path, text)


def test_options_of_a_connector_of_ones_own_are_typed(tmp_path: Path) -> None:
    text = source(
        f"type: {OWN}\n    connection: {{url: http://x, tokn: t}}\n    options: {{foldr: x}}\n"
        "    tables:\n      a:\n        options: {shet: x}"
    )
    assert refused(tmp_path, text).splitlines() == [
        "ducklake.yml, line 5: sources.own.options.folder: it is missing.",
        "ducklake.yml, line 5: sources.own.options.foldr: unknown key; did you mean 'folder'?",
        "ducklake.yml, line 8: sources.own.tables.a.options.shet: unknown key; did you mean"
        " 'sheet'?",
        "ducklake.yml, line 4: sources.own.connection.tokn: unknown key; did you mean 'token'?",
    ]


def test_a_connector_gets_its_options_and_connection_typed(tmp_path: Path) -> None:
    text = source(
        f"type: {OWN}\n    connection: there\n    options: {{folder: x, depth: '3'}}\n"
        "    tables: {a: {options: {sheet: s}}, b: {}}"
    )
    made = connector(config(tmp_path, text), ENDPOINTS, "own")
    assert isinstance(made, Own)
    assert made.options == OwnOptions(folder=Path("x"), depth=3)
    assert made.table_options == {"a": OwnTable(sheet="s"), "b": OwnTable()}
    assert made.connection.url == "http://there"


def test_what_the_embedded_stack_does_not_have_cannot_be_embedded(tmp_path: Path) -> None:
    text = f"type: {OWN}\n    connection: embedded\n    options: {{folder: x}}\n    tables: {{}}"
    found = refused(tmp_path, source(text))
    assert "line 4: sources.own.connection: the embedded stack has no server for it" in found


# Connections --------------------------------------------------------------------------------------


TWO = """\
connections:
  first: {host: db1, user: u, password: p1, database: shop}
  second: {host: db2, port: 3307, user: u, password: p2, database: shop}
  spare: {hots: nowhere}
sources:
  a: {type: mysql_cdc, connection: first, tables: {orders: {}}}
  b: {type: mysql_cdc, connection: second, tables: {items: {}}}
  c:
    type: mysql_cdc
    connection: {host: db3, user: u, database: x, connect_password: '$${file:/run/pw:p}'}
    tables: {things: {}}
  d: {type: sftp, connection: {host: h, user: u, known_hosts: ~/k}, tables: {e: {file: e.csv}}}
"""


def test_any_number_of_sources_has_servers_of_their_own(tmp_path: Path) -> None:
    made = config(tmp_path, TWO)
    check_sources(made)
    first, second, third, files = (source_connection(made, name) for name in "abcd")
    assert isinstance(first, MysqlConnection) and isinstance(second, MysqlConnection)
    assert (first.host, first.port, second.host, second.port) == ("db1", 3306, "db2", 3307)
    assert first.connect_reference == "${env:DUCKLAKE_FIRST_PASSWORD}"
    assert second.connect_reference == "${env:DUCKLAKE_SECOND_PASSWORD}"
    assert isinstance(third, MysqlConnection)
    assert third.connect_reference == "${file:/run/pw:p}"
    assert third.place == "sources.c.connection"
    assert isinstance(files, SftpConnection)
    assert files.known_hosts == Path("~/k").expanduser()
    assert embedded_services(made) == ("connect", "kafka", "postgres")
    assert unused_connections(made) == ["spare"]


def test_debezium_keeps_two_servers_apart(tmp_path: Path) -> None:
    (tmp_path / "connect").symlink_to(ROOT / "connect")
    made = config(tmp_path, TWO)
    settings = []
    for name in "ab":
        found = connector(made, ENDPOINTS, name)
        assert isinstance(found, MysqlCdcConnector)
        settings.append(found.configuration())
    a, b = settings
    for key in (
        "database.hostname",
        "database.password",
        "database.server.id",
        "schema.history.internal.kafka.topic",
        "topic.prefix",
        "ducklake.topics",
    ):
        assert a[key] != b[key], key


def test_a_database_whose_name_is_a_pattern_is_taken_literally(tmp_path: Path) -> None:
    (tmp_path / "connect").symlink_to(ROOT / "connect")
    text = TWO.replace("p1, database: shop", "p1, database: s.o-p$")
    found = connector(config(tmp_path, text), ENDPOINTS, "a")
    assert isinstance(found, MysqlCdcConnector)
    settings = found.configuration()
    pattern = settings["database.include.list"].replace("\\x{", "\\u00").replace("}", "")
    assert re.fullmatch(pattern, "s.o-p$")
    assert not re.fullmatch(pattern, "s_o-p$")
    assert not re.fullmatch(pattern, "S.o-p$")
    assert settings["ducklake.topics"] == "s%2Eo-p%24.orders:orders"


def test_a_connector_of_an_earlier_release_follows_the_same_tables() -> None:
    old = {"table.include.list": r"s\.o-p\$.orders,s\.o-p\$.items"}
    assert captured(old) == {("s.o-p$", "orders"), ("s.o-p$", "items")}
    tables = [MysqlTable("a", "d.b", "t,a:b"), MysqlTable("b", "d", "ñ%2E")]
    new = {"ducklake.topics": table_settings(tables)["topics"]}
    assert captured(new) == {("d.b", "t,a:b"), ("d", "ñ%2E")}


def test_a_table_of_mysql_stands_in_a_source_once(tmp_path: Path) -> None:
    text = TWO.replace(
        "{orders: {}}", "{orders: {}, o: {table: orders}, p: {database: x, table: o}}"
    )
    with pytest.raises(ConfigError) as caught:
        check_sources(config(tmp_path, text))
    said = str(caught.value)
    assert "line 6: sources.a.tables.o: it is orders of MySQL, which orders is already" in said
    assert said.count("\n") == 0


def test_only_tables_of_mysql_have_a_name_there(tmp_path: Path) -> None:
    text = TWO.replace("{e: {file: e.csv}}", "{e: {file: e.csv, database: x}}")
    with pytest.raises(ConfigError, match=r"d\.tables\.e\.database: only tables of a MySQL"):
        check_sources(config(tmp_path, text))


@pytest.mark.parametrize(
    ("one", "other", "host", "refused"),
    [
        ("7", "7", "db1", True),
        ("7", "'07'", "DB1", True),
        ("7", "8", "db1", False),
        ("7", "7", "db2", False),
    ],
)
def test_two_sources_of_one_server_have_ids_of_their_own(
    tmp_path: Path, one: str, other: str, host: str, refused: bool
) -> None:
    text = f"""\
sources:
  a:
    type: mysql_cdc
    connection: {{host: db1, user: u, database: x}}
    options: {{database.server.id: {one}}}
    tables: {{t: {{}}}}
  b:
    type: mysql_cdc
    connection: {{host: {host}, user: u, database: y}}
    options: {{database.server.id: {other}}}
    tables: {{u: {{}}}}
"""
    made = config(tmp_path, text)
    if not refused:
        check_sources(made)
        return
    with pytest.raises(ConfigError) as caught:
        check_sources(made)
    assert "line 10: sources.b.options.database.server.id: source a reads the same" in str(
        caught.value
    )
    without = "\n".join(line for line in text.splitlines() if f"id: {other}" not in line)
    check_sources(config(tmp_path, without))  # the remedy: leave it out


@pytest.mark.parametrize("wrong", ["0", "x", "4294967296"])
def test_a_server_id_is_a_number_that_mysql_takes(tmp_path: Path, wrong: str) -> None:
    text = TWO.replace("first, tables", f"first, options: {{database.server.id: {wrong}}}, tables")
    with pytest.raises(ConfigError, match="expected a whole number from 1 to 4294967295"):
        check_sources(config(tmp_path, text))


@pytest.mark.parametrize(
    ("entry", "line", "said"),
    [
        ("frist", 6, "there is no connection 'frist'; did you mean 'first'?"),
        ("{hots: h, user: u, database: d}", 6, "connection.hots: unknown key; did you mean 'host'"),
        ("{host: h, user: u}", 6, "connection.database: it is missing"),
        ("[first]", 6, "expected the name of a connection, `embedded`, or its keys"),
    ],
)
def test_a_wrong_connection_is_refused_with_its_line(
    tmp_path: Path, entry: str, line: int, said: str
) -> None:
    found = refused(tmp_path, TWO.replace("connection: first", f"connection: {entry}"))
    assert f"ducklake.yml, line {line}: sources.a.connection" in found
    assert said in found


def test_a_wrong_key_of_a_named_connection_is_at_its_own_line(tmp_path: Path) -> None:
    found = refused(tmp_path, TWO.replace("host: db2, port: 3307", "host: db2, prt: 3307"))
    assert (
        found == "ducklake.yml, line 3: connections.second.prt: unknown key; did you mean 'port'?"
    )


def test_a_connection_is_overridden_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUCKLAKE_CONNECTIONS__FIRST__HOST", "elsewhere")
    monkeypatch.setenv("DUCKLAKE_CONNECTIONS__FIRST__PORT", "3399")
    monkeypatch.setenv("DUCKLAKE_SOURCES__C__CONNECTION__HOST", "nowhere")
    made = config(tmp_path, TWO)
    first, third = source_connection(made, "a"), source_connection(made, "c")
    assert isinstance(first, MysqlConnection) and isinstance(third, MysqlConnection)
    assert (first.host, first.port, first.plain_password) == ("elsewhere", 3399, "p1")
    assert (third.host, third.database) == ("nowhere", "x")
    monkeypatch.setenv("DUCKLAKE_CONNECTIONS__FIRST__HOSTS", "x")
    with pytest.raises(ConfigError, match="environment, DUCKLAKE_CONNECTIONS__FIRST__HOSTS: "):
        check_sources(config(tmp_path, TWO))


def test_embedded_is_a_word_wherever_it_stands(tmp_path: Path) -> None:
    made = load_config(ROOT / "ducklake.yml")
    assert embedded_services(made) == ("api", "connect", "kafka", "mysql", "postgres", "sftp")
    text = "sources:\n  a: {type: mysql_cdc, connection: embedded, tables: {orders: {}}}\n"
    made = config(tmp_path, text)
    check_sources(made)
    assert "mysql" in embedded_services(made)
    with pytest.raises(StackNotRunning, match="embedded mysql is not running"):
        source_connection(made, "a")


def test_the_years_of_feriados_need_the_server_that_knows_them(tmp_path: Path) -> None:
    file = yaml.safe_load((ROOT / "ducklake.yml").read_text())
    file["sources"] = {"api": file["sources"]["api"]}
    del file["live"]  # it counts tables of MySQL
    made = config(tmp_path, yaml.safe_dump(file))
    assert "mysql" in embedded_services(made)
    assert unused_connections(made) == ["suppliers"]


def test_a_table_may_name_an_api_of_its_own(tmp_path: Path) -> None:
    file = yaml.safe_load((ROOT / "ducklake.yml").read_text())
    file["sources"] = {"api": file["sources"]["api"]}
    del file["live"]  # it counts tables of MySQL
    del file["connections"]["dolarapi"]
    found = refused(tmp_path, yaml.safe_dump(file, sort_keys=False))
    assert "options.requests.current.connection: there is no connection 'dolarapi'" in found


def test_the_shop_is_the_mysql_source_that_has_orders(tmp_path: Path) -> None:
    assert shop_connection(config(tmp_path, TWO)).host == "db1"
    with pytest.raises(ConfigError, match="no shop"):
        shop_connection(config(tmp_path, TWO.replace("orders", "order")))


# Debezium's settings and secrets ------------------------------------------------------------------


def test_settings_of_debezium_stay_open(tmp_path: Path) -> None:
    options = "options: {max.batch.size: 10, any.flag: true, any.word: x}"
    text = source(f"type: mysql_cdc\n    {SHOP}\n    {options}\n    tables: {{a: {{}}}}")
    made = config(tmp_path, text)
    found = connector(made, ENDPOINTS, "own")
    assert isinstance(found, MysqlCdcConnector)
    wanted = {"max.batch.size": "10", "any.flag": "true", "any.word": "x"}
    assert found.options.texts() == wanted


def test_a_secret_that_connect_would_show_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYSTORE", "hunter2")

    def text(value: str) -> str:
        options = f"options:\n      database.ssl.keystore.password: {value}"
        return source(f"type: mysql_cdc\n    {SHOP}\n    {options}\n    tables: {{a: {{}}}}")

    found = refused(tmp_path, text("${KEYSTORE}"))
    assert "line 6: sources.own.options.database.ssl.keystore.password: Connect would" in found
    assert "hunter2" not in found
    check_sources(config(tmp_path, text("$${env:KEYSTORE}")))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("snapshot.mode: [a, b]", "snapshot.mode: expected a text, a number, true or false."),
        ("tasks.max:", "tasks.max: expected a text, a number, true or false."),
        ("topic.prefix: other", "topic.prefix: it is made of the source's name and type"),
        ("table.include.list: a.b", "table.include.list: it is made of `tables`"),
        ("database.include.list: b", "database.include.list: it is made of `database`"),
    ],
)
def test_a_wrong_option_of_debezium_is_one_line_with_its_place(
    tmp_path: Path, option: str, said: str
) -> None:
    options = f"options:\n      poll.interval.ms: 5\n      {option}"
    text = source(f"type: mysql_cdc\n    {SHOP}\n    {options}\n    tables: {{a: {{}}}}")
    [line] = refused(tmp_path, text).splitlines()
    assert f"line 7: sources.own.options.{said}" in line


def test_a_password_that_connect_would_show_has_its_line(tmp_path: Path) -> None:
    shop = SHOP.replace("}", ", connect_password: hunter2}")
    found = refused(tmp_path, source(f"type: mysql_cdc\n    {shop}\n    tables: {{a: {{}}}}"))
    assert "line 4" in found and "connect_password: it is not a reference" in found
    assert "hunter2" not in found


# The command line ---------------------------------------------------------------------------------


def run(*words: str) -> str:
    result = CliRunner().invoke(app, [*words])
    return f"{result.output}{result.exception or ''}"


def test_config_check_says_what_may_surprise(tmp_path: Path) -> None:
    text = TWO.replace("items: {}", "orders: {}, a-b: {database: x}")
    path = config(tmp_path, text.replace("e: {file", f"{'e' * 70}: {{file")).path
    said = run("config", "check", "--offline", "--config", str(path)).splitlines()
    assert said[0].startswith("ducklake.yml is valid: 4 sources, 5 tables, data in ")
    assert said[1:] == [
        "a.orders is raw.a__orders: other sources have orders, too",
        "b.orders is raw.b__orders: other sources have orders, too",
        "b.a_b is `x`.`a-b` in MySQL, and raw.a_b",
        f"d.{'e' * 70} is raw.{fitting('e' * 70)}: PostgreSQL's names have at most 63 bytes",
        "connections.spare: no source uses it, so nothing of it was checked",
        "`ducklake plan` says what running with it will do",
    ]


@pytest.mark.parametrize("command", ["config check", "produce --once", "run", "report", "demo"])
def test_every_command_that_asks_sources_checks_them_first(tmp_path: Path, command: str) -> None:
    path = config(tmp_path, source("type: sftp\n    tables: {a: {file: a.doc}}")).path
    assert "line 4: sources.own.tables.a.file: " in run(*command.split(), "--config", str(path))


def test_only_the_sources_that_are_asked_are_checked(tmp_path: Path) -> None:
    path = config(tmp_path, TWO.replace("connection: second", "connection: secnd")).path
    said = run("produce", "a", "--once", "--config", str(path))
    assert "secnd" not in said and "not running" in said


def test_a_word_that_is_no_command_gets_an_answer() -> None:
    assert "`accept` is called `accept-loss` now" in run("accept", "shop.orders")
    assert "did you mean 'verify'?" in run("verfy")


def test_a_class_that_cannot_be_loaded_stops_no_other_service(tmp_path: Path) -> None:
    text = (
        "sources:\n"
        "  a: {type: mysql_cdc, connection: embedded, tables: {orders: {}}}\n"
        "  b: {type: nowhere.to_be:Found, connection: embedded, tables: {things: {}}}\n"
    )
    made = config(tmp_path, text)
    assert "mysql" in embedded_services(made)
    with pytest.raises(ConfigError, match=r"line 3: sources\.b\.type: .*cannot be loaded"):
        check_sources(made)


def test_the_demo_can_ask_the_public_apis(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    use_public_apis(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    [own, current, _] = connection_uses_of("api")
    found = {use.entry: use.validated(load_config(ROOT / "ducklake.yml")) for use in (own, current)}
    assert {name: getattr(api, "base_url", None) for name, api in found.items()} == PUBLIC_APIS


def connection_uses_of(name: str) -> list[ConnectionUse]:
    made = load_config(ROOT / "ducklake.yml")
    source = made.settings.sources[name]
    return list(connector_class(made, name).connections_used(name, source))
