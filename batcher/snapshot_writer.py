"""Writes snapshots of models: the whole, or a layer of what changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import duckdb

from batcher.outcome import Model
from batcher.snapshot import Layer, Snapshot, without
from lake.storage.operations import make_folder, move_into_place
from lake.storage.paths import LakePaths
from lake.storage.sql import literal, quoted, quoted_relation

LAYERED_ROWS = 100_000
"""A smaller model is written whole."""
LAYERED_PART = 0.05
"""The part of a model that layers may hold before it is written whole."""
RECENT = 100
"""Cycles whose changes are kept for the export."""
RECENT_KEYS = 1_000_000


@dataclass(frozen=True, slots=True)
class TrackedModel:
    """What the warehouse knows of a model's changes.

    Attributes:
        model: The model.
        cycle: The number of this cycle.
        is_tracked: Whether its changes are kept.
    """

    model: Model
    cycle: int
    is_tracked: bool


class SnapshotWriter:
    """Writes the snapshots of one lake.

    Args:
        paths: The lake.
        warehouse: Where the models are.
    """

    def __init__(self, paths: LakePaths, warehouse: duckdb.DuckDBPyConnection) -> None:
        self._paths = paths
        self._warehouse = warehouse

    def write(self, tracked: TrackedModel, known: Snapshot | None) -> Snapshot:
        """A model's snapshot as of this cycle; files that are there are not written again."""
        model = tracked.model
        name = f"{quoted(model.schema)}.{quoted(model.name)}"
        [(rows,)] = self._warehouse.execute(f"SELECT count(*) FROM {name}").fetchall()
        if not tracked.is_tracked or rows < LAYERED_ROWS or not model.description.primary_key:
            return replace(self._small(model, name, known), description=model.description)
        if known is None or not self._continues(tracked, known):
            return self._base(tracked, name, rows)
        return self._with_layer(tracked, known, name, rows)

    def relation(self, relation: str, rows: int, digest: str, known: Snapshot | None) -> Snapshot:
        """A snapshot of a relation whose contents have a digest."""
        if known is not None and known.digest == digest and known.path.exists():
            return known
        path = self._folder(relation) / f"{digest}-{rows}.parquet"
        self._copy(f"SELECT * FROM {quoted_relation(relation)} ORDER BY ALL", path)
        return Snapshot(relation, path, rows, digest)

    def _small(self, model: Model, name: str, known: Snapshot | None) -> Snapshot:
        rows, digest = _hashed(self._warehouse, name)
        if known is not None and known.cycle >= 0:
            known = None
        return self.relation(model.relation, rows, digest, known)

    def _base(self, tracked: TrackedModel, name: str, rows: int) -> Snapshot:
        """The whole model, from which layers go on."""
        model = tracked.model
        path = self._whole(model.relation, name, rows)
        digest = path.name.partition("-")[0]
        return Snapshot(model.relation, path, rows, digest, model.description, tracked.cycle)

    def _whole(self, relation: str, name: str, rows: int) -> Path:
        path = self._folder(relation) / f"{uuid4().hex[:16]}-{rows}.parquet"
        self._copy(f"SELECT * FROM {name}", path)
        return path

    def _continues(self, tracked: TrackedModel, known: Snapshot) -> bool:
        """Whether the log of changes says what happened since the known snapshot."""
        model = tracked.model
        if known.cycle < 0 or not known.path.exists():
            return False
        if known.description.primary_key != model.description.primary_key:
            return False
        rebuilt = self._warehouse.execute(
            "SELECT count(*) FROM ducklake.rebuilt WHERE relation = ? AND cycle > ?",
            [model.relation, known.cycle],
        ).fetchone()
        return rebuilt is not None and not rebuilt[0]

    def _with_layer(self, tracked: TrackedModel, known: Snapshot, name: str, rows: int) -> Snapshot:
        """The known snapshot and what changed since; a new base where layers have become many."""
        layer = self._layer(tracked, known)
        if layer is None:
            return replace(known, description=tracked.model.description)
        path, layers = known.path, self._merged(known, layer)
        if sum(each.count for each in layers) > LAYERED_PART * rows:
            path, layers = self._whole(known.relation, name, rows), ()
        return replace(
            known,
            path=path,
            rows=rows,
            description=tracked.model.description,
            cycle=tracked.cycle,
            layers=layers,
            recent=_newest((*known.recent, layer)),
        )

    def _layer(self, tracked: TrackedModel, known: Snapshot) -> Layer | None:
        """What the log of changes says since the known snapshot; None: nothing."""
        model = tracked.model
        log = f"ducklake.{quoted(f'changes.{model.relation}')}"
        key = ", ".join(quoted(name) for name in model.description.primary_key)
        changed = (
            f"SELECT *, max(_cycle) OVER (PARTITION BY {key}) AS _newest FROM {log}"
            f" WHERE _cycle > {known.cycle} AND _image IN ('old', 'new')"
        )
        stem = self._folder(model.relation) / uuid4().hex[:16]
        keys, rows = Path(f"{stem}-keys.parquet"), Path(f"{stem}-rows.parquet")
        # A key that is only new hides no row that is there.
        gone = self._copy(f"SELECT DISTINCT {key} FROM ({changed}) WHERE _image = 'old'", keys)
        count = self._copy(
            f"SELECT * EXCLUDE (_cycle, _image, _newest) FROM ({changed})"
            " WHERE _image = 'new' AND _cycle = _newest",
            rows,
        )
        if not gone + count:
            return None
        return Layer(known.cycle + 1, tracked.cycle, keys, rows, gone + count, gone)

    def _merged(self, known: Snapshot, layer: Layer) -> tuple[Layer, ...]:
        """Layers with a new one; those that are not much larger are merged with it."""
        layers = [*known.layers, layer]
        while len(layers) > 1 and layers[-2].count < 2 * layers[-1].count:
            one, two = layers[-2:]
            layers[-2:] = [self._merge(known, one, two)]
        return tuple(layers)

    def _merge(self, known: Snapshot, one: Layer, two: Layer) -> Layer:
        key = known.description.primary_key
        stem = self._folder(known.relation) / uuid4().hex[:16]
        keys, rows = Path(f"{stem}-keys.parquet"), Path(f"{stem}-rows.parquet")
        both = f"[{literal(str(one.keys))}, {literal(str(two.keys))}]"
        gone = self._copy(f"SELECT DISTINCT * FROM read_parquet({both})", keys)
        count = self._copy(
            f"{without(one.rows, [two], key)} UNION ALL BY NAME"
            f" SELECT * FROM read_parquet({literal(str(two.rows))})",
            rows,
        )
        return Layer(one.first, two.last, keys, rows, gone + count, gone)

    def _folder(self, relation: str) -> Path:
        schema, _, name = relation.partition(".")
        folder = self._paths.published / schema / name
        make_folder(folder)
        return folder

    def _copy(self, query: str, path: Path) -> int:
        staged = path.with_suffix(".tmp")
        found = self._warehouse.execute(
            f"COPY ({query}) TO {literal(str(staged))} (FORMAT parquet, COMPRESSION zstd)"
        ).fetchone()
        move_into_place(staged, path)
        return int(found[0]) if found else 0


def _newest(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The last cycles' changes, as far as they are worth keeping."""
    kept: list[Layer] = []
    for layer in reversed(layers[-RECENT:]):
        kept.insert(0, layer)
        if sum(each.count for each in kept) > RECENT_KEYS:
            break
    return tuple(kept)


def _hashed(warehouse: duckdb.DuckDBPyConnection, name: str) -> tuple[int, str]:
    """(rows, digest) of a relation's contents, whatever their order."""
    found = warehouse.execute(
        f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0), bit_xor(hash(t)) FROM {name} t"
    ).fetchone()
    columns = warehouse.execute(f"DESCRIBE {name}").fetchall()
    assert found is not None
    return int(found[0]), f"{hash_of(found[1:], columns):016x}"


def hash_of(found: Iterable[object], columns: Iterable[object]) -> int:
    """64 bits over a table's order-free hash and its columns' names and types."""
    text = repr((tuple(found), tuple(columns)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
