"""`ducklake init` and its parts, as far as they need no server of MySQL."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from typer.testing import CliRunner

from ducklake.cli.app import app
from ducklake.projects.adding import with_entry
from ducklake.projects.config_text import config_text
from ducklake.projects.dbt_text import project_files, table_files
from ducklake.projects.found import FoundSource, FoundTable
from ducklake.projects.names import Reference, flow, free_name, in_sql
from lake.config import load_config
from lake.errors import ConfigError, DuckLakeError
from tests.unit.rest_lab import serving

ODD = (
    "order",
    "yes",
    "null",
    "a b",
    "it's",
    'say "so"',
    "a: b",
    "ñ",
    "2nd",
    "{{ x }}",
    "${HOME}",
    "",
)
SALES = "venta_id;importe;fecha\n1;10,5;2026-01-01\n2;7,0;2026-01-02\n3;1,0;2026-01-02\n"


def ducklake(cwd: Path, *words: str, code: int = 0) -> str:
    """What a command says, with the error that ends it."""
    with chdir(cwd):
        done = CliRunner().invoke(app, list(words))
    if not isinstance(done.exception, DuckLakeError | SystemExit | None):
        raise done.exception
    assert done.exit_code == code, f"{done.output}{done.exception}"
    error = done.exception if isinstance(done.exception, DuckLakeError) else ""
    return f"{done.output}{error}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project to be, and a folder with files in it."""
    files = tmp_path / "lake" / "drops"
    files.mkdir(parents=True)
    (files / "sales_2026-01.csv").write_bytes(SALES.encode("cp1252"))
    (files / "sales_2026-02.csv").write_bytes(SALES.replace("1;10,5", "4;ñandú").encode("cp1252"))
    (files / "order.json").write_text(json.dumps([{"select": 1, "No": "x"}, {"select": 2}]))
    (files / "notes.unknown").write_text("?")
    (files / ".hidden.csv").write_text("a\n1\n")
    return tmp_path / "lake"


def made(folder: Path, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        ducklake(folder, "init", "--files", "drops", "--yes", "--json", *more)
    )
    return found


def test_a_folder_becomes_a_valid_project(folder: Path) -> None:
    told = made(folder)
    tables = load_config(folder / "ducklake.yml").settings.sources["files"].tables
    assert set(tables) == {"order", "sales"}
    assert {table["table"] for table in told["tables"]} == {"files.order", "files.sales"}
    assert tables["sales"].file == "sales_*-*.csv"
    assert tables["sales"].options == {"encoding": "cp1252", "delimiter": ";"}
    assert "is valid: 1 sources, 2 tables" in ducklake(folder, "config", "check")
    assert all((folder / path).is_file() for path in told["written"])


