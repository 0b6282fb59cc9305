"""The batch's cycles, newest first, with what each of them built, tested and held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lake.ledger import LedgerReader
from lake.ledger.entries import Run

SHOWN = 60
"""Cycles that are shown."""


@dataclass(frozen=True, slots=True)
class CycleView:
    """A cycle.

    Attributes:
        number: Counted from 1.
        started_at: In seconds of the epoch.
        seconds: How long it took.
        steps: Seconds of each step: `dbt`, `publish`, `export`.
        commit: The ledger's commit that it shows.
        models: How many were to be built.
        tests: How many were to run.
        failed: Models and tests that failed.
        warned: Tests of severity warn that found something.
        held_back: Relation to the reason why its last good state stays published.
        not_exported: Relation to the reason why PostgreSQL keeps its last state.
        export_error: Why PostgreSQL was not brought up to date.
        why: Relation to the reason why it was built.
        model_seconds: How long each model took.
        rows_written: Rows of each that were written.
        whole: Models that are always computed as a whole.
        left_columns: Columns in PostgreSQL that the rows of their table have no longer, each to
            the statement that drops it.
    """

    number: int
    started_at: float
    seconds: float
    steps: Mapping[str, float]
    commit: int
    models: int
    tests: int
    failed: int
    warned: int
    held_back: Mapping[str, str]
    not_exported: Mapping[str, str]
    export_error: str | None
    why: Mapping[str, str]
    model_seconds: Mapping[str, float]
    rows_written: Mapping[str, int]
    whole: Sequence[str]
    left_columns: Mapping[str, str]

    @classmethod
    def of(cls, run: Run) -> CycleView:
        """From the run history."""
        summary = run.summary
        return cls(
            run.number,
            run.started_at,
            run.seconds,
            summary.seconds,
            run.last_commit,
            summary.models,
            summary.tests,
            summary.failed,
            summary.warned,
            summary.held_back,
            summary.not_exported,
            summary.export_error,
            summary.why,
            summary.model_seconds,
            summary.rows_written,
            summary.whole,
            summary.left_columns,
        )


def cycles(ledger: LedgerReader, limit: int = SHOWN) -> tuple[CycleView, ...]:
    """The newest cycles, newest first."""
    return tuple(CycleView.of(run) for run in ledger.runs.newest(limit))
