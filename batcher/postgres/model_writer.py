"""One model's rows into its table: those that changed, by key; all of them where nobody knows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from batcher.postgres.columns import (
    ColumnChanges,
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
from batcher.postgres.database import PostgresDatabase, identifier, lock_for_writing
from batcher.postgres.exports import Exported, Exports, Made, count_rows
from batcher.postgres.left_columns import allow_null, left_columns, made_by_now
from batcher.postgres.model_rows import ModelRows
from batcher.postgres.primary_keys import (
    add_key,
    ensure_key,
    has_key,
    retire_key,
    rows_have_key,
)
from batcher.postgres.staged_rows import (
    GONE,
    Difference,
    insert_staged,
    remove_gone,
    remove_others,
    stage,
    upsert,
)
from lake.errors import BatchError


@dataclass(frozen=True, slots=True)
class ModelWriter:
    """Writes one model into one table.

    Attributes:
        model: The model.
        source: Where its queries run.
        columns: The columns of its rows.
        key: Its primary key, as PostgreSQL names the columns.
    """

    model: ModelRows
    source: Source
    columns: tuple[WantedColumn, ...]
    key: tuple[str, ...]

    @classmethod
    def of(cls, model: ModelRows, source: Source) -> ModelWriter:
        """Look at a model's rows.

        Raises:
            BatchError: Its primary key names a column that it has not.
        """
        columns = source.columns(model.whole())
        names = {column.name: column.target for column in columns}
        missing = [column for column in model.description.primary_key if column not in names]
        if missing:
            raise BatchError(
                f"{model.relation}: its primary key names {missing[0]}, which is no column of it.",
                "Correct `meta: {primary_key: …}` of the model.",
            )
        return cls(model, source, columns, tuple(names[c] for c in model.description.primary_key))

    @property
    def relation(self) -> str:
        """`schema.name`."""
        return self.model.relation

    def prepare(self, database: PostgresDatabase, exports: Exports) -> bool:
        """Bring the table's definition to that of the rows, in transactions of moments.

        Returns:
            Whether writing the rows shuts readers out: a column gets a type that does not hold the
            values that are there.

        Raises:
            ServiceUnreachable: Another session locks the table.
            BatchError: The table does not take the columns.
        """
        with database.transaction(self.relation) as cursor:
            create_schema(cursor, self.relation)
        with database.transaction(self.relation) as cursor:
            changes = self._changes(cursor)
            if changes is None:
                return False
            add_columns(cursor, self.relation, changes.added)
            if changes.widened:
                table = known_table(cursor, self.relation)
                assert table is not None, "it was just there"
                retype(cursor, self.relation, table, changes.widened, keeps=True)
        with database.transaction(self.relation) as cursor:
            self._let_go(cursor, exports)
        # The rows that are there may lack the key; those that come are asked for it.
        with suppress(BatchError):
            self.finish(database)
        return bool(changes.replaced)

    def _let_go(self, cursor: Any, exports: Exports) -> None:
        """What an earlier export asked of rows, and this one's do not have."""
        made, table = exports.made(cursor, self.relation), known_table(cursor, self.relation)
        if table is None:
            return
        bound = retire_key(cursor, self.relation, self.key, made)
        former = {*made.key, *left_columns(table, made.columns, self.columns)} - {*self.key}
        allow_null(cursor, self.relation, (former & table.not_null) - bound)

    def finish(self, database: PostgresDatabase) -> None:
        """Give the table its key, where only the new rows have it.

        Raises:
            ServiceUnreachable: Another session locks the table.
        """
        if self.key:
            ensure_key(database, self.relation, self.key)

    def _columns_digest(self) -> str:
        """Differs whenever a column is added, dropped or gets another type."""
        named = repr([(column.name, column.duckdb_type) for column in self.columns])
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def _changes(self, cursor: Any) -> ColumnChanges | None:
        table = known_table(cursor, self.relation)
        return None if table is None else column_changes(table, self.columns, appends=False)

    def write(self, cursor: Any, exports: Exports) -> Difference:
        """Write what changed, in the transaction of all models.

        Raises:
            psycopg2.Error: The table does not take the rows.
            BatchError: They are not unique by their key.
        """
        table = known_table(cursor, self.relation)
        known = None
        if table is not None:
            lock_for_writing(cursor, self.relation)
            known = exports.known(cursor, [self.relation]).get(self.relation)
        if known is not None and known.state == self.model.state:
            difference = Difference()
        elif table is None:
            difference = self._create(cursor)
        else:
            difference = self._change(cursor, known)
        rows = difference.rows + (known.rows if known is not None else 0)
        if known is None and table is not None:
            rows = count_rows(cursor, self.relation)
        made = made_by_now(cursor, exports, self.relation, table, self.columns, self.key)
        self._record(cursor, exports, known, rows, made)
        return difference

    def _create(self, cursor: Any) -> Difference:
        """A table that nobody sees before it is full."""
        create_table(cursor, self.relation, self.columns)
        place = identifier(self.relation)
        rows = self.source.copy_into(cursor, place, self.model.whole(), self.columns)
        if self.key:
            with rows_have_key(self.relation, self.key):
                add_key(cursor, self.relation, self.key)
        return Difference(added=rows)

    def _change(self, cursor: Any, known: Exported | None) -> Difference:
        changes = self._changes(cursor)
        assert changes is not None, "the table is there, and locked"
        if changes.replaced or not self.key or not has_key(cursor, self.relation, self.key):
            return self._replace(cursor, changes.widened + changes.replaced)
        logged = None
        if known is not None and known.columns == self._columns_digest():
            logged = self.model.changes(known.state)
        if logged is None:
            return self.merge(cursor)
        with self.source.kept(logged) as (upserted, gone):
            if upserted:
                stage(cursor, self.source, self.relation, upserted, self.key)
            removed = 0
            if gone:
                stage(cursor, self.source, self.relation, gone, self.key, GONE)
                removed = remove_gone(cursor, self.relation, self.key)
        if not upserted:
            return Difference(removed=removed)
        return Difference(*upsert(cursor, self.relation, self.columns, self.key), removed)

    def merge(self, cursor: Any) -> Difference:
        """Compare all rows with those of the table, by key, and write those that differ."""
        stage(cursor, self.source, self.relation, self.model.whole(), self.key)
        removed = remove_others(cursor, self.relation, self.key)
        return Difference(*upsert(cursor, self.relation, self.columns, self.key), removed)

    def _replace(self, cursor: Any, retyped: Sequence[WantedColumn]) -> Difference:
        """All rows in the place of those that are there."""
        place, whole = identifier(self.relation), self.model.whole()
        if self.key:  # they are asked for it before anything is changed
            stage(cursor, self.source, self.relation, whole, self.key)
        cursor.execute(sql.SQL("DELETE FROM {}").format(place))
        removed = int(cursor.rowcount)
        if retyped:
            table = known_table(cursor, self.relation)
            assert table is not None, "it is locked"
            retype(cursor, self.relation, table, retyped, keeps=False)
        if self.key:
            added = insert_staged(cursor, self.relation, self.columns)
        else:
            added = self.source.copy_into(cursor, place, whole, self.columns)
        return Difference(added=added, removed=removed)

    def _record(
        self, cursor: Any, exports: Exports, known: Exported | None, rows: int, made: Made
    ) -> None:
        wanted = wanted_comments(self.relation, self.columns, self.model.description)
        comments = write_comments(cursor, self.relation, wanted, known.comments if known else {})
        exports.record(
            cursor,
            self.relation,
            Exported(
                self.model.state,
                rows,
                described=self.model.description.digest,
                columns=self._columns_digest(),
                comments=comments,
                made=made,
            ),
        )


def is_current(model: ModelRows, known: Exported | None) -> bool:
    """Whether PostgreSQL has a model's rows, its key and its comments."""
    if known is None:
        return False
    return (known.state, known.described) == (model.state, model.description.digest)
