"""Commands for the connectors in Kafka Connect."""

from __future__ import annotations

from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption


def backfill(
    table: Annotated[str, typer.Argument(help="The table, as SOURCE.TABLE.")],
    where: Annotated[
        str, typer.Option("--where", help="A condition in MySQL's SQL; all rows by default.")
    ] = "",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return once the request is stored.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a MySQL table again while its changes keep flowing; nothing is written to MySQL."""
    from ducklake.cli import connectors

    connectors.backfill(config, table, where, not no_wait, as_json)
