"""What is exported to PostgreSQL in a cycle: raw tables, dead letters, and models that changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import duckdb

from batcher.catalog import DEAD_LETTERS, dead_letter_table, opened, raw_columns
from batcher.postgres.database import connected
from batcher.postgres.relation_writer import Export, RelationWriter
from batcher.publish import Snapshot
from lake.config import Config, PostgresEndpoint, TableRef
from lake.ledger import LedgerReader
from lake.storage.sql import literal, rows_query

_DEAD_LETTERS = "raw.dead_letters"


class PostgresExport:
    """Exports one lake to one database.

    Args:
        config: The configuration.
        endpoint: The database.
        ledger: The lake's ledger.
    """

    def __init__(self, config: Config, endpoint: PostgresEndpoint, ledger: LedgerReader) -> None:
        self._config = config
        self._endpoint = endpoint
        self._ledger = ledger
        # Rows in PostgreSQL belong to one lake: after a reset they are exported anew.
        self._lake = f"{config.settings.name}:{ledger.identity()}"

    def export(self, snapshots: Mapping[str, Snapshot], commit: int) -> int:
        """Bring PostgreSQL to the state of a cycle.

        Args:
            snapshots: The published models.
            commit: The ledger's commit, pinned, up to which raw is exported.

        Returns:
            The number of relations that were written.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: A table there cannot take the new columns.
        """
        written = 0
        with connected(self._endpoint, self._lake) as database, opened(Path(":memory:")) as source:
            states = database.exported()
            writer = RelationWriter(database, source, self._ledger.paths.root / "work")
            for ref, _ in self._config.tables():
                if raw := self._raw(states, ref, commit):
                    writer.write(raw)
                    written += 1
            if dead_letters := self._dead_letters(source, states, commit):
                writer.write(dead_letters)
                written += 1
            for snapshot in snapshots.values():
                if states.get(snapshot.relation) != snapshot.digest:
                    query = f"SELECT * FROM read_parquet({literal(str(snapshot.path))})"
                    writer.write(Export(snapshot.relation, query, snapshot.digest))
                    written += 1
        return written

    def counts(self) -> dict[str, int]:
        """Ask PostgreSQL for the rows of every exported relation."""
        with connected(self._endpoint, self._lake) as database:
            return {relation: database.count(relation) for relation in database.exported()}

    def _raw(self, states: Mapping[str, str], ref: TableRef, commit: int) -> Export | None:
        """The rows of a raw table that are new; None: there are none."""
        relation = f"raw.{self._config.relation(ref)}"
        columns = raw_columns(self._config, self._ledger, ref, commit)
        exported = _exported(states.get(relation, ""), ref.topic)
        generation = self._ledger.tables.generation_at(ref.topic, commit)
        if (
            exported is not None
            and self._ledger.tables.generation_at(ref.topic, exported) != generation
        ):
            exported = None  # rebuilt since then: all of it is new
        new = self._ledger.files.new_rows(ref.topic, exported or 0, commit)
        if exported is not None and not new:
            return None
        parts = [rows_query(columns, [rows.path], rows.ranges) for rows in new]
        query = " UNION ALL BY NAME ".join(parts) or rows_query(columns, [])
        return Export(relation, query, f"{ref.topic} {commit}", appends=exported is not None)

    def _dead_letters(
        self, source: duckdb.DuckDBPyConnection, states: Mapping[str, str], commit: int
    ) -> Export | None:
        """All dead letters; None: PostgreSQL has them."""
        rejected = dead_letter_table(self._ledger, commit)
        about = rejected.drop_columns(["key", "value", "headers"])
        state = hashlib.sha256(repr(about.to_pylist()).encode()).hexdigest()
        if states.get(_DEAD_LETTERS) == state:
            return None
        source.register("dead_letters", rejected)
        names = ", ".join(DEAD_LETTERS.names)
        return Export(_DEAD_LETTERS, f"SELECT {names} FROM dead_letters", state)


def _exported(state: str, topic: str) -> int | None:
    """The commit up to which a relation holds a topic's rows; None where it holds another's.

    A relation's name may pass from one source's table to another one's.
    """
    of, _, commit = state.partition(" ")
    return int(commit) if of == topic else None
