"""What arrives, while it arrives: a table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from ducklake.cli.condition_text import problem_lines
from ducklake.supervision.condition import look
from lake.config import Config
from lake.opening import open_lake

TERMINAL_SECONDS = 1.0
PLAIN_SECONDS = 10.0
LOOK_SECONDS = 0.2


class LiveView:
    """Rows and freshness of each table, and the newest cycle, from the ledger.

    Args:
        config: The configuration.
        stream: Where to show it.
    """

    wait_seconds = LOOK_SECONDS

    def __init__(self, config: Config, stream: TextIO) -> None:
        self._config = config
        self._opened = ExitStack()
        lake = self._opened.enter_context(open_lake(config, for_writing=False))
        self._ledger = lake.ledger
        self._terminal = stream.isatty()
        self._console = Console(file=stream, highlight=False)
        self._every = TERMINAL_SECONDS if self._terminal else PLAIN_SECONDS
        self._next_at = time.monotonic() + self._every
        self._live = Live(console=self._console, auto_refresh=False) if self._terminal else None
        if self._live is not None:
            self._live.start()

    def refresh(self) -> None:
        """Show the newest state, if it is time."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + self._every
        condition = look(self._config)
        cycle = self._cycle(well=not condition.problems)
        if self._live is not None:
            view = Group(self._table(cycle), *problem_lines(condition))
            self._live.update(view, refresh=True)
        else:
            rows = sum(
                self._ledger.offsets.row_count(ref.topic) for ref, _ in self._config.tables()
            )
            self._console.print(f"{rows:,} rows in the lake; {cycle}", markup=False)
            for line in problem_lines(condition):
                self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
        self._opened.close()

    def _table(self, cycle: str) -> Table:
        table = Table(title=f"Last cycle: {cycle}", box=None, title_justify="left")
        table.add_column("Table")
        table.add_column("Rows", justify="right")
        table.add_column("Last commit", justify="right")
        for ref, _ in self._config.tables():
            newest = self._ledger.commits.newest_time(ref.topic)
            age = "" if newest is None else f"{time.time() - newest:.0f} s ago"
            table.add_row(ref.topic, f"{self._ledger.offsets.row_count(ref.topic):,}", age)
        return table

    def _cycle(self, well: bool) -> str:
        found = self._ledger.runs.last()
        if found is None:
            return "none yet"
        summary = found.summary
        state = f"{summary.failed} failed"
        if not summary.failed:
            state = "all tests passed" if well else "its tests passed, but not all is well"
        if summary.export_error:
            state += f"; {summary.export_error}"
        ago = time.time() - found.started_at - found.seconds
        return f"number {found.number}, {found.seconds:.1f} s, ended {ago:.0f} s ago, {state}"
