"""Commands that look at the lake, and those that mend it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption, YesOption
from ducklake.cli.signals import stop_on_signals
from lake.config import load_config


def verify(
    table: Annotated[str | None, typer.Argument(help="A topic; all by default.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    lake_only: Annotated[
        bool, typer.Option("--lake-only", help="Do not compare with what Kafka holds.")
    ] = False,
) -> None:
    """Prove that the lake holds what was committed, each row once, and what Kafka still holds."""
    from ducklake.cli.checks import verify_lake

    settings = load_config(config)
    if not verify_lake(settings, table, lake_only, as_json):
        raise typer.Exit(1)


def accept_loss(
    table: Annotated[str, typer.Argument(help="The topic whose loss is accepted.")],
    config: ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Go on with a table that stopped because records are gone from Kafka for good."""
    from ducklake.cli import checks

    checks.accept_loss(load_config(config), table, yes)


def replay(
    table: Annotated[
        str | None, typer.Argument(help="A topic, or the table's name; all by default.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="A date or moment (UTC), or an offset.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="Up to here, this one not included.")
    ] = None,
    offsets: Annotated[
        bool, typer.Option("--offsets", help="--from and --to are offsets, in each partition.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and count only.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Decode all anew, into a new generation.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=16, help="Processes that rebuild; 2, where it is much.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a topic again: compare it with the lake and fill what is missing, or rebuild."""
    from ducklake.cli import replay as replays

    stop = stop_on_signals()
    wish = replays.Wish(table, start, end, offsets, dry_run, rebuild, workers)
    if not replays.replay(load_config(config), wish, as_json, stop):
        raise typer.Exit(1)


def list_generations(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the generations of all tables, and which one is current."""
    from ducklake.cli import replay as replays

    replays.list_generations(load_config(config), as_json)


def remove_generation(
    table: Annotated[str, typer.Argument(help="A topic, or the table's name.")],
    generation: Annotated[int, typer.Argument(help="The number of an old generation.")],
    config: ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Delete an old generation of a table, and its files."""
    from ducklake.cli import replay as replays

    replays.remove_generation(load_config(config), table, generation, yes)


def rebuild_ledger(
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a lost or old ledger anew from the lake's files."""
    from ducklake.cli import ledger

    ledger.rebuild_ledger(load_config(config), dry_run, yes, as_json)


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.")], config: ConfigOption = None
) -> None:
    """Write ledger and cursors into a folder, while all goes on."""
    from ducklake.cli import ledger

    ledger.back_up(load_config(config), folder)


def restore(
    folder: Annotated[Path, typer.Argument(help="What `ducklake backup` made.")],
    config: ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Bring back a backup of ledger and cursors."""
    from ducklake.cli import ledger

    ledger.restore(load_config(config), folder, yes)


def report(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show rows per source and layer, freshness, tests, and five business figures."""
    from rich.console import Console

    from ducklake.cli.configuration import load_checked
    from ducklake.cli.report import gather, show
    from lake.errors import StackNotRunning

    settings = load_checked(config)
    try:
        endpoints = settings.endpoints()
    except StackNotRunning:
        endpoints = None  # the lake can be asked without its sources
    found = gather(settings, endpoints)
    if endpoints is None:
        found.missing.append("sources and PostgreSQL: the stack is not up (`ducklake up`).")
    if as_json:
        print(json.dumps(found.dump()))
    else:
        show(found, Console())
