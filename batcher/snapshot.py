"""A model as it is published: one Parquet file, or a large one with layers of later changes.

A model whose changes are known is not written again: each cycle adds a layer, with the keys that
changed and the rows that they have now. Whoever reads it sees the file without those keys, and the
rows of the layers. Layers of like size are merged, so that there are few; once they hold a part of
the model that would slow readers down, the whole is written again.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batcher.description import NOT_DESCRIBED, ModelDescription
from batcher.postgres.model_rows import RowChanges, file_changes, file_rows
from lake.storage.sql import literal, quoted


@dataclass(frozen=True, slots=True)
class Layer:
    """What changed in a model between two cycles.

    Attributes:
        first: The first cycle whose changes it holds.
        last: The last one.
        keys: A file of the keys that had another row before, or none now.
        rows: A file of the rows that changed, as they are now.
        count: The number of keys and rows.
        gone: The number of keys.
    """

    first: int
    last: int
    keys: Path
    rows: Path
    count: int
    gone: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model's published state; the `ModelRows` of the export.

    Attributes:
        relation: `schema.name`.
        path: The immutable Parquet file.
        rows: Its rows.
        digest: Hash of its contents, whatever their order; of a model with layers a name that no
            other state has.
        description: What its project says of it.
        cycle: The cycle up to which it shows changes; -1: it is compared by its contents.
        layers: What changed since the file was written, the oldest first.
        recent: What each of the last cycles changed, for the export; the oldest first.
    """

    relation: str
    path: Path
    rows: int
    digest: str
    description: ModelDescription = NOT_DESCRIBED
    cycle: int = -1
    layers: tuple[Layer, ...] = ()
    recent: tuple[Layer, ...] = ()

    @property
    def state(self) -> str:
        """It differs whenever the rows do."""
        return self.digest if self.cycle < 0 else f"{self.digest}.{self.cycle}"

    def files(self) -> Iterable[Path]:
        """Every file that somebody may read of it."""
        yield self.path
        for layer in (*self.layers, *self.recent):
            yield layer.keys
            yield layer.rows

    def whole(self) -> str:
        """All rows, as a query of DuckDB."""
        if not self.layers:
            return file_rows(self.path)
        key = self.description.primary_key
        parts = [without(self.path, self.layers, key)]
        parts += [
            without(layer.rows, self.layers[at + 1 :], key) for at, layer in enumerate(self.layers)
        ]
        return " UNION ALL BY NAME ".join(parts)

    def changes(self, since: str) -> RowChanges | None:
        """What changed since an earlier state; None where nobody knows any more."""
        if self.cycle >= 0:
            return self._changes_of_cycles(since)
        olds = self.path.parent.glob(f"{glob.escape(since)}-*.parquet")
        old = next(olds, None)
        return None if old is None else file_changes(old, self.path, self.description.primary_key)

    def _changes_of_cycles(self, since: str) -> RowChanges | None:
        digest, _, cycle = since.rpartition(".")
        if digest != self.digest or not cycle.isdecimal():
            return None
        layers = [layer for layer in self.recent if layer.last > int(cycle)]
        key = self.description.primary_key
        if not layers or layers[0].first > int(cycle) + 1:
            return None
        names = ", ".join(quoted(name) for name in key)
        upserted = " UNION ALL BY NAME ".join(
            without(layer.rows, layers[at + 1 :], key) for at, layer in enumerate(layers)
        )
        keys = " UNION ".join(file_rows(layer.keys) for layer in layers)
        return RowChanges(upserted, f"SELECT {names} FROM ({keys})")


def without(path: Path, later: Sequence[Layer], key: Sequence[str]) -> str:
    """The rows of a file whose keys no later layer has."""
    masks = [layer for layer in later if layer.gone]
    if not masks:
        return file_rows(path)
    listed = ", ".join(literal(str(layer.keys)) for layer in masks)
    same = " AND ".join(f"held.{quoted(name)} = gone.{quoted(name)}" for name in key)
    return (
        f"SELECT held.* FROM read_parquet({literal(str(path))}) AS held"
        f" ANTI JOIN read_parquet([{listed}]) AS gone ON {same}"
    )
