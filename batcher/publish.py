"""The file that people open: views over immutable files, swapped by rename, never locked.

Raw is read from the public files, models from Parquet snapshots named after their contents: what
has not changed is not written again.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from batcher.catalog import opened, raw_columns
from batcher.dbt_build import Model
from batcher.description import NOT_DESCRIBED, ModelDescription
from batcher.postgres.model_rows import RowChanges, file_changes, file_rows
from lake.config import Config
from lake.formats import PublishedIndex, PublishedModel
from lake.ledger import LedgerReader
from lake.storage.operations import (
    make_folder,
    move_into_place,
    remove_file,
    rename,
    touch,
    write_unsynced,
)
from lake.storage.paths import files_below
from lake.storage.sql import literal, quoted, rows_query

KEEP_SECONDS = 600.0
DEAD_LETTERS = "raw.dead_letters"
_SNAPSHOT = re.compile(r"[0-9a-f]{16}-\d+\.parquet")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model's published state; the `ModelRows` of the export.

    Attributes:
        relation: `schema.name`.
        path: The immutable Parquet file.
        rows: Its rows.
        digest: Hash of its contents, whatever their order.
        description: What its project says of it.
    """

    relation: str
    path: Path
    rows: int
    digest: str
    description: ModelDescription = NOT_DESCRIBED

    @property
    def state(self) -> str:
        """Its digest: it differs whenever the rows do."""
        return self.digest

    def whole(self) -> str:
        """All rows, as a query of DuckDB."""
        return file_rows(self.path)

    def changes(self, since: str) -> RowChanges | None:
        """What changed since an earlier snapshot; None where its file is gone, or has no key."""
        olds = self.path.parent.glob(f"{glob.escape(since)}-*.parquet")
        old = next(olds, None)
        return None if old is None else file_changes(old, self.path, self.description.primary_key)


