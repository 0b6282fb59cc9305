"""Commands that look at the lake, and those that mend it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption, YesOption
from ducklake.cli.signals import stop_on_signals
from lake.config import load_config
from lake.errors import ConfigError


def verify(
    tables: Annotated[list[str] | None, typer.Argument(help="Topics; all by default.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    lake_only: Annotated[
        bool, typer.Option("--lake-only", help="Do not compare with Kafka.")
    ] = False,
    against_source: Annotated[
        bool,
        typer.Option("--against-source", help="Compare the current rows with those of MySQL."),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="With --against-source: mend what differs.")
    ] = False,
) -> None:
    """Verify files, offsets and rows of the lake against its ledger and against Kafka.

    With --against-source, compare the current row of each key with MySQL instead. Exit code 0: all
    is equal; 3: rows differ; 1: something could not be compared.
    """
    from ducklake.cli import checks, reconciliation

    settings = load_config(config)
    if repair and not against_source:
        raise ConfigError("--repair mends what --against-source finds.", "Give both.")
    if against_source:
        code = reconciliation.verify_against_source(settings, tables, repair, as_json)
        if code:
            raise typer.Exit(code)
    elif not checks.verify_lake(settings, tables, lake_only, as_json):
        raise typer.Exit(1)


def schema(
    table: Annotated[str, typer.Argument(help="A topic, or the table's name.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Accept the newest definition (drift: freeze, quarantine)."),
    ] = False,
) -> None:
    """Show the definitions that a MySQL table had, and what each change did to raw."""
    from ducklake.cli.schema import schema as show

    show(load_config(config), table, accept, as_json)


def accept_loss(
    table: Annotated[str, typer.Argument(help="The topic whose loss is accepted.")],
    config: ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Continue a table that stopped because records are permanently gone from Kafka."""
    from ducklake.cli import checks

    checks.accept_loss(load_config(config), table, yes)


def replay(
    table: Annotated[
        str | None, typer.Argument(help="A topic, or the table's name; all by default.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Start of the range: a date or timestamp (UTC), or an offset."),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End of the range, exclusive.")] = None,
    offsets: Annotated[
        bool, typer.Option("--offsets", help="--from and --to are offsets, in every partition.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report differences without writing.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Decode everything again into a new generation.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=16, help="Processes that rebuild; by default 2 for large topics."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reread a topic: compare it with the lake and backfill missing rows, or rebuild the table."""
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


def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, without removing.")
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option(help="An age such as 7d or 12h in place of both ages of `retention`."),
    ] = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove quarantined files and replaced generations that are older than `retention` says.

    `ducklake compact`, a role of `ducklake run`, does so by itself once an hour. Exit code 1:
    something could not be removed now.
    """
    from ducklake.cli import gc as collection

    if not collection.collect(load_config(config), dry_run, older_than, yes, as_json):
        raise typer.Exit(1)


def list_dead_letters(
    table: Annotated[
        str | None, typer.Argument(help="A topic, or the table's name; by default a summary.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List all, not only the first hundred.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List records and inputs that could not be decoded."""
    from ducklake.cli import dead_letter_list

    dead_letter_list.list_all(load_config(config), table, everything, as_json)


def show_dead_letter(
    address: Annotated[str, typer.Argument(help="TOPIC/PARTITION/OFFSET, as the list shows it.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the value's bytes alone to standard output.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter with its bytes."""
    from ducklake.cli import dead_letter_list

    dead_letter_list.show(load_config(config), address, raw, as_json)


def redrive_dead_letters(
    what: Annotated[
        list[str] | None, typer.Argument(help="Tables or addresses; all by default.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become rows, without writing.")
    ] = False,
) -> None:
    """Decode dead letters again after a fix; what can be decoded now becomes rows, once."""
    from ducklake.cli import dead_letters

    stop = stop_on_signals()
    if not dead_letters.redrive(load_config(config), what or [], as_json, stop, dry_run):
        raise typer.Exit(1)


def drop_dead_letters(
    what: Annotated[
        list[str] | None, typer.Argument(help="Tables or addresses; all by default.")
    ] = None,
    config: ConfigOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what would be dropped, without writing.")
    ] = False,
) -> None:
    """Drop dead letters for good: they are no longer counted, and their bytes are removed."""
    from ducklake.cli import dead_letters

    dead_letters.drop(load_config(config), what or [], yes, as_json, dry_run)


def rebuild_ledger(
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, without writing.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild a lost or outdated ledger from the lake's files."""
    from ducklake.cli import ledger

    ledger.rebuild_ledger(load_config(config), dry_run, yes, as_json)


def backup(
    folder: Annotated[Path, typer.Argument(help="The folder to create.")],
    config: ConfigOption = None,
) -> None:
    """Back up the ledger and the cursors into a folder; everything else keeps running."""
    from ducklake.cli import ledger

    ledger.back_up(load_config(config), folder)


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder created by `ducklake backup`.")],
    config: ConfigOption = None,
    yes: YesOption = False,
) -> None:
    """Restore a backup of the ledger and the cursors."""
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
