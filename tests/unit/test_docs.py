"""The pages say what is: commands, options, keys, links, promises, and both languages alike."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from ducklake.cli.app import app
from lake.config import MysqlConnection, Settings, SftpConnection, Source, Table, json_schema
from lake.config.live import Live, LiveOrders
from producers.dlt_sources.options import DltTable
from producers.formats import FORMATS, FileOptions
from producers.http.connection import RestConnection
from producers.mysql.polling.options import PollOptions
from producers.rest.options import RestTable

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README, LEEME = ROOT / "README.md", ROOT / "README.es.md"
PAGES = (README, LEEME, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")))
CODE = ("ducklake", "stack", "techstore", "producers", "consumers", "batcher", "lake")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ROW = re.compile(r"^\| `([^`]+)` \| (.+?) \| (.+) \|$", re.MULTILINE)
MAPS: dict[str, type[BaseModel]] = {"sources": Source, "sources.*.tables": Table}

CONNECTIONS: dict[str, type[BaseModel]] = {
    "mysql_cdc": MysqlConnection,
    "sftp": SftpConnection,
    "rest": RestConnection,
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[str]:
    return re.findall(r"^(#+ .+)$", prose(page), re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor that a heading gets where Markdown is shown."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower()).replace(" ", "-")


def code(page: Path) -> Iterator[str]:
    """Lines of shell blocks, and code within sentences."""
    text = page.read_text(encoding="utf-8")
    for language, block in FENCE.findall(text):
        if language == "sh":
            yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: Path, program: str) -> list[list[str]]:
    """The words behind a program's name, wherever the page calls it."""
    found = []
    for line in code(page):
        match = re.match(rf"(?:\w+=\S+ )*(?:\.venv/bin/)?{program} (.+)", line)
        if match:
            found.append(shlex.split(match[1], comments=True))
    return found


# Commands ----------------------------------------------------------------------------------------


@each_page
def test_every_ducklake_command_exists_with_its_options(page: Path) -> None:
    for words in commands(page, "ducklake"):
        command: Any = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"no command `ducklake {' '.join(words)}`"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = {word for word in words if word.startswith("-")} - known
        assert not unknown, f"{command.name} has no option {unknown}"


