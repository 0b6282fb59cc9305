"""Commands that watch the lake: its metrics, and who is told what is wrong."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption
from ducklake.cli.signals import stop_on_signals
from ducklake.supervision.beating import beating
from lake.config import load_config


def monitor(config: ConfigOption = None) -> None:
    """Look at the lake all the time, serve its metrics, and send alerts."""
    from ducklake.monitor import Monitor

    stop = stop_on_signals()
    settings = load_config(config)
    with beating(settings, "monitor") as heartbeat:
        Monitor(settings, heartbeat).run(stop)


def metrics(config: ConfigOption = None) -> None:
    """Print all metrics once, in Prometheus' text format, for a textfile collector."""
    from ducklake.metrics.exposition import text
    from ducklake.monitoring.snapshot import Looker

    settings = load_config(config)
    print(text(settings, Looker(settings).once()), end="", flush=True)


def alerts_test(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send a trial to everybody who is told of alerts.

    Exit code 0: everybody has taken it; 1: somebody has not, or nobody is configured.
    """
    from ducklake.alerts.trial import send_trial

    settings = load_config(config)
    results = send_trial(settings)
    for name, problem in results.items():
        if not as_json:
            print(f"{name}: {problem or 'sent'}", flush=True)
    if as_json:
        print(json.dumps({"sent": not any(results.values()), "targets": results}))
    if any(results.values()):
        raise typer.Exit(1)


def trace(
    table: Annotated[str, typer.Argument(help="A topic, or the table's name.")],
    key: Annotated[
        list[str], typer.Argument(help="The row's key; of several columns, in their order.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a row is: each change of it from the source to PostgreSQL, with its moments.

    Exit code 0: the lake has it; 3: it has no row with that key.
    """
    from ducklake.cli.trace import trace as show

    if code := show(load_config(config), table, key, as_json):
        raise typer.Exit(code)


def logs(
    config: ConfigOption = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="A role or service, such as consume; repeatable. All."),
    ] = None,
    lines: Annotated[int, typer.Option("--lines", min=0, help="Last lines of each log.")] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Each line as one of JSON.")] = False,
) -> None:
    """Show the logs of roles and services, in the order of their moments."""
    from ducklake.cli.logs import logs as show

    show(load_config(config), role or [], lines, stop_on_signals() if follow else None, as_json)