def test_nothing_that_is_there_is_overwritten(folder: Path) -> None:
    (folder / ".gitignore").write_text("mine\n")
    said = ducklake(folder, "init", "--files", "drops", "--yes", code=1)
    assert ".gitignore is there already" in said
    assert (folder / ".gitignore").read_text() == "mine\n"
    assert not (folder / "ducklake.yml").exists()
    assert not (folder / "dbt").exists()
    ducklake(folder, "init", "--files", "drops", "--yes", "fresh")  # the remedy
    said = ducklake(folder, "init", "--files", "drops", "--yes", "fresh", code=1)
    assert "ducklake init --add" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "Nothing says where the data is. Name --mysql"),
        (("--files", "absent"), "--files: there is no folder absent."),
        (("--files", "drops"), "Name them with --tables, or --yes for all."),
        (("--files", "drops", "--tables", "salez"), "There is no table 'salez'. There are: order"),
        (("--files", "dbt_less"), "holds no file that can be read. Known formats: .csv"),
        (("--mysql", "postgres://u@h/d", "--yes"), "Write mysql://USER@HOST:3306/DATABASE"),
        (("--mysql", "mysql://u@127.0.0.1:1/d", "--yes"), "Check host and port of --mysql"),
        (("--sftp", "sftp://127.0.0.1/x", "--yes"), "Write sftp://USER@HOST:22/FOLDER."),
        (("--sftp", "sftp://u@127.0.0.1:1/x", "--yes"), "SFTP 127.0.0.1:1"),
        (("--api", "ftp://x", "--yes"), "Write https://HOST/PATH."),
        (("--api", "http://127.0.0.1:1/x", "--yes"), "127.0.0.1:1"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy_and_nothing_is_written(
    folder: Path, words: tuple[str, ...], told: str
) -> None:
    (folder / "dbt_less").mkdir()
    before = sorted(folder.rglob("*"))
    assert told in ducklake(folder, "init", *words, code=1)
    assert sorted(folder.rglob("*")) == before


def test_an_api_becomes_a_table_whose_records_are_found(tmp_path: Path) -> None:
    answer = {
        "meta": {"page": 1},
        "data": {"items": [{"id": 1, "on": True}, {"id": 2, "on": None}]},
    }
    with serving() as server:
        server.say("/v1/rates", answer)
        login = server.url.replace("http://", "http://me:hunter2@")
        ducklake(tmp_path, "init", "--api", f"{login}/v1/rates?day=1&api_key=s3cret", "--yes")
        assert server.asked[-1].query == {"day": "1", "api_key": "s3cret"}
    [table] = load_checked(tmp_path).values()
    assert table.options["records"] == "data.items"
    assert table.options["params"] == {"day": "1", "api_key": "from the environment"}
    assert table.key == ["id"]
    for path in tmp_path.rglob("*"):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert "hunter2" not in text and "s3cret" not in text
    example = (tmp_path / ".env.example").read_text()
    assert "DUCKLAKE_API_SERVER_PASSWORD=" in example
    assert "DUCKLAKE_API_SERVER_API_KEY=" in example


def load_checked(folder: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as environment:
        for name in ("DUCKLAKE_API_SERVER_PASSWORD", "DUCKLAKE_API_SERVER_API_KEY"):
            environment.setenv(name, "from the environment")
        return dict(load_config(folder / "ducklake.yml").settings.sources["api"].tables)


def test_a_table_is_added_and_comments_stay(folder: Path) -> None:
    made(folder, "--tables", "sales")
    path = folder / "ducklake.yml"
    path.write_text(path.read_text().replace("batch:", "# mine\nbatch:"))
    (folder / "drops" / "stock.csv").write_text("sku,n\na,1\nb,2\n")
    before = path.read_text()
    ducklake(folder, "init", "--add", "files.stock")
    added = set(path.read_text().splitlines()) - set(before.splitlines())
    assert set(before.splitlines()) <= set(path.read_text().splitlines())
    assert [line.strip() for line in added] == [
        "stock: {file: stock.csv, key: [sku], columns: {n: BIGINT}}"
    ]
    assert (folder / "dbt" / "models" / "staging" / "stg_stock.sql").is_file()
    said = ducklake(folder, "init", "--add", "files.stock", code=1)
    assert "no table 'stock' that is not taken already" in said
    assert "There is no source 'filez'; did you mean" in ducklake(
        folder, "init", "--add", "filez.order", code=1
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sources:\n  a:\n    tables:\n      t: {}   # c\n\n# end\nbatch: {}\n", "      n: {x: 1}"),
        ("sources:\n  a:\n    tables:\n      t:\n        key: [id]\n", "      n: {x: 1}"),
        ("sources:\n  a:\n    tables:\n      t: {}", "      n: {x: 1}"),
        ("sources:\n  a: {tables: {t: {}}}  # c\n", "  a: {tables: {t: {}, n: {x: 1}}}  # c"),
        ("sources:\n  a: {tables: {}}\n", "  a: {tables: {n: {x: 1}}}"),
    ],
)
def test_an_entry_goes_where_the_others_are(text: str, line: str) -> None:
    found = with_entry(text, "a", "n: {x: 1}")
    assert line in found.splitlines()
    tables = yaml.safe_load(text)["sources"]["a"]["tables"]
    expected = {**yaml.safe_load(text), "sources": {"a": {"tables": {**tables, "n": {"x": 1}}}}}
    assert yaml.safe_load(found) == expected
    assert set(text.splitlines()) - set(found.splitlines()) <= {
        "  a: {tables: {t: {}}}  # c",
        "  a: {tables: {}}",
    }


def test_an_entry_that_has_no_place_is_told() -> None:
    with pytest.raises(ConfigError, match="Write there yourself"):
        with_entry("sources: {a: {tables: }}", "a", "n: {}")


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_read_back_from_the_configuration_as_they_are(
    name: str, tmp_path: Path
) -> None:
    table = FoundTable(
        free_name(name, ()), name or "x", {"table": name or "x", "key": [name]}, (name,), (name,)
    )
    server = {"host": name, "user": name, "password": Reference("${SECRET}"), "database": name}
    source = FoundSource("mysql", "mysql_cdc", "db", server, tables=[table])
    path = tmp_path / "ducklake.yml"
    path.write_text(config_text("lake", [source]), encoding="utf-8")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SECRET", "hidden")
        settings = load_config(path).settings
    assert settings.connections["db"] == {**server, "password": "hidden"}
    [read] = settings.sources["mysql"].tables.values()
    assert (read.table, read.key) == (name or "x", [name])


@pytest.mark.parametrize("name", ODD)
def test_odd_columns_are_columns_of_the_model(name: str, tmp_path: Path) -> None:
    table = FoundTable("t", "db.t", {}, ("id", name), ("id",))
    files = dict(table_files(table, "t", history=True))
    for path, text in files.items():
        if path.endswith(".yml"):
            assert yaml.safe_load(text)["version"] == 2, path
    shown = jinja2.Template(in_sql(name)).render()
    assert shown == '"' + name.replace('"', '""') + '"'


def test_names_in_the_lake_are_free_ones() -> None:
    assert free_name("Order Details", ()) == "order_details"
    assert free_name("2020-Ñandú", ()) == "t_2020_nandu"
    assert free_name("orders", {"orders"}, "Old Shop") == "old_shop_orders"
    assert free_name("orders", {"orders"}) == "orders_2"


def test_flow_is_yaml_on_one_line() -> None:
    value = {"a": ["no", "2020", "x: y", "l" * 300], "b": "two\nlines"}
    assert "\n" not in flow(value)
    assert yaml.safe_load(flow(value)) == value


def test_the_dbt_project_is_named_after_the_lake() -> None:
    files = dict(project_files("my_lake"))
    assert "LAKE_NAME" not in "".join(files.values())
    assert yaml.safe_load(files["dbt_project.yml"])["name"] == "my_lake"
