"""What a reconciliation found, and where its last result is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from lake.storage.json_files import read_json, write_json
from lake.storage.operations import make_folder
from lake.storage.paths import LakePaths, files_below

EQUAL, DIFFERENT, FAILED = "equal", "different", "failed"
SHOWN = 20
"""Differences of one table that are listed; all are counted."""
_VALUE_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class RowDifference:
    """A row that is not the same in MySQL and in the lake.

    Attributes:
        kind: `missing` (only MySQL has it), `surplus` (only the lake has it), `differs`.
        key: `column=value`, or the checksum of a row without a key.
        column: The column that differs; empty where the whole row is meant.
        source: MySQL's value, cut; None is NULL.
        lake: The lake's value.
    """

    kind: str
    key: str
    column: str = ""
    source: str | None = None
    lake: str | None = None

    def line(self) -> str:
        """One line for people."""
        if self.kind == "missing":
            return f"{self.key}: in MySQL, not in the lake"
        if self.kind == "surplus":
            return f"{self.key}: in the lake, not in MySQL"
        return f"{self.key}: {self.column}: MySQL has {_said(self.source)}, the lake has" + (
            f" {_said(self.lake)}"
        )


@dataclass(frozen=True, slots=True)
class TableResult:
    """The comparison of one table.

    Attributes:
        table: Its topic.
        state: `equal`, `different`, or `failed` where it could not be compared.
        at: When it ended, in seconds of the epoch.
        source_rows: Rows that MySQL has.
        lake_rows: Rows that the lake has.
        position: Where MySQL's binlog stood as the last row was read.
        gtids: The same as a set of transactions; empty where the server numbers none.
        missing: Rows that only MySQL has.
        surplus: Rows that only the lake has.
        differing: Rows with other values.
        differences: Some of them.
        moving: Rows that changed faster than they could be compared; they are not differences.
        repaired: Rows that were mended before this result.
        reason: Why it failed, or why it could not be mended.
        remedy: What the reader should do about it.
    """

    table: str
    state: str
    at: float
    source_rows: int = 0
    lake_rows: int = 0
    position: str = ""
    gtids: str = ""
    missing: int = 0
    surplus: int = 0
    differing: int = 0
    differences: tuple[RowDifference, ...] = ()
    moving: int = 0
    repaired: int = 0
    reason: str = ""
    remedy: str = ""

    @property
    def count(self) -> int:
        """How many rows differ."""
        return self.missing + self.surplus + self.differing

    def summary(self) -> str:
        """What is wrong, in a few words; empty where nothing is."""
        if self.state == FAILED:
            return self.reason
        counts = {"missing": self.missing, "surplus": self.surplus, "differing": self.differing}
        return ", ".join(f"{n:,} {name}" for name, n in counts.items() if n)

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def load(cls, plain: dict[str, Any]) -> TableResult:
        """From what `dump` gave.

        Raises:
            TypeError: It is something else.
        """
        listed = tuple(RowDifference(**entry) for entry in plain.pop("differences", ()))
        return replace(cls(**plain), differences=listed)


def shortened(value: str | None) -> str | None:
    """A value as it is shown."""
    if value is None or len(value) <= _VALUE_CHARACTERS:
        return value
    return f"{value[:_VALUE_CHARACTERS]}… ({len(value)} characters)"


def _said(value: str | None) -> str:
    return "NULL" if value is None else repr(value)


class LastResults:
    """The last result of each table: one small file for each, in the lake.

    Args:
        paths: The lake.
    """

    def __init__(self, paths: LakePaths) -> None:
        self._folder = paths.reconciliation

    def keep(self, result: TableResult) -> None:
        """Replace the last result of a table."""
        make_folder(self._folder)
        write_json(self._folder / f"{result.table}.json", result.dump())

    def of(self, table: str) -> TableResult | None:
        """The last result of a table."""
        try:
            return TableResult.load(read_json(self._folder / f"{table}.json"))
        except TypeError:
            return None  # there is none, or none that this release can read

    def all(self) -> Iterator[TableResult]:
        """The last results of all tables, by name."""
        for path in sorted(files_below(self._folder, ".json")):
            found = self.of(path.name.removesuffix(".json"))
            if found is not None:
                yield found
