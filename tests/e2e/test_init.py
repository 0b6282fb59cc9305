"""Own data, from an installed wheel and nothing else to tested tables in PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pytest

from lake.config import Config, MysqlConnection, load_config
from tests.e2e.sample_servers import PASSWORD, USER, sample_server
from tests.integration.following import as_root, run
from tests.integration.postgres_lab import answer
from tests.wheel import Installed, install_wheel

pytestmark = pytest.mark.stack
VARIABLE, SAKILA = "DUCKLAKE_MYSQL_DB_PASSWORD", "DUCKLAKE_SAKILA_DB_PASSWORD"


SALES = "Nro;artículo;order\n1;ñandú;2,5\n2;yerba;1,0\n"


@dataclass(frozen=True)
class Newcomer:
    """Somebody with the wheel, and a server."""

    installed: Installed
    config: Config
    at: MysqlConnection

    def address(self, database: str = "", user: str = USER) -> str:
        """The server's, without a password."""
        return f"mysql://{quote(user)}@{self.at.host}:{self.at.port}/{database}"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    installed = install_wheel(tmp_path_factory.mktemp("wheel"))
    with sample_server(tmp_path_factory.mktemp("server")) as (config, at):
        yield Newcomer(installed, config, at)


@pytest.fixture(scope="module")
def project(newcomer: Newcomer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of all three schemas with history, whose rows are in PostgreSQL."""
    folder = tmp_path_factory.mktemp("my lake")
    made = newcomer.installed
    environment = {VARIABLE: PASSWORD}
    drops = tmp_path_factory.mktemp("drops")
    (drops / "Ventas_2026-01.csv").write_bytes(SALES.encode("cp1252"))
    (drops / "Ventas_2026-02.csv").write_bytes(SALES.replace("ñandú", "mate").encode("cp1252"))
    server = ("--mysql", newcomer.address(), "--files", str(drops))
    done = made.run(
        folder, "init", *server, "--yes", "--history", "--json", environment=environment
    )
    assert set(json.loads(done.stdout)["written"]) == written(folder)
    try:
        made.run(folder, "up", environment=environment)
        made.run(folder, "config", "check", environment=environment)
        for role in ("produce", "consume", "batch"):
            made.run(folder, role, "--once", environment=environment)
        yield folder
    finally:
        made.run(folder, "down", environment=environment)


def written(folder: Path) -> set[str]:
    """All files of a project but its data."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "data" not in path.relative_to(folder).parts
    }


def ask(folder: Path, query: str) -> list[tuple[object, ...]]:
    """Ask the project's PostgreSQL."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, PASSWORD)
        at = load_config(folder / "ducklake.yml").endpoints().postgres
    return answer(at, query)


def test_every_table_with_a_key_is_current_and_tested_in_postgresql(project: Path) -> None:
    found = {str(name) for (name,) in ask(project, "SELECT relation FROM ducklake.exports")}
    models = {f"staging.{path.stem}" for path in (project / "dbt/models/staging").glob("*.sql")}
    models |= {f"history.{path.stem}" for path in (project / "dbt/models/history").glob("*.sql")}
    assert len(models) > 40
    assert models <= found
    [(films,)] = ask(project, "SELECT count(*) FROM staging.stg_film")
    assert films == 30


def test_names_that_sql_and_yaml_trip_over_arrive_as_they_are(project: Path) -> None:
    [row] = ask(
        project,
        'SELECT "select", "año", "year_", "2nd", "yes", "null", "a:b", "it\'s ""so""", "{{ x }}",'
        ' "field_id" FROM staging.stg_order',
    )
    assert row == (1, 2024, 2024, "b", True, "null", "a: b", "q", "{{ y }}", 7)
    assert len(ask(project, 'SELECT "OrderID", "Product ID" FROM staging.stg_order_details')) == 3
    assert len(ask(project, 'SELECT "no", "on" FROM staging.stg_t_2020_nandues')) == 2


def test_files_that_differ_in_digits_are_one_table(project: Path) -> None:
    query = 'SELECT "Nro", "artículo", "order" FROM staging.stg_ventas ORDER BY _file, _file_row'
    assert ask(project, query) == [
        (1, "ñandú", "2,5"),
        (2, "yerba", "1,0"),
        (1, "mate", "2,5"),
        (2, "yerba", "1,0"),
    ]


def test_no_file_holds_the_password(project: Path) -> None:
    for path in written(project):
        assert PASSWORD not in (project / path).read_text(encoding="utf-8"), path
    example = (project / ".env.example").read_text(encoding="utf-8")
    assert f"\n{VARIABLE}=\n" in example
    assert ".env\n" in (project / ".gitignore").read_text(encoding="utf-8")


def refused(newcomer: Newcomer, folder: Path, address: str, password: str = PASSWORD) -> str:
    """What `ducklake init` says of a server that it refuses; it has written nothing."""
    words = ("init", "--mysql", address, "--yes")
    said = newcomer.installed.run(folder, *words, code=1, environment={SAKILA: password}).stderr
    assert list(folder.iterdir()) == []
    assert password not in said
    return said


def accepted(newcomer: Newcomer, folder: Path, address: str) -> None:
    """The same, once the remedy was followed."""
    words = ("init", "--mysql", address, "--yes")
    newcomer.installed.run(folder, *words, environment={SAKILA: PASSWORD})
    assert (folder / "ducklake.yml").is_file()


