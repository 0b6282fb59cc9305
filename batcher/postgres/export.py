"""What is exported to PostgreSQL in a cycle: raw tables, dead letters, and models that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batcher.catalog import opened, raw_columns
from batcher.postgres.database import Exported, connected
from batcher.postgres.model_rows import ModelRows
from batcher.postgres.relation_writer import Export, RelationWriter
from lake.config import Config, PostgresEndpoint, TableRef
from lake.errors import DuckLakeError, ServiceUnreachable, UnexpectedError
from lake.ledger import LedgerReader
from lake.storage.sql import rows_query

_Unit = Callable[[], Export | None]
"""Says what is to be written into a relation; None where PostgreSQL has it."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export came to.

    Attributes:
        written: Number of relations that were written.
        held_back: Relation to the reason why PostgreSQL keeps its last state.
    """

    written: int = 0
    held_back: Mapping[str, DuckLakeError] = field(default_factory=dict)


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

    def export(self, models: Mapping[str, ModelRows], commit: int) -> ExportResult:
        """Bring PostgreSQL to the state of a cycle, relation by relation.

        A relation that cannot be written keeps its last state, and the others are written.

        Args:
            models: The published models, by relation.
            commit: The ledger's commit, pinned, up to which raw is exported.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: The database refuses this user.
        """
        written, held_back = 0, {}
        with connected(self._endpoint, self._lake) as database, opened(Path(":memory:")) as source:
            states = database.exported()
            writer = RelationWriter(database, source, self._ledger.paths.root / "work")
            for relation, unit in self._units(states, models, commit):
                try:
                    export = unit()
                    if export is not None:
                        writer.write(export)
                        written += 1
                except Exception as error:  # whatever it is, it is this relation's alone
                    named = _named(relation, error)
                    if isinstance(named, ServiceUnreachable) and database.is_lost:
                        raise named from None
                    held_back[relation] = named
        return ExportResult(written, held_back)

    def counts(self) -> dict[str, int]:
        """Ask PostgreSQL for the rows of every exported relation."""
        with connected(self._endpoint, self._lake) as database:
            return database.counts()

    def _units(
        self,
        states: Mapping[str, Exported],
        models: Mapping[str, ModelRows],
        commit: int,
    ) -> Iterator[tuple[str, _Unit]]:
        """Every relation, and what says whether there is something to write."""
        for ref, _ in self._config.tables():
            relation = f"raw.{self._config.relation(ref)}"
            known = states.get(relation)
            yield relation, lambda r=ref, k=known: self._raw(k, r, commit)  # type: ignore[misc]
        for model in models.values():
            known = states.get(model.relation)
            yield model.relation, lambda m=model, k=known: _model(k, m)  # type: ignore[misc]

    def _raw(self, known: Exported | None, ref: TableRef, commit: int) -> Export | None:
        """The rows of a raw table that are new; None: there are none."""
        relation = f"raw.{self._config.relation(ref)}"
        exported = _exported(known.state if known else "", ref.topic)
        generation = self._ledger.tables.generation_at(ref.topic, commit)
        if (
            exported is not None
            and self._ledger.tables.generation_at(ref.topic, exported) != generation
        ):
            exported = None  # rebuilt since then: all of it is new

        def rows(after: int) -> str | None:
            found = self._ledger.files.new_rows(ref.topic, after, commit)
            parts = [rows_query(columns, [rows.path], rows.ranges) for rows in found]
            return " UNION ALL BY NAME ".join(parts) or None

        columns = raw_columns(self._config, self._ledger, ref, commit)
        new = None if exported is None else rows(exported)
        if exported is not None and new is None:
            return None
        whole = lambda: rows(0) or rows_query(columns, [])  # noqa: E731
        return Export(relation, whole, f"{ref.topic} {commit}", new)


def _model(known: Exported | None, model: ModelRows) -> Export | None:
    """A model's rows; None: PostgreSQL has them."""
    if known is not None and known.state == model.state:
        return None
    return Export(model.relation, model.whole, model.state)


def _exported(state: str, topic: str) -> int | None:
    """The commit up to which a relation holds a topic's rows; None where it holds another's.

    A relation's name may pass from one source's table to another one's.
    """
    of, _, commit = state.partition(" ")
    return int(commit) if of == topic else None


def _named(relation: str, error: Exception) -> DuckLakeError:
    if isinstance(error, DuckLakeError):
        return error
    return UnexpectedError.of(
        f"The export of {relation}",
        error,
        "The next cycle retries; `ducklake verify` says whether its files are whole.",
    )
