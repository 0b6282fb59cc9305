"""Commands that keep catalogues of the lake's public files for other engines."""

from __future__ import annotations

from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption
from lake.config import load_config


def iceberg(
    tables: Annotated[list[str] | None, typer.Argument(help="Topics; all by default.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the Iceberg tables anew from the ledger.")
    ] = False,
) -> None:
    """Register the lake's public files as Iceberg tables; no data file is written or moved.

    One snapshot for each compaction. Exit code 1: a table could not be registered.
    """
    from ducklake.cli.catalogs import register

    if not register(load_config(config), tables, rebuild, as_json):
        raise typer.Exit(1)


def ducklake(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Write a read-only DuckLake catalogue of the public files, in the place of the one before.

    Exit code 1: a table had to be left out.
    """
    from ducklake.cli.catalogs import freeze

    if not freeze(load_config(config), as_json):
        raise typer.Exit(1)
