"""Commands that make a project, and tell what a change of it will do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption
from ducklake.exit_codes import PLANNED
from lake.errors import ConfigError


def init(
    directory: Annotated[Path, typer.Argument(help="Folder of the new project.")] = Path(),
    mysql: Annotated[str, typer.Option(help="mysql://USER@HOST:3306/DATABASE")] = "",
    sftp: Annotated[str, typer.Option(help="sftp://USER@HOST:22/FOLDER")] = "",
    api: Annotated[str, typer.Option(help="The address of an API's records.")] = "",
    files: Annotated[Path | None, typer.Option(help="A folder with files.")] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option(help="Tables to take, or patterns of them, separated by commas."),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Also make a model of each row's versions.")
    ] = False,
    add: Annotated[
        str, typer.Option(help="Add a table to the project that is there, as SOURCE.TABLE.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Take all tables, and ask nothing.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a source, and write a project for it: ducklake.yml and tested dbt models.

    Passwords come from the environment, or are asked for; none is written. Files that are there
    are never overwritten.
    """
    if add:
        from ducklake.cli.init_add import add_table

        if mysql or sftp or api or files:
            raise ConfigError("--add takes no address.", "Its source is the one in ducklake.yml.")
        add_table(config, add, history, as_json)
        return
    from ducklake.cli.init import Wanted, make_project

    patterns = tuple(name.strip() for text in tables or () for name in text.split(",") if name)
    make_project(directory, Wanted(mysql, sftp, api, files, patterns, yes, history), as_json)


def plan(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say what the configuration will do once the roles start with it; nothing is changed.

    Topics that are created or get other settings, connectors that are updated, tables that are
    read whole, files that are read again, and models that are built, also because of edits of the
    dbt project. Exit code 0: nothing will be done; 6: something will.
    """
    from ducklake.cli.plan import show_plan

    if show_plan(config, as_json):
        raise typer.Exit(PLANNED)
