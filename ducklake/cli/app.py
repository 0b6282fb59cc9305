"""`ducklake COMMAND`: thin commands over the packages, one sentence for every failure."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Annotated

import structlog
import typer

from ducklake.cli import stack as stack_commands
from ducklake.cli.signals import FENCED, INTERRUPTED, stop_on_signals
from ducklake.cli.stack import ConfigOption, JsonOption
from lake.config import CONFIG_NAME, json_schema, load_config
from lake.errors import ConfigError, DuckLakeError, ProducerFenced

OnceOption = Annotated[bool, typer.Option("--once", help="Stop at the end of what is there now.")]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="MySQL, SFTP and APIs through Kafka into tested Parquet, DuckDB and PostgreSQL.",
)
config_app = typer.Typer(no_args_is_help=True, help=f"Look at {CONFIG_NAME}.")
app.add_typer(config_app, name="config")
generations_app = typer.Typer(no_args_is_help=True, help="The states of rebuilt tables.")
app.add_typer(generations_app, name="generations")
ledger_app = typer.Typer(no_args_is_help=True, help="The ledger itself.")
app.add_typer(ledger_app, name="ledger")
for _command in (
    stack_commands.up,
    stack_commands.down,
    stack_commands.status,
    stack_commands.reset,
):
    app.command()(_command)


@app.command()
def produce(
    sources: Annotated[list[str] | None, typer.Argument(help="Sources; all by default.")] = None,
    config: ConfigOption = None,
    once: OnceOption = False,
) -> None:
    """Bring new rows from the sources into Kafka."""
    from producers.runner import SourceRunner

    stop = stop_on_signals()
    settings = load_config(config)
    runner = SourceRunner(settings, settings.endpoints(), sources, _sent)
    runner.run(stop, once)


@app.command()
def consume(
    config: ConfigOption = None,
    once: OnceOption = False,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Processes that share it.")] = 1,
) -> None:
    """Write what is in Kafka into the raw lake, exactly once."""
    from consumers.ingest.lake_writer import LakeWriter

    stop = stop_on_signals()
    settings = load_config(config)
    if workers > 1 and once:
        raise ConfigError(
            "--once is one process: it ends with everything public.",
            "Leave out --workers; or leave out --once, and several share the work for ever.",
        )
    if workers > 1:
        from ducklake.supervision.roles import RoleSupervisor, consume_roles

        RoleSupervisor(settings, consume_roles(workers)).keep(stop)
        return
    writer = LakeWriter(settings, settings.endpoints(), once)
    try:
        writer.run(stop)
    finally:
        writer.close()
    if once:
        _compact(settings.path, stop, now=True)


@app.command()
def live(config: ConfigOption = None) -> None:
    """Count the shop's orders and revenue by the minute, into the topic live.kpis."""
    try:
        from consumers.live.worker import LiveWorker
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The live figures need the Python package {error.name}.",
            "Install it with `pip install -e '.[live]'`.",
        ) from None

    stop = stop_on_signals()
    settings = load_config(config)
    LiveWorker(settings, settings.endpoints()).run(stop)


@app.command()
def compact(
    config: ConfigOption = None,
    now: Annotated[bool, typer.Option("--now", help="Seal all hot files, and end.")] = False,
    days: Annotated[
        str | None,
        typer.Option("--days", help="Merge the files of old days: 2026-10-01..2026-10-31."),
    ] = None,
) -> None:
    """Turn hot files into large public ones."""
    if days is not None:
        from ducklake.cli.checks import compact_days

        compact_days(load_config(config), days)
    else:
        _compact(config, stop_on_signals(), now)


def _compact(config: Path | None, stop: threading.Event, now: bool) -> None:
    from consumers.compaction.compactor import Compactor

    compactor = Compactor(load_config(config))
    try:
        if now:
            made = compactor.pass_once(force=True)
            print(f"{made} public files made", file=sys.stderr)
            compactor.must_be_undamaged()
        else:
            compactor.run(stop)
    finally:
        compactor.close()


@app.command()
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


