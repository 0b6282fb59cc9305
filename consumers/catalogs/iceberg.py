"""The lake's public files as Iceberg tables: each compaction is registered as one snapshot.

Nothing of a file is read but its footer, and no byte is written. Where a table stands in the ledger
is part of its commits, so that a run that was killed anywhere goes on from the last one. What a
table lists is compared with the ledger's count, rows and bytes at each look; where they differ (a
date was rewritten, a table rebuilt, somebody else changed the Iceberg table), everything is
compared, and one snapshot makes it equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from consumers.catalogs import iceberg_table as tables
from consumers.catalogs.iceberg_catalog import answers, open_catalog, path_of, warehouse_of
from consumers.catalogs.planning import Step, appended, compared
from lake.config import Config, TableRef
from lake.errors import CommitConflict, LedgerError
from lake.ledger import LedgerReader
from lake.ledger.sealed import SealedFiles, Totals
from lake.storage.operations import disk_full_is_transient, remove_file

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Registered:
    """What a look at one table did.

    Attributes:
        table: The topic.
        files: Files that the Iceberg table lists now.
        rows: Their rows.
        added: Files that were registered.
        removed: Files that it lists no more.
        snapshots: Commits that were made.
    """

    table: str
    files: int = 0
    rows: int = 0
    added: int = 0
    removed: int = 0
    snapshots: int = 0


class IcebergTables:
    """The Iceberg tables of one lake.

    Args:
        config: The configuration.
        ledger: The lake's.

    Raises:
        ServiceUnreachable: The catalogue does not answer.
        StackNotRunning: It is the embedded PostgreSQL, which is not up.
    """

    def __init__(self, config: Config, ledger: LedgerReader) -> None:
        self._config = config
        self._ledger = ledger
        self._catalog: Catalog = open_catalog(config)
        self._done: dict[TableRef, tuple[SealedFiles, Registered]] = {}

    def close(self) -> None:
        """Let go of the catalogue's connections."""
        self._catalog.close()

    def register(self, ref: TableRef) -> Registered:
        """Make a table list the public files that the ledger lists.

        Raises:
            ServiceUnreachable: The catalogue does not answer.
            SchemaDrift: A column has no place in Iceberg; what came before it is registered.
            CommitConflict: Others keep changing the table.
            LedgerError: The table's metadata is gone.
            DiskFull: There is no room for the metadata.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(ref)
            except CommitConflict:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def drop(self, ref: TableRef) -> None:
        """Forget a table and its metadata; the lake's files stay."""
        self._done.pop(ref, None)
        left = self._metadata_files(ref)
        with answers(self._config):
            tables.forget(self._catalog, ref)
        for path in left:
            remove_file(path)

    def _once(self, ref: TableRef) -> Registered:
        done = self._done.get(ref)
        if done is not None:
            position = done[0].position
            sealed = self._ledger.sealed.after(ref.topic, position)
            if sealed is not None and not sealed.new and sealed.known == done[0].known:
                return done[1]
        with answers(self._config), disk_full_is_transient(self._ledger.paths.root):
            try:
                return self._compare(ref)
            except FileNotFoundError as error:
                raise self._gone(ref, error) from None

    def _compare(self, ref: TableRef) -> Registered:
        table = tables.load(self._catalog, ref)
        position = tables.position_of(table) if table is not None else None
        listed = tables.totals_of(table) if table is not None else Totals()
        sealed = self._ledger.sealed.after(ref.topic, position)
        if sealed is None:
            return Registered(ref.topic)
        steps = appended(sealed, listed)
        if steps is None:
            steps = self._steps(ref, table)
        return self._take(ref, table, steps)

    def _steps(self, ref: TableRef, table: Table | None) -> list[Step]:
        sealed = self._ledger.sealed.after(ref.topic, None)
        assert sealed is not None, "the table was there a moment ago"
        if table is None:
            return compared(sealed, (), None)
        return compared(sealed, tables.listed(table), tables.position_of(table))

    def _take(self, ref: TableRef, table: Table | None, steps: list[Step]) -> Registered:
        keep = self._config.settings.catalog.iceberg.keep_snapshots
        for step in steps:
            if table is None:
                table = tables.create(self._catalog, ref, self._location(ref), step.added)
            known = tables.listed(table) if step.removed else {}
            tables.commit(table, step, known, keep)
        now = tables.totals_of(table) if table is not None else Totals()
        found = Registered(
            ref.topic,
            now.files,
            now.rows,
            sum(len(step.added) for step in steps),
            sum(len(step.removed) for step in steps),
            sum(bool(step.added or step.removed) for step in steps),
        )
        position = tables.position_of(table) if table is not None else None
        if position is not None:  # so that the next look asks only the ledger
            quiet = Registered(ref.topic, now.files, now.rows)
            self._done[ref] = SealedFiles(position, now, ()), quiet
        return found

    def _location(self, ref: TableRef) -> str | None:
        """Where a table's metadata goes; a REST catalogue decides that by itself."""
        if self._config.settings.catalog.iceberg.is_rest:
            return None
        return f"{warehouse_of(self._config)}/{ref.source}/{ref.table}"

    def _metadata_files(self, ref: TableRef) -> list[Path]:
        location = self._location(ref)
        if location is None or not location.startswith("file://"):
            return []
        return [path for path in (path_of(location) / "metadata").glob("*") if path.is_file()]

    def _gone(self, ref: TableRef, error: FileNotFoundError) -> CommitConflict | LedgerError:
        name = str(error.filename or error)
        if ".parquet" in name:  # a date was rewritten meanwhile; or it is lost
            return CommitConflict(
                f"A public file of {ref.topic} is not there: {name}.",
                "It is tried again. If that does not end, `ducklake verify` says whether the file"
                " is lost, and `ducklake replay` writes it anew.",
            )
        return LedgerError(
            f"The metadata of the Iceberg table {ref.topic} is missing: {name}.",
            f"`ducklake catalog iceberg {ref.topic} --rebuild` makes the table anew from the"
            " ledger; no data file is touched.",
        )
