"""The models of one cycle, in one transaction: nobody sees two cycles at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from batcher.postgres.copying import Source
from batcher.postgres.database import PostgresDatabase, claim
from batcher.postgres.exports import Exports
from batcher.postgres.left_columns import removal
from batcher.postgres.model_rows import ModelRows
from batcher.postgres.model_writer import ModelWriter, is_current
from batcher.postgres.result import ExportResult, named
from batcher.postgres.staged_rows import Difference
from lake.errors import DuckLakeError
from lake.failpoints import failpoint

MODELS = "the models"
"""What only one export at a time writes."""


class ModelExport:
    """One export of models.

    Args:
        database: Where they go.
        exports: What is there.
        source: Where their queries run.
    """

    def __init__(self, database: PostgresDatabase, exports: Exports, source: Source) -> None:
        self._database = database
        self._exports = exports
        self._source = source
        self._held: dict[str, DuckLakeError] = {}

    def write(self, models: Iterable[ModelRows]) -> ExportResult:
        """Write what PostgreSQL does not have; a model that cannot be written is left as it is.

        Raises:
            ServiceUnreachable: The database does not answer; nothing was written.
        """
        with self._database.transaction(MODELS) as cursor:
            known = self._exports.known(cursor)
        stale = [model for model in models if not is_current(model, known.get(model.relation))]
        writers = self._prepared(stale)
        written: dict[str, Difference] = {}
        if writers:
            with self._database.transaction(MODELS) as cursor:
                claim(cursor, MODELS)
                for writer in writers:
                    with self._alone(writer.relation):
                        with self._database.savepoint(cursor, writer.relation):
                            difference = writer.write(cursor, self._exports)
                        written[writer.relation] = difference
                failpoint("export.models.written")
            failpoint("export.models.committed")
        for writer in writers:
            if writer.relation in written:
                with self._alone(writer.relation):
                    writer.finish(self._database)
        return ExportResult(len(written), self._held, written, self._left())

    def _left(self) -> dict[str, str]:
        """What tables have that their rows have no longer, and how it is dropped."""
        with self._database.transaction(MODELS) as cursor:
            found = self._exports.left(cursor)
        return {
            f"{relation}.{column}": removal(relation, column)
            for relation, columns in found.items()
            for column in columns
        }

    def _prepared(self, models: Iterable[ModelRows]) -> list[ModelWriter]:
        """The models whose tables take their rows; those that shut readers out come last."""
        first: list[ModelWriter] = []
        last: list[ModelWriter] = []
        for model in models:
            with self._alone(model.relation):
                writer = ModelWriter.of(model, self._source)
                shuts = writer.prepare(self._database, self._exports)
                (last if shuts else first).append(writer)
        return first + last

    @contextmanager
    def _alone(self, relation: str) -> Iterator[None]:
        """Whatever is raised holds back this relation alone, unless the connection is gone."""
        try:
            yield
        except Exception as error:
            failure = named(relation, error)
            if self._database.is_lost:
                raise failure from None
            self._held[relation] = failure