@app.command("accept-loss")
def accept(
    table: Annotated[str, typer.Argument(help="The topic whose loss is accepted.")],
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Go on with a table that stopped because records are gone from Kafka for good."""
    from ducklake.cli.checks import accept_loss

    accept_loss(load_config(config), table, yes)


@app.command()
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


@generations_app.command("list")
def list_generations(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the generations of all tables, and which one is current."""
    from ducklake.cli import replay as replays

    replays.list_generations(load_config(config), as_json)


@generations_app.command("remove")
def remove_generation(
    table: Annotated[str, typer.Argument(help="A topic, or the table's name.")],
    generation: Annotated[int, typer.Argument(help="The number of an old generation.")],
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an old generation of a table, and its files."""
    from ducklake.cli import replay as replays

    replays.remove_generation(load_config(config), table, generation, yes)


@ledger_app.command("rebuild")
def rebuild_ledger(
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a lost or old ledger anew from the lake's files."""
    from ducklake.cli import ledger

    ledger.rebuild_ledger(load_config(config), dry_run, yes, as_json)


@app.command()
def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder.")], config: ConfigOption = None
) -> None:
    """Write ledger and cursors into a folder, while all goes on."""
    from ducklake.cli import ledger

    ledger.back_up(load_config(config), folder)


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `ducklake backup` made.")],
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Bring back a backup of ledger and cursors."""
    from ducklake.cli import ledger

    ledger.restore(load_config(config), folder, yes)


@app.command()
def batch(config: ConfigOption = None, once: OnceOption = False) -> None:
    """Run dbt on what is new, publish what passed, and export it to PostgreSQL."""
    from batcher.cycle import Batch
    from batcher.cycle import once as one_cycle

    stop = stop_on_signals()
    settings = load_config(config)
    worker = Batch(settings, settings.endpoints(), lambda step: _note(f"{step} ..."))
    try:
        if once:
            summary = one_cycle(worker).summary()
            _note(json.dumps(summary))
            if summary["failed"]:
                raise typer.Exit(1)
        else:
            worker.run(stop)
    finally:
        worker.close()


@app.command()
def run(config: ConfigOption = None) -> None:
    """Run producers, consumer, compactor and batch under one supervisor."""
    from ducklake.cli.demo import run_roles
    from ducklake.supervision.roles import RoleSupervisor

    stop = stop_on_signals()
    settings = load_config(config)
    settings.endpoints()  # says now what a role would only say in its log
    run_roles(settings, stop, RoleSupervisor(settings))


@app.command()
def simulate(
    rate: Annotated[float, typer.Option(help="Changed rows per second.")] = 5.0,
    config: ConfigOption = None,
    seed: Annotated[int | None, typer.Option(help="Makes the choices repeatable.")] = None,
) -> None:
    """Trade in the demo shop: orders, status, price and address changes, cancellations."""
    from techstore.simulate import simulate as trade

    stop = stop_on_signals()
    counts = trade(load_config(config).endpoints().mysql, rate, stop, seed)
    _note(f"{counts.changes:,} rows changed in {counts.transactions:,} transactions")


@app.command()
def demo(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="One full pass, then stop.")] = False,
    as_json: JsonOption = False,
    rate: Annotated[float, typer.Option(help="Changed rows per second of the shop.")] = 5.0,
) -> None:
    """Start the stack and take everything through it: for ever, or once."""
    from ducklake.cli import demo as job

    stop = stop_on_signals()
    settings = load_config(config)
    if once:
        job.demo_once(settings, stop, as_json)
    else:
        job.demo(settings, stop, rate)


@app.command()
def report(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show rows per source and layer, freshness, tests, and five business figures."""
    from rich.console import Console

    from ducklake.cli.report import gather, show
    from lake.errors import StackNotRunning

    settings = load_config(config)
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


@config_app.command()
def check(config: ConfigOption = None) -> None:
    """Validate the configuration; every error names its line."""
    settings = load_config(config)
    tables = list(settings.tables())
    print(f"{settings.path.name} is valid: {len(settings.settings.sources)} sources,", end=" ")
    print(f"{len(tables)} tables, data in {settings.data_dir}")


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    print(json.dumps(json_schema(), indent=2))


def _sent(topic: str, rows: int) -> None:
    _note(f"{topic}: {rows:,} records sent")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _set_up_logging() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def main() -> None:
    """The entry point: a named failure is one sentence and an exit code, never a traceback."""
    _set_up_logging()
    os.environ.setdefault("PYTHONWARNINGS", "ignore::DeprecationWarning")
    try:
        app()
    except ProducerFenced as error:
        _note(f"ducklake: {error}")
        sys.exit(FENCED)
    except DuckLakeError as error:
        _note(f"ducklake: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
