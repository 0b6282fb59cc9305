"""`ducklake up`, `down`, `status`, `reset` and `converter`: the command line over `stack`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ducklake.cli.condition_text import freshness_lines, problem_lines, reconciliation_text
from ducklake.cli.options import ConfigOption, JsonOption, YesOption
from ducklake.supervision.condition import Condition, look
from ducklake.supervision.freshness import look_at_freshness, with_freshness
from ducklake.supervision.kafka_ends import topic_ends
from lake.config import Config, load_config
from lake.errors import StackError
from lake.processes.status_file import HEALTHY
from producers.registry import embedded_services
from stack import lifecycle
from stack.connection_hints import connection_hints
from stack.progress import PlainLines, for_stderr
from stack.tools import write_converter

UNHEALTHY = 3
NOTHING_RUNS = 4
"""Exit codes of `ducklake status`."""


def up(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Start the embedded stack and return once every service is healthy."""
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
    print("stopped" if lifecycle.down(load_config(config)) else "nothing was running")


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show all services and roles, what has stopped, and how to connect to each service.

    Exit code 0: everything started is healthy; 3: something is not; 4: nothing was started.
    """
    settings = load_config(config)
    seen, condition = lifecycle.status(settings), look(settings)
    tables = look_at_freshness(settings, condition, topic_ends(settings))
    condition = with_freshness(condition, tables)
    if as_json:
        fresh = {table.table: table.dump() for table in tables}
        print(json.dumps({**status_json(settings, condition), "freshness": fresh}))
    else:
        _show_status(settings, seen, condition)
        for line in freshness_lines(tables):
            print(line)
    code = _exit_code(settings, seen, condition)
    if code:
        raise typer.Exit(code)


def _exit_code(config: Config, seen: lifecycle.StackStatus, condition: Condition) -> int:
    if seen.pid is None and not condition.roles and not condition.problems:
        return NOTHING_RUNS
    answers = all(service.healthy for service in seen.services)
    complete = seen.pid is None or lifecycle.is_up(config)
    return 0 if answers and complete and condition.healthy else UNHEALTHY


def _show_status(config: Config, seen: lifecycle.StackStatus, condition: Condition) -> None:
    # without a terminal there is no width to fit into
    console = Console(width=None if sys.stdout.isatty() else 240)
    embedded = embedded_services(config)
    if embedded and seen.pid is None:
        print("the stack is not running; start it with `ducklake up`")
    if seen.services:
        console.print(_table(seen))
    if condition.roles:
        console.print(_roles(condition))
    for result in condition.reconciled:
        console.print(f"{result.table} compared with MySQL: {reconciliation_text(result)}")
    for change in condition.schema_changes:
        console.print(
            f"{change.table} changed at {change.position}: {change.columns}", markup=False
        )
    for line in problem_lines(condition):
        console.print(line, soft_wrap=True)
    if embedded and seen.pid is None:
        return
    if not lifecycle.is_up(config):
        print("the stack is not up yet; ask again in a moment")
        return
    for opening in connection_hints(config):
        remark = f"   # {opening.remark}" if opening.remark else ""
        print(f"{opening.part + ':':9}{opening.line}{remark}")


def converter(
    output: Annotated[Path, typer.Argument(help="The jar to write.")],
) -> None:
    """Write the jar that a Kafka Connect of your own needs for exact values of MySQL."""
    write_converter(output, for_stderr())
    print(f"{output}: put it into the folder of Debezium's MySQL connector, and restart Connect")


def reset(config: ConfigOption = None, yes: YesOption = False) -> None:
    """Stop the stack and delete all data of the project."""
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


def status_json(config: Config, condition: Condition | None = None) -> dict[str, Any]:
    """The stack's state as plain values, with the condition of the lake."""
    seen = lifecycle.status(config)
    services = {}
    for service in seen.services:
        entry = asdict(service)
        del entry["name"]
        services[service.name] = {**entry, "log": str(service.log)}
    answer: dict[str, Any] = {"up": seen.up, "pid": seen.pid, "started": seen.started}
    answer["services"] = services
    answer |= (condition or look(config)).dump()
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


def _roles(condition: Condition) -> Table:
    table = Table("role", "state", "doing", "process", "restarts", box=None)
    table.add_column("log", overflow="fold")
    troubled = {problem.subject for problem in condition.problems}
    for role in condition.roles:
        style = "red" if role.name in troubled else "green" if role.state == HEALTHY else "yellow"
        table.add_row(
            role.name,
            f"[{style}]{role.state}[/{style}]",
            role.doing,
            str(role.pid or ""),
            str(role.restarts),
            role.log,
        )
    return table
