"""`ducklake verify --against-source`: the current rows of the lake against those of MySQL."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable

from ducklake.cli.checks import chosen_all
from ducklake.cli.output import note
from ducklake.cli.progress import bar
from ducklake.reconciliation.comparison import tables_of_mysql
from ducklake.reconciliation.reconciler import Reconciler
from ducklake.reconciliation.result import DIFFERENT, FAILED, TableResult
from lake.config import Config
from lake.errors import ConfigError

DIFFERENCES, NOT_COMPARED = 3, 1
"""Exit codes."""


def verify_against_source(
    config: Config, tables: Sequence[str] | None, repair: bool, as_json: bool
) -> int:
    """Compare, mend where asked to, and print; gives the exit code.

    Raises:
        ConfigError: None of the tables comes from MySQL.
    """
    refs = tables_of_mysql(config, [ref for ref, _ in chosen_all(config, tables)])
    if not refs:
        raise ConfigError(
            "None of these tables comes from MySQL.", "Name a table of a MySQL source."
        )
    endpoints = config.endpoints()
    results: list[TableResult] = []
    for ref in refs:
        with bar(f"comparing {ref.topic} with MySQL", "rows") as progress:
            reconciler = Reconciler(config, endpoints, progress, tell=note)
            results.append(reconciler.reconcile(ref, repair))
    if as_json:
        equal = not any(result.count or result.state == FAILED for result in results)
        print(json.dumps({"equal": equal, "tables": [result.dump() for result in results]}))
    else:
        _show(results)
    if any(result.state == DIFFERENT for result in results):
        return DIFFERENCES
    return NOT_COMPARED if any(result.state == FAILED for result in results) else 0


def _show(results: Sequence[TableResult]) -> None:
    console = Console()
    for result in results:
        for difference in result.differences:
            console.print(f"{result.table}: {difference.line()}", markup=False, soft_wrap=True)
        hidden = result.count - len({d.key for d in result.differences})
        if hidden > 0 and result.differences:
            console.print(f"{result.table}: and {hidden:,} more rows", soft_wrap=True)
    table = RichTable("table", "MySQL", "lake", "as of binlog", "result", box=None)
    for result in results:
        table.add_row(
            result.table,
            f"{result.source_rows:,}",
            f"{result.lake_rows:,}",
            result.position,
            _verdict(result),
        )
    console.print(table)
    for result in results:
        if result.reason:
            console.print(
                f"{result.table}: {result.reason} {result.remedy}", markup=False, soft_wrap=True
            )
        elif result.state == DIFFERENT:
            console.print(
                f"{result.table}: `ducklake verify {result.table} --against-source --repair`"
                " mends it",
                soft_wrap=True,
            )


def _verdict(result: TableResult) -> str:
    if result.state == FAILED:
        return "[red]not compared[/red]"
    if result.state == DIFFERENT:
        return f"[red]{result.summary()}[/red]"
    text = "equal"
    if result.repaired:
        text += f", {result.repaired:,} rows mended"
    if result.moving:
        text += f", {result.moving:,} rows changing all the time"
    return f"[green]{text}[/green]"
