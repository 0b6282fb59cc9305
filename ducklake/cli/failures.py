"""`ducklake failures`: data tests that found something, with their rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ducklake.cli.options import ConfigOption, JsonOption
from ducklake.monitoring.printable import printable
from lake.config import load_config
from lake.storage.paths import LakePaths

SHOWN_ROWS = 10


def _value(value: str | None) -> str:
    """A value in a cell, on one line; no control character reaches a terminal."""
    if value is None:
        return "NULL"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in value)


def failures(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    rows: Annotated[int, typer.Option(min=0, help="Rows to show of each test.")] = SHOWN_ROWS,
) -> None:
    """Show the data tests that failed when they last ran, with the rows that they found."""
    from batcher.failures import failures as kept

    found = kept(LakePaths(load_config(config).data_dir))
    if as_json:
        print(json.dumps([asdict(failure) for failure in found]))
    else:
        console = Console()
        for failure in found:
            since = datetime.fromtimestamp(failure.since, UTC).isoformat(" ", "seconds")
            console.print(Text(f"{failure.test}: {failure.status} since {since}", style="bold"))
            console.print(Text(f"  models: {', '.join(failure.models)}"))
            console.print(Text(printable(f"  {failure.message}")))
            table = Table(*(escape(_value(column)) for column in failure.columns))
            for row in failure.rows[:rows]:
                table.add_row(*(Text(_value(value)) for value in row))
            if failure.columns:
                console.print(table)
            console.print(Text(printable(f"  query:\n{failure.query}\n")))
        if not found:
            print("All data tests passed when they last ran.")
    if any(failure.status != "warn" for failure in found):
        raise typer.Exit(1)
