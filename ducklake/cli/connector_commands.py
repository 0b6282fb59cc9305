"""Commands for the connectors in Kafka Connect."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption, YesOption

SourceArgument = Annotated[
    str | None, typer.Argument(help="A source of type mysql_cdc; all by default.")
]
OneSource = Annotated[str, typer.Argument(help="A source of type mysql_cdc.")]


def backfill(
    table: Annotated[str, typer.Argument(help="The table, as SOURCE.TABLE; with --reset, SOURCE.")],
    where: Annotated[
        str, typer.Option("--where", help="A condition in MySQL's SQL; all rows by default.")
    ] = "",
    reset: Annotated[
        bool,
        typer.Option("--reset", help="Begin the source anew: all tables, and changes from now on."),
    ] = False,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="Of an API: the first day."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="Of an API: the last day."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return once the request is stored.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read again, without asking for it.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a table of MySQL again while its changes keep flowing, or files, or an API.

    Nothing is written to MySQL; files and answers of APIs become a new version, later than the
    first.
    """
    from ducklake.cli import connectors

    if dry_run:
        connectors.show_plan(config, table, where, (first, last), reset, as_json)
    elif reset:
        connectors.reset(config, table, not no_wait, as_json)
    else:
        connectors.backfill(config, table, where, (first, last), not no_wait, as_json)


def status(
    source: SourceArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show the state of the connectors and of what is being read again.

    Exit code 0: all run; 3: one does not.
    """
    from ducklake.cli import connector_lifecycle

    if not connector_lifecycle.show(config, source, as_json):
        raise typer.Exit(3)


def pause(source: OneSource, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Have a connector read no further until it is resumed; `ducklake status` shows it."""
    from ducklake.cli import connector_lifecycle

    connector_lifecycle.pause(config, source, as_json)


def resume(source: OneSource, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Have a paused connector continue where it was."""
    from ducklake.cli import connector_lifecycle

    connector_lifecycle.resume(config, source, as_json)


def restart(source: OneSource, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Restart a connector and its tasks; no row is lost or sent twice."""
    from ducklake.cli import connector_lifecycle

    connector_lifecycle.restart(config, source, as_json)


def remove(
    source: OneSource,
    config: ConfigOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a connector from Kafka Connect; topics, offsets and lake stay."""
    from ducklake.cli import connector_lifecycle

    connector_lifecycle.remove(config, source, yes, as_json)
