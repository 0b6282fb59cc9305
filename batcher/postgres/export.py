"""The export of one lake to PostgreSQL: raw on its own, and the models of a cycle at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb

from batcher.catalog import opened
from batcher.postgres.copying import Source
from batcher.postgres.database import PostgresDatabase, connected
from batcher.postgres.export_steps import raw_export_step
from batcher.postgres.exports import Exports, count_rows
from batcher.postgres.model_export import ModelExport
from batcher.postgres.model_rows import ModelRows
from batcher.postgres.raw_writer import RawWriter, purge, window_start
from batcher.postgres.repair import Repair
from batcher.postgres.result import ExportResult, named
from batcher.postgres.staged_rows import Difference
from lake.config import Config, PostgresEndpoint
from lake.errors import DuckLakeError
from lake.ledger import LedgerReader
from lake.openlineage.recording import exported_raw, stopped

__all__ = ["ExportResult", "PostgresExport"]


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
        self._exports = Exports(f"{config.settings.name}:{ledger.identity()}")
        self._purged: dict[str, object] = {}

    def export(self, models: Mapping[str, ModelRows], commit: int) -> ExportResult:
        """Bring PostgreSQL to the state of a cycle: raw, then the models.

        Args:
            models: The published models, by relation.
            commit: The ledger's commit, pinned, up to which raw is exported.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: The database refuses this user.
        """
        return self.export_raw(commit) + self.export_models(models)

    def export_models(
        self, models: Mapping[str, ModelRows], database: duckdb.DuckDBPyConnection | None = None
    ) -> ExportResult:
        """Write what changed in the models, in one transaction.

        One that cannot be written keeps its last state, and the others are written.

        Args:
            models: The published models, by relation.
            database: Where their queries run, in UTC; None: in a DuckDB of their own.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: The database refuses this user.
        """
        with self._opened(database) as (postgres, source):
            return ModelExport(postgres, self._exports, source).write(models.values())

    def export_raw(self, commit: int, goes_on: Callable[[], bool] = lambda: True) -> ExportResult:
        """Append the new rows of raw, each table in a transaction of its own.

        Args:
            commit: The ledger's commit, pinned, up to which rows go.
            goes_on: Asked before each table: whether to go on.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: The database refuses this user.
        """
        held: dict[str, DuckLakeError] = {}
        written: dict[str, Difference] = {}
        with self._opened(None) as (postgres, source):
            with postgres.transaction("ducklake.exports") as cursor:
                known = self._exports.known(cursor)
            for writer in self.raw_writers(commit):
                if not goes_on():
                    break
                relation = writer.relation
                try:
                    if writer.has_news(known.get(relation)):
                        rows = writer.write(postgres, self._exports, source)
                        written[relation] = Difference(added=rows)
                        exported_raw(partial(raw_export_step, writer=writer), rows)
                    self._purge(postgres, writer, goes_on)
                except Exception as error:  # whatever it is, it is this relation's alone
                    failure = named(relation, error)
                    if postgres.is_lost:
                        raise failure from None
                    held[relation] = failure
                    stopped(f"export.{relation}", failure)
        return ExportResult(len(written), held, written)

    def repair_model(self, model: ModelRows) -> Difference:
        """Compare a model's table with what is published, and mend it.

        Raises:
            ServiceUnreachable: The database does not answer, or another export writes it.
            BatchError: The database refuses this user, or the table the rows.
        """
        with self._opened(None) as (postgres, source):
            return Repair(postgres, self._exports, source).model(model)

    def repair_raw(self, writer: RawWriter) -> Difference:
        """Compare a raw table with the lake, and mend it.

        Raises:
            CommitConflict: Another export was further than the writer's commit.
            ServiceUnreachable: The database does not answer, or another export writes it.
            BatchError: The database refuses this user, or the table the rows.
        """
        with self._opened(None) as (postgres, source):
            return Repair(postgres, self._exports, source).raw(writer)

    def raw_writers(self, commit: int) -> Iterator[RawWriter]:
        """A writer for each raw table that is exported."""
        moment = time.time()
        for ref, table in self._config.tables():
            if table.export.raw != "off":
                start = window_start(table.export.days, moment)
                yield RawWriter(self._config, self._ledger, ref, commit, start)

    def _purge(
        self, postgres: PostgresDatabase, writer: RawWriter, goes_on: Callable[[], bool]
    ) -> None:
        """Once a day, and once after a start: what the window has left behind."""
        if writer.start is None or self._purged.get(writer.relation) == writer.start:
            return
        if purge(postgres, self._exports, writer, goes_on):
            self._purged[writer.relation] = writer.start

    def counts(self) -> dict[str, int]:
        """Ask PostgreSQL for the rows of every exported relation.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: The database refuses this user.
        """
        with (
            self._opened(None) as (postgres, _),
            postgres.transaction("ducklake.exports") as cursor,
        ):
            found = self._exports.known(cursor)
            return {relation: count_rows(cursor, relation) for relation in found}

    @contextmanager
    def _opened(
        self, database: duckdb.DuckDBPyConnection | None
    ) -> Iterator[tuple[PostgresDatabase, Source]]:
        with connected(self._endpoint) as postgres:
            Exports.prepare(postgres)
            if database is not None:
                yield postgres, Source(database)
                return
            with opened(Path(":memory:")) as own:
                yield postgres, Source(own)
