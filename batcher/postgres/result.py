"""What an export came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from batcher.postgres.staged_rows import Difference
from lake.errors import DuckLakeError, UnexpectedError


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export came to.

    Attributes:
        written: Number of relations that were written.
        held_back: Relation to the reason why PostgreSQL keeps its last state.
        differences: Relation to the rows that were written.
        left: `schema.name.column` to the statement that drops it: columns that the rows of their
            table have no longer, of all relations.
    """

    written: int = 0
    held_back: Mapping[str, DuckLakeError] = field(default_factory=dict)
    differences: Mapping[str, Difference] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: ExportResult) -> ExportResult:
        return ExportResult(
            self.written + other.written,
            {**self.held_back, **other.held_back},
            {**self.differences, **other.differences},
            {**self.left, **other.left},
        )


def named(relation: str, error: Exception) -> DuckLakeError:
    """An error of one relation, whatever it is."""
    return UnexpectedError.unless_named(
        f"The export of {relation}",
        error,
        "The next cycle retries; `ducklake verify` says whether its files are whole.",
    )
