"""Compares the current rows of a table in the lake with MySQL's, while both go on.

First a checksum of each row, computed by MySQL in chunks by key and by DuckDB over the files. Then
the values of the rows that differ. A row that differs may only have changed between the two looks:
it is asked for again, with the lake waited for in between, until the lake's newest version of it
was there at the look before. Only then is it a difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import duckdb

from consumers.maintenance.current_rows import CurrentRows, Key, row_checksum
from ducklake.mysql_sources import mysql_source
from ducklake.reconciliation.differences import Found, Look
from ducklake.reconciliation.relations import (
    BATCH,
    insert,
    pending_rows,
    unequal_multiset,
    unequal_rows,
)
from ducklake.reconciliation.result import DIFFERENT, EQUAL, TableResult
from ducklake.reconciliation.waiting import CaughtUp
from lake.config import MYSQL, MYSQL_POLL, Config, Endpoints, TableRef
from lake.errors import LedgerError
from lake.opening import ReadableLake
from lake.storage.canonical import SourceTable
from lake.storage.sql import spilling
from producers.mysql.table_reader import Position, TableReader

MOST_ROWS = 10_000
"""Rows of one table that are compared value by value; of more, only checksums are."""
LOOKS = 6
MEGABYTES = 512

Progress = Callable[[int, int], None]
"""Called with the rows of a table that were read so far, and about how many there are."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison, and what a repair needs.

    Attributes:
        table: MySQL's table.
        found: What differs.
        position: Where MySQL's binlog stood as the last row was read.
        result: For people.
    """

    table: SourceTable
    found: Found
    position: Position
    result: TableResult


class SourceComparison:
    """Compares tables of one lake with their MySQL servers.

    Args:
        config: The configuration.
        endpoints: Where the services are.
        lake: Opened for reading.
        progress: Told how far the reading of MySQL is.
        wait: Sleeps; raises to stop.
    """

    def __init__(
        self,
        config: Config,
        endpoints: Endpoints,
        lake: ReadableLake,
        progress: Progress = lambda done, total: None,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._config = config
        self._lake = lake
        self._progress = progress
        self._caught_up = CaughtUp(config, endpoints, lake.ledger, wait)

    def compare(self, ref: TableRef) -> Comparison:
        """Compare one table.

        Raises:
            SourceError: MySQL refuses to answer, or does not have the table.
            ServiceUnreachable: The lake does not get to where MySQL is.
            LedgerError: The lake has never read the table.
        """
        at, tables = mysql_source(self._config, ref.source)
        with ExitStack() as stack:
            mysql = stack.enter_context(TableReader(at))
            db = stack.enter_context(spilling(self._lake.session, MEGABYTES))
            table = mysql.table(tables[ref.table])
            if not table.key:
                return self._without_key(ref, table, mysql, db)
            rows = self._read_checksums(ref, table, mysql, db)
            position = self._position(ref, mysql)
            self._caught_up.wait_for(ref)
            with self._lake.pinned():
                lake_rows = self._current(ref, table, db).load()
                unequal = unequal_rows(db, len(table.key))
            found = Found()
            for first in range(0, unequal, BATCH):
                if found.count >= MOST_ROWS:
                    found.unread = unequal - first
                    break
                self._examine(ref, table, mysql, db, pending_rows(db, len(table.key), first), found)
            position = self._position(ref, mysql) if unequal else position
        return Comparison(table, found, position, _result(ref, found, rows, lake_rows, position))

    def _position(self, ref: TableRef, mysql: TableReader) -> Position:
        """Where the binlog stands; a server whose tables are polled need not have one."""
        if self._config.settings.sources[ref.source].type == MYSQL_POLL:
            return Position("", 0)
        return mysql.position()

    def _estimate(self, ref: TableRef, mysql: TableReader) -> int:
        return mysql.estimate(mysql_source(self._config, ref.source)[1][ref.table])

    def _current(
        self, ref: TableRef, table: SourceTable, db: duckdb.DuckDBPyConnection
    ) -> CurrentRows:
        state = self._lake.ledger.tables.get(ref.topic)
        if state is None:
            raise LedgerError(
                f"The lake has no table {ref.topic}.",
                "`ducklake produce` and `ducklake consume` bring it in.",
            )
        return CurrentRows(self._lake.ledger, db, state, table)

    def _read_checksums(
        self,
        ref: TableRef,
        table: SourceTable,
        mysql: TableReader,
        db: duckdb.DuckDBPyConnection,
    ) -> int:
        """Make the relation `source_rows` of a key's columns and `h`; gives how many there are."""
        names = [*(f"k{n}" for n in range(len(table.key))), "h"]
        listed = ", ".join(f"{name} VARCHAR" for name in names)
        db.execute(f"CREATE OR REPLACE TEMP TABLE source_rows ({listed})")
        chunks = self._counted(self._estimate(ref, mysql), mysql.checksums(table))
        return insert(db, chunks, names, "*")

    def _read_rows(
        self,
        ref: TableRef,
        table: SourceTable,
        mysql: TableReader,
        db: duckdb.DuckDBPyConnection,
    ) -> int:
        """Make the relation `source_rows` (`h`, `shown`) of a table without a key."""
        names = [f"c{n}" for n in range(len(table.compared))]
        db.execute("CREATE OR REPLACE TEMP TABLE source_rows (h VARCHAR, shown VARCHAR)")
        chunks = self._counted(self._estimate(ref, mysql), mysql.all_rows(table))
        return insert(db, chunks, names, row_checksum(table, names))

    def _counted(
        self, total: int, chunks: Iterable[list[tuple[str | None, ...]]]
    ) -> Iterator[list[tuple[str | None, ...]]]:
        done = 0
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            self._progress(done, max(total, done))

    # Row by row ----------------------------------------------------------------------------

    def _examine(
        self,
        ref: TableRef,
        table: SourceTable,
        mysql: TableReader,
        db: duckdb.DuckDBPyConnection,
        pending: dict[Key, tuple[int, int]],
        found: Found,
    ) -> None:
        """Look at rows again until each is equal, or certain to differ."""
        for _ in range(LOOKS):
            if not pending:
                return
            keys, still = list(pending), {}
            in_mysql = mysql.rows(table, keys)
            self._caught_up.wait_for(ref)
            with self._lake.pinned():
                in_lake = self._current(ref, table, db).versions(keys)
            for key in keys:
                look = Look(table, key, in_mysql.get(key), in_lake.get(key, []))
                if look.equals_one_since(pending[key]):
                    continue
                if look.newest > pending[key]:
                    still[key] = look.newest  # it changed in between
                else:
                    look.report(found)
            pending = still
        found.moving += pending

    # Without a key -------------------------------------------------------------------------

    def _without_key(
        self,
        ref: TableRef,
        table: SourceTable,
        mysql: TableReader,
        db: duckdb.DuckDBPyConnection,
    ) -> Comparison:
        """Compare the multisets of rows; a row that moves in between is waited for."""
        for look in range(LOOKS):
            before = mysql.position()
            self._caught_up.wait_for(ref)
            rows = self._read_rows(ref, table, mysql, db)
            position = mysql.position()
            self._caught_up.wait_for(ref)
            with self._lake.pinned():
                lake_rows, updates = self._current(ref, table, db).load_multiset()
            found = unequal_multiset(db, updates)
            if not found.count or before == position or look == LOOKS - 1:
                break
        return Comparison(table, found, position, _result(ref, found, rows, lake_rows, position))


def _result(
    ref: TableRef, found: Found, source_rows: int, lake_rows: int, position: Position
) -> TableResult:
    surplus = len(found.surplus)
    differing = len(found.differing)
    return TableResult(
        table=ref.topic,
        state=DIFFERENT if found.count else EQUAL,
        at=time.time(),
        source_rows=source_rows,
        lake_rows=lake_rows,
        position=str(position),
        gtids=position.gtids,
        missing=len(found.missing) + found.keyless,
        surplus=surplus,
        differing=differing + found.unread,
        differences=tuple(found.shown),
        moving=len(found.moving),
    )


def tables_of_mysql(config: Config, tables: Iterable[TableRef]) -> list[TableRef]:
    """Those of some tables that come from a MySQL server."""
    return [r for r in tables if config.settings.sources[r.source].type in MYSQL]
