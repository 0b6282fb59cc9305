"""What `status` and `report` say of the condition of the lake."""

from __future__ import annotations

import time

from rich.text import Text

from ducklake.reconciliation.result import TableResult
from ducklake.supervision.condition import Condition


def problem_lines(condition: Condition) -> list[Text]:
    """What has stopped, hangs or is tried again, each with its remedy; nothing if all is well."""
    if not condition.problems:
        return []
    lines = [Text(condition.summary(), style="bold red")]
    return lines + [Text(f"  {problem.line()}", style="red") for problem in condition.problems]


def reconciliation_text(result: TableResult | None) -> str:
    """What the last comparison of a table with its source found, and when."""
    if result is None:
        return ""
    return f"{result.state}, {ago(time.time() - result.at)}"


def ago(seconds: float | None) -> str:
    """How long ago something was."""
    if seconds is None:
        return "never"
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"
