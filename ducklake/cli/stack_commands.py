"""`ducklake up`, `down`, `status`, `reset` and `converter`: the command line over `stack`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ducklake.cli.options import ConfigOption, JsonOption, YesOption
from ducklake.cli.signals import stop_on_signals
from lake.config import load_config
from lake.errors import StackError

WATCH_SECONDS = 2.0


def up(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Start the embedded stack and return once every service is healthy."""
    from ducklake.cli.stack import status_json
    from stack import lifecycle
    from stack.progress import PlainLines, for_stderr

    settings = load_config(config)
    began = time.monotonic()
    lifecycle.up(settings, PlainLines() if as_json else for_stderr())
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print(json.dumps({"seconds": seconds, **status_json(settings)}))
        return
    names = ", ".join(service.name for service in lifecycle.status(settings).services)
    print(f"up after {seconds} s: {names or 'nothing is embedded'}")
    print("next: ducklake status")


def down(config: ConfigOption = None) -> None:
    """Stop the embedded stack; no process is left running."""
    from stack import lifecycle

    print("stopped" if lifecycle.down(load_config(config)) else "nothing was running")


def status(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
    ] = False,
) -> None:
    """Show all services and roles, what has stopped, and how to connect to each service.

    Exit code 0: everything started is healthy; 3: something is not, or a table has stopped or is
    stale; 4: nothing was started; 5: everything runs, and a failed test or export holds something
    back at an older state.
    """
    from ducklake.cli.stack import show_status

    settings = load_config(config)
    code = show_status(settings, as_json)
    stop = stop_on_signals() if watch else None
    while stop is not None and not stop.wait(WATCH_SECONDS):
        if sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        code = show_status(settings, as_json)
    if code:
        raise typer.Exit(code)


def converter(
    output: Annotated[Path, typer.Argument(help="The jar to write.")],
) -> None:
    """Write the jar that a Kafka Connect of your own needs for exact values of MySQL."""
    from stack.progress import for_stderr
    from stack.tools import write_converter

    write_converter(output, for_stderr())
    print(f"{output}: put it into the folder of Debezium's MySQL connector, and restart Connect")


def reset(config: ConfigOption = None, yes: YesOption = False) -> None:
    """Stop the stack and delete all data of the project."""
    from stack import lifecycle

    settings = load_config(config)
    if not yes:
        if not sys.stdin.isatty():
            raise StackError(
                f"`ducklake reset` deletes everything in {settings.data_dir}.",
                "Without a terminal, confirm it with --yes.",
            )
        typer.confirm(f"Delete everything in {settings.data_dir}?", abort=True)
    left = lifecycle.reset(settings)
    print(f"{settings.data_dir} is empty" if not left else "deleted; not ours and left alone:")
    for path in left:
        print(f"  {path}")
