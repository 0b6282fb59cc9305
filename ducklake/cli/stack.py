"""What `ducklake status` shows, as text and as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ducklake.cli.condition_text import (
    cost_lines,
    disk_lines,
    freshness_lines,
    left_lines,
    problem_lines,
    reconciliation_text,
    trust_lines,
)
from ducklake.supervision.condition import Condition, look
from lake.config import Config
from lake.processes.status_file import HEALTHY
from lake.storage.disk_use import disk_use
from lake.storage.paths import LakePaths
from producers.registry import embedded_services
from stack import lifecycle
from stack.connection_hints import connection_hints

if TYPE_CHECKING:
    from batcher.failures import Failure
    from ducklake.monitoring.observation import Observation

UNHEALTHY = 3
NOTHING_RUNS = 4
HELD_BACK = 5
"""Exit codes of `ducklake status`."""


def show_status(settings: Config, as_json: bool) -> int:
    """Show everything once; gives the exit code."""
    from ducklake.monitoring.observation import observe  # loads DuckDB

    seen, found = lifecycle.status(settings), observe(settings)
    if as_json:
        print(json.dumps(_dumped(settings, found)), flush=True)
    else:
        _show_status(settings, seen, found.condition)
        lines = [*freshness_lines(found.freshness), *trust_lines(found), *cost_lines(found)]
        lines += left_lines(found.run.summary.left_columns) if found.run is not None else []
        lines += disk_lines(disk_use(LakePaths(settings.data_dir)))
        for line in lines:
            print(line, flush=True)
    return _exit_code(settings, seen, found)


def _dumped(settings: Config, found: Observation) -> dict[str, Any]:
    from ducklake.monitoring.cycles import CycleView

    return {
        **status_json(settings, found.condition),
        "freshness": {table.table: table.dump() for table in found.freshness},
        "tables": {table.table: table.dump() for table in found.tables},
        "models": {model.model: model.dump() for model in found.models},
        "held_back": dict(found.held_back),
        "failing_tests": [_failing(failure) for failure in found.failures],
        "alerts": _alerts(settings),
        "disk": disk_use(LakePaths(settings.data_dir)).dump(),
        "last_cycle": None if found.run is None else asdict(CycleView.of(found.run)),
    }


def _failing(failure: Failure) -> dict[str, Any]:
    """A test that found something, without its rows."""
    return {
        "test": failure.test,
        "relations": list(failure.models),
        "status": failure.status,
        "since": failure.since,
        "query": failure.query,
        "remedy": "ducklake failures",
    }


def _alerts(settings: Config) -> dict[str, Any]:
    from ducklake.monitoring.alert_state import alert_state

    found = alert_state(LakePaths(settings.data_dir))
    active = [
        {"kind": a.kind, "subject": a.subject, "state": a.state, "since": a.since}
        for a in found.active
    ]
    return {"active": active, "waiting": len(found.messages)}


def _exit_code(config: Config, seen: lifecycle.StackStatus, found: Observation) -> int:
    condition = found.condition
    if seen.pid is None and not condition.roles and not condition.problems:
        return NOTHING_RUNS
    answers = all(service.healthy for service in seen.services)
    complete = seen.pid is None or lifecycle.is_up(config)
    if not (answers and complete and condition.healthy):
        return UNHEALTHY
    return HELD_BACK if found.is_held_back else 0


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
