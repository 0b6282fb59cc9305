"""Commands that run a part of the way from the sources to PostgreSQL, or all of it."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption, OnceOption
from ducklake.cli.output import note
from ducklake.cli.signals import stop_on_signals
from ducklake.supervision.beating import beating
from lake.config import load_config
from lake.errors import ConfigError
from lake.installation import install_extra
from techstore.public_apis import use_public_apis


def produce(
    sources: Annotated[list[str] | None, typer.Argument(help="Sources; all by default.")] = None,
    config: ConfigOption = None,
    once: OnceOption = False,
) -> None:
    """Read new rows from the sources and produce them to Kafka."""
    from ducklake.cli.configuration import load_checked
    from producers.runner import SourceRunner

    stop = stop_on_signals()
    settings = load_checked(config, sources)
    with beating(settings, "produce", once) as heartbeat:
        runner = SourceRunner(settings, settings.endpoints(), sources, _sent, heartbeat)
        if not once:
            from ducklake.reconciliation.schedule import ReconciliationSchedule

            ReconciliationSchedule(settings, settings.endpoints(), stop, sources).start()
        runner.run(stop, once)


def consume(
    config: ConfigOption = None,
    once: OnceOption = False,
    workers: Annotated[
        int, typer.Option(min=1, max=16, help="Number of processes that share the topics.")
    ] = 1,
) -> None:
    """Write records from Kafka into the raw lake, exactly once."""
    from consumers.ingest.lake_writer import LakeWriter

    stop = stop_on_signals()
    settings = load_config(config)
    if workers > 1 and once:
        raise ConfigError(
            "--once runs in one process, which seals everything and stops.",
            "Omit --workers, or omit --once to let several share the work.",
        )
    if workers > 1:
        from ducklake.supervision.roles import WORKERS, RoleSupervisor, consume_roles

        RoleSupervisor(settings, consume_roles(workers), WORKERS).keep(stop)
        return
    with beating(settings, "consume", once) as heartbeat:
        writer = LakeWriter(settings, settings.endpoints(), once, heartbeat=heartbeat)
        try:
            writer.run(stop)
        finally:
            writer.close()
    if once:
        _compact(settings.path, stop, now=True)


def live(config: ConfigOption = None) -> None:
    """Count what the section `live` names, as it happens, into the topic live.kpis."""
    try:
        from consumers.live.worker import LiveWorker
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The live figures need the Python package {error.name}.",
            f"Install it with `{install_extra('live')}`.",
        ) from None

    stop = stop_on_signals()
    settings = load_config(config)
    with beating(settings, "live") as heartbeat:
        LiveWorker(settings, settings.endpoints()).run(stop, heartbeat)


def dashboard(
    config: ConfigOption = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port; a free one by default.")
    ] = None,
) -> None:
    """Serve the page that says whether the data can be trusted now, with its REST API."""
    from ducklake.cli.dashboard import serve

    stop = stop_on_signals()
    settings = load_config(config)
    with beating(settings, "dashboard") as heartbeat:
        serve(settings, host, port, stop, heartbeat)


def compact(
    config: ConfigOption = None,
    now: Annotated[bool, typer.Option("--now", help="Seal all hot files, then stop.")] = False,
    days: Annotated[
        str | None,
        typer.Option("--days", help="Merge the files of past days: 2026-10-01..2026-10-31."),
    ] = None,
) -> None:
    """Seal hot files into large public ones."""
    if days is not None:
        from ducklake.cli.checks import compact_days

        compact_days(load_config(config), days)
    else:
        _compact(config, stop_on_signals(), now)


def _compact(config: Path | None, stop: threading.Event, now: bool) -> None:
    from consumers.catalogs.following import followed
    from consumers.compaction.compactor import Compactor

    settings = load_config(config)
    with beating(settings, "compact", now) as heartbeat:
        compactor = Compactor(settings, heartbeat)
        try:
            if now:
                made = compactor.pass_once(force=True)
                print(f"{made} public files made", file=sys.stderr)
                compactor.damaged.must_be_none()
            else:
                with followed(settings, heartbeat):
                    compactor.run(stop)
        finally:
            compactor.close()


def batch(
    config: ConfigOption = None,
    once: OnceOption = False,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Build models from nothing, once; with --select.")
    ] = False,
    select: Annotated[
        list[str] | None, typer.Option(help="A model for --full-refresh; all by default.")
    ] = None,
) -> None:
    """Build and test the dbt models, publish what passed, and export it to PostgreSQL."""
    from batcher.cycle import Batch
    from batcher.cycle import once as one_cycle

    if select and not full_refresh:
        raise ConfigError(
            "--select says which models to build from nothing.", "Add --full-refresh, or omit it."
        )
    if full_refresh and not once:
        raise ConfigError(
            "--full-refresh is for one cycle.",
            "Add --once; stop `ducklake run` before, or its batch holds the warehouse.",
        )
    rebuild = (select or None) if full_refresh else ()
    stop = stop_on_signals()
    settings = load_config(config)
    with beating(settings, "batch", once) as heartbeat:
        worker = Batch(settings, settings.endpoints(), lambda step: note(f"{step} ..."), heartbeat)
        try:
            if once:
                summary = one_cycle(worker, rebuild).summary()
                note(json.dumps(asdict(summary)))
                if summary.failed:
                    raise typer.Exit(1)
            else:
                worker.run(stop)
        finally:
            worker.close()


def run(config: ConfigOption = None) -> None:
    """Run producers, consumer, compactor and batch under one supervisor."""
    from ducklake.cli.configuration import load_checked
    from ducklake.cli.demo import run_roles
    from ducklake.supervision.roles import RoleSupervisor

    stop = stop_on_signals()
    settings = load_checked(config)
    settings.endpoints()  # says now what a role would only say in its log
    run_roles(settings, stop, RoleSupervisor(settings))


def simulate(
    rate: Annotated[float, typer.Option(help="Rows to change per second.")] = 5.0,
    config: ConfigOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed for reproducible data.")] = None,
    files: Annotated[
        float, typer.Option(help="Seconds between two versions of the inventory; 0 for none.")
    ] = 60.0,
) -> None:
    """Simulate the demo shop: orders, status, price and address changes, new files."""
    from techstore.deliveries import deliver
    from techstore.simulate import shop_connection
    from techstore.simulate import simulate as trade

    stop = stop_on_signals()
    settings = load_config(config)
    with beating(settings, "simulate") as heartbeat:
        heartbeat.beat("trading")
        if files > 0:
            deliveries = (settings, files, stop, seed)
            threading.Thread(target=deliver, args=deliveries, daemon=True).start()
        counts = trade(shop_connection(settings), rate, stop, seed)
    note(f"{counts.changes:,} rows changed in {counts.transactions:,} transactions")


def demo(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="One full pass, then stop.")] = False,
    as_json: JsonOption = False,
    rate: Annotated[float, typer.Option(help="Rows that the simulator changes per second.")] = 5.0,
    live_apis: Annotated[
        bool, typer.Option("--live-apis", help="Ask the public APIs instead of the demo's own.")
    ] = False,
) -> None:
    """Start the stack and run the whole pipeline, continuously or once."""
    from ducklake.cli import demo as job
    from ducklake.cli.configuration import load_checked

    stop = stop_on_signals()
    if live_apis:
        use_public_apis(os.environ)
    settings = load_checked(config)
    if once:
        job.demo_once(settings, stop, as_json)
    else:
        job.demo(settings, stop, rate)


def _sent(topic: str, rows: int) -> None:
    note(f"{topic}: {rows:,} records sent")
