"""`ducklake up`, `down`, `status` and `reset`: the command line over `stack`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from ducklake.cli.options import ConfigOption, JsonOption, YesOption
from lake.config import Config, load_config
from lake.errors import StackError
from producers.registry import embedded_services
from stack import lifecycle
from stack.connection_hints import connection_hints
from stack.progress import PlainLines, for_stderr


def up(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Start the embedded stack and return once all of it is healthy."""
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
    """Stop the embedded stack; nothing of it is left running."""
    print("stopped" if lifecycle.down(load_config(config)) else "nothing was running")


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every service, and the lines that open each part."""
    settings = load_config(config)
    if as_json:
        print(json.dumps(status_json(settings)))
        return
    seen = lifecycle.status(settings)
    if embedded_services(settings) and seen.pid is None:
        print("the stack is not running; start it with `ducklake up`")
        return
    if seen.services:
        # without a terminal there is no width to fit into
        Console(width=None if sys.stdout.isatty() else 240).print(_table(seen))
    if not lifecycle.is_up(settings):
        print("the stack is not up yet; ask again in a moment")
        return
    for opening in connection_hints(settings):
        remark = f"   # {opening.remark}" if opening.remark else ""
        print(f"{opening.part + ':':9}{opening.line}{remark}")


def reset(config: ConfigOption = None, yes: YesOption = False) -> None:
    """Stop the stack and delete all data of the project: the next start is the first."""
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


def status_json(config: Config) -> dict[str, Any]:
    """The stack's state as plain values."""
    seen = lifecycle.status(config)
    services = {}
    for service in seen.services:
        entry = asdict(service)
        del entry["name"]
        services[service.name] = {**entry, "log": str(service.log)}
    answer: dict[str, Any] = {"up": seen.up, "pid": seen.pid, "started": seen.started}
    answer["services"] = services
    if lifecycle.is_up(config):
        answer["open"] = [asdict(opening) for opening in connection_hints(config)]
    return answer


def _table(seen: lifecycle.StackStatus) -> Table:
    table = Table("service", "state", "address", "process", "restarts", box=None)
    table.add_column("log", overflow="fold")
    for service in seen.services:
        state = service.state
        if state == "healthy" and not service.healthy:
            state = "does not answer"
        style = "green" if service.healthy else "red"
        table.add_row(
            service.name,
            f"[{style}]{state}[/{style}]",
            service.address,
            str(service.pid or ""),
            str(service.restarts),
            str(service.log),
        )
    return table
