"""`ducklake trace`: where a row is, change by change and hop by hop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ducklake.cli.checks import chosen_one
from ducklake.monitoring.lineage import Lineage
from ducklake.monitoring.observation import opened_ledger
from ducklake.monitoring.printable import printable
from ducklake.monitoring.trace import RowTrace, TracedChange, Tracer
from lake.config import Config
from lake.storage.paths import LakePaths

NOT_FOUND = 3


def trace(config: Config, table: str, key: Sequence[str], as_json: bool) -> int:
    """Print where the row with a key is; gives the exit code.

    Raises:
        ConfigError: There is no such table, it has no key, or a value does not fit.
        LedgerError: There is no lake yet.
    """
    ref, _ = chosen_one(config, table)
    paths = LakePaths(config.data_dir)
    with opened_ledger(paths) as ledger:
        found = Tracer(config, ledger, Lineage.of(paths), ref).trace(key)
    if as_json:
        print(json.dumps(found.dump()))
    else:
        _show(found, Console())
    return 0 if found.changes else NOT_FOUND


def _show(found: RowTrace, console: Console) -> None:
    if found.left_out:
        console.print(f"{found.left_out:,} older changes are left out")
    for change in found.changes:
        console.print(Text(printable(f"{change.op} at {change.address}"), style="bold"))
        console.print(_hops(change))
    if not found.changes:
        said = ", ".join(f"{name} = {value}" for name, value in found.key.items())
        console.print(Text(printable(f"raw has no row of {found.table} with {said}.")))
        console.print("`ducklake status` says how far the table is.", markup=False)
    if found.dead_letters:
        console.print(
            f"{found.dead_letters:,} dead letters: `ducklake dead-letters list {found.table}`",
            markup=False,
        )


def _hops(change: TracedChange) -> Table:
    """One line for each hop: the moment, and how long after the source's commit it was."""
    table = Table("hop", "state", "at", "after", "where", box=None, pad_edge=False)
    began = next((hop.at for hop in change.hops if hop.at is not None), None)
    for hop in change.hops:
        moment = after = ""
        if hop.at is not None and began is not None:
            moment = datetime.fromtimestamp(hop.at, UTC).isoformat(" ", "milliseconds")[:-6] + "Z"
            after = f"{hop.at - began:+.2f} s"
        where = ": ".join(part for part in (hop.where, hop.reason) if part)
        state = hop.state.replace("_", " ")
        table.add_row(*(Text(printable(cell)) for cell in (hop.hop, state, moment, after, where)))
    return table
