"""The file that people open: views over immutable files, swapped by rename, never locked.

Raw is read from the public files, models from Parquet snapshots named after their contents: what
has not changed is not written again.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping

from batcher.catalog import opened, raw_columns
from batcher.description import ModelDescription
from batcher.snapshot import Layer, Snapshot
from batcher.snapshot_writer import SnapshotWriter, TrackedModel, hash_of
from lake.config import Config
from lake.formats import PublishedIndex, PublishedLayer, PublishedModel
from lake.ledger import LedgerReader
from lake.storage.operations import (
    copy_file,
    make_folder,
    remove_file,
    rename,
    touch,
    write_unsynced,
)
from lake.storage.paths import files_below
from lake.storage.sql import quoted, quoted_relation, rows_query

KEEP_SECONDS = 600.0
DEAD_LETTERS = "raw.dead_letters"
_SNAPSHOT = re.compile(r"[0-9a-f]{16}-(\d+|keys|rows)\.parquet")


class Publisher:
    """Publishes what passed; what is held back stays at its last good snapshot."""

    def __init__(self, config: Config, ledger: LedgerReader) -> None:
        self._config = config
        self._ledger = ledger
        self._paths = ledger.paths
        self._index = self._paths.published / "index.json"

    def current(self) -> dict[str, Snapshot]:
        """The published snapshots by relation."""
        return {name: self._loaded(name, model) for name, model in self._read().models.items()}

    def publish(self, passed: Iterable[TrackedModel], commit: int) -> dict[str, Snapshot]:
        """Snapshot the models that passed and swap the published file.

        Args:
            passed: Models to publish from the warehouse.
            commit: The ledger's commit that they show.

        Returns:
            All published snapshots, those of earlier cycles included.
        """
        index = self._read()
        snapshots = {name: self._loaded(name, model) for name, model in index.models.items()}
        with opened(self._paths.warehouse, read_only=True) as warehouse:
            writer = SnapshotWriter(self._paths, warehouse)
            for tracked in passed:
                relation = tracked.model.relation
                snapshots[relation] = writer.write(tracked, snapshots.get(relation))
            # Dead letters are published as a model is; what they are the ledger knows.
            state = self._ledger.dead_letters.state_at(commit)
            found = warehouse.execute(f"SELECT count(*) FROM {DEAD_LETTERS}").fetchone()
            digest = f"{hash_of([state], []):016x}"
            snapshots[DEAD_LETTERS] = writer.relation(
                DEAD_LETTERS, int(found[0]) if found else 0, digest, snapshots.get(DEAD_LETTERS)
            )
        # Whoever is killed in between leaves an index that does not say what the file shows.
        self._write_index(snapshots, {})
        views = self._swap(snapshots, commit, index.views)
        self._write_index(snapshots, views)
        self._clean(snapshots)
        return snapshots

    def _swap(
        self, snapshots: Mapping[str, Snapshot], commit: int, known: Mapping[str, str]
    ) -> dict[str, str]:
        """Put a file in the place of the published one, where a view is another one now.

        Returns:
            Relation to a hash of its view's text.
        """
        texts = dict(self._raw_views(commit))
        texts |= {snapshot.relation: snapshot.whole() for snapshot in snapshots.values()}
        views = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        is_there = self._paths.lake_db.exists()
        if is_there and views == known:
            return views
        staged = self._paths.root / "work" / f"lake-{os.getpid()}.duckdb"
        remove_file(staged)
        keeps = is_there and known.keys() <= views.keys()
        if keeps:
            copy_file(self._paths.lake_db, staged)
        with opened(staged) as database:
            database.execute(
                "CREATE SCHEMA IF NOT EXISTS raw; CREATE SCHEMA IF NOT EXISTS staging;"
                "CREATE SCHEMA IF NOT EXISTS consume"
            )
            for relation, text in texts.items():
                if keeps and known.get(relation) == views[relation]:
                    continue
                database.execute(
                    f"CREATE SCHEMA IF NOT EXISTS {quoted(relation.partition('.')[0])};"
                    f"CREATE OR REPLACE VIEW {quoted_relation(relation)} AS {text}"
                )
        rename(staged, self._paths.lake_db)
        return views

    def _raw_views(self, commit: int) -> Iterator[tuple[str, str]]:
        """Relation and query of each raw table."""
        for ref, _ in self._config.tables():
            generation = self._ledger.tables.generation_at(ref.topic, commit) or 0
            folder = self._paths.raw(ref, generation)
            # The tree only grows, so a glob stays right while sealing goes on.
            is_empty = not any(files_below(folder, ".parquet"))
            files = [] if is_empty else [str(folder / "*/*/*/*.parquet")]
            columns = raw_columns(self._config, self._ledger, ref, commit)
            yield f"raw.{self._config.relation(ref)}", rows_query(columns, files)

    def _read(self) -> PublishedIndex:
        try:
            return PublishedIndex.load(self._index.read_text())
        except FileNotFoundError:
            return PublishedIndex({})

    def _loaded(self, relation: str, model: PublishedModel) -> Snapshot:
        return Snapshot(
            relation,
            self._paths.root / model.path,
            model.rows,
            model.digest,
            ModelDescription(tuple(model.primary_key), model.description, model.columns),
            model.cycle,
            tuple(self._layer(layer) for layer in model.layers),
            tuple(self._layer(layer) for layer in model.recent),
        )

    def _layer(self, layer: PublishedLayer) -> Layer:
        first, last, keys, rows, *counts = layer
        return Layer(first, last, self._paths.root / keys, self._paths.root / rows, *counts)

    def _dumped(self, layers: Iterable[Layer]) -> list[PublishedLayer]:
        relative = self._paths.relative
        return [
            (e.first, e.last, relative(e.keys), relative(e.rows), e.count, e.gone) for e in layers
        ]

    def _write_index(self, snapshots: Mapping[str, Snapshot], views: Mapping[str, str]) -> None:
        models = {
            s.relation: PublishedModel(
                self._paths.relative(s.path),
                s.rows,
                s.digest,
                s.description.primary_key,
                s.description.text,
                s.description.columns,
                s.cycle,
                self._dumped(s.layers),
                self._dumped(s.recent),
            )
            for s in snapshots.values()
        }
        make_folder(self._index.parent)  # not there yet where nothing has passed so far
        staged = self._index.with_suffix(".tmp")
        write_unsynced(staged, PublishedIndex(models, views).dump())
        rename(staged, self._index)

    def _clean(self, snapshots: Mapping[str, Snapshot]) -> None:
        """Delete replaced snapshots, but not under a reader that opened the file lately."""
        current = {path for snapshot in snapshots.values() for path in snapshot.files()}
        limit = time.time() - KEEP_SECONDS
        for path in self._paths.published.glob("*/*/*.parquet"):
            if path in current:
                touch(path)  # counts from when it was last current
            elif _SNAPSHOT.fullmatch(path.name) and path.stat().st_mtime < limit:
                remove_file(path)
