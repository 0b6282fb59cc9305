"""An export that somebody asks for: what is new now, or everything compared and mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from batcher.postgres import ExportResult, ModelRows, PostgresExport
from batcher.postgres.staged_rows import Difference
from batcher.publish import Publisher
from lake.config import Config, PostgresEndpoint, nearest
from lake.errors import CommitConflict, ConfigError, DuckLakeError
from lake.opening import ReadableLake, open_lake

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Repaired:
    """What the comparison of a relation came to.

    Attributes:
        relation: `schema.name`.
        difference: The rows that were written; none where it was as in the lake.
        error: Why it was not compared, or not mended.
    """

    relation: str
    difference: Difference = field(default_factory=Difference)
    error: DuckLakeError | None = None


class ManualExport:
    """Exports beside a batch that may be running: who is second waits or is told.

    Args:
        lake: The lake.
        config: Its configuration.
        endpoint: Where PostgreSQL is.
    """

    def __init__(self, lake: ReadableLake, config: Config, endpoint: PostgresEndpoint) -> None:
        self._lake = lake
        self._export = PostgresExport(config, endpoint, lake.ledger)
        self._publisher = Publisher(config, lake.ledger)

    def now(self) -> ExportResult:
        """Write what PostgreSQL does not have yet.

        Raises:
            ServiceUnreachable: The database does not answer.
            BatchError: The database refuses this user.
        """
        with self._lake.pinned() as commit:
            return self._export.export(self._models(), commit)

    def relations(self) -> list[str]:
        """All that is exported."""
        raw = [writer.relation for writer in self._export.raw_writers(0)]
        return raw + list(self._models())

    def chosen(self, names: Sequence[str]) -> list[str]:
        """The relations that somebody names, with or without their schema; all for none.

        Raises:
            ConfigError: There is no such relation.
        """
        known = self.relations()
        found = []
        for name in names:
            fitting = [r for r in known if name in (r, r.partition(".")[2])]
            if not fitting:
                raise ConfigError(f"No relation {name!r} is exported{nearest(name, known)}")
            found += fitting
        return list(dict.fromkeys(found)) if names else known

    def repair(
        self, relations: Sequence[str], progress: Callable[[int, str], None]
    ) -> Iterator[Repaired]:
        """Compare relations with the lake and mend them, one after the other.

        Args:
            relations: Which.
            progress: Told how many are done, and which is next.
        """
        for number, relation in enumerate(relations):
            progress(number, relation)
            try:
                yield Repaired(relation, self._repaired(relation))
            except DuckLakeError as error:
                yield Repaired(relation, error=error)

    def _repaired(self, relation: str) -> Difference:
        for attempt in range(1, ATTEMPTS + 1):
            with self._lake.pinned() as commit:
                model = self._models().get(relation)
                if model is not None:
                    return self._export.repair_model(model)
                writers = self._export.raw_writers(commit)
                [writer] = [w for w in writers if w.relation == relation]
                try:
                    return self._export.repair_raw(writer)
                except CommitConflict:
                    if attempt == ATTEMPTS:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _models(self) -> dict[str, ModelRows]:
        return dict(self._publisher.current())


@contextmanager
def manual_export(config: Config, endpoint: PostgresEndpoint) -> Iterator[ManualExport]:
    """An export of a lake, for the time of a block.

    Raises:
        LedgerError: The ledger is missing, or older than the lake's files.
    """
    with open_lake(config, for_writing=False) as lake:
        yield ManualExport(lake, config, endpoint)
