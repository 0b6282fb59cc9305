"""What a comparison finds, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from consumers.maintenance.current_rows import Key, Version
from ducklake.reconciliation.result import SHOWN, RowDifference, shortened
from lake.storage.canonical import Form, SourceColumn, SourceTable


@dataclass(slots=True)
class Found:
    """What a comparison has found so far.

    Attributes:
        missing: Keys that only MySQL has.
        surplus: Keys that only the lake has, with the last version of each.
        differing: Keys whose values differ.
        moving: Keys that changed faster than they could be compared.
        shown: Some differences, for people.
        unread: How many more rows differ by their checksum, beyond `MOST_ROWS`.
        keyless: Rows without a key that only MySQL has.
    """

    missing: list[Key] = field(default_factory=list)
    surplus: dict[Key, Version] = field(default_factory=dict)
    differing: list[Key] = field(default_factory=list)
    moving: list[Key] = field(default_factory=list)
    shown: list[RowDifference] = field(default_factory=list)
    unread: int = 0
    keyless: int = 0

    @property
    def count(self) -> int:
        """How many rows differ."""
        named = len(self.missing) + len(self.surplus) + len(self.differing)
        return named + self.unread + self.keyless

    def show(self, difference: RowDifference) -> None:
        """Keep a difference for people, if there is room."""
        if len(self.shown) < SHOWN:
            self.shown.append(difference)


@dataclass(frozen=True, slots=True)
class Look:
    """What MySQL and the lake have of one row.

    Attributes:
        source: MySQL's values; None where it does not have the row.
        versions: The lake's, oldest first.
    """

    table: SourceTable
    key: Key
    source: tuple[str | None, ...] | None
    versions: Sequence[Version]

    @property
    def newest(self) -> tuple[int, int]:
        """Where the lake's newest version is; (-1, -1) where there is none."""
        return self.versions[-1].place if self.versions else (-1, -1)

    def equals_one_since(self, place: tuple[int, int]) -> bool:
        """Whether MySQL's row is a version that was the newest since a place."""
        since = [v for v in self.versions if v.place >= place]
        if self.source is None:
            return not since or any(v.deleted for v in since)
        return any(not v.deleted and not self._columns(v) for v in since)

    def _columns(self, version: Version) -> list[tuple[SourceColumn, str | None, str | None]]:
        """The columns that differ, with both values."""
        assert self.source is not None
        cells = zip(self.table.compared, self.source, version.cells, strict=True)
        return [(c, mine, theirs) for c, mine, theirs in cells if not _same(c, mine, theirs)]

    def report(self, found: Found) -> None:
        """Add it to what is found."""
        columns = zip(self.table.key, self.key, strict=True)
        name = ", ".join(f"{c.name}={shortened(value)}" for c, value in columns)
        latest = self.versions[-1] if self.versions else None
        if self.source is None:
            assert latest is not None
            found.surplus[self.key] = latest
            found.show(RowDifference("surplus", name))
        elif latest is None or latest.deleted:
            found.missing.append(self.key)
            found.show(RowDifference("missing", name))
        else:
            found.differing.append(self.key)
            for column, mine, theirs in self._columns(latest):
                difference = RowDifference(
                    "differs", name, column.name, shortened(mine), shortened(theirs)
                )
                found.show(difference)


def _same(column: SourceColumn, source: str | None, lake: str | None) -> bool:
    if source == lake:
        return True
    if source is None or lake is None or column.form not in (Form.FLOAT, Form.DOUBLE):
        return False
    try:
        return float(source) == float(lake)
    except ValueError:
        return False