class Publisher:
    """Publishes what passed; what is held back stays at its last good snapshot."""

    def __init__(self, config: Config, ledger: LedgerReader) -> None:
        self._config = config
        self._ledger = ledger
        self._paths = ledger.paths
        self._index = self._paths.published / "index.json"

    def current(self) -> dict[str, Snapshot]:
        """The published snapshots by relation."""
        try:
            index = PublishedIndex.load(self._index.read_text())
        except FileNotFoundError:
            return {}
        return {
            relation: Snapshot(
                relation,
                self._paths.root / m.path,
                m.rows,
                m.digest,
                ModelDescription(tuple(m.primary_key), m.description, m.columns),
            )
            for relation, m in index.models.items()
        }

    def publish(self, passed: Iterable[Model], commit: int) -> dict[str, Snapshot]:
        """Snapshot the models that passed and swap the published file.

        Args:
            passed: Models to publish from the warehouse.
            commit: The ledger's commit that they show.

        Returns:
            All published snapshots, those of earlier cycles included.
        """
        snapshots = self.current()
        with opened(self._paths.warehouse, read_only=True) as warehouse:
            for model in passed:
                relation = quoted(model.schema), quoted(model.name)
                rows, digest = _hashed(warehouse, ".".join(relation))
                self._write(warehouse, snapshots, model.relation, rows, digest)
                snapshot = snapshots[model.relation]
                snapshots[model.relation] = replace(snapshot, description=model.description)
            self._publish_dead_letters(warehouse, snapshots, commit)
        self._swap(snapshots, commit)
        self._write_index(snapshots)
        self._clean(snapshots)
        return snapshots

    def _publish_dead_letters(
        self,
        warehouse: duckdb.DuckDBPyConnection,
        snapshots: dict[str, Snapshot],
        commit: int,
    ) -> None:
        """Dead letters are published as a model is; what they are the ledger knows without them."""
        state = self._ledger.dead_letters.state_at(commit)
        [(rows,)] = warehouse.execute(f"SELECT count(*) FROM {DEAD_LETTERS}").fetchall()
        digest = f"{hash_of([state], []):016x}"
        self._write(warehouse, snapshots, DEAD_LETTERS, int(rows), digest)

    def _write(
        self,
        warehouse: duckdb.DuckDBPyConnection,
        snapshots: dict[str, Snapshot],
        relation: str,
        rows: int,
        digest: str,
    ) -> None:
        """Write a relation's snapshot, unless it is there already."""
        known = snapshots.get(relation)
        if known is not None and known.digest == digest and known.path.exists():
            return
        schema, _, name = relation.partition(".")
        path = self._paths.published / schema / name / f"{digest}-{rows}.parquet"
        make_folder(path.parent)
        staged = path.with_suffix(".tmp")
        warehouse.execute(
            f"COPY (SELECT * FROM {quoted(schema)}.{quoted(name)} ORDER BY ALL)"
            f" TO {literal(str(staged))} (FORMAT parquet, COMPRESSION zstd)"
        )
        move_into_place(staged, path)
        snapshots[relation] = Snapshot(relation, path, rows, digest)

    def _swap(self, snapshots: dict[str, Snapshot], commit: int) -> None:
        staged = self._paths.root / "work" / f"lake-{os.getpid()}.duckdb"
        remove_file(staged)
        with opened(staged) as database:
            database.execute("CREATE SCHEMA raw; CREATE SCHEMA staging; CREATE SCHEMA consume")
            for ref, _ in self._config.tables():
                generation = self._ledger.tables.generation_at(ref.topic, commit) or 0
                folder = self._paths.raw(ref, generation)
                # The tree only grows, so a glob stays right while sealing goes on.
                is_empty = not any(files_below(folder, ".parquet"))
                files = [] if is_empty else [str(folder / "*/*/*/*.parquet")]
                columns = raw_columns(self._config, self._ledger, ref, commit)
                query = rows_query(columns, files)
                database.execute(f"CREATE VIEW raw.{quoted(self._config.relation(ref))} AS {query}")
            for snapshot in snapshots.values():
                schema, _, name = snapshot.relation.partition(".")
                database.execute(
                    f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};"
                    f"CREATE VIEW {quoted(schema)}.{quoted(name)} AS"
                    f" SELECT * FROM read_parquet({literal(str(snapshot.path))})"
                )
        rename(staged, self._paths.lake_db)

    def _write_index(self, snapshots: dict[str, Snapshot]) -> None:
        models = {
            s.relation: PublishedModel(
                self._paths.relative(s.path),
                s.rows,
                s.digest,
                s.description.primary_key,
                s.description.text,
                s.description.columns,
            )
            for s in snapshots.values()
        }
        make_folder(self._index.parent)  # not there yet where nothing has passed so far
        staged = self._index.with_suffix(".tmp")
        write_unsynced(staged, PublishedIndex(models).dump())
        rename(staged, self._index)

    def _clean(self, snapshots: dict[str, Snapshot]) -> None:
        """Delete replaced snapshots, but not under a reader that opened the file lately."""
        current = {s.path for s in snapshots.values()}
        limit = time.time() - KEEP_SECONDS
        for path in self._paths.published.glob("*/*/*.parquet"):
            if path in current:
                touch(path)  # counts from when it was last current
            elif _SNAPSHOT.fullmatch(path.name) and path.stat().st_mtime < limit:
                remove_file(path)


def _hashed(warehouse: duckdb.DuckDBPyConnection, name: str) -> tuple[int, str]:
    """(rows, digest) of a relation's contents, whatever their order."""
    found = warehouse.execute(
        f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0), bit_xor(hash(t)) FROM {name} t"
    ).fetchone()
    columns = warehouse.execute(f"DESCRIBE {name}").fetchall()
    return int(found[0]), f"{hash_of(found[1:], columns):016x}"


def hash_of(found: Iterable[object], columns: Iterable[object]) -> int:
    """64 bits over a table's order-free hash and its columns' names and types."""
    text = repr((tuple(found), tuple(columns)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
