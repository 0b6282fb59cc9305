"""Commands for sources of files."""

from __future__ import annotations

from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption


def files(
    table: Annotated[str, typer.Argument(help="The table, as SOURCE.TABLE.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the files of a table: state, rows, rejects, when they were seen and read."""
    from ducklake.cli import file_tables

    file_tables.show_history(config, table, as_json)


def preview(
    what: Annotated[str, typer.Argument(help="A file on this machine, or SOURCE.TABLE.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a file is read: encoding, dialect, columns, types, rows, rejects, and the YAML."""
    from ducklake.cli import file_tables

    file_tables.show_preview(config, what, as_json)
