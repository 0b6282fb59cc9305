"""One raw table's new rows behind those that PostgreSQL has, with the commit up to which it goes.

What PostgreSQL has it says itself, in the transaction that writes: exactly once, whatever is
killed, and whoever else exports at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from psycopg2 import sql

from batcher.catalog import raw_columns
from batcher.description import NOT_DESCRIBED
from batcher.postgres.columns import (
    KnownTable,
    WantedColumn,
    add_columns,
    column_changes,
    create_schema,
    create_table,
    known_table,
    retype,
)
from batcher.postgres.comments import wanted_comments, write_comments
from batcher.postgres.copying import Source
from batcher.postgres.database import PostgresDatabase, claim, identifier, lock_for_writing
from batcher.postgres.exports import Exported, Exports
from batcher.postgres.left_columns import made_by_now
from lake.config import Config, TableRef
from lake.failpoints import failpoint
from lake.ledger import NOW, LedgerReader
from lake.storage.sql import rows_query

PURGE_ROWS = 50_000
"""Rows that one transaction deletes where a table keeps a window of days."""


@dataclass(frozen=True, slots=True)
class RawState:
    """What a raw table in PostgreSQL holds.

    A relation's name may pass from one source's table to another one's.

    Attributes:
        topic: Whose rows.
        commit: The newest commit among them.
    """

    topic: str
    commit: int

    def dump(self) -> str:
        """As `ducklake.exports` keeps it."""
        return f"{self.topic} {self.commit}"

    @classmethod
    def load(cls, text: str) -> RawState:
        """From there."""
        topic, _, commit = text.partition(" ")
        return cls(topic, int(commit or 0))


def window_start(days: int | None, moment: float) -> datetime | None:
    """The first day of a window, in UTC; None: all days.

    Args:
        days: Whole days before today's.
        moment: Now, in seconds of the epoch.
    """
    if days is None:
        return None
    today = datetime.fromtimestamp(moment, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days)


@dataclass(frozen=True, slots=True)
class RawWriter:
    """Writes one raw table.

    Attributes:
        config: The configuration.
        ledger: Pinned at `commit`.
        ref: The table.
        commit: Up to which rows go to PostgreSQL.
        start: Older rows, by Kafka's timestamp, do not; None: all do.
    """

    config: Config
    ledger: LedgerReader
    ref: TableRef
    commit: int
    start: datetime | None = None

    @property
    def relation(self) -> str:
        """`raw.{name}`."""
        return f"raw.{self.config.relation(self.ref)}"

    def has_news(self, known: Exported | None) -> bool:
        """Whether there is something to write."""
        after = self._after(known)
        if after is None:
            return True
        return bool(self.ledger.files.new_rows(self.ref.topic, after, self.commit))

    def write(self, database: PostgresDatabase, exports: Exports, source: Source) -> int:
        """Append what is new; all rows where nobody knows what is there.

        Returns:
            How many rows.

        Raises:
            ServiceUnreachable: The database does not answer, or another session locks the table.
            BatchError: The table does not take the rows.
        """
        columns = source.columns(rows_query(self._columns(), []))
        self._prepare(database, columns)
        with database.transaction(self.relation) as cursor:
            claim(cursor, self.relation)
            table = known_table(cursor, self.relation)
            known = None
            if table is not None:
                lock_for_writing(cursor, self.relation)
                known = exports.known(cursor, [self.relation]).get(self.relation)
            rows, are_all = self._write(cursor, source, table, known, columns)
            if rows or are_all:
                exported = self._exported(None if are_all else known, rows)
                wanted = wanted_comments(self.relation, columns, NOT_DESCRIBED)
                comments = write_comments(cursor, self.relation, wanted, exported.comments)
                made = made_by_now(cursor, exports, self.relation, table, columns)
                kept = replace(exported, comments=comments, made=made)
                exports.record(cursor, self.relation, kept)
            failpoint("export.raw.copied")
        failpoint("export.raw.committed")
        return rows

    def _prepare(self, database: PostgresDatabase, columns: Sequence[WantedColumn]) -> None:
        """Change what can be changed with the rows in it, in a transaction of moments."""
        with database.transaction(self.relation) as cursor:
            create_schema(cursor, self.relation)
        with database.transaction(self.relation) as cursor:
            table = known_table(cursor, self.relation)
            if table is None:
                return
            claim(cursor, self.relation)
            table = known_table(cursor, self.relation) or table
            changes = column_changes(table, columns, appends=True)
            if not changes.rewrites:
                add_columns(cursor, self.relation, changes.added)
                retype(cursor, self.relation, table, changes.widened, keeps=True)

    def _write(
        self,
        cursor: Any,
        source: Source,
        table: KnownTable | None,
        known: Exported | None,
        columns: Sequence[WantedColumn],
    ) -> tuple[int, bool]:
        """Give how many rows were written, and whether they are all that there are."""
        after = self._after(known)
        if table is None:
            create_table(cursor, self.relation, columns)
        elif after is None or column_changes(table, columns, appends=True).rewrites:
            after = None
            cursor.execute(sql.SQL("DELETE FROM {}").format(identifier(self.relation)))
            changes = column_changes(table, columns, appends=False)
            add_columns(cursor, self.relation, changes.added)
            # Here the lock shuts out readers until the rows are there.
            retype(cursor, self.relation, table, changes.widened + changes.replaced, keeps=False)
        elif not self.has_news(known):
            return 0, False
        place, query = identifier(self.relation), self._query(after or 0)
        return source.copy_into(cursor, place, query, columns), after is None

    def _exported(self, known: Exported | None, rows: int) -> Exported:
        """What the table holds with some rows behind those that were known; None: only these."""
        starts = [self.start, known.kept_from if known else None]
        return Exported(
            RawState(self.ref.topic, self.commit).dump(),
            rows + (known.rows if known else 0),
            max((start for start in starts if start is not None), default=None),
            comments=known.comments if known else {},
        )

    def _after(self, known: Exported | None) -> int | None:
        """The commit behind which PostgreSQL lacks rows; None: all of it is to be written."""
        if known is None:
            return None
        state = RawState.load(known.state)
        if state.topic != self.ref.topic:
            return None
        if known.kept_from is not None and (self.start is None or self.start < known.kept_from):
            return None  # the window was smaller
        generation = self.ledger.tables.generation_at(state.topic, self.commit)
        if self.ledger.tables.generation_at(state.topic, state.commit) != generation:
            return None  # rebuilt since then: all of it is new
        if not self.ledger.files.tells_apart(state.topic, state.commit, self.commit):
            return None  # PostgreSQL was away for long, or restored: the ledger has forgotten
        return state.commit

    def whole(self) -> str:
        """All rows, as a query of DuckDB."""
        return self._query(0)

    def _columns(self) -> tuple[tuple[str, str], ...]:
        return raw_columns(self.config, self.ledger, self.ref, self.commit)

    def _query(self, after: int) -> str:
        """The rows of the commits behind one."""
        columns, files = self._columns(), self.ledger.files
        found = files.new_rows(self.ref.topic, after, self.commit)
        whole: set[Path] = set()
        if after == 0:
            # Files of which a later commit has a part are cut to their offsets, others are not.
            later = {rows.path for rows in files.new_rows(self.ref.topic, self.commit, NOW)}
            whole = {rows.path for rows in found} - later
        parts = [rows_query(columns, sorted(whole))] if whole or not found else []
        parts += [rows_query(columns, [r.path], r.ranges) for r in found if r.path not in whole]
        query = " UNION ALL BY NAME ".join(parts)
        if self.start is None:
            return query
        return f"SELECT * FROM ({query}) WHERE _kafka_ts >= TIMESTAMPTZ '{self.start.isoformat()}'"


def purge(
    database: PostgresDatabase, exports: Exports, writer: RawWriter, goes_on: Callable[[], bool]
) -> bool:
    """Delete the rows of a raw table that are older than its window, some at a time.

    Args:
        database: The database.
        exports: What is in it.
        writer: Of the table.
        goes_on: Asked before each transaction.

    Returns:
        Whether none is left.

    Raises:
        ServiceUnreachable: The database does not answer, or another session locks the table.
    """
    relation, start = writer.relation, writer.start
    old = sql.SQL("SELECT ctid FROM {} WHERE _kafka_ts < {} LIMIT {}").format(
        identifier(relation), sql.Literal(start), sql.Literal(PURGE_ROWS)
    )
    statement = sql.SQL("DELETE FROM {} WHERE ctid = ANY(ARRAY({}))")
    while start is not None and goes_on():
        with database.transaction(relation) as cursor:
            claim(cursor, relation)
            known = exports.known(cursor, [relation]).get(relation)
            if known is None:
                return False
            lock_for_writing(cursor, relation)
            cursor.execute(statement.format(identifier(relation), old))
            gone = int(cursor.rowcount)
            kept_from = start if known.kept_from is None else max(start, known.kept_from)
            rows = replace(known, rows=known.rows - gone, kept_from=kept_from)
            exports.record(cursor, relation, rows)
            failpoint("export.raw.purged")
        if gone < PURGE_ROWS:
            return True
    return start is None