def test_a_login_that_is_refused_names_what_to_check(newcomer: Newcomer, tmp_path: Path) -> None:
    said = refused(newcomer, tmp_path, newcomer.address("sakila"), "wrong-password")
    assert "Check user, password and database of --mysql" in said
    accepted(newcomer, tmp_path, newcomer.address("sakila"))


def test_grants_that_are_missing_are_named_with_the_statements(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    said = refused(newcomer, tmp_path, newcomer.address("sakila", "narrow"))
    grants = re.findall(r"`(GRANT .+? TO '\w+'@'%')`", said)
    assert len(grants) == 4
    with as_root(newcomer.config) as cursor:
        run(cursor, grants)
    accepted(newcomer, tmp_path, newcomer.address("sakila", "narrow"))


def test_a_user_without_any_table_is_told_which_grant(newcomer: Newcomer, tmp_path: Path) -> None:
    said = refused(newcomer, tmp_path, newcomer.address("sakila", "blind"))
    [grant] = re.findall(r"run `(GRANT SELECT ON .+ TO 'blind'@'%')`", said)
    with as_root(newcomer.config) as cursor:
        run(cursor, [grant])
    assert "sees no table" not in refused(newcomer, tmp_path, newcomer.address("sakila", "blind"))


def test_a_binlog_of_statements_is_named_with_the_setting(
    newcomer: Newcomer, tmp_path: Path
) -> None:
    with as_root(newcomer.config) as cursor:
        run(cursor, ["SET GLOBAL binlog_format = 'STATEMENT'"])
        try:
            said = refused(newcomer, tmp_path, newcomer.address("sakila"))
        finally:
            [remedy] = re.findall(r"Run `(SET PERSIST binlog_format = 'ROW')`", said)
            run(cursor, [remedy])
    accepted(newcomer, tmp_path, newcomer.address("sakila"))


def test_a_table_that_is_added_is_read_beside_the_others(project: Path, newcomer: Newcomer) -> None:
    with as_root(newcomer.config) as cursor:
        made = "CREATE TABLE sakila.invoices (id INT PRIMARY KEY, total DECIMAL(9,2))"
        run(cursor, [made, "INSERT INTO sakila.invoices VALUES (1, 9.90), (2, 0.10)"])
    environment = {VARIABLE: PASSWORD}
    assert planned(newcomer, project, code=0) == {}
    newcomer.installed.run(project, "init", "--add", "mysql.invoices", environment=environment)
    steps = planned(newcomer, project)
    assert set(steps) == {
        ("topic", "mysql.invoices"),
        ("connector", f"{load_name(project)}-mysql"),
        ("table", "mysql.invoices"),
        ("model", "staging.stg_invoices"),
    }
    assert "incremental snapshot" in steps["table", "mysql.invoices"]
    for role in ("produce", "consume", "batch"):
        newcomer.installed.run(project, role, "--once", environment=environment)
    assert ask(project, "SELECT sum(total) FROM staging.stg_invoices") == [(Decimal("10.00"),)]
    assert planned(newcomer, project, code=0) == {}


def test_a_plan_says_which_files_are_read_again(project: Path, newcomer: Newcomer) -> None:
    config = project / "ducklake.yml"
    text = config.read_text(encoding="utf-8")
    config.write_text(
        text.replace("delimiter: ;", "delimiter: ;, nulls: [yerba]"), encoding="utf-8"
    )
    try:
        steps = planned(newcomer, project)
    finally:
        config.write_text(text, encoding="utf-8")
    assert "2 files are read again" in steps["files", "files.ventas"]
    assert ("model", "staging.stg_ventas") in steps
    assert planned(newcomer, project, code=0) == {}


def planned(newcomer: Newcomer, project: Path, code: int = 6) -> dict[tuple[str, str], str]:
    """What `ducklake plan` says, by kind and name."""
    environment = {VARIABLE: PASSWORD}
    done = newcomer.installed.run(project, "plan", "--json", code=code, environment=environment)
    return {(step["kind"], step["name"]): step["what"] for step in json.loads(done.stdout)["steps"]}


def load_name(project: Path) -> str:
    """The lake's name."""
    found = re.search(r"^name: (\w+)$", (project / "ducklake.yml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_a_change_closes_a_version_of_the_history(project: Path, newcomer: Newcomer) -> None:
    with as_root(newcomer.config) as cursor:
        run(cursor, ["UPDATE sakila.country SET country = 'Brasil' WHERE country_id = 1"])
        run(cursor, ["DELETE FROM sakila.film_actor WHERE film_id = 4"])
    for role in ("produce", "consume", "batch"):
        newcomer.installed.run(project, role, "--once", environment={VARIABLE: PASSWORD})
    versions = "SELECT country, version, is_current FROM history.country_history"
    assert ask(project, f"{versions} WHERE country_id = 1 ORDER BY version") == [
        ("Argentina", 1, False),
        ("Brasil", 2, True),
    ]
    [gone] = ask(
        project, "SELECT is_current, valid_to FROM history.film_actor_history WHERE film_id = 4"
    )
    assert gone[0] is False and gone[1] is not None
