"""The pages Tables, Runs and Dead letters: what the ledger and the dbt project say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse

from ducklake.dashboard import charts
from ducklake.dashboard.drawing import Drawing
from ducklake.monitoring.cycles import CycleView, cycles
from ducklake.monitoring.dead_letters import (
    dead_letter_content,
    dead_letter_counts,
    dead_letters_of,
)
from ducklake.monitoring.models import exposures, model_view, model_views
from ducklake.monitoring.observation import opened_ledger
from ducklake.monitoring.tables import schema_timeline, table_detail, table_storage
from lake.errors import DuckLakeError
from lake.storage.paths import LakePaths

if TYPE_CHECKING:
    from ducklake.dashboard.app import Dashboard


class LakePages:
    """The pages.

    Args:
        shared: What all routes share.
        drawing: Draws them.
    """

    def __init__(self, shared: Dashboard, drawing: Drawing) -> None:
        self._shared = shared
        self._drawing = drawing
        self._paths = LakePaths(shared.config.data_dir)

    def tables(self, request: Request) -> HTMLResponse:
        """All tables, and the SQL box."""
        seen = self._shared.watcher.latest().seen
        lights = {table.table: table.light for table in seen.tables}
        with opened_ledger(self._paths) as ledger:
            stored = table_storage(self._shared.config, ledger)
        return self._drawing.page(
            request,
            "tables",
            stored=stored,
            lights=lights,
            models=model_views(self._paths, seen),
            exposures=exposures(self._paths),
        )

    def model(self, request: Request, model: str) -> HTMLResponse:
        """One model: what it is, where it comes from, who reads it."""
        found = model_view(self._paths, self._shared.watcher.latest().seen, model)
        if found is None:
            raise HTTPException(404, "There is no such model.")
        tables = {
            f"raw.{self._shared.config.relation(ref)}": ref.topic
            for ref, _ in self._shared.config.tables()
        }
        return self._drawing.page(request, "model", model=found, tables=tables)

    def table(self, request: Request, table: str) -> HTMLResponse:
        """One table from near."""
        seen = self._shared.watcher.latest().seen
        config = self._shared.config
        with opened_ledger(self._paths) as ledger:
            found = table_detail(config, ledger, seen, table)
        if found is None:
            raise HTTPException(404, "There is no such table.")
        ref = next(ref for ref, _ in config.tables() if ref.topic == table)
        try:
            versions = schema_timeline(config, ref) if seen.ends is not None else ()
        except DuckLakeError:
            versions = ()
        trust = next((one for one in seen.tables if one.table == table), None)
        return self._drawing.page(request, "table", table=found, versions=versions, trust=trust)

    def runs(self, request: Request) -> HTMLResponse:
        """Cycles, and tests that fail."""
        with opened_ledger(self._paths) as ledger:
            newest = cycles(ledger)
        shown = tuple(reversed(newest))
        drawn = charts.stacks(
            [_steps(cycle) for cycle in shown],
            [
                f"{cycle.number}: {cycle.seconds:.1f} s, {cycle.models} models, {cycle.tests} tests"
                + (f", {cycle.failed} failed" if cycle.failed else "")
                for cycle in shown
            ],
        )
        seen = self._shared.watcher.latest().seen
        return self._drawing.page(
            request, "runs", cycles=newest, drawn=drawn, shown=shown, failures=seen.failures
        )

    def dead_letters(self, request: Request, table: str = "") -> HTMLResponse:
        """How many each table has; of one table, which."""
        with opened_ledger(self._paths) as ledger:
            counts = dead_letter_counts(ledger)
            letters = dead_letters_of(ledger, table) if table else ()
        return self._drawing.page(
            request, "dead-letters", counts=counts, letters=letters, table=table
        )

    def dead_letter(
        self, request: Request, table: str, topic: str, partition: int, offset: int
    ) -> HTMLResponse:
        """One dead letter with its bytes."""
        with opened_ledger(self._paths) as ledger:
            found = dead_letter_content(ledger, topic, partition, offset)
        # no 404: whoever has it open, and redrives it, is told what became of it
        address = f"{topic}/{partition}/{offset}"
        return self._drawing.page(
            request, "dead-letter", content=found, table=table, address=address
        )


def _steps(cycle: CycleView) -> dict[str, float]:
    """Seconds of each step, and of what is between them."""
    known = {name: max(0.0, value) for name, value in cycle.steps.items()}
    return {**known, "other": max(0.0, cycle.seconds - sum(known.values()))}
