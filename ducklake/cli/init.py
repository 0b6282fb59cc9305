"""`ducklake init`: a project from what a source holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table as Grid

from ducklake.cli.output import note
from ducklake.projects.apis import api_source
from ducklake.projects.config_text import config_text, other_files
from ducklake.projects.dbt_text import FOLDER, project_files, table_files
from ducklake.projects.folders import files_source, sftp_source
from ducklake.projects.found import FoundSource, FoundTable
from ducklake.projects.mysql import is_wanted, mysql_source
from ducklake.projects.names import free_name
from ducklake.projects.writing import write_new
from lake.config import CONFIG_NAME
from lake.config.relations import TableRef, relation_names
from lake.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants of a new project.

    Attributes:
        mysql: Address of a MySQL server.
        sftp: Address of a folder on an SFTP server.
        api: Address of an API's records.
        files: A folder.
        tables: Patterns of the tables to take; empty: all, or those that are chosen when asked.
        yes: Whether to ask nothing.
        history: Whether models of each row's versions are wanted.
    """

    mysql: str = ""
    sftp: str = ""
    api: str = ""
    files: Path | None = None
    tables: tuple[str, ...] = ()
    yes: bool = False
    history: bool = False


def make_project(folder: Path, wanted: Wanted, as_json: bool) -> None:
    """Look at the sources, ask, and write.

    Raises:
        ConfigError: Nothing to look at, no such table, or a file is there already.
        SourceError: A source cannot be read; says what to do.
        ServiceUnreachable: It does not answer.
    """
    if (folder / CONFIG_NAME).exists():
        raise ConfigError(
            f"{folder / CONFIG_NAME} is there already.",
            "`ducklake init --add SOURCE.TABLE` adds a table to it; or name another folder.",
        )
    if not (wanted.mysql or wanted.sftp or wanted.api or wanted.files):
        raise ConfigError(
            "Nothing says where the data is.",
            "Name --mysql, --files, --sftp or --api; several make one project.",
        )
    sources = list(_sources(folder, wanted))
    chosen, history = _chosen(sources, wanted, as_json)
    name = free_name(folder.absolute().name, ())
    written = write_new(folder, dict(_files(name, chosen, history)))
    _tell(folder, written, chosen, as_json)


def ask_secret(variable: str) -> str:
    """Ask for a password; the variable was not set. Empty where nobody is there to be asked."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return ""
    question = f"Password ({variable})"
    with _interrupted():
        said = typer.prompt(question, hide_input=True, default="", show_default=False, err=True)
    return str(said)


@contextmanager
def _interrupted() -> Iterator[None]:
    """Ctrl-C at a question is one as at any other moment, not the answer no."""
    try:
        yield
    except typer.Abort:
        raise KeyboardInterrupt from None


def _sources(folder: Path, wanted: Wanted) -> Iterator[FoundSource]:
    if wanted.mysql:
        yield mysql_source(wanted.mysql, ask_secret, wanted.tables)
    if wanted.files:
        yield files_source(wanted.files, folder)
    if wanted.sftp:
        yield sftp_source(wanted.sftp, ask_secret)
    if wanted.api:
        yield api_source(wanted.api, ask_secret)


def _chosen(
    sources: Sequence[FoundSource], wanted: Wanted, as_json: bool
) -> tuple[list[FoundSource], bool]:
    """The sources with the tables to take, and whether histories are wanted."""
    patterns, history = wanted.tables, wanted.history
    asks = not wanted.yes and not patterns and sys.stdin.isatty() and not as_json
    if not asks and not wanted.yes and not patterns:
        raise ConfigError(
            "Nobody can be asked which tables to take.",
            "Name them with --tables, or --yes for all.",
        )
    everything = [table for each in sources for table in each.tables]
    if asks:
        _show(sources)
        patterns = _asked(everything)
    _check(everything, patterns)
    kept = [
        replace(each, tables=[t for t in each.tables if is_wanted(t, patterns)]) for each in sources
    ]
    if asks and not history and any(table.has_history for each in kept for table in each.tables):
        with _interrupted():
            history = typer.confirm("Also keep a history of each row?", err=True)
    return [each for each in kept if each.tables], history


def _asked(tables: Sequence[FoundTable]) -> tuple[str, ...]:
    """The patterns that somebody answers; asked again while one of them names no table."""
    while True:
        question = "Which tables? (names or patterns; empty: all)"
        with _interrupted():
            said = str(typer.prompt(question, default="", show_default=False, err=True))
        patterns = tuple(said.replace(",", " ").split())
        try:
            _check(tables, patterns)
        except ConfigError as error:
            note(str(error))
        else:
            return patterns


def _check(tables: Sequence[FoundTable], patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(is_wanted(table, (pattern,)) for table in tables):
            there = ", ".join(table.name for table in tables[:20])
            raise ConfigError(f"There is no table {pattern!r}.", f"There are: {there}.")


def _files(name: str, sources: Sequence[FoundSource], history: bool) -> Iterator[tuple[str, str]]:
    yield CONFIG_NAME, config_text(name, sources)
    yield from other_files(name, sources)
    yield from ((f"{FOLDER}/{path}", text) for path, text in project_files(name))
    tables = {TableRef(each.name, table.name): table for each in sources for table in each.tables}
    for ref, relation in relation_names(list(tables)).items():
        for path, text in table_files(tables[ref], relation, history):
            yield f"{FOLDER}/{path}", text


def _show(sources: Sequence[FoundSource]) -> None:
    grid = Grid("table", "is", "size", "key", "", box=None)
    for each in sources:
        for table in each.tables:
            key = ", ".join(table.key) or "none"
            notes = "; ".join(table.notes)
            grid.add_row(f"{each.name}.{table.name}", table.origin, table.size, key, notes)
    Console(stderr=True).print(grid)


def _tell(
    folder: Path, written: Sequence[str], sources: Sequence[FoundSource], as_json: bool
) -> None:
    tables = [
        {"table": f"{each.name}.{table.name}", "from": table.origin, "notes": list(table.notes)}
        for each in sources
        for table in each.tables
    ]
    variables = [name for each in sources for name in each.variables]
    if as_json:
        told = {"directory": str(folder.absolute()), "written": list(written), "tables": tables}
        print(json.dumps({**told, "variables": variables}))
        return
    for table in tables:
        remark = f" ({'; '.join(table['notes'])})" if table["notes"] else ""
        print(f"{table['table']}: {table['from']}{remark}")
    print(f"{len(written)} files written in {folder.absolute()}; README.md has the next commands")
    if variables:
        note(f"Before the next command, set {', '.join(variables)}: see .env.example.")
