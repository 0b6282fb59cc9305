"""What `status` and `report` say of the condition of the lake."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from ducklake.monitoring.light import COLOURS, CRITICAL, WARNING
from ducklake.monitoring.printable import printable
from ducklake.reconciliation.result import TableResult
from ducklake.supervision.condition import Condition
from ducklake.supervision.freshness import STATES, TableFreshness
from lake.storage.disk_use import DiskUse

if TYPE_CHECKING:
    from ducklake.monitoring.observation import Observation


def problem_lines(condition: Condition) -> list[Text]:
    """What has stopped, hangs or is tried again, each with its remedy; nothing if all is well."""
    if not condition.problems:
        return []
    lines = [Text(condition.summary(), style="bold red")]
    return lines + [
        Text(printable(f"  {problem.line()}"), style="red") for problem in condition.problems
    ]


def reconciliation_text(result: TableResult | None) -> str:
    """What the last comparison of a table with its source found, and when."""
    if result is None:
        return ""
    return f"{result.state}, {ago(time.time() - result.at)}"


def freshness_lines(tables: Sequence[TableFreshness]) -> list[str]:
    """How many tables are idle, arriving or stalled, and the slowest one's way to PostgreSQL."""
    if not tables:
        return []
    counts = {state: sum(table.state == state for table in tables) for state in STATES}
    text = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    slowest = max(tables, key=lambda table: table.hops["postgres"].p95_s or 0.0)
    if (p95 := slowest.hops["postgres"].p95_s) is not None:
        text += f"; source to PostgreSQL p95 {p95:.1f} s ({slowest.table})"
    return [f"freshness: {text}"]


def trust_lines(found: Observation) -> list[str]:
    """How many tables and models can be trusted, and why each of the others cannot."""
    judged = [(one.table, one.light) for one in found.tables]
    judged += [(one.model, one.light) for one in found.models]
    if not judged:
        return []
    counts = {colour: sum(light.colour == colour for _, light in judged) for colour in COLOURS}
    lines = ["trust: " + ", ".join(f"{n} {colour}" for colour, n in counts.items() if n)]
    seen: set[str] = set()
    for name, light in judged:
        if light.colour in (WARNING, CRITICAL) and light.reason not in seen:
            seen.add(light.reason)
            remedy = f" ({light.remedy})" if light.remedy else ""
            lines.append(printable(f"  {name} {light.colour}: {light.reason}{remedy}"))
    return lines


def cost_lines(found: Observation) -> list[str]:
    """Which models the last cycle computed as a whole because that is how they are written."""
    if found.run is None:
        return []
    summary = found.run.summary
    costs = {name: summary.model_seconds.get(name, 0.0) for name in summary.whole}
    if not costs:
        return []
    longest = sorted(costs, key=lambda name: -costs[name])[:3]
    named = ", ".join(f"{name} {costs[name]:.2f} s" for name in longest)
    others = f", and {len(costs) - 3} more" if len(costs) > 3 else ""
    return [
        f"last cycle: {len(costs)} models computed as a whole in {sum(costs.values()):.2f} s:"
        f" {named}{others}"
    ]


def left_lines(columns: Mapping[str, str]) -> list[str]:
    """Columns in PostgreSQL that the rows of their table have no longer, and how to drop them."""
    return [
        printable(
            f"{column} is empty in PostgreSQL: the lake has it no longer. Drop it once no view"
            f" needs it: `{statement}`"
        )
        for column, statement in columns.items()
    ]


def disk_lines(use: DiskUse) -> list[str]:
    """What the lake takes of its disk, and when that will be full."""
    if not use.at:
        return []
    largest = list(use.parts.items())[:4]
    others = sum(use.parts.values()) - sum(size for _, size in largest)
    named = [f"{name} {_size(size)}" for name, size in largest if size]
    named += [f"others {_size(others)}"] if others else []
    line = (
        f"disk: {_size(sum(use.parts.values()))} ({', '.join(named)}), {_size(use.free_bytes)} free"
    )
    if use.days_left is not None:
        line += f"; full in {use.days_left:,.0f} days at the rate of the last day"
    return [line]


def _size(size: float) -> str:
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e3:,.0f} kB"


def ago(seconds: float | None) -> str:
    """How long ago something was."""
    if seconds is None:
        return "never"
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"