@each_page
def test_every_make_target_exists_with_its_variables(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for words in commands(page, "make"):
        for word in words:
            name, is_variable, _ = word.partition("=")
            if is_variable:
                assert f"$({name})" in makefile, f"the Makefile knows no {name}"
            else:
                assert name in targets, f"the Makefile has no target {name}"


def test_the_readme_names_every_command() -> None:
    text = README.read_text(encoding="utf-8")
    for command in ("up", "down", "reset", "status", "run", "batch", "report"):
        assert f"ducklake {command}" in text
    assert {"demo", "test"} <= {words[0] for words in commands(README, "make")}


# Two languages -----------------------------------------------------------------------------------


def test_both_readmes_have_the_same_sections() -> None:
    def levels(page: Path) -> list[str]:
        return [heading.partition(" ")[0] for heading in headings(page)]

    assert levels(README) == levels(LEEME)


def test_both_readmes_have_the_same_code() -> None:
    english, spanish = (FENCE.findall(p.read_text(encoding="utf-8")) for p in (README, LEEME))
    assert english == spanish


def test_both_readmes_have_the_same_rows_and_links() -> None:
    def shape(page: Path) -> tuple[int, int, list[str]]:
        text = prose(page)
        links = [link.partition("#")[0] for link in LINK.findall(text) if "README" not in link]
        return len(re.findall(r"^\|", text, re.MULTILINE)), text.count("\n- "), links

    assert shape(README) == shape(LEEME)


def test_the_repository_layout_is_that_of_git() -> None:
    text = README.read_text(encoding="utf-8").partition("## Repository layout")[2]
    tree = text.partition("```text\n")[2].partition("```")[0]
    listed = [line.partition("/")[0] for line in tree.splitlines()]
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    tracked = {name.split("/")[0] for name in files.stdout.splitlines() if "/" in name}
    assert listed == sorted(tracked)


# Links and hygiene -------------------------------------------------------------------------------


@each_page
def test_no_relative_link_is_dead(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in map(slug, headings(target)), f"{page.name}: {link}"


@each_page
def test_no_page_knows_a_machine_or_a_registry(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.~…])/(work|tmp|root|home|Users)/", text)
    assert not re.search(r"maven\.(org|apache)|repo1|pypi|pythonhosted|deb\.debian", text, re.I)


@each_page
def test_every_page_that_is_named_in_code_exists(page: Path) -> None:
    for span in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|md|yml|json|lock|sql))`", prose(page)):
        if not span.startswith(("data/", "my_connectors/")) and "sales_by_province" not in span:
            assert (ROOT / span).exists() or "stg_dolar_casas" in span, f"{page.name}: {span}"


# Configuration -----------------------------------------------------------------------------------


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its default, as `section.key` or `section.*.key`."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{key}.")
            continue
        yield key, field.default
        if key in MAPS:
            yield from keys(MAPS[key], f"{key}.*.")


def spelled(default: Any) -> str:
    """A default as the table shows it."""
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, SecretStr):
        return f"`{default}`" if default.get_secret_value() else "empty"
    if isinstance(default, str) and not default.isprintable():
        return f"`{default.encode('unicode_escape').decode()}`"
    number = isinstance(default, int | float) and not isinstance(default, bool)
    return f"`{default:g}`" if number and default < 1e5 else f"`{default}`"


def test_the_table_of_keys_is_that_of_the_models() -> None:
    text = (DOCS / "CONFIGURATION.md").read_text(encoding="utf-8")
    table = text.partition("## All keys")[2].partition("\n## ")[0]
    rows = {key: default for key, default, _ in ROW.findall(table)}
    assert rows == {key: spelled(default) for key, default in keys(Settings)}


def test_the_keys_of_the_live_figures_are_documented() -> None:
    text = (DOCS / "CONFIGURATION.md").read_text(encoding="utf-8")
    section = text.partition("\n## Live figures\n")[2].partition("\n## ")[0]
    rows = {key: default for key, default, _ in ROW.findall(section)}
    orders = {f"live.orders.{n}": f.default for n, f in LiveOrders.model_fields.items()}
    others = {f"live.{n}": f.default for n, f in Live.model_fields.items() if n != "orders"}
    assert rows == {key: spelled(default) for key, default in {**orders, **others}.items()}


def test_the_keys_of_the_projects_own_file_are_documented() -> None:
    documented = {key for key, _ in keys(Settings)}

    def descend(value: dict[str, Any], at: str) -> None:
        for name, inner in value.items():
            key = f"{at}.*" if at in MAPS else f"{at}.{name}".lstrip(".")
            if isinstance(inner, dict) and not key.endswith(
                (".options", ".columns", "connections", "live")
            ):
                descend(inner, key)
            else:
                assert key in documented, f"{key} is not in CONFIGURATION.md"

    descend(yaml.safe_load((ROOT / "ducklake.yml").read_text(encoding="utf-8")), "")


def test_every_variable_that_the_code_asks_for_is_documented() -> None:
    text = (DOCS / "CONFIGURATION.md").read_text(encoding="utf-8")
    # Set by make, by tests and by the supervisor, for nobody else.
    internal = {"DUCKLAKE_INSTALL_SECONDS", "DUCKLAKE_FAILPOINT", "DUCKLAKE_ROLE"}
    used = set()
    for folder in CODE:
        for file in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r"\"(DUCKLAKE_[A-Z]+(?:_[A-Z]+)*)\"", file.read_text()))
    assert {name for name in used - internal if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_the_keys_of_every_connection_are_documented(kind: str) -> None:
    text = (DOCS / "CONFIGURATION.md").read_text(encoding="utf-8")
    table = text.partition(f"\n### `{kind}`\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    rows = {key: default for key, default, _ in ROW.findall(table)}
    assert rows == {key: spelled(default) for key, default in keys(CONNECTIONS[kind])}


def test_every_option_of_a_reader_is_documented() -> None:
    text = (DOCS / "CONFIGURATION.md").read_text(encoding="utf-8")
    table = text.partition("## Options of a table")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| `(\w+)` \| (.+?) \| ", table, re.MULTILINE)
    documented = {
        (reader, option): default
        for readers, option, default in rows
        for reader in re.findall(r"`([^`]+)`", readers)
    }
    models: dict[str, type[BaseModel]] = {suffix: f.options for suffix, f in FORMATS.items()}
    models["mysql_poll"] = PollOptions
    models["rest"] = RestTable
    models["dlt"] = DltTable
    models["every file"] = FileOptions
    common = set(FileOptions.model_fields)
    assert documented == {
        (reader, option): spelled(default)
        for reader, model in models.items()
        for option, default in keys(model)
        if reader == "every file" or option not in common
    }


def test_the_json_schema_is_current() -> None:
    stored = json.loads((DOCS / "ducklake.schema.json").read_text(encoding="utf-8"))
    assert stored == json_schema(), "run: ducklake config schema > docs/ducklake.schema.json"


# Design ------------------------------------------------------------------------------------------


def test_the_design_lists_fourteen_guarantees() -> None:
    text = (DOCS / "DESIGN.md").read_text(encoding="utf-8")
    guarantees = text.partition("## Guarantees")[2].partition("\n## ")[0]
    assert [int(n) for n in re.findall(r"^(\d+)\. \*\*", guarantees, re.MULTILINE)] == [
        *range(1, 15)
    ]


def layout() -> dict[str, set[str]]:
    """Each package folder in the page's tree, and the modules that are named in it."""
    text = (DOCS / "DESIGN.md").read_text(encoding="utf-8")
    tree = text.partition("## Layout")[2].partition("```text\n")[2].partition("```")[0]
    modules: dict[str, set[str]] = {}
    parents: list[str] = []
    for line in tree.splitlines():
        if match := re.match(r"( {0,6})(\w+)/ ", line):
            parents[len(match[1]) // 2 :] = [match[2]]
            line = line[match.end() :]
        if parents[0] in CODE:
            modules.setdefault("/".join(parents), set()).update(re.findall(r"\w+\.py\b", line))
    return modules


def test_the_layout_lists_every_package() -> None:
    packages = {
        file.parent.relative_to(ROOT).as_posix()
        for folder in CODE
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(layout()) == packages


def test_the_layout_names_no_module_that_is_gone() -> None:
    found = layout()
    assert sum(map(len, found.values())) > 50
    for folder, names in found.items():
        gone = {name for name in names if not (ROOT / folder / name).is_file()}
        assert not gone, f"{folder} has no {gone}"
